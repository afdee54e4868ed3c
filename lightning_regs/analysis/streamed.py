"""Kernels on features that come in blocks: kept whole, or summed into the Gram matrix where memory cannot hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regs.analysis.kernels import GaussianKernel, mean_squared_distance, predict
from lightning_regs.analysis.packed import StoredPanels, SymmetricOperator, full_precision
from lightning_regs.core.checks import Count, Positive, checked

Blocks = Callable[[Tensor], Iterable[Tensor]]


@dataclass(frozen=True)
class KernelMachine:
    """A kernel between training and test points, ready to be solved and scored.

    Attributes:
        operator: The training matrix (N, N), for ``solve_spd``.
        scores: From coefficients (N, C) to the test points' scores (M, C).
        bandwidth: Factor before the squared distance; None for a linear kernel.
        spread: Mean squared distance between training points; for a linear kernel as well.
        num_features: Number of features.
    """

    operator: SymmetricOperator
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
    operator = GaussianKernel(train, scale, block)
    return KernelMachine(operator, lambda a: predict(test, train, a, scale), scale, spread, train.shape[1])


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

    Args:
        blocks: As for :func:`recomputed_kernel`, like what is not named here.
        x: Training points.
        x_test: Test points.
        bandwidth: Factor before the squared distance; without one it is the linear kernel, scaled to a mean diagonal
            of 1 so that ridges compare.
        relative: Whether the bandwidth is in units of 1 / mean squared distance between training points.
        block: Rows in a panel.
        progress: Called as ``progress(num_features)`` after each block.
    """
    panels = StoredPanels.zeros(len(x), block, device=x.device)
    cross = torch.zeros(len(x_test), len(x), device=x.device)
    square = torch.zeros(len(x_test), device=x.device)
    num_features = 0
    with full_precision():
        for part, part_test in zip(blocks(x), blocks(x_test), strict=True):
            panels.add_gram_(part)
            cross.addmm_(part_test, part.T)
            square += part_test.square().sum(dim=1)
            num_features += part.shape[1]
            if progress is not None:
                progress(num_features)
    diagonal = panels.diagonal()
    size = float(diagonal.double().mean())
    spread = 2.0 * (size - panels.mean())
    if bandwidth is None:
        for matrix in (*panels.panels, cross):
            matrix.mul_(1.0 / size)
    else:
        bandwidth = bandwidth / spread if relative else bandwidth
        cross.mul_(-2.0).add_(diagonal).add_(square[:, None]).clamp_(min=0.0).mul_(-bandwidth).exp_()
        panels.gram_to_gaussian_(bandwidth)

    def scores(coefficients: Tensor) -> Tensor:
        return torch.cat([part.to(coefficients.dtype) @ coefficients for part in torch.split(cross, 1024)])

    return KernelMachine(panels, scores, bandwidth, spread, num_features)
