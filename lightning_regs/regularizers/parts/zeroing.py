"""Zeroing of pruned weights in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_regs.core.checks import checked

__all__ = ["zero_pruned"]


@checked
@torch.no_grad()
def zero_pruned(weights: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    r"""Set pruned weights to zero in place: :math:`w \leftarrow m \odot w`.

    Args:
        weights: Of any shapes, on one device each.
        masks: 0 and 1, a tensor for each weight, of its shape, type and device.
    """
    if [w.shape for w in weights] != [m.shape for m in masks]:
        raise ValueError(
            f"weights and masks must have the same shapes, got {[tuple(w.shape) for w in weights]} and "
            f"{[tuple(m.shape) for m in masks]}."
        )
    if weights:
        torch._foreach_mul_(list(weights), list(masks))
