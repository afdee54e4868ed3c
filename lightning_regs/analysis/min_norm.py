"""Minimum-norm solutions: what gradient descent finds when infinitely many weights fit the data.

Zhang et al. (arXiv 1611.03530, Section 5): with more unknowns than equations, stochastic gradient descent from zero
never leaves the span of the data, so the only interpolating point it can reach is the one of least norm. They go on to
show that this norm does not predict which interpolant generalises better.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.checks import Count, Positive, Shape, Whole, checked, nonempty

Points = Annotated[Tensor, Shape("N D"), nonempty]
Values = Annotated[Tensor, Shape("N ...")]
Weights = Annotated[Tensor, Shape("D ...")]
Columns = Annotated[Tensor, Shape("N C")]


@checked
def min_norm_solution(x: Points, y: Values) -> Tensor:
    """Return the least-squares solution of least 2-norm, ``pinv(x) @ y``, in float64; complex where points are.

    It is (D,) or (D, C) for points (N, D) and values (N,) or (N, C).
    """
    _check(y)
    precision = torch.complex128 if x.is_complex() or y.is_complex() else torch.float64
    solution: Tensor = torch.linalg.pinv(x.to(precision)) @ y.to(precision)
    return solution


@checked
def gradient_descent(
    x: Points,
    y: Values,
    steps: Whole,
    learning_rate: Positive | None = None,
    batch_size: Count | None = None,
    generator: torch.Generator | None = None,
    start: Weights | None = None,
) -> Tensor:
    """Minimise ``|x w - y|^2 / 2`` by (stochastic) gradient descent in float64, without any penalty.

    Args:
        x: Points (N, D).
        y: Values (N,) or (N, C).
        steps: Updates.
        learning_rate: Step on the gradient summed over the batch; by default 1 over the largest squared singular value
            of ``x`` for full batches, and 1 over the sum of the ``batch_size`` largest squared row norms for smaller
            ones: both are stable whatever the batch.
        batch_size: Points in a batch, drawn without replacement in every step; all of them by default.
        generator: Draws the batches; needed when ``batch_size`` is below N.
        start: Initial weights, zero by default. What lies outside the span of the rows of ``x`` is never removed.

    Returns:
        Weights (D,) or (D, C).

    Raises:
        ValueError: If shapes do not match, the batch size is out of range, or there is no generator for batches.
    """
    _check(y)
    n = x.shape[0]
    batch_size = n if batch_size is None else batch_size
    if batch_size > n:
        raise ValueError(f"batch_size is {batch_size}, but must lie between 1 and the {n} points.")
    if batch_size < n and generator is None:
        raise ValueError("batches are drawn at random: pass a generator, or leave batch_size out for full batches.")
    x, y = x.double(), y.double()
    if learning_rate is None:
        squares = (x * x).sum(dim=1).topk(batch_size).values
        largest = torch.linalg.matrix_norm(x, 2) ** 2 if batch_size == n else squares.sum()
        learning_rate = 1.0 / float(largest)
    shape = x.shape[1:] + y.shape[1:]
    if start is not None and start.shape != shape:
        raise ValueError(f"start must have the shape {tuple(shape)} of the weights, got {tuple(start.shape)}.")
    w = torch.zeros(shape, dtype=x.dtype, device=x.device) if start is None else start.double()
    for _ in range(steps):
        if batch_size == n:
            xb, yb = x, y
        else:
            batch = torch.randperm(n, generator=generator)[:batch_size].to(x.device)
            xb, yb = x[batch], y[batch]
        w = w - learning_rate * (xb.T @ (xb @ w - yb))
    return w


@checked
def outside_span(x: Points, w: Weights) -> Tensor:
    """Return the part of weights (D,) or (D, C) orthogonal to every row of points (N, D), in float64."""
    inside: Tensor = torch.linalg.pinv(x.double()) @ (x.double() @ w.double())
    return w.double() - inside


@checked
def rkhs_norm(coefficients: Columns, fitted: Columns) -> float:
    """Return the norm of a kernel machine in its function space, ``sqrt(tr(a^T K a))``, over all classes together.

    Of all functions in the space that take the fitted values, the kernel machine has the least such norm. For an
    interpolant the fitted values are the one-hot targets Y and this is ``sqrt(tr(Y^T K^-1 Y))``; for a linear kernel
    it is the Frobenius norm of the weight matrix on the features. The paper does not say which norm its "220" and
    "390" are; :func:`coefficient_norm` is the other candidate.

    ``coefficients`` are a (N, C), ``fitted`` is ``K a`` (N, C).
    """
    return float((coefficients.double() * fitted.double()).sum().clamp_min(0.0).sqrt())


@checked
def coefficient_norm(coefficients: Tensor) -> float:
    """Return the Frobenius norm of the dual coefficients (N, C) of a kernel machine."""
    return float(coefficients.double().norm())


def _check(y: Tensor) -> None:
    if y.ndim > 2:
        raise ValueError(f"y must have the shape (N,) or (N, C), got {tuple(y.shape)}.")
