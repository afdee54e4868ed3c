"""Kernel machines against scikit-learn, scipy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from lightning_regs.analysis.kernels import (
    Selection,
    error_rate,
    fit,
    gaussian_kernel,
    mean_squared_distance,
    one_hot,
    predict,
    select,
    squared_distances,
)
from lightning_regs.analysis.large_kernels import recomputed_kernel, solve_spd


def points(n: int, d: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_kernel_is_sklearns():
    x, y = points(9), points(7, seed=1)
    np.testing.assert_allclose(gaussian_kernel(x, y, 0.3).numpy(), rbf_kernel(x, y, gamma=0.3), rtol=1e-12)


def test_panels_are_the_kernel():
    x = points(11)
    operator = recomputed_kernel(lambda points: [points], x, x, 0.2, block=4).operator
    np.testing.assert_allclose(
        (operator @ torch.eye(11, dtype=torch.float64)).numpy(), rbf_kernel(x, gamma=0.2), rtol=1e-12
    )
    assert operator.rows(4, 8, torch.float32).dtype == torch.float32
    assert operator.rows(*operator.bounds[2], torch.float64).shape == (3, 11)


def test_ridge_predictions_are_sklearns():
    x, x_test, y = points(60), points(20, seed=1), torch.randint(4, (60,), generator=torch.Generator().manual_seed(0))
    targets = one_hot(y, 4)
    reference = KernelRidge(alpha=0.1, kernel="rbf", gamma=0.2).fit(x.numpy(), targets.numpy())
    expected = reference.predict(x_test.numpy())
    dense = fit(gaussian_kernel(x, x, 0.2), targets, 0.1)
    np.testing.assert_allclose(predict(x_test, x, dense, 0.2, block=7).numpy(), expected, rtol=1e-8, atol=1e-10)
    operator = recomputed_kernel(lambda points: [points], x.float(), x_test, 0.2, block=16).operator
    large = solve_spd(operator, targets, 0.1, tolerance=1e-9)
    np.testing.assert_allclose(predict(x_test, x, large.coefficients, 0.2).numpy(), expected, atol=1e-5)


def test_interpolation_meets_every_label():
    x, y = points(80), torch.randint(3, (80,), generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(x, x, 0.5)
    a = fit(kernel, one_hot(y, 3))
    np.testing.assert_allclose(a.numpy(), scipy.linalg.solve(kernel.numpy(), one_hot(y, 3).numpy()), rtol=1e-6)
    torch.testing.assert_close(kernel @ a, one_hot(y, 3), rtol=0, atol=1e-9)
    assert error_rate(kernel @ a, y) == 0.0


def test_singular_kernel_gives_the_least_norm_solution():
    x = points(30, d=4)
    gram, targets = x @ x.T, points(30, d=2, seed=5)
    gram[0, 0] -= 1e-9
    np.testing.assert_allclose(
        fit(x @ x.T, x @ targets[:4]).numpy(), np.linalg.pinv((x @ x.T).numpy()) @ (x @ targets[:4]).numpy(), atol=1e-8
    )


def test_distances_agree_with_a_loop():
    x = points(8)
    loop = torch.tensor([[float(((a - b) ** 2).sum()) for b in x] for a in x], dtype=torch.float64)
    torch.testing.assert_close(squared_distances(x @ x.T), loop)
    assert mean_squared_distance(x) == pytest.approx(float(loop.mean()))


def test_error_rate_counts():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert error_rate(scores, torch.tensor([0, 1, 1, 1])) == 25.0


def test_selection_finds_the_useful_constants_and_is_a_function_of_the_generator():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, generator=g, dtype=torch.float64)
    clean = (x[:, 0] > 0).long()
    noisy = torch.where(torch.rand(400, generator=g) < 0.25, 1 - clean, clean)

    def choose(y: torch.Tensor, bandwidths: list[float], ridges: list[float]) -> Selection:
        return select(x @ x.T, y, 2, bandwidths, ridges, torch.Generator().manual_seed(1), holdout=0.5)

    assert choose(noisy, [1.0], [0.0, 10.0]).ridge == 10.0, "label noise calls for a ridge"
    assert choose(clean, [1e6, 1.0, 1e7], [0.0]).bandwidth == 1.0, "points without neighbours tell nothing"
    chosen = choose(noisy, [0.5, 2.0, 8.0], [0.0, 1.0])
    assert chosen.errors.shape == (3, 2)
    assert torch.equal(choose(noisy, [0.5, 2.0, 8.0], [0.0, 1.0]).errors, chosen.errors)
    index = [0.5, 2.0, 8.0].index(chosen.bandwidth)
    assert float(chosen.errors[index, 0]) == float(chosen.errors[:, 0].min())


def test_selection_by_hand():
    x, y = points(20, 2), torch.arange(20) % 2
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    val, train = order[:5], order[5:]
    reference = KernelRidge(alpha=0.5, kernel="linear").fit(x[train].numpy(), one_hot(y[train], 2).numpy())
    wrong = (reference.predict(x[val].numpy()).argmax(1) != y[val].numpy()).mean() * 100
    chosen = select(x @ x.T, y, 2, None, [0.5], torch.Generator().manual_seed(3), holdout=0.25)
    assert float(chosen.errors[0, 0]) == pytest.approx(wrong)
    assert np.isnan(chosen.bandwidth)
    assert chosen.ridge == 0.5


def test_refusals():
    x, g = points(6), torch.Generator()
    with pytest.raises(ValueError, match="leaves one side empty"):
        select(x @ x.T, torch.zeros(6), 2, None, [0.0], g, holdout=0.01)
