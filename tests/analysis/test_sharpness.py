from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis import sharpness


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(len(weight), 1, bias=False, dtype=torch.float64)
    layer.weight.data = weight[None].clone()
    return layer


@pytest.mark.parametrize("at_minimum", [False, True])
@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_of_a_quadratic_it_is_the_closed_form(epsilon: float, at_minimum: bool) -> None:
    """The highest point of sum(h (w - c)²) / 2 in a box around w is in the corner away from c."""
    h, c = torch.tensor([1.0, 10.0, 0.1, 4.0], dtype=torch.float64), double(4)
    w = c if at_minimum else double(4, seed=1)
    x = (4 * h).sqrt().diag()
    corner = (w - c).abs() + epsilon * (w.abs() + 1)
    start, top = (0.5 * (h * distance**2).sum() for distance in (w - c, corner))
    for size in (3, 1000):
        found = sharpness(
            linear(w), x, (x @ c)[:, None], epsilon, loss=lambda o, t: F.mse_loss(o, t) / 2, batch_size=size
        )
        assert found == pytest.approx(float(100 * (top - start) / (1 + start)), rel=1e-9)


def test_in_a_subspace_the_box_is_that_of_the_pseudo_inverse() -> None:
    w, x, y = double(50), double(7, 50, seed=1), torch.zeros(7, 1, dtype=torch.float64)
    basis = torch.randn(50, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradient, inside = x.mean(0), torch.linalg.pinv(basis) @ w
    rise = ((basis.T @ gradient).abs() * 1e-3 * (inside.abs() + 1)).sum()
    found = sharpness(linear(w), x, y, 1e-3, 6, torch.Generator().manual_seed(3), loss=lambda o, _: o.mean() + 50)
    assert found == pytest.approx(float(100 * rise / (51 + w @ gradient)), rel=1e-9)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)
    net = nn.Sequential(*layers).double()
    net(double(64, 4, seed=5))  # statistics of batch norm
    return net


def test_it_finds_what_scipy_finds_by_itself_and_leaves_the_net_as_it_was() -> None:
    net, x, y = network(), double(30, 4), torch.arange(30) % 3
    before, stream = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    found = sharpness(net, x, y, 0.05, steps=100)
    assert [m.training for m in net] == [True] * 5
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), stream)

    w = nn.utils.parameters_to_vector(net.eval().parameters()).detach()

    def fallen(point: Any) -> tuple[float, Any]:
        nn.utils.vector_to_parameters(torch.from_numpy(point), net.parameters())
        loss = F.cross_entropy(net(x), y)
        return -loss.item(), -torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]
        ).numpy()

    start = -fallen(w.numpy())[0]
    box = [(v - 0.05 * (abs(v) + 1), v + 0.05 * (abs(v) + 1)) for v in w.tolist()]
    top = -minimize(fallen, w.numpy(), jac=True, method="L-BFGS-B", bounds=box).fun
    assert found == pytest.approx(100 * (top - start) / (1 + start), rel=1e-4)


def test_a_loss_without_number_has_no_sharpness_and_what_cannot_move_is_refused() -> None:
    net, x, y = network(), double(30, 4), torch.arange(30) % 3
    net[0].weight.data[0, 0] = math.nan
    assert math.isnan(sharpness(net, x, y))
    with pytest.raises(ValueError, match="dimensions=5 needs a generator"):
        sharpness(net, x, y, dimensions=5)
    with pytest.raises(ValueError, match="at least as many parameters, of which there are 63"):
        sharpness(net, x, y, dimensions=500, generator=torch.Generator())
    with pytest.raises(ValueError, match="Sequential has no parameter that requires a gradient"):
        sharpness(net.requires_grad_(False), x, y)
    net.requires_grad_()
    with pytest.raises(ValueError, match=r"'0\.weight' is torch\.bfloat16, .*; give network\.float"):
        sharpness(copy.deepcopy(net).bfloat16(), x.bfloat16(), y)
    with pytest.raises(ValueError, match=r"the loss is -5, .* give one above -1"):
        sharpness(nn.Linear(4, 3).double(), x, y, loss=lambda out, _: out.mean() * 0 - 5)
    with pytest.raises(ValueError, match="one number that depends on the parameters"):
        sharpness(net, x, y, loss=lambda out, _: out.mean().detach())
