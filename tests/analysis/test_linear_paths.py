"""Errors on lines: quadratic losses in closed form, exact ends, and what is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_regs.analysis import ErrorBarrier, error_barrier, interpolate


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


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"v": torch.ones(2)}, "'w' is in one of the two states alone"),
        ({"w": torch.ones(2), "v": torch.ones(2)}, "'v' is in one of the two"),
        ({"w": torch.ones(3)}, r"'w' has the shapes \(2,\) and \(3,\)"),
    ],
)
def test_states_of_two_networks_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        error_barrier(squared_norm, {"w": torch.ones(2)}, other)


def test_an_error_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"the error at alpha = 0.5 is NaN"):
        error_barrier(lambda w: math.nan if w["w"] == 0.5 else 0.0, {"w": torch.zeros(())}, {"w": torch.ones(())}, 3)
