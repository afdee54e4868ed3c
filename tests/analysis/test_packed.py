"""The panel factorization and its refinement against scipy and dense torch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.analysis.packed import (
    NotPositiveDefiniteError,
    PackedCholesky,
    StoredPanels,
    full_precision,
    solve_spd,
    symmetric_matmul,
)


def spd(n: int, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    """A symmetric matrix with eigenvalues from 1 down to 10**-spread."""
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64)).Q
    matrix = q @ torch.diag(torch.logspace(0, -spread, n, dtype=torch.float64)) @ q.T
    return (matrix + matrix.T) / 2


def targets(n: int, c: int = 3) -> torch.Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 30), block=st.integers(1, 35), ridge=st.sampled_from([0.0, 0.1, 3.0]))
def test_factor_solves_like_scipy(n, block, ridge):
    matrix, y = spd(n), targets(n)
    factor = PackedCholesky(StoredPanels.from_dense(matrix, block), ridge, torch.float64)
    expected = scipy.linalg.solve(matrix.numpy() + ridge * np.eye(n), y.numpy(), assume_a="pos")
    np.testing.assert_allclose(factor.solve(y).numpy(), expected, rtol=1e-8, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 30), block=st.integers(1, 35))
def test_panels_multiply_like_the_square(n, block):
    matrix, y = spd(n), targets(n)
    panels = StoredPanels.from_dense(matrix, block)
    torch.testing.assert_close(symmetric_matmul(panels, y), matrix @ y)
    torch.testing.assert_close(panels.diagonal(), matrix.diagonal())
    assert panels.mean() == pytest.approx(float(matrix.mean()), abs=1e-12)


def test_gram_is_accumulated_over_blocks_of_features():
    f = torch.randn(23, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    panels = StoredPanels.zeros(23, 5, torch.float64)
    for part in f.split(4, dim=1):
        panels.add_gram_(part)
    eye = torch.eye(23, dtype=torch.float64)
    torch.testing.assert_close(symmetric_matmul(panels, eye), f @ f.T)
    panels.gram_to_gaussian_(0.3)
    expected = torch.tensor([[float(torch.exp(-0.3 * ((a - b) ** 2).sum())) for b in f] for a in f]).double()
    torch.testing.assert_close(symmetric_matmul(panels, eye), expected, rtol=1e-5, atol=1e-7)


def test_memory_is_half_the_square():
    panels = StoredPanels.zeros(1000, 50)
    assert sum(p.numel() for p in panels.panels) == 1000 * 1050 // 2


def test_float32_factor_is_refined_to_float64_accuracy():
    matrix, y = spd(120, spread=5.0), targets(120)
    solution = solve_spd(StoredPanels.from_dense(matrix, 32), y, dtype=torch.float32, tolerance=1e-11)
    expected = np.linalg.solve(matrix.numpy(), y.numpy())
    direct = PackedCholesky(StoredPanels.from_dense(matrix, 32), 0.0, torch.float32).solve(y).double()
    error = np.abs(solution.coefficients.numpy() - expected).max() / np.abs(expected).max()
    assert error < 1e-7 < float((direct - torch.from_numpy(expected)).abs().max()) / np.abs(expected).max()
    assert solution.iterations >= 1
    torch.testing.assert_close(solution.fitted, matrix @ solution.coefficients)
    true = (y - matrix @ solution.coefficients).norm(dim=0) / y.norm(dim=0)
    assert solution.residual == pytest.approx(float(true.max()), rel=1e-3)
    assert solution.residual <= 1e-11


def test_ridge_is_kept_apart_from_the_fit():
    matrix, y = spd(40), targets(40)
    solution = solve_spd(StoredPanels.from_dense(matrix, 16), y, ridge=0.5, tolerance=1e-10)
    expected = np.linalg.solve(matrix.numpy() + 0.5 * np.eye(40), y.numpy())
    np.testing.assert_allclose(solution.coefficients.numpy(), expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(solution.fitted, matrix @ solution.coefficients)


def test_duplicated_points_are_repaired_and_still_fitted():
    points = spd(60)
    twice = torch.cat([points, points])
    matrix = twice @ twice.T
    y = targets(60).repeat(2, 1)
    operator = StoredPanels.from_dense(matrix, 16)
    with pytest.raises(NotPositiveDefiniteError):
        PackedCholesky(operator, 0.0, torch.float32)
    solution = solve_spd(operator, y, dtype=torch.float32, tolerance=1e-6, max_iterations=100)
    assert solution.jitter > 0
    assert solution.residual < 1e-6
    torch.testing.assert_close(matrix @ solution.coefficients, y, rtol=0, atol=1e-5)


def test_contradictory_duplicates_are_reported_as_residual():
    matrix = torch.ones(2, 2, dtype=torch.float64)
    y = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    solution = solve_spd(StoredPanels.from_dense(matrix, 1), y, dtype=torch.float64)
    assert solution.residual > 0.5


def test_zero_column_and_progress():
    y = torch.cat([targets(20, 1), torch.zeros(20, 1, dtype=torch.float64)], dim=1)
    calls: list[tuple[float, float]] = []
    operator = StoredPanels.from_dense(spd(20, spread=6.0), 6)
    steps: list[tuple[int, float]] = []
    solution = solve_spd(
        operator, y, tolerance=1e-12, progress=lambda done, total: calls.append((done, total)),
        refined=lambda number, residual: steps.append((number, residual)),
    )  # fmt: skip
    assert torch.equal(solution.coefficients[:, 1], torch.zeros(20, dtype=torch.float64))
    assert [done for done, _ in calls] == [6.0**3, 12.0**3, 18.0**3, 20.0**3]
    assert calls[-1][0] == calls[-1][1]
    assert [number for number, _ in steps] == list(range(solution.iterations + 1))
    assert steps[-1][1] <= 1e-12 < steps[0][1]


@pytest.mark.parametrize("newer", [False, True])
def test_global_precision_is_overruled_and_restored(newer):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if newer and not hasattr(cudnn, "conv"):
        pytest.skip("this torch has the older way alone to set it")

    def state() -> list[object]:
        if newer:  # where recurrent layers are set apart, torch refuses the older way
            return [matmul.fp32_precision, cudnn.rnn.fp32_precision, cudnn.conv.fp32_precision]
        return [torch.get_float32_matmul_precision(), cudnn.allow_tf32]

    def put(values: list[object]) -> None:
        if newer:
            matmul.fp32_precision, cudnn.rnn.fp32_precision, cudnn.conv.fp32_precision = values
        else:
            torch.set_float32_matmul_precision(values[0])
            cudnn.allow_tf32 = values[1]

    before, rough = state(), ["tf32", "ieee", "tf32"] if newer else ["medium", True]
    put(rough)
    try:
        with full_precision():
            assert state() == (["ieee"] * 3 if newer else ["highest", False])
        assert state() == rough
    finally:
        put(before)
    assert state() == before


def test_refusals():
    operator = StoredPanels.from_dense(spd(5), 2)
    with pytest.raises(ValueError, match="targets have shape"):
        solve_spd(operator, torch.zeros(4, 1))
    with pytest.raises(NotPositiveDefiniteError, match="rows 2 to 4"):
        PackedCholesky(StoredPanels.from_dense(torch.diag(torch.tensor([1.0, 1.0, 1.0, -1.0])), 2))
    with pytest.raises(ValueError, match="not positive semi-definite"):
        solve_spd(StoredPanels.from_dense(torch.diag(torch.tensor([1.0, -100.0, 1.0])), 2), torch.zeros(3, 1))
