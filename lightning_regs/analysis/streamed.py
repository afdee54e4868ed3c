"""Kernels on more features than fit in memory at once: the Gram matrix summed over blocks of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regs.analysis.kernels import GaussianKernel, mean_squared_distance, predict
from lightning_regs.analysis.packed import StoredPanels, SymmetricOperator, full_precision

Blocks = Callable[[Tensor], Iterable[Tensor]]


class StreamedKernel:
    """A linear or Gaussian kernel between N training and M test points, seen one block of features at a time.

    Memory is N * (N + block) / 2 + N * M numbers of float32, whatever the number of features.

    Args:
        train: Blocks (N, F_i) of the training points' features.
        test: The same blocks (M, F_i) of the test points.
        size: N.
        test_size: M.
        block: Rows in a panel of the training matrix.
        device: Where the blocks live.
        progress: Called as ``progress(num_features)`` after each block.

    Attributes:
        panels: The training matrix (N, N), a ``SymmetricOperator``.
        cross: The matrix between test and training points (M, N).
        num_features: Features seen.
    """

    def __init__(
        self,
        train: Iterable[Tensor],
        test: Iterable[Tensor],
        size: int,
        test_size: int,
        block: int = 2048,
        device: torch.device | str = "cpu",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.panels = StoredPanels.zeros(size, block, device=device)
        self.cross = torch.zeros(test_size, size, device=device)
        self.num_features = 0
        self._square = torch.zeros(test_size, device=device)
        with full_precision():
            for part, part_test in zip(train, test, strict=True):
                self.panels.add_gram_(part)
                self.cross.addmm_(part_test, part.T)
                self._square += part_test.square().sum(dim=1)
                self.num_features += part.shape[1]
                if progress is not None:
                    progress(self.num_features)

    def mean_squared_distance(self) -> float:
        """Return the mean squared distance over all pairs of training points; call it before a conversion."""
        return 2.0 * (float(self.panels.diagonal().double().mean()) - self.panels.mean())

    def normalise_(self) -> float:
        """Scale the linear kernel to a mean diagonal of 1, so that ridges compare; returns the factor."""
        scale = 1.0 / float(self.panels.diagonal().double().mean())
        for panel in self.panels.panels:
            panel.mul_(scale)
        self.cross.mul_(scale)
        return scale

    def to_gaussian_(self, bandwidth: float) -> None:
        """Turn inner products into ``exp(-bandwidth * |x - y|^2)`` in place."""
        diagonal = self.panels.diagonal()
        self.cross.mul_(-2.0).add_(diagonal).add_(self._square[:, None]).clamp_(min=0.0).mul_(-bandwidth).exp_()
        self.panels.gram_to_gaussian_(bandwidth)

    def predict(self, coefficients: Tensor, block: int = 1024) -> Tensor:
        """Return the test points' scores (M, C) for coefficients (N, C), in the precision of the latter."""
        starts = range(0, self.cross.shape[0], block)
        return torch.cat([self.cross[i : i + block].to(coefficients.dtype) @ coefficients for i in starts])


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


def recomputed_kernel(
    blocks: Blocks, x: Tensor, x_test: Tensor, bandwidth: float, relative: bool = False, block: int = 2048
) -> KernelMachine:
    """Make a Gaussian kernel that is computed from all features whenever it is needed; memory N * F numbers.

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


def stored_kernel(
    blocks: Blocks,
    x: Tensor,
    x_test: Tensor,
    bandwidth: float | None,
    relative: bool = False,
    block: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> KernelMachine:
    """Make a kernel on streamed features, kept as a triangle; arguments as for :func:`recomputed_kernel`.

    Without a bandwidth it is the linear kernel, scaled to a mean diagonal of 1 so that ridges compare.
    """
    kernel = StreamedKernel(blocks(x), blocks(x_test), len(x), len(x_test), block, x.device, progress)
    spread = kernel.mean_squared_distance()
    if bandwidth is None:
        kernel.normalise_()
    else:
        bandwidth = bandwidth / spread if relative else bandwidth
        kernel.to_gaussian_(bandwidth)
    return KernelMachine(kernel.panels, kernel.predict, bandwidth, spread, kernel.num_features)
