"""Gradient descent and the minimum-norm solution against numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_regs.analysis.min_norm import (
    coefficient_norm,
    gradient_descent,
    min_norm_solution,
    outside_span,
    rkhs_norm,
)


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(12, 60, generator=g, dtype=torch.float64), torch.randn(12, 3, generator=g, dtype=torch.float64)


def test_min_norm_solution_is_numpys(problem):
    x, y = problem
    expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(min_norm_solution(x, y).numpy(), expected, atol=1e-12)


def test_descent_follows_its_closed_form(problem):
    x, y = problem
    rate, steps = 0.003, 17
    shrink = torch.linalg.matrix_power(torch.eye(60, dtype=torch.float64) - rate * x.T @ x, steps)
    target = torch.linalg.pinv(x) @ y
    start = torch.ones(60, 3, dtype=torch.float64)
    expected = target + shrink @ (start - target)
    actual = gradient_descent(x, y, steps, learning_rate=rate, start=start)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_descent_from_zero_finds_the_minimum_norm(problem, batch_size):
    x, y = problem
    w = gradient_descent(x, y, 4000, batch_size=batch_size, generator=torch.Generator().manual_seed(1))
    best = min_norm_solution(x, y)
    assert float((w - best).norm() / best.norm()) < 1e-6
    assert float(outside_span(x, w).norm()) < 1e-10


def test_descent_keeps_what_it_started_with_outside_the_span(problem):
    x, y = problem
    start = torch.randn(60, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    w = gradient_descent(x, y, 4000, start=start)
    _, _, v = np.linalg.svd(x.numpy())
    null = v[12:].T
    expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0] + null @ (null.T @ start.numpy())
    np.testing.assert_allclose(w.numpy(), expected, atol=1e-6)
    assert float(w.norm()) > 1.5 * float(min_norm_solution(x, y).norm())
    np.testing.assert_allclose(outside_span(x, w).numpy(), null @ (null.T @ start.numpy()), atol=1e-10)


def test_vector_targets(problem):
    x, y = problem
    assert gradient_descent(x, y[:, 0], 3).shape == (60,)
    torch.testing.assert_close(min_norm_solution(x, y[:, 0]), min_norm_solution(x, y)[:, 0])


def test_linear_kernel_norm_is_the_weight_norm(problem):
    x, y = problem
    kernel = x @ x.T
    a = torch.from_numpy(np.linalg.solve(kernel.numpy(), y.numpy()))
    assert rkhs_norm(a, kernel @ a) == pytest.approx(float(min_norm_solution(x, y).norm()), rel=1e-10)
    assert coefficient_norm(a) == pytest.approx(np.sqrt((a.numpy() ** 2).sum()))


def test_bad_arguments(problem):
    x, y = problem
    with pytest.raises(ValueError, match="batch_size is 13"):
        gradient_descent(x, y, 1, batch_size=13)
    with pytest.raises(ValueError, match="pass a generator"):
        gradient_descent(x, y, 1, batch_size=2)
