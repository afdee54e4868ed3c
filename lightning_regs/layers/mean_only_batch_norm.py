"""Batch normalization of the mean alone."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_regs.core.checks import Count, Range, checked


class MeanOnlyBatchNorm(nn.Module):
    r"""Batch norm that subtracts the batch's mean, never divides, and adds a learned shift: for weight norm.

    Salimans & Kingma 2016, "Weight Normalization", arXiv:1602.07868, section 2.3: weight norm does the scaling, and the
    noise of the mean is gentler than that of the variance. In evaluation the mean is a running one. The nets of
    ``lightning_regs.models`` have both by ``norm="mean_only"``.

    Shape: floats ``(N, C, ...)`` to the same, in their type; the mean is taken in at least float32, over all but C.

    Args:
        num_features: C.
        momentum: Share of the running mean that a batch replaces, in (0, 1].

    Raises:
        ValueError: If a number is out of range, or an input is none such; in training, if there is one value a channel,
            which would be all shift.
    """

    running_mean: Tensor

    @checked
    def __init__(
        self, num_features: Count, momentum: Annotated[float, Range(above=0, high=1)] = 0.1
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features = num_features
        # None for the mean of all batches since `reset_running_stats`, as `update_batch_norm` sets it.
        self.momentum: float | None = momentum
        self._seen = 0
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))

    @classmethod
    def like(cls, old: nn.Module, momentum: float | None = None) -> MeanOnlyBatchNorm:
        """Return one in the place of a batch norm of torch's: its shift, running mean, and momentum if none is given.

        Raises:
            ValueError: If it is none.
        """
        if not isinstance(old, _BatchNorm):
            raise ValueError(f"MeanOnlyBatchNorm takes the place of a batch norm, got {old!r}.")
        given = {"bias": old.bias, "running_mean": old.running_mean}
        made = cls(old.num_features, momentum or old.momentum or 0.1)
        for name, theirs in given.items():
            if theirs is not None:
                mine: Tensor = getattr(made.to(theirs.device), name)
                mine.data = theirs.detach().clone()
                mine.requires_grad_(theirs.requires_grad)
        return made

    def reset_running_stats(self) -> None:
        """Forget the running mean, as torch's batch norms do."""
        self.running_mean.zero_()
        self._seen = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(N, C, ...)``."""
        if x.ndim < 2 or x.shape[1] != self.num_features or not x.is_floating_point():
            has = f"{x.dtype} of the shape {tuple(x.shape)}"
            raise ValueError(
                f"MeanOnlyBatchNorm({self.num_features}) takes floats (N, {self.num_features}, ...), got {has}."
            )
        mean = self.running_mean
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError(
                    f"MeanOnlyBatchNorm got one value a channel in training, {tuple(x.shape)}, and subtracting it "
                    "leaves nothing; give larger batches, or drop_last=True."
                )
            wide = torch.promote_types(x.dtype, torch.float32)
            mean = x.mean((0, *range(2, x.ndim)), dtype=wide)
            share = self.momentum
            if share is None:
                self._seen += 1
                share = 1 / self._seen
            self.running_mean.mul_(1 - share).add_(share * mean.detach().to(self.running_mean.dtype))
        return x + (self.bias - mean).to(x.dtype).view(-1, *[1] * (x.ndim - 2))

    def extra_repr(self) -> str:
        """Show both numbers."""
        return f"{self.num_features}, momentum={self.momentum}"
