"""Large kernel machines: panels, their factor and its refinement against scipy, scikit-learn and dense torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from lightning_regs.analysis.kernels import full_precision, gram_matrix, mean_squared_distance
from lightning_regs.analysis.large_kernels import LowerTriangle, recomputed_kernel, solve_spd, stored_kernel


def spd(n: int, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    """A symmetric matrix with eigenvalues from 1 down to 10**-spread."""
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64)).Q
    matrix = q @ torch.diag(torch.logspace(0, -spread, n, dtype=torch.float64)) @ q.T
    return (matrix + matrix.T) / 2


def triangle(matrix: torch.Tensor, block: int) -> LowerTriangle:
    """The operator of a dense symmetric matrix."""
    return LowerTriangle(len(matrix), lambda start, stop, dtype: matrix[start:stop, :stop].to(dtype, copy=True), block)


def targets(n: int, c: int = 3) -> torch.Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 30), block=st.integers(1, 35), ridge=st.sampled_from([0.0, 0.1, 3.0]))
def test_the_factor_alone_solves_like_scipy(n, block, ridge):
    matrix, y = spd(n), targets(n)
    found = solve_spd(triangle(matrix, block), y, ridge, torch.float64, max_iterations=0)
    expected = scipy.linalg.solve(matrix.numpy() + ridge * np.eye(n), y.numpy(), assume_a="pos")
    np.testing.assert_allclose(found.coefficients.numpy(), expected, rtol=1e-8, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 30), block=st.integers(1, 35))
def test_panels_multiply_like_the_square(n, block):
    matrix, y = spd(n), targets(n)
    torch.testing.assert_close(triangle(matrix, block) @ y, matrix @ y)


def test_memory_is_half_the_square():
    held: list[torch.Tensor] = []

    def rows(start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        held.append(torch.eye(1000, dtype=dtype)[start:stop, :stop].clone())
        return held[-1]

    solve_spd(LowerTriangle(1000, rows, 50), targets(1000), tolerance=1.0)
    asked = held[1:21]  # those of the factor, after the one that a jitter is measured by
    assert sum(panel.numel() for panel in asked) == 1000 * 1050 // 2


def test_float32_factor_is_refined_to_float64_accuracy():
    matrix, y = spd(120, spread=5.0), targets(120)
    solution = solve_spd(triangle(matrix, 32), y, dtype=torch.float32, tolerance=1e-11)
    expected = np.linalg.solve(matrix.numpy(), y.numpy())
    direct = solve_spd(triangle(matrix, 32), y, dtype=torch.float32, max_iterations=0).coefficients
    error = np.abs(solution.coefficients.numpy() - expected).max() / np.abs(expected).max()
    assert error < 1e-7 < float((direct - torch.from_numpy(expected)).abs().max()) / np.abs(expected).max()
    assert solution.iterations >= 1
    torch.testing.assert_close(solution.fitted, matrix @ solution.coefficients)
    true = (y - matrix @ solution.coefficients).norm(dim=0) / y.norm(dim=0)
    assert solution.residual == pytest.approx(float(true.max()), rel=1e-3)
    assert solution.residual <= 1e-11


def test_ridge_is_kept_apart_from_the_fit():
    matrix, y = spd(40), targets(40)
    solution = solve_spd(triangle(matrix, 16), y, ridge=0.5, tolerance=1e-10)
    expected = np.linalg.solve(matrix.numpy() + 0.5 * np.eye(40), y.numpy())
    np.testing.assert_allclose(solution.coefficients.numpy(), expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(solution.fitted, matrix @ solution.coefficients)


def test_duplicated_points_are_repaired_and_still_fitted():
    points = spd(60)
    twice = torch.cat([points, points])
    matrix = twice @ twice.T
    y = targets(60).repeat(2, 1)
    operator = triangle(matrix, 16)
    solution = solve_spd(operator, y, dtype=torch.float32, tolerance=1e-6, max_iterations=100)
    assert solution.jitter > 0
    assert solution.residual < 1e-6
    torch.testing.assert_close(matrix @ solution.coefficients, y, rtol=0, atol=1e-5)


def test_contradictory_duplicates_are_reported_as_residual():
    matrix = torch.ones(2, 2, dtype=torch.float64)
    y = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    solution = solve_spd(triangle(matrix, 1), y, dtype=torch.float64)
    assert solution.residual > 0.5


def test_zero_column_and_progress():
    y = torch.cat([targets(20, 1), torch.zeros(20, 1, dtype=torch.float64)], dim=1)
    calls: list[tuple[float, float]] = []
    operator = triangle(spd(20, spread=6.0), 6)
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


@pytest.mark.parametrize("owner", [torch.backends, torch.backends.cudnn])
def test_a_precision_that_was_set_for_all_is_overruled_too(owner):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if not hasattr(cudnn, "conv"):
        pytest.skip("this torch has the older way alone to set it")
    parts = (owner, matmul, cudnn.conv, cudnn.rnn)

    def state() -> list[str]:
        return [part.fp32_precision for part in parts[1:]]

    before = [part.fp32_precision for part in parts]
    for part in parts[1:]:
        part.fp32_precision = "none"  # as what is above it
    owner.fp32_precision = "tf32"
    try:
        rough = state()
        assert rough == ["tf32"] * 3
        with full_precision():
            assert state() == ["ieee"] * 3
        assert state() == rough
    finally:
        for part, value in zip(parts, before, strict=True):
            part.fp32_precision = value
    assert [part.fp32_precision for part in parts] == before


def test_refusals():
    operator = triangle(spd(5), 2)
    with pytest.raises(ValueError, match="targets have shape"):
        solve_spd(operator, torch.zeros(4, 1))
    with pytest.raises(ValueError, match="not positive semi-definite"):
        solve_spd(triangle(torch.diag(torch.tensor([1.0, -100.0, 1.0])), 2), torch.zeros(3, 1))


def points(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 10, generator=torch.Generator().manual_seed(seed))


def blocks(x: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from x.split(3, dim=1)


def dense(operator: LowerTriangle, n: int) -> np.ndarray:
    return (operator @ torch.eye(n, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("make", [recomputed_kernel, stored_kernel])
@pytest.mark.parametrize("relative", [False, True])
def test_gaussian_machines_are_sklearns_kernel(make, relative):
    x, x_test = points(15, 0), points(4, 1)
    machine = make(blocks, x, x_test, 0.5, relative, 6)
    spread = np.mean([[((a - b) ** 2).sum() for b in x.numpy()] for a in x.numpy()])
    gamma = 0.5 / spread if relative else 0.5
    assert machine.bandwidth == pytest.approx(gamma, rel=1e-5)
    assert machine.spread == pytest.approx(spread, rel=1e-5)
    assert machine.num_features == 10
    np.testing.assert_allclose(dense(machine.operator, 15), rbf_kernel(x, gamma=gamma), atol=2e-6)
    a = points(15, 2).double()
    np.testing.assert_allclose(machine.scores(a).numpy(), rbf_kernel(x_test, x, gamma=gamma) @ a.numpy(), atol=2e-5)


def test_linear_machine_has_mean_diagonal_one():
    x, x_test = points(15, 0), points(4, 1)
    seen: list[int] = []
    machine = stored_kernel(blocks, x, x_test, None, block=4, progress=seen.append)
    scale = float((x**2).sum(dim=1).mean())
    np.testing.assert_allclose(dense(machine.operator, 15), (x @ x.T / scale).numpy(), atol=1e-6)
    np.testing.assert_allclose(machine.scores(torch.eye(15)).numpy(), (x_test @ x.T / scale).numpy(), atol=1e-6)
    assert machine.bandwidth is None
    assert seen == [3, 6, 9, 10]


def test_spread_agrees_with_the_points():
    x = points(15, 0)
    assert stored_kernel(blocks, x, x, None, block=4).spread == pytest.approx(mean_squared_distance(x), rel=1e-5)
    torch.testing.assert_close(gram_matrix(blocks(x)), x.double() @ x.double().T)


def test_panels_are_symmetric_to_the_bit():
    f = torch.randn(300, 500, generator=torch.Generator().manual_seed(0)) + 3
    rows = stored_kernel(lambda x: [x], f, f, None, block=300).operator.rows
    panel = rows(0, 300, torch.float64)
    assert torch.equal(panel, panel.T)
    assert torch.equal(panel.diagonal().float(), panel.float().diagonal())
    torch.testing.assert_close(panel, f.double() @ f.double().T / float(f.square().sum(1).mean()), rtol=1e-5, atol=1e-6)


def test_no_features_is_refused():
    with pytest.raises(ValueError, match="no features"):
        gram_matrix(iter([]))
