"""Errors on lines: quadratic losses in closed form, exact ends, restored modules, and batch norm's statistics."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lightning_regs.analysis import ErrorBarrier, error_barrier, instability, interpolate


def state(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "w": torch.randn(3, 2, generator=generator, dtype=dtype),
        "b": torch.randn(3, generator=generator).to(dtype),
    }


def squared_norm(weights: dict[str, Tensor]) -> float:
    return sum(float(w.square().sum()) for w in weights.values())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1, 2), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_interpolation_is_the_formula_exact_at_the_ends(seed, alpha, dtype):
    a, b = state(seed, dtype), state(seed + 1, dtype)
    copies = copy.deepcopy((a, b))
    point = interpolate(a, b, alpha)
    for name in a:
        expected = (1 - alpha) * a[name].double() + alpha * b[name].double()
        eps = torch.finfo(dtype).eps * 20
        assert torch.allclose(point[name].double(), expected, rtol=eps, atol=eps)
        assert point[name].dtype == dtype
        assert torch.equal(interpolate(a, b, 0)[name], a[name])
        assert torch.equal(interpolate(a, b, 1)[name], b[name])
        assert torch.equal(interpolate(a, a, alpha)[name], a[name])
        assert point[name].data_ptr() not in (a[name].data_ptr(), b[name].data_ptr())
        assert torch.equal(a[name], copies[0][name])


def test_counts_of_batches_are_the_first_state_s():
    point = interpolate({"n": torch.tensor(3)}, {"n": torch.tensor(8)}, 0.9)
    assert point["n"].item() == 3
    assert point["n"].dtype == torch.int64


def test_barrier_of_a_concave_quadratic_is_a_quarter_of_the_squared_distance_at_the_middle():
    a, b = state(0), state(1)
    distance = squared_norm({n: a[n] - b[n] for n in a})
    result = error_barrier(lambda w: 1000 - squared_norm(w), a, b, points=31)
    # On the line |w|^2 = (1 - t) |a|^2 + t |b|^2 - t (1 - t) |a - b|^2.
    for alpha, error in zip(result.alphas, result.errors, strict=True):
        ends = (1 - alpha) * squared_norm(a) + alpha * squared_norm(b)
        assert error == pytest.approx(1000 - ends + alpha * (1 - alpha) * distance, rel=1e-12)
    slope = squared_norm(b) - squared_norm(a)
    best = max(a * (1 - a) * distance - a * slope for a in result.alphas)
    assert result.barrier == pytest.approx(best + slope / 2, rel=1e-9)


def test_barrier_of_a_symmetric_hill_is_its_height():
    a, b = {"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}
    result = error_barrier(lambda w: 5 - 2 * w["w"].item() ** 2, a, b, points=5)
    assert result.alphas == (0, 0.25, 0.5, 0.75, 1)
    assert result.errors == (3, 4.5, 5, 4.5, 3)
    assert result.barrier == 2
    assert result.position == 0.5


def test_a_convex_error_has_half_the_difference_of_its_ends_as_barrier():
    a, b = {"w": torch.tensor([0.0])}, {"w": torch.tensor([2.0])}
    result = error_barrier(lambda w: w["w"].item() ** 2, a, b)
    assert len(result.alphas) == 30
    assert result.barrier == pytest.approx(4 - 2)
    assert result.position == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=3, max_size=9))
def test_barriers_are_never_negative_and_do_not_move_with_the_errors(errors):
    alphas = tuple(i / (len(errors) - 1) for i in range(len(errors)))
    result = ErrorBarrier(alphas, tuple(errors))
    assert result.barrier >= 0
    assert ErrorBarrier(alphas, tuple(e + 7 for e in errors)).barrier == pytest.approx(result.barrier, abs=1e-9)
    assert errors[alphas.index(result.position)] == max(errors)


# -- with a module ---------------------------------------------------------------------------------------------------


def images(seed: int, number: int = 64) -> Tensor:
    return torch.randn(number, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 + 1


def normed_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)).double()
    update_bn([images(0)], net)
    return net


def mean_output(x: Tensor, net: nn.Module) -> float:
    assert not net.training
    assert not torch.is_grad_enabled()
    return net(x).square().mean().item()


def test_instability_is_the_error_barrier_of_the_loaded_module():
    a, b = normed_net(1).state_dict(), normed_net(2).state_dict()
    module = normed_net(3)
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    result = instability(module, partial(mean_output, images(0)), a, b, points=7)

    def by_hand(weights: dict[str, Tensor]) -> float:
        x = F.linear(images(0), weights["0.weight"], weights["0.bias"])
        x = (x - weights["1.running_mean"]) / (weights["1.running_var"] + 1e-5).sqrt()
        x = (x * weights["1.weight"] + weights["1.bias"]).clamp_min(0)
        return F.linear(x, weights["4.weight"], weights["4.bias"]).square().mean().item()

    expected = error_barrier(by_hand, a, b, points=7)
    assert result.errors == pytest.approx(expected.errors, rel=1e-12)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert [m.training for m in module.modules()] == [True, True, False, True, True, True]
    assert torch.is_grad_enabled()


def test_prepare_gives_each_point_the_statistics_of_its_own_activations():
    a, b = normed_net(1).state_dict(), normed_net(2).state_dict()
    seen: list[tuple[Tensor, Tensor]] = []

    def evaluate(net: nn.Module) -> float:
        expected = F.linear(images(0), net[0].weight, net[0].bias)
        assert torch.allclose(net[1].running_mean, expected.mean(0))
        assert torch.allclose(net[1].running_var, expected.var(0))
        seen.append((net[0].weight.clone(), net[1].running_var.clone()))
        return mean_output(images(0), net)

    prepared = instability(normed_net(3), evaluate, a, b, 5, prepare=partial(update_bn, [images(0)]))
    plain = instability(normed_net(3), partial(mean_output, images(0)), a, b, 5)
    assert len(seen) == 5
    # The variance of a mean of two pre-activations is not the mean of their variances: only the middle differs.
    assert prepared.errors[0] == pytest.approx(plain.errors[0])
    assert prepared.errors[-1] == pytest.approx(plain.errors[-1])
    assert abs(prepared.errors[2] - plain.errors[2]) > 0.05 * plain.errors[2]


def test_the_module_is_restored_after_an_error():
    module = normed_net(3)
    before = copy.deepcopy(module.state_dict())

    def fails(net: nn.Module) -> float:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        instability(module, fails, normed_net(1).state_dict(), normed_net(2).state_dict())
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def train(start: nn.Module, seed: int) -> dict[str, Tensor]:
    net = copy.deepcopy(start)
    x = images(10, 256)
    y = (x[:, 0] * x[:, 1] > 0).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(60):
        rows = torch.randint(256, (32,), generator=torch.Generator().manual_seed(1000 * seed + step))
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return net.state_dict()


def test_runs_from_one_start_are_closer_to_linear_than_runs_from_two():
    x = images(10, 256)
    y = (x[:, 0] * x[:, 1] > 0).long()
    starts = [nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 2)).double() for _ in range(2)]
    for seed, start in enumerate(starts):
        torch.manual_seed(seed)
        for layer in (start[0], start[2]):
            layer.reset_parameters()

    def error(net: nn.Module) -> float:
        return F.cross_entropy(net(x), y).item()

    same = instability(starts[0], error, train(starts[0], 1), train(starts[0], 2), points=11)
    other = instability(starts[0], error, train(starts[0], 1), train(starts[1], 2), points=11)
    assert same.barrier < 0.5 * other.barrier


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        ({"w": torch.ones(2)}, {"v": torch.ones(2)}, {}, ValueError, "'w' is in one of the two states alone"),
        ({"w": torch.ones(2)}, {"w": torch.ones(2), "v": torch.ones(2)}, {}, ValueError, "'v' is in one of the two"),
        ({"w": torch.ones(2)}, {"w": torch.ones(3)}, {}, ValueError, r"'w' has the shapes \(2,\) and \(3,\)"),
        ({"w": torch.ones(2)}, {"w": torch.ones(2)}, {"points": 2}, ValueError, "points must be at least 3.*got 2"),
        ({"w": torch.ones(2)}, {"w": torch.ones(2)}, {"points": 5.0}, TypeError, "points must be an integer"),
        ({"w": torch.ones(2)}, {"w": torch.ones(2)}, {"points": True}, TypeError, "points must be an integer"),
    ],
)
def test_what_is_refused(a, b, options, error, message):
    with pytest.raises(error, match=message):
        error_barrier(squared_norm, a, b, **options)


def test_an_error_that_is_no_number_and_an_alpha_off_the_line_are_refused():
    with pytest.raises(ValueError, match=r"the error at alpha = 0.5 is NaN"):
        error_barrier(lambda w: math.nan if w["w"] == 0.5 else 0.0, {"w": torch.zeros(())}, {"w": torch.ones(())}, 3)
    with pytest.raises(ValueError, match="alpha must be finite"):
        interpolate(state(0), state(1), math.inf)
