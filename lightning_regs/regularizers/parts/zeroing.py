"""Zeroing of pruned weights in place: at once, after each step of an optimizer, and in averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

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


def zero_after_step(masks: Mapping[nn.Parameter, Tensor]) -> Callable[[torch.optim.Optimizer], None]:
    """Return the hook that keeps pruned weights at zero after a step of an optimizer."""
    known: dict[torch.optim.Optimizer, tuple[int, list[Tensor], list[Tensor]]] = {}

    def after_step(optimizer: torch.optim.Optimizer) -> None:
        held = sum(len(group["params"]) for group in optimizer.param_groups)
        # Groups come in later, where parts of a network are unfrozen.
        if optimizer not in known or known[optimizer][0] != held:
            ours = [w for group in optimizer.param_groups for w in group["params"] if w in masks]
            known[optimizer] = held, ours, [masks[w] for w in ours]
        _, weights, kept = known[optimizer]
        if weights:
            with torch.no_grad():
                torch._foreach_mul_(weights, kept)

    return after_step


@torch.no_grad()
def zero_(values: Tensor, kept: Tensor) -> None:
    """Set values to +0.0 in place, NaN too, but for those that are kept by a mask of their shape, on any device."""
    values.masked_fill_(kept.to(values.device) == 0, 0)
