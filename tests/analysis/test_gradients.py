from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_regs.analysis import along_gradient, gradient_noise_scale, implicit_regularizer


def test_the_implicit_regularizer_of_a_linear_classifier() -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 3).double()
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 1])
    errors = network(x).softmax(1).detach() - nn.functional.one_hot(y, 3)
    expected = []
    for rows in (slice(0, 3), slice(3, 6)):
        weight, bias = errors[rows].T @ x[rows] / 3, errors[rows].mean(0)
        expected.append(float(weight.square().sum() + bias.square().sum()))
    assert implicit_regularizer(network, x, y, 3) == pytest.approx(sum(expected) / 2, rel=1e-12)


class Distance(nn.Module):
    """Its gradient on a sample is the distance from it."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(5, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.point - x


def half_square(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return outputs.square().sum(1).mean() / 2


def test_from_batches_of_one_and_of_all_the_noise_is_the_variance_of_the_sample() -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 5, dtype=torch.float64) + 0.5
    found = gradient_noise_scale(Distance(), x, x, small=1, large=30, loss=half_square)
    assert found.noise == pytest.approx(float(x.var(0).sum()), rel=1e-12)
    assert found.signal == pytest.approx(float(x.mean(0).square().sum() - x.var(0).sum() / 30), rel=1e-12)
    assert found.scale == found.noise / found.signal
    with pytest.raises(ValueError, match=r"small=8 and large=8 must be two batch sizes, .* at most the 30 samples"):
        gradient_noise_scale(Distance(), x, x, small=8, large=8)


@pytest.mark.slow
def test_of_a_linear_model_with_known_noise_it_is_the_closed_form() -> None:
    """At a distance v from the truth, of normal inputs: G = v, and tr(Sigma) = (d + 1) |v|² + d sigma²."""
    torch.manual_seed(0)
    d, x = 4, torch.randn(40_000, 4, dtype=torch.float64)
    model, y = nn.Linear(d, 1, bias=False, dtype=torch.float64), 0.5 * torch.randn(40_000, 1, dtype=torch.float64)
    nn.init.constant_(model.weight, 0.5)
    found = gradient_noise_scale(model, x, y, 10, 1000, loss=lambda o, t: nn.functional.mse_loss(o, t) / 2)
    assert found.signal == pytest.approx(1, abs=0.03)
    assert found.noise == pytest.approx(d + 1 + d * 0.25, rel=0.05)
    flat = gradient_noise_scale(
        Distance(), torch.tensor([[1.0], [-1.0]]).double().expand(2, 5), y[:2], 1, 2, half_square
    )
    assert (flat.signal, flat.scale) == (-5, math.inf)


def test_parameters_that_the_loss_does_not_use_have_no_gradient_and_what_is_no_loss_is_named() -> None:
    net = nn.Module()
    net.used, net.unused = nn.Linear(3, 2), nn.Linear(3, 2)
    net.forward = net.used.forward
    x, y = torch.randn(8, 3), torch.arange(8) % 2
    with torch.inference_mode():
        found = gradient_noise_scale(net, x, y, 1, 8)
    assert found == gradient_noise_scale(net.used, x, y, 1, 8)
    assert math.isnan(gradient_noise_scale(net, x * math.nan, y, 1, 8).scale)
    with pytest.raises(ValueError, match=r"one number that depends on the parameters, got a Tensor of shape \(1, 2\)"):
        gradient_noise_scale(net, x, y, 1, 8, loss=lambda out, _: out)
    with pytest.raises(ValueError, match="Module has no parameter that requires a gradient"):
        implicit_regularizer(net.requires_grad_(False), x, y, 4)


def test_along_the_gradient_of_a_quadratic_it_is_the_closed_form() -> None:
    """Of L = |A w - y|² / 2 the gradient is g, the Hessian H = A' A: L - s |g|² + s² g' H g / 2, and s |H g|."""
    torch.manual_seed(0)
    inputs, y = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 1, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    w, steps = model.weight.detach().T, [0.01, 0.05, 0.3]
    found = along_gradient(model, inputs, y, steps, loss=lambda o, t: (o - t).square().sum() / 2)
    g, hessian = inputs.T @ (inputs @ w - y), inputs.T @ inputs
    start, bent = float((inputs @ w - y).square().sum() / 2), float(g.T @ hessian @ g)
    assert found.norm == pytest.approx(float(g.norm()), rel=1e-12)
    assert found.losses.tolist() == pytest.approx(
        [start - s * found.norm**2 + s**2 * bent / 2 for s in steps], rel=1e-10
    )
    assert found.changes.tolist() == pytest.approx([s * float((hessian @ g).norm()) for s in steps], rel=1e-10)
    assert found.distances.tolist() == pytest.approx([s * found.norm for s in steps], rel=1e-12)
    assert found.smoothness == pytest.approx(float((hessian @ g).norm() / g.norm()), rel=1e-10)
    assert found.loss_range == pytest.approx(max(found.losses.tolist()) - min(found.losses.tolist()), rel=1e-12)


def test_along_the_gradient_draws_are_the_same_at_each_step_and_the_net_stays_as_it_was() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.arange(12) % 3
    before, stream = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    found = along_gradient(net, x, y, [1e-6, 2e-6])
    assert found.changes[1] / found.changes[0] == pytest.approx(2, rel=1e-4)  # with other draws they would not shrink
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    statistics = along_gradient(net.eval(), x, y, [1e-6])
    assert statistics.norm != pytest.approx(found.norm, rel=1e-3)  # it computes in the mode that it is in
