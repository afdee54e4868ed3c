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
    than two sizes is one part, as for ``nn.BatchNorm2d``; in evaluation the two are the same.

    Parameters and buffers have the names of torch's. In a net that has batch norm: ``Classifier(layers=[{"replace":
    "BatchNorm2d", "by": "GhostBatchNorm", "size": 128}])``, which keeps weights, statistics and options of the old.

    Args:
        num_features: C of an input ``(N, C, ...)``.
        size: Samples of a ghost batch, at least 2.
        eps: Added to the variance.
        momentum: Share of the running statistics that a ghost batch replaces, in (0, 1].
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
        momentum: Annotated[float, Range(above=0, high=1)] = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.size = size

    @classmethod
    def like(cls, old: nn.Module, size: int = 128) -> GhostBatchNorm:
        """Return one in the place of a batch norm of torch's, with what that has learned.

        Raises:
            ValueError: If it is none, or has no running statistics, or a cumulative mean of them.
        """
        if not isinstance(old, _BatchNorm) or old.running_mean is None or old.momentum is None:
            raise ValueError(f"GhostBatchNorm takes the place of a batch norm with running statistics, got {old!r}.")
        made = cls(old.num_features, size, old.eps, old.momentum, old.affine).to(old.running_mean)
        made.load_state_dict(old.state_dict())
        for name, weight in old.named_parameters():
            made.get_parameter(name).requires_grad_(weight.requires_grad)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(N, C, ...)``."""
        parts = x.tensor_split(max(1, len(x) // self.size)) if self.training else (x,)
        if self.training:
            self.num_batches_tracked.add_(len(parts))
        assert self.momentum is not None
        statistics, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        normed = [F.batch_norm(part, *statistics, *affine, self.training, self.momentum, self.eps) for part in parts]
        return normed[0] if len(normed) == 1 else torch.cat(normed)

    def extra_repr(self) -> str:
        """Show the size beside what torch shows."""
        return f"{super().extra_repr()}, size={self.size}"  # type: ignore[no-untyped-call]

    def _check_input_dim(self, input: Tensor) -> None:
        pass
