"""Solving large symmetric systems of which only the lower triangle is ever stored.

A kernel matrix on MNIST's 60,000 images takes 14.4 GB in float32 as a square and 7.4 GB as row panels of its lower
triangle. LAPACK's packed routines index with 32-bit integers in most builds and report no progress, so the
factorization is written here over panels: each panel is filled, reduced against those above it by matrix products,
and kept. What float32 loses, conjugate gradients on float64 residuals win back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_regs.core.checks import Count, NotNegative, Shape, Whole, checked, nonempty

Progress = Callable[[float, float], None]


class NotPositiveDefiniteError(ValueError):
    """A matrix has no Cholesky factor in the precision that was asked for."""


class SymmetricOperator(Protocol):
    """A symmetric (N, N) matrix that can produce the row panels of its lower triangle."""

    size: int
    block: int

    def rows(self, index: int, dtype: torch.dtype) -> Tensor:
        """Return rows ``index * block`` to ``stop = min((index + 1) * block, N)``, columns ``0`` to ``stop``.

        Returns:
            A fresh tensor (stop - start, stop), which the caller may overwrite.
        """
        ...


class StoredPanels:
    """A symmetric matrix held as the row panels of its lower triangle.

    Args:
        panels: Panel ``i`` has shape (rows of block ``i``, columns up to the end of block ``i``).
    """

    @checked
    def __init__(self, panels: Annotated[Sequence[Annotated[Tensor, Shape("R C")]], nonempty]) -> None:
        self.panels = list(panels)
        self.block = panels[0].shape[0]
        self.size = panels[-1].shape[1]

    @classmethod
    @checked
    def zeros(
        cls, size: Count, block: Count = 2048, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StoredPanels:
        """Allocate the lower triangle of a (size, size) matrix of zeros."""
        bounds = _bounds(size, block)
        return cls([torch.zeros(stop - start, stop, dtype=dtype, device=device) for start, stop in bounds])

    @classmethod
    @checked
    def from_dense(cls, matrix: Annotated[Tensor, Shape("N N"), nonempty], block: Count = 2048) -> StoredPanels:
        """Copy the lower triangle of a dense symmetric matrix (N, N)."""
        return cls([matrix[start:stop, :stop].clone() for start, stop in _bounds(matrix.shape[0], block)])

    def rows(self, index: int, dtype: torch.dtype) -> Tensor:
        """Return a copy of one panel; see :class:`SymmetricOperator`."""
        panel = self.panels[index].to(dtype, copy=True)
        corner = panel[:, index * self.block :]
        # A product of float32 blocks is symmetric only up to rounding, which refinement would see as a residual.
        corner.copy_(corner.tril() + corner.tril(-1).T)
        return panel

    def add_gram_(self, features: Tensor) -> None:
        """Add ``features @ features.T`` for features (N, F), one block of columns of a longer feature vector."""
        for panel, (start, stop) in zip(self.panels, _bounds(self.size, self.block), strict=True):
            panel.addmm_(features[start:stop], features[:stop].T)

    def diagonal(self) -> Tensor:
        """Return the diagonal, shape (N,)."""
        return torch.cat([panel.diagonal(offset=panel.shape[1] - panel.shape[0]) for panel in self.panels])

    def mean(self) -> float:
        """Return the mean over all N * N entries."""
        total = 0.0
        for panel, (start, _) in zip(self.panels, _bounds(self.size, self.block), strict=True):
            total += 2.0 * float(panel[:, :start].sum(dtype=torch.float64))
            total += float(panel[:, start:].sum(dtype=torch.float64))
        return total / self.size**2

    def gram_to_gaussian_(self, bandwidth: float) -> None:
        """Turn a Gram matrix G into ``exp(-bandwidth * (G_ii + G_jj - 2 G_ij))`` in place."""
        square = self.diagonal().clone()
        for panel, (start, stop) in zip(self.panels, _bounds(self.size, self.block), strict=True):
            panel.mul_(-2.0).add_(square[start:stop, None]).add_(square[:stop])
            panel[:, start:].fill_diagonal_(0.0)
            panel.clamp_(min=0.0).mul_(-bandwidth).exp_()


@checked
def symmetric_matmul(
    operator: SymmetricOperator, vectors: Annotated[Tensor, Shape("N C")], dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return the product (N, C) of a symmetric operator (N, N) and vectors (N, C), using each panel for both triangles.

    Panels are made and products are summed in ``dtype``.
    """
    vectors = vectors.to(dtype)
    out = torch.zeros_like(vectors)
    with full_precision():
        for index, (start, stop) in enumerate(_bounds(operator.size, operator.block)):
            panel = operator.rows(index, dtype)
            out[start:stop] += panel @ vectors[:stop]
            out[:start] += panel[:, :start].T @ vectors[start:stop]
    return out


class PackedCholesky:
    """The Cholesky factor of ``operator + ridge * I`` in row panels; memory N * (N + block) / 2 numbers.

    Args:
        operator: Symmetric positive semi-definite (N, N) matrix.
        ridge: Added to the diagonal, at least 0.
        dtype: ``torch.float32`` or ``torch.float64``.
        progress: Called as ``progress(done, total)`` after each panel, in units of arithmetic work.

    Raises:
        ValueError: If ``ridge`` is negative.
        NotPositiveDefiniteError: If the matrix is not positive definite in this precision.
    """

    @checked
    def __init__(
        self,
        operator: SymmetricOperator,
        ridge: NotNegative = 0.0,
        dtype: torch.dtype = torch.float32,
        progress: Progress | None = None,
    ) -> None:
        self.size, self.dtype = operator.size, dtype
        self._bounds = _bounds(self.size, operator.block)
        self._panels: list[Tensor] = []
        with full_precision():
            for index, (start, stop) in enumerate(self._bounds):
                panel = operator.rows(index, dtype)
                panel[:, start:].diagonal().add_(ridge)
                self._reduce(panel, start)
                self._panels.append(panel)
                if progress is not None:
                    progress(float(stop) ** 3, float(self.size) ** 3)

    def _reduce(self, panel: Tensor, start: int) -> None:
        for above, (first, last) in zip(self._panels, self._bounds, strict=False):
            column = panel[:, first:last]
            if first:
                column.addmm_(panel[:, :first], above[:, :first].T, alpha=-1.0)
            column.copy_(torch.linalg.solve_triangular(above[:, first:].T, column, upper=True, left=False))
        corner = panel[:, start:]
        if start:
            corner.addmm_(panel[:, :start], panel[:, :start].T, alpha=-1.0)
        factor, info = torch.linalg.cholesky_ex(corner)
        if int(info) or not bool(torch.isfinite(factor).all()):
            raise NotPositiveDefiniteError(
                f"the matrix is not positive definite in {self.dtype}: rows {start} to {start + len(panel)} have no "
                "Cholesky factor; add a ridge or use float64."
            )
        corner.copy_(factor)

    def solve(self, targets: Tensor) -> Tensor:
        """Solve for targets (N, C) by forward and backward substitution in the factor's precision."""
        out = targets.to(self.dtype, copy=True)
        with full_precision():
            for panel, (start, stop) in zip(self._panels, self._bounds, strict=True):
                part = out[start:stop] - panel[:, :start] @ out[:start]
                out[start:stop] = torch.linalg.solve_triangular(panel[:, start:], part, upper=False)
            for panel, (start, stop) in zip(reversed(self._panels), reversed(self._bounds), strict=True):
                out[start:stop] = torch.linalg.solve_triangular(panel[:, start:].T, out[start:stop], upper=True)
                out[:start] -= panel[:, :start].T @ out[start:stop]
        return out


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
    operator: SymmetricOperator,
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
    only: the equations that are solved, and the residual, are those without it.

    Args:
        operator: Symmetric positive semi-definite (N, N) matrix K.
        targets: Right-hand sides y (N, C).
        ridge: Added to the diagonal, at least 0.
        dtype: Precision of the factor; residuals are float64 in any case.
        tolerance: Relative residual at which refinement stops.
        max_iterations: Most refinement steps; each costs one pass over the operator. The residual that was reached
            is returned, not asserted.
        jitter: First jitter to try. More than 0 spares an attempt that is known to fail.
        progress: Called as ``progress(done, total)`` during the factorization.
        refined: Called as ``refined(steps, residual)`` after the direct solve and each refinement step.

    Returns:
        The solution and its measured residual.

    Raises:
        ValueError: If shapes do not match or the matrix cannot be factored even with the largest jitter.
    """
    if len(targets) != operator.size:
        raise ValueError(f"targets have shape {tuple(targets.shape)}, but the matrix needs ({operator.size}, C).")
    factor, jitter = _factor(operator, ridge, dtype, jitter, progress)
    y = targets.double()
    scale = y.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    a = factor.solve(y).double()
    fitted = symmetric_matmul(operator, a)
    r = y - fitted - ridge * a
    residual = float((r.norm(dim=0) / scale).max())
    best = SpdSolution(a, fitted, residual, 0, jitter)
    iterations = 0
    say = refined or (lambda steps, residual: None)
    say(iterations, residual)
    z = factor.solve(r).double()
    p, rz = z, (r * z).sum(dim=0)
    tiny = torch.finfo(torch.float64).tiny
    # A residual that is not finite ends the loop: contradictory equations have no solution to converge to.
    while tolerance < residual < float("inf") and iterations < max_iterations:
        kp = symmetric_matmul(operator, p)
        ap = kp + ridge * p
        # A column that is already exact has a zero direction; the floor keeps its step at zero instead of 0 / 0.
        step = rz / (p * ap).sum(dim=0).clamp_min(tiny)
        a, fitted, r = a + step * p, fitted + step * kp, r - step * ap
        z = factor.solve(r).double()
        previous, rz = rz, (r * z).sum(dim=0)
        p = z + rz / previous.clamp_min(tiny) * p
        residual = float((r.norm(dim=0) / scale).max())
        iterations += 1
        say(iterations, residual)
        if residual < best.residual:
            best = SpdSolution(a, fitted, residual, iterations, jitter)
    if best.iterations:
        # The recurrence drifts from the true residual, and only the true one says whether the solution interpolates.
        fitted = symmetric_matmul(operator, best.coefficients)
        residual = float(((y - fitted - ridge * best.coefficients).norm(dim=0) / scale).max())
        best = best._replace(fitted=fitted, residual=residual)
    return best


def _factor(
    operator: SymmetricOperator, ridge: float, dtype: torch.dtype, jitter: float, progress: Progress | None
) -> tuple[PackedCholesky, float]:
    # Below this a jitter drowns in the rounding of the factorization itself.
    smallest = 1e3 * torch.finfo(dtype).eps * float(operator.rows(0, dtype).diagonal().mean())
    for _ in range(6):
        # The failed factor must be free before the next is built, so nothing may be kept of the exception.
        with contextlib.suppress(NotPositiveDefiniteError):
            return PackedCholesky(operator, ridge + jitter, dtype, progress), jitter
        jitter = max(10.0 * jitter, smallest)
    raise ValueError(
        f"the matrix is not positive semi-definite: no factor with a jitter of {jitter / 10.0:g}; "
        "check the kernel for NaN and negative eigenvalues."
    )


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 matrix products and convolutions in full float32, and leave torch set as it was.

    Without this, convolutions on an NVIDIA GPU round their factors to the 10 bits of TF32, and matrix products do what
    ``torch.set_float32_matmul_precision`` was given.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with contextlib.ExitStack() as undo:
        # torch 2.9 has a second way, and refuses the first, which every version has, where the user went that one.
        try:
            undo.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        except RuntimeError:
            _set(matmul, "fp32_precision", "ieee", undo)
        try:
            _set(cudnn, "allow_tf32", False, undo)
        except RuntimeError:
            _set(cudnn.conv, "fp32_precision", "ieee", undo)  # type: ignore[attr-defined]
        yield


def _set(owner: object, name: str, value: object, undo: contextlib.ExitStack) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _bounds(size: int, block: int) -> list[tuple[int, int]]:
    return [(start, min(start + block, size)) for start in range(0, size, block)]
