"""Theorem 1's construction against numpy's solver, a loop over units and the worked example."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.analysis.expressivity import deep_relu, evaluate_relu, fit_relu, max_width, num_connections


def draw(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = torch.randint(10, (n,), generator=g).double()
    return x, y, torch.randn(d, generator=g, dtype=torch.float64)


def test_worked_example():
    fit = fit_relu(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([5.0, -1.0, 4.0]), torch.ones(1))
    assert fit.thresholds.tolist() == [0.5, 1.5, 2.5]
    torch.testing.assert_close(fit.weights, torch.tensor([10.0, -32.0, 54.0], dtype=torch.float64))
    assert fit.num_weights == 2 * 3 + 1


def test_fits_random_labels_with_2n_plus_d_weights():
    x, y, a = draw(200, 30)
    fit = fit_relu(x, y, a)
    assert float((evaluate_relu(fit, x) - y).abs().max()) < 1e-6
    assert fit.num_weights == 430


def test_float32_does_not_fit():
    x, y, a = draw(200, 30)
    fit = fit_relu(x, y, a, dtype=torch.float32)
    assert fit.weights.dtype == torch.float32
    assert float((evaluate_relu(fit, x).double() - y).abs().max()) > 1e-2


def test_weights_agree_with_a_general_solver():
    x, y, a = draw(25, 4, seed=3)
    fit = fit_relu(x, y, a)
    z = np.sort((x @ a).numpy())
    b = np.concatenate([[z[0] - (z[1] - z[0]) / 2], (z[1:] + z[:-1]) / 2])
    matrix = np.maximum(z[:, None] - b, 0)
    order = np.argsort((x @ a).numpy())
    np.testing.assert_allclose(fit.weights.numpy(), np.linalg.solve(matrix, y.numpy()[order]), rtol=1e-6)


def test_evaluation_is_the_sum_over_units():
    x, y, a = draw(7, 3)
    fit = fit_relu(x, y, a)
    point = torch.full((1, 3), 0.3, dtype=torch.float64)
    loop = sum(
        float(w) * max(float(point[0] @ fit.direction) - float(b), 0.0)
        for b, w in zip(fit.thresholds, fit.weights, strict=True)
    )
    assert float(evaluate_relu(fit, point)) == pytest.approx(loop, rel=1e-9)
    many = point.repeat(10, 1)
    torch.testing.assert_close(evaluate_relu(fit, many, block=3), evaluate_relu(fit, many))


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 40), d=st.integers(1, 8), seed=st.integers(0, 1000), data=st.data())
def test_deep_network_is_the_same_function(n, d, seed, data):
    x, y, a = draw(n, d, seed)
    fit = fit_relu(x, y, a)
    depth = data.draw(st.integers(2, n + 1))
    network = deep_relu(fit, depth)
    elsewhere = torch.cat([x, draw(20, d, seed + 1)[0] * 3])
    scale = float(evaluate_relu(fit, elsewhere).abs().max()) + float(fit.weights.abs().max())
    torch.testing.assert_close(
        network(elsewhere).detach()[:, 0], evaluate_relu(fit, elsewhere), rtol=0, atol=1e-10 * scale
    )


def test_deep_network_fits_is_narrow_and_small():
    n, d = 200, 30
    x, y, a = draw(n, d)
    fit = fit_relu(x, y, a)
    for depth in (2, 3, 6, 11):
        network = deep_relu(fit, depth)
        assert float((network(x)[:, 0] - y).abs().max().detach()) < 1e-6
        assert max_width(network) <= -(-n // (depth - 1)) + 3
        assert num_connections(network) <= d + 4 * n + 8 * depth
        assert sum(isinstance(m, torch.nn.ReLU) for m in network) == depth - 1


def test_one_point():
    fit = fit_relu(torch.tensor([[2.0]]), torch.tensor([3.0]), torch.ones(1))
    assert float(evaluate_relu(fit, torch.tensor([[2.0]]))) == pytest.approx(3.0)


def test_equal_projections_are_refused():
    x = torch.tensor([[1.0, 0.0], [1.0, 5.0]])
    with pytest.raises(ValueError, match="same projection"):
        fit_relu(x, torch.zeros(2), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("depth", [1, 7])
def test_depth_without_hinges_is_refused(depth):
    x, y, a = draw(5, 2)
    with pytest.raises(ValueError, match="depth is"):
        deep_relu(fit_relu(x, y, a), depth)


def test_a_net_without_hidden_layer_has_no_width():
    with pytest.raises(ValueError, match="no linear layer"):
        max_width(torch.nn.Sequential(torch.nn.ReLU()))
