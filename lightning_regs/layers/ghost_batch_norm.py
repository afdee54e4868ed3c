"""Batch normalization over parts of a batch."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_regs.core.checks import Count, Range, checked


class GhostBatchNorm(_BatchNorm):
    r"""Batch norm with the statistics of ghost batches, parts of a batch of at least ``size`` samples each.

    A large batch then has the noise of small ones: Hoffer, Hubara, Soudry 2017, "Train longer, generalize better",
    arXiv:1705.08741, algorithm 1. The running statistics are updated by one ghost batch after the other, so that of g
    of them, with momentum :math:`\eta`, they keep the share :math:`(1 - \eta)^g` of what they were. A batch of fewer
    than two sizes is one part, as for ``nn.BatchNorm2d``; in evaluation the two are the same. ``SyncBatchNorm``, as of
    ``Trainer(sync_batchnorm=True)``, takes the statistics of the largest batches there are, and refuses this one.

    Parameters and buffers have the names of torch's. In a net that has batch norm: ``Classifier(layers=[{"replace":
    "BatchNorm2d", "by": "GhostBatchNorm", "size": 128}])``, which keeps weights, statistics and options of the old.

    Args:
        num_features: C of an input ``(N, C, ...)``.
        size: Samples of a ghost batch, at least 2.
        eps: Added to the variance.
        momentum: Share of the running statistics that a ghost batch replaces, in (0, 1]; None: they are means over all.
        affine: Whether there are a weight and a bias for each channel.

    Raises:
        ValueError: If a number is out of range.
    """

    num_batches_tracked: Tensor

    @checked
    def __init__(
        self,
        num_features: Count,
        size: Annotated[int, Range(2)] = 128,
        eps: Annotated[float, Range(0)] = 1e-5,
        momentum: Annotated[float, Range(above=0, high=1)] | None = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.size = size

    @classmethod
    def like(cls, old: nn.Module, size: int = 128) -> GhostBatchNorm:
        """Return one in the place of a batch norm of torch's, with what that has learned.

        Raises:
            ValueError: If it is none, or has no running statistics.
        """
        if not isinstance(old, _BatchNorm) or old.running_mean is None:
            raise ValueError(f"GhostBatchNorm takes the place of a batch norm with running statistics, got {old!r}.")
        made = cls(old.num_features, size, old.eps, old.momentum, old.affine).to(old.running_mean)
        made.load_state_dict(old.state_dict())
        for name, weight in old.named_parameters():
            made.get_parameter(name).requires_grad_(weight.requires_grad)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(N, C, ...)``."""
        parts = x.tensor_split(max(1, len(x) // self.size)) if self.training else (x,)
        shares = [self.momentum or 0.0] * len(parts)
        if self.training:
            if self.momentum is None:
                seen = int(self.num_batches_tracked)
                shares = [1 / number for number in range(seen + 1, seen + 1 + len(parts))]
            self.num_batches_tracked.add_(len(parts))
        own = self.running_mean, self.running_var, self.weight, self.bias, self.training
        normed = [F.batch_norm(part, *own, share, self.eps) for part, share in zip(parts, shares, strict=True)]
        return normed[0] if len(normed) == 1 else torch.cat(normed)

    @property
    def qconfig(self) -> None:
        """Refuse conversions, as SyncBatchNorm's, which ask for this, and would make a batch norm of all samples."""
        raise TypeError(
            "GhostBatchNorm has statistics of parts of a batch, and what it is converted to, as by "
            "Trainer(sync_batchnorm=True), has those of all of it; leave the conversion out, or replace it before by "
            "replace_layers(net, {GhostBatchNorm: ...})."
        )

    def extra_repr(self) -> str:
        """Show the size beside what torch shows."""
        return f"{super().extra_repr()}, size={self.size}"  # type: ignore[no-untyped-call]

    def _check_input_dim(self, input: Tensor) -> None:
        pass
