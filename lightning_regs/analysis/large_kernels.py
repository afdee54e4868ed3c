"""Kernel machines on so many points that a machine's memory holds only one triangle of the kernel matrix.

On MNIST's 60,000 images the matrix takes 14.4 GB in float32 as a square and 7.4 GB as row panels of its lower triangle.
LAPACK's packed routines index with 32-bit integers in most builds and report no progress, so the factorization is
written here over panels. What float32 loses, conjugate gradients on float64 residuals win back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from lightning_regs.analysis.kernels import full_precision, gaussian_kernel, mean_squared_distance, predict
from lightning_regs.core.checks import Count, NotNegative, Positive, Shape, Whole, checked

Blocks = Callable[[Tensor], Iterable[Tensor]]
Progress = Callable[[float, float], None]


@checked
@dataclass(frozen=True)
class LowerTriangle:
    """A symmetric matrix (N, N) by the row panels of its lower triangle, which are stored or made anew each time.

    Args:
        size: N.
        rows: Called as ``rows(start, stop, dtype)``; returns these rows, of the columns 0 to ``stop``, as a tensor
            (stop - start, stop) that the caller may overwrite. Its last square is symmetric.
        block: Rows in a panel; fewer in the last.
    """

    size: Count
    rows: Callable[[int, int, torch.dtype], Tensor]
    block: Count = 2048

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First and last row of each panel."""
        return [(start, min(start + self.block, self.size)) for start in range(0, self.size, self.block)]

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return the product (N, C) with vectors (N, C), in their type; each panel serves both triangles."""
        out = torch.zeros_like(vectors)
        with full_precision():
            for start, stop in self.bounds:
                panel = self.rows(start, stop, vectors.dtype)
                out[start:stop] += panel @ vectors[:stop]
                out[:start] += panel[:, :start].T @ vectors[start:stop]
        return out


@dataclass(frozen=True)
class KernelMachine:
    """A kernel between training and test points, ready to be solved and scored.

    Attributes:
        operator: The training matrix (N, N), for :func:`solve_spd`.
        scores: From coefficients (N, C) to the test points' scores (M, C).
        bandwidth: Factor before the squared distance; None for a linear kernel.
        spread: Mean squared distance between training points; for a linear kernel as well.
        num_features: Number of features.
    """

    operator: LowerTriangle
    scores: Callable[[Tensor], Tensor]
    bandwidth: float | None
    spread: float
    num_features: int


@checked
def recomputed_kernel(
    blocks: Blocks, x: Tensor, x_test: Tensor, bandwidth: Positive, relative: bool = False, block: Count = 2048
) -> KernelMachine:
    """Make a Gaussian kernel that is computed from all F features whenever it is needed; memory N * F numbers.

    Args:
        blocks: From points to their features, some columns at a time.
        x: Training points, as ``blocks`` takes them.
        x_test: Test points.
        bandwidth: Factor before the squared distance, above 0.
        relative: Whether the bandwidth is in units of 1 / mean squared distance between training points.
        block: Rows in a panel.
    """
    train, test = torch.cat(list(blocks(x)), dim=1), torch.cat(list(blocks(x_test)), dim=1)
    spread = mean_squared_distance(train)
    scale = bandwidth / spread if relative else bandwidth

    def rows(start: int, stop: int, dtype: torch.dtype) -> Tensor:
        points = train[:stop].to(dtype)
        panel = gaussian_kernel(points[start:], points, scale)
        panel[:, start:].fill_diagonal_(1.0)
        return panel

    matrix = LowerTriangle(len(train), rows, block)
    return KernelMachine(matrix, lambda a: predict(test, train, a, scale), scale, spread, train.shape[1])


@checked
def stored_kernel(
    blocks: Blocks,
    x: Tensor,
    x_test: Tensor,
    bandwidth: Positive | None,
    relative: bool = False,
    block: Count = 2048,
    progress: Callable[[int], None] | None = None,
) -> KernelMachine:
    """Make a Gaussian or linear kernel from one block of features at a time, kept as a triangle.

    Memory is N * (N + block) / 2 + N * M numbers of float32 for M test points, whatever the number of features.
    Arguments that are not named here are those of :func:`recomputed_kernel`.

    Args:
        blocks: As there, like the points.
        x: Training points.
        x_test: Test points.
        bandwidth: Factor before the squared distance; without one it is the linear kernel, scaled to a mean diagonal
            of 1 so that ridges compare.
        relative: As there.
        block: As there.
        progress: Called as ``progress(num_features)`` after each block.
    """

    def rows(start: int, stop: int, dtype: torch.dtype) -> Tensor:
        panel = panels[start].to(dtype, copy=True)
        corner = panel[:, start:]
        # A product of float32 blocks is symmetric only up to rounding, which refinement would see as a residual.
        corner.copy_(corner.tril() + corner.tril(-1).T)
        return panel

    matrix, num_features = LowerTriangle(len(x), rows, block), 0
    panels = {start: torch.zeros(stop - start, stop, device=x.device) for start, stop in matrix.bounds}
    cross, square = torch.zeros(len(x_test), len(x), device=x.device), torch.zeros(len(x_test), device=x.device)
    with full_precision():
        for part, part_test in zip(blocks(x), blocks(x_test), strict=True):
            for start, panel in panels.items():
                stop = panel.shape[1]
                panel.addmm_(part[start:stop], part[:stop].T)
            cross.addmm_(part_test, part.T)
            square += part_test.square().sum(dim=1)
            num_features += part.shape[1]
            if progress is not None:
                progress(num_features)
    diagonal = torch.cat([panel.diagonal(start) for start, panel in panels.items()])
    size = float(diagonal.double().mean())
    total = 0.0
    for start, panel in panels.items():
        below, corner = panel[:, :start], panel[:, start:]
        total += 2.0 * float(below.sum(dtype=torch.float64)) + float(corner.sum(dtype=torch.float64))
    spread = 2.0 * (size - total / len(x) ** 2)
    if bandwidth is None:
        for gram in (*panels.values(), cross):
            gram.mul_(1.0 / size)
    else:
        bandwidth = bandwidth / spread if relative else bandwidth
        squares = [diagonal[start : panel.shape[1]] for start, panel in panels.items()]
        for gram, own in zip((*panels.values(), cross), (*squares, square), strict=True):
            gram.mul_(-2.0).add_(own[:, None]).add_(diagonal[: gram.shape[1]]).clamp_(min=0.0).mul_(-bandwidth).exp_()
        for start, panel in panels.items():
            panel[:, start:].fill_diagonal_(1.0)

    def scores(coefficients: Tensor) -> Tensor:
        return torch.cat([part.to(coefficients.dtype) @ coefficients for part in torch.split(cross, 1024)])

    return KernelMachine(matrix, scores, bandwidth, spread, num_features)


class SpdSolution(NamedTuple):
    """What :func:`solve_spd` found, with what it measured on the way.

    Attributes:
        coefficients: The solution (N, C), float64.
        fitted: The operator times the solution, without the ridge (N, C), float64.
        residual: Largest relative residual over the columns, ``|y - (K + ridge) a| / |y|`` in the 2-norm.
        iterations: Conjugate-gradient steps after the direct solve.
        jitter: Multiple of the identity that the factorization, not the solution, had to be given.
    """

    coefficients: Tensor
    fitted: Tensor
    residual: float
    iterations: int
    jitter: float


@checked
def solve_spd(
    operator: LowerTriangle,
    targets: Annotated[Tensor, Shape("N C")],
    ridge: NotNegative = 0.0,
    dtype: torch.dtype = torch.float32,
    tolerance: NotNegative = 1e-6,
    max_iterations: Whole = 50,
    jitter: NotNegative = 0.0,
    progress: Progress | None = None,
    refined: Callable[[int, float], object] | None = None,
) -> SpdSolution:
    """Solve ``(K + ridge * I) a = y`` by a direct factorization and refine until float64 residuals agree.

    The refinement is the conjugate-gradient method with the factor as preconditioner, one step length a column: it
    converges where plain iterative refinement in float32 would not. A matrix that rounding has made indefinite is
    factored again with a jitter on its diagonal, ten times larger each time. The jitter is part of the preconditioner
    only: the equations that are solved, and the residual, are those without it. The factor is held as row panels, in
    N * (N + block) / 2 numbers.

    Args:
        operator: Symmetric positive semi-definite (N, N) matrix K.
        targets: Right-hand sides y (N, C).
        ridge: Added to the diagonal, at least 0.
        dtype: Precision of the factor; residuals are float64 in any case.
        tolerance: Relative residual at which refinement stops.
        max_iterations: Most refinement steps; each costs one pass over the operator. The residual that was reached
            is returned, not asserted.
        jitter: First jitter to try. More than 0 spares an attempt that is known to fail.
        progress: Called as ``progress(done, total)`` after each panel of the factorization, in units of work.
        refined: Called as ``refined(steps, residual)`` after the direct solve and each refinement step.

    Returns:
        The solution and its measured residual.

    Raises:
        ValueError: If shapes do not match or the matrix cannot be factored even with the largest jitter.
    """
    if len(targets) != operator.size:
        raise ValueError(f"targets have shape {tuple(targets.shape)}, but the matrix needs ({operator.size}, C).")
    # Below this a jitter drowns in the rounding of the factorization itself.
    first = operator.rows(*operator.bounds[0], dtype).diagonal()
    smallest = 1e3 * torch.finfo(dtype).eps * float(first.mean())
    for _ in range(6):
        if (factor := _cholesky(operator, ridge + jitter, dtype, progress)) is not None:
            break
        jitter = max(10.0 * jitter, smallest)
    else:
        raise ValueError(
            f"the matrix is not positive semi-definite: no factor with a jitter of {jitter / 10.0:g}; "
            "check the kernel for NaN and negative eigenvalues."
        )
    tiny = torch.finfo(torch.float64).tiny
    y = targets.double()
    scale = y.norm(dim=0).clamp_min(tiny)
    a = _substitute(factor, y).double()
    fitted = operator @ a
    r = y - fitted - ridge * a
    best = SpdSolution(a, fitted, float((r.norm(dim=0) / scale).max()), 0, jitter)
    iterations, residual = 0, best.residual
    say = refined or (lambda steps, residual: None)
    say(iterations, residual)
    p = z = _substitute(factor, r).double()
    rz = (r * z).sum(dim=0)
    # A residual that is not finite ends the loop: contradictory equations have no solution to converge to.
    while tolerance < residual < float("inf") and iterations < max_iterations:
        kp = operator @ p
        ap = kp + ridge * p
        # A column that is already exact has a zero direction; the floor keeps its step at zero instead of 0 / 0.
        step = rz / (p * ap).sum(dim=0).clamp_min(tiny)
        a, fitted, r = a + step * p, fitted + step * kp, r - step * ap
        z = _substitute(factor, r).double()
        previous, rz = rz, (r * z).sum(dim=0)
        p = z + rz / previous.clamp_min(tiny) * p
        iterations, residual = iterations + 1, float((r.norm(dim=0) / scale).max())
        say(iterations, residual)
        if residual < best.residual:
            best = SpdSolution(a, fitted, residual, iterations, jitter)
    if best.iterations:
        # The recurrence drifts from the true residual, and only the true one says whether the solution interpolates.
        fitted = operator @ best.coefficients
        residual = float(((y - fitted - ridge * best.coefficients).norm(dim=0) / scale).max())
        best = best._replace(fitted=fitted, residual=residual)
    return best


def _cholesky(
    matrix: LowerTriangle, shift: float, dtype: torch.dtype, progress: Progress | None
) -> list[Tensor] | None:
    """Return the row panels of the Cholesky factor of a matrix plus ``shift`` times the identity; None if it has none.

    Each panel is filled, reduced against those above it by matrix products, and kept.
    """
    panels: list[Tensor] = []
    with full_precision():
        for start, stop in matrix.bounds:
            panel = matrix.rows(start, stop, dtype)
            panel[:, start:].diagonal().add_(shift)
            for above, (first, last) in zip(panels, matrix.bounds, strict=False):
                column = panel[:, first:last]
                column.addmm_(panel[:, :first], above[:, :first].T, alpha=-1.0)
                column.copy_(torch.linalg.solve_triangular(above[:, first:].T, column, upper=True, left=False))
            corner = panel[:, start:]
            corner.addmm_(panel[:, :start], panel[:, :start].T, alpha=-1.0)
            factor, info = torch.linalg.cholesky_ex(corner)
            if int(info) or not bool(factor.isfinite().all()):
                return None
            corner.copy_(factor)
            panels.append(panel)
            if progress is not None:
                progress(float(stop) ** 3, float(matrix.size) ** 3)
    return panels


def _substitute(factor: list[Tensor], y: Tensor) -> Tensor:
    """Solve for right-hand sides (N, C) by forward and backward substitution in the factor's precision."""
    out = y.to(factor[0].dtype, copy=True)
    with full_precision():
        for panel in factor:
            start, stop = panel.shape[1] - panel.shape[0], panel.shape[1]
            part = out[start:stop] - panel[:, :start] @ out[:start]
            out[start:stop] = torch.linalg.solve_triangular(panel[:, start:], part, upper=False)
        for panel in reversed(factor):
            start, stop = panel.shape[1] - panel.shape[0], panel.shape[1]
            out[start:stop] = torch.linalg.solve_triangular(panel[:, start:].T, out[start:stop], upper=True)
            out[:start] -= panel[:, :start].T @ out[start:stop]
    return out
