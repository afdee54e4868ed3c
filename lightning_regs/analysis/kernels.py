"""Kernel classifiers without regularization: interpolation, ridge, and the choice of their constants.

Zhang et al., "Understanding deep learning requires rethinking generalization", Section 5 (arXiv 1611.03530): solve
``K a = Y`` with one-hot Y and classify by the largest entry of ``K_test a``. Nothing is centred, nothing is penalised,
every training label is met exactly, and the classifier generalises all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lightning_regs.core.batch import check_indices
from lightning_regs.core.checks import Count, NotNegative, Positive, Range, Shape, checked, nonempty

Points = Annotated[Tensor, Shape("N D", "floating-point", "flatten the samples, and use .float()")]
Others = Annotated[Tensor, Shape("M D", "floating-point", "flatten the samples, and use .float()")]
Square = Annotated[Tensor, Shape("N N")]
Classes = Annotated[Tensor, Shape("N")]
Columns = Annotated[Tensor, Shape("N C")]


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
        with contextlib.suppress(RuntimeError):
            _set(cudnn, "allow_tf32", False, undo)
        # By the second way one may have said it of all backends, which holds for what the first has set back.
        for part in (getattr(cudnn, name, None) for name in ("conv", "rnn")):
            if part is not None and part.fp32_precision == "tf32":
                _set(part, "fp32_precision", "ieee", undo)
        yield


def _set(owner: object, name: str, value: object, undo: contextlib.ExitStack) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


@checked
def one_hot(labels: Classes, num_classes: Count) -> Tensor:
    """Return regression targets (N, C) in float64: 1 for the label's class, 0 elsewhere."""
    check_indices("labels", labels, num_classes)
    return functional.one_hot(labels.long(), num_classes).double()


@checked
def error_rate(scores: Columns, labels: Classes) -> float:
    """Return the percentage of rows of scores (N, C) whose largest entry is not at the label (N,)."""
    return 100.0 * float((scores.argmax(dim=1) != labels).double().mean())


@checked
def gaussian_kernel(x: Points, y: Others, bandwidth: Positive) -> Tensor:
    """Return ``exp(-bandwidth * |x_i - y_j|^2)`` (N, M) of points (N, D) and (M, D) of one floating type.

    Zhang et al. use a bandwidth of 0.02 on MNIST pixels in [0, 1]. Besides the kernel only vectors are allocated.

    Raises:
        ValueError: If the bandwidth is not positive or the points do not have the same length.
    """
    with full_precision():
        out = torch.addmm((y * y).sum(dim=1)[None], x, y.T, alpha=-2.0)
    return out.add_((x * x).sum(dim=1)[:, None]).clamp_(min=0.0).mul_(-bandwidth).exp_()


@checked
def predict(x: Others, x_train: Points, coefficients: Columns, bandwidth: Positive, block: Count = 1024) -> Tensor:
    """Return the scores (M, C) of points (M, D) by a Gaussian kernel machine that was fitted to points (N, D).

    ``coefficients`` (N, C) solve ``K a = Y``; their type is the precision of the evaluation. It takes a block of points
    at a time; memory is about ``block * N`` numbers.
    """
    centres = x_train.to(coefficients.dtype)
    parts = [
        gaussian_kernel(part.to(coefficients.dtype), centres, bandwidth) @ coefficients
        for part in torch.split(x, block)
    ]
    return torch.cat(parts)


@checked
def fit(kernel: Square, targets: Annotated[Tensor, Shape("N ...")], ridge: NotNegative = 0.0) -> Tensor:
    """Solve ``(K + ridge * I) a = Y`` densely in float64; of several solutions, the one of least norm.

    For matrices that do not fit in memory as a square see :func:`lightning_regs.analysis.large_kernels.solve_spd`.

    Args:
        kernel: Symmetric positive semi-definite matrix (N, N).
        targets: Right-hand sides (N, C).
        ridge: At least 0; at 0 the solution interpolates wherever the kernel allows it.

    Returns:
        Coefficients (N, C), float64.

    Raises:
        ValueError: If ``ridge`` is negative or the shapes do not match.
    """
    y = targets.double()
    matrix = kernel.double() + ridge * torch.eye(kernel.shape[0], dtype=torch.float64, device=kernel.device)
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) == 0:
        return torch.cholesky_solve(y, factor)
    coefficients: Tensor = torch.linalg.pinv(matrix, hermitian=True) @ y
    return coefficients


@checked
def gram_matrix(blocks: Iterable[Tensor]) -> Tensor:
    """Return the inner products (N, N) in float64 of points whose features come in blocks (N, F_i)."""
    gram: Tensor | None = None
    for part in blocks:
        product = part.double() @ part.double().T
        gram = product if gram is None else gram.add_(product)
    if gram is None:
        raise ValueError("there are no features, so there are no inner products; pass at least one block.")
    return gram


@checked
def squared_distances(gram: Square) -> Tensor:
    """Return the squared distances (N, N) between points whose inner products are ``gram`` (N, N)."""
    square = gram.diagonal()
    return (square[:, None] + square[None] - 2.0 * gram).clamp_(min=0.0).fill_diagonal_(0.0)


@checked
def mean_squared_distance(x: Annotated[Tensor, Shape("N D"), nonempty]) -> float:
    """Return the mean of ``|x_i - x_j|^2`` over all N * N pairs of points (N, D), which sets the bandwidth's scale."""
    x = x.double()
    return 2.0 * (float((x * x).sum(dim=1).mean()) - float((x.mean(dim=0) ** 2).sum()))


class Selection(NamedTuple):
    """Constants chosen on training data alone.

    Attributes:
        bandwidth: Best for interpolation, that is at the first of the ridges; ``nan`` for a linear kernel.
        ridge: Best at that bandwidth; the smallest of equals.
        errors: Held-out errors in percent (bandwidths, ridges).
    """

    bandwidth: float
    ridge: float
    errors: Tensor


@checked
def select(
    gram: Square,
    labels: Classes,
    num_classes: Count,
    bandwidths: Annotated[Sequence[Positive], nonempty] | None,
    ridges: Annotated[Sequence[NotNegative], nonempty],
    generator: torch.Generator,
    holdout: Annotated[float, Range(above=0, below=1)] = 0.2,
) -> Selection:
    """Choose bandwidth and ridge on a part of the training set that the fit does not see.

    The bandwidth is the one at which the unregularised fit does best, so that comparing it with the ridge isolates
    what the ridge adds. No test image is involved.

    Args:
        gram: Inner products of training points (N, N).
        labels: Their classes (N,).
        num_classes: Number of classes C.
        bandwidths: Candidates for the Gaussian kernel, or ``None`` for the linear kernel ``gram`` itself.
        ridges: Candidates, the unregularised one (normally 0) first.
        generator: Draws the split.
        holdout: Fraction held out, inside (0, 1).

    Returns:
        The choice and the whole table of held-out errors.

    Raises:
        ValueError: If there is nothing to choose from or the split would be empty on one side.
    """
    held = round(holdout * gram.shape[0])
    if not 0 < held < gram.shape[0]:
        raise ValueError(f"holdout={holdout} of {gram.shape[0]} points leaves one side empty; choose inside (0, 1).")
    order = torch.randperm(gram.shape[0], generator=generator).to(gram.device)
    val, train = order[:held], order[held:]
    distances = squared_distances(gram.double()) if bandwidths is not None else gram.double()
    targets = one_hot(labels[train], num_classes)
    errors = torch.empty(len(bandwidths or [0]), len(ridges), dtype=torch.float64)
    for i in range(errors.shape[0]):
        kernel = distances if bandwidths is None else torch.exp(-bandwidths[i] * distances)
        for j, ridge in enumerate(ridges):
            scores = kernel[val][:, train] @ fit(kernel[train][:, train], targets, ridge)
            errors[i, j] = error_rate(scores, labels[val])
    best = int(errors[:, 0].argmin())
    smallest = min(range(len(ridges)), key=lambda j: (float(errors[best, j]), ridges[j]))
    return Selection(float("nan") if bandwidths is None else bandwidths[best], ridges[smallest], errors)
