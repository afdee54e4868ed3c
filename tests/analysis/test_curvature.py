"""Eigenvalues and the trace of the Hessian against the whole Hessian, by differences of gradients in float64."""

from __future__ import annotations

import copy
import math
import weakref

import pytest
import torch
from scipy.sparse.linalg import eigsh
from test_landscape import double, draws, first, network, untouched
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis import eigenvalue_map, hessian_eigenvalues, hessian_trace, random_direction


def whole(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The Hessian of the cross-entropy: central differences of gradients."""
    other = copy.deepcopy(net).eval()
    parameters, columns = [p for p in other.parameters() if p.requires_grad], []
    point = nn.utils.parameters_to_vector(parameters).detach()

    def slope(at: Tensor) -> Tensor:
        nn.utils.vector_to_parameters(at, parameters)
        return torch.cat([g.flatten() for g in torch.autograd.grad(first(other(x.clone()), y), parameters)])

    for step in 1e-5 * torch.eye(len(point), dtype=point.dtype):
        columns.append((slope(point + step) - slope(point - step)) / 2e-5)
    return torch.stack(columns)


@pytest.mark.parametrize(
    "kind",
    ["perceptron", "batch norm", "tied", "weight norm", "counting", "greedy", "recurrent", "transformer", "frozen"],
)
@pytest.mark.slow
def test_eigenvalues_are_those_of_the_whole_hessian(kind: str) -> None:
    net, x, y = network("perceptron" if kind == "frozen" else kind), double(20, 4), torch.arange(20) % 4
    if kind == "frozen":
        net[0].requires_grad_(False)
    with untouched(net):
        found = hessian_eigenvalues(net, x, y, 3, first, steps=1000)
    assert torch.equal(x, double(20, 4))
    exact = torch.linalg.eigvalsh(whole(net, x, y))
    size = float(exact.abs().max())
    assert torch.allclose(found.largest, exact.flip(0)[:3], rtol=0, atol=1e-4 * size)
    assert found.largest[0] == pytest.approx(float(exact[-1]), rel=1e-4)
    assert abs(float(found.smallest[0] - exact[0])) <= max(found.error, 1e-9 * size)
    assert found.ratio == pytest.approx(float(abs(exact[0] / exact[-1])), abs=1e-4)
    parts = hessian_eigenvalues(net, x, y, 3, first, steps=1000, batch_size=7)
    assert torch.allclose(parts.largest, found.largest, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["batch norm", "tied"])  # its forward mode through layer norm is not symmetric
@pytest.mark.slow
def test_eigenvalues_are_those_that_curvlinops_finds(kind: str) -> None:
    from curvlinops import HessianLinearOperator

    net, x, y = network(kind).eval(), double(20, 4), torch.arange(20) % 4
    batches = [(x[:7], y[:7]), (x[7:], y[7:])]
    operator = HessianLinearOperator(net, nn.CrossEntropyLoss(), list(net.parameters()), batches)
    largest = eigsh(operator.to_scipy(), 3, which="LA", return_eigenvectors=False)[::-1]
    assert hessian_eigenvalues(net, x, y, 3, steps=1000).largest.tolist() == pytest.approx(largest.tolist(), rel=1e-6)


def test_of_a_quadratic_they_are_known_and_equal_ones_come_once() -> None:
    net = nn.Linear(4, 1, bias=False).double()
    x = torch.tensor([1.0, 2.0, 2.0, 3.0]).double().sqrt().diag() * 2
    found = hessian_eigenvalues(net, x, torch.zeros(4, 1), 4, lambda out, _: out.square().mean() / 2)
    assert found.largest.tolist() == pytest.approx([3, 2, 1])
    assert found.smallest.tolist() == pytest.approx([1, 2, 3])
    flat = hessian_eigenvalues(net, x, torch.zeros(4, 1), loss=lambda out, _: out.mean())
    assert (float(flat.largest), float(flat.smallest), flat.error) == (0, 0, 0)


def test_batches_keep_no_more_than_one_graph() -> None:
    net, x, y, peaks = network("perceptron"), double(40, 4), torch.arange(40) % 4, []

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # with its graph it would be in a cycle
            alive.add(self)
            peaks[-1] = max(peaks[-1], len(alive))

    for size in (20, 4):  # two batches, and ten
        alive: weakref.WeakSet[Kept] = weakref.WeakSet()
        peaks.append(0)
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            hessian_trace(net, x, y, draws(), 2, batch_size=size)
    assert 0 < peaks[1] <= 1.2 * peaks[0]


def test_too_few_steps_are_told() -> None:
    net, x, y = network("perceptron"), double(20, 4), torch.arange(20) % 4
    with pytest.warns(UserWarning, match=r"within .* of an eigenvalue after steps=3, .*; give more steps"):
        found = hessian_eigenvalues(net, x, y, steps=3)
    exact = torch.linalg.eigvalsh(whole(net, x, y))
    for value in (found.largest, found.smallest):
        assert (exact - value).abs().min() <= found.error


@pytest.mark.slow
def test_the_trace_is_exact_of_a_diagonal_and_within_its_error_else() -> None:
    linear = nn.Linear(3, 1, bias=False).double()
    x = torch.tensor([1.0, 2.0, 3.0]).double().diag()
    value, error = hessian_trace(linear, x, torch.zeros(3, 1), draws(), 2, F.mse_loss)
    assert value == pytest.approx(2 * 14 / 3)
    assert error == pytest.approx(0, abs=1e-12)
    net, x, y = network("perceptron"), double(20, 4), torch.arange(20) % 4
    with untouched(net):
        value, error = hessian_trace(net, x, y, draws(), 400)
    exact = float(whole(net, x, y).trace())
    assert abs(value - exact) < 4 * error
    assert error < 0.1 * exact


@pytest.mark.parametrize("kind", ["perceptron", "batch norm"])
@pytest.mark.slow
def test_the_map_has_the_eigenvalues_at_each_point(kind: str) -> None:
    net, x, y = network(kind), double(20, 4), torch.arange(20) % 4
    directions = [random_direction(net, draws(k)) for k in (1, 2)]
    with untouched(net):
        made = eigenvalue_map(net, x, y, directions, 2, (-0.5, 1), tolerance=1e-6, steps=1000)
    for i, a in enumerate(made.at[0]):
        for j, b in enumerate(made.at[1]):
            other = network(kind)
            other.load_state_dict(net.state_dict())
            with torch.no_grad():
                for name, p in other.named_parameters():
                    p += a * directions[0][name] + b * directions[1][name]
            exact = torch.linalg.eigvalsh(whole(other, x, y))
            assert made.largest[i, j] == pytest.approx(float(exact[-1]), rel=1e-5)
            assert made.smallest[i, j] == pytest.approx(float(exact[0]), abs=1e-5 * float(exact[-1]))
            assert made.ratios[i, j] == pytest.approx(abs(float(exact[0] / exact[-1])), abs=1e-5)


def test_what_has_no_curvature_to_ask_for_is_refused() -> None:
    net, x, y = nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3
    with pytest.raises(ValueError, match="Linear has no parameter that requires a gradient"):
        hessian_eigenvalues(net.requires_grad_(False), x, y)
    net.requires_grad_()
    with pytest.raises(ValueError, match="one number that depends on the parameters"):
        hessian_trace(net, x, y, draws(), loss=lambda out, _: out.detach().mean())
    with pytest.raises(ValueError, match="draws must be at least 2, got 1"):
        hessian_trace(net, x, y, draws(), 1)
    with pytest.raises(ValueError, match="directions are empty"):
        eigenvalue_map(net, x, y, [{}])
    for wrong in (net.bfloat16(), copy.deepcopy(net).to(torch.complex64)):
        with pytest.raises(
            ValueError, match=r"'weight' is torch\.\w+, and small steps need .*; give network\.float\(\)"
        ):
            hessian_eigenvalues(wrong, x.to(wrong.weight.dtype), y)
    net.float().weight.data[0, 0] = math.nan
    assert math.isnan(float(hessian_eigenvalues(net, x, y, steps=2).largest))


def test_where_the_loss_is_flat_it_is_as_good_as_convex() -> None:
    """Not 0 / 0: nets far from a minimum whose softmax has saturated have a Hessian of zeros."""
    net, x, y = nn.Linear(3, 2), torch.ones(4, 3), torch.zeros(4, 2)
    assert hessian_eigenvalues(net, x, y, loss=lambda out, _: out.mean()).ratio == 0
    way = random_direction(net, torch.Generator().manual_seed(0))
    found = eigenvalue_map(net, x, y, [way], 3, loss=lambda out, _: out.mean())
    assert torch.equal(found.ratios, torch.zeros(3, dtype=torch.float64))
