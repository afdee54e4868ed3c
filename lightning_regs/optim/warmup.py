"""Warm-up: the learning rate rises linearly over the first steps."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR

from lightning_regs.core.checks import Count, checked


@checked
def warmup(optimizer: Optimizer, steps: Count) -> LinearLR:
    r"""Return a schedule that multiplies the rate of optimizer step t, from 0, by :math:`\min(1, (t + 1) / T)`.

    It goes beside any schedule that multiplies the rate that it finds, as torch's drops and decays do, each stepped in
    an interval of its own: the rate is the product of both, and a drop comes when it would without the warm-up.

    Args:
        optimizer: Whose learning rate rises.
        steps: T, at least 1. Step it once an optimizer step.

    Raises:
        TypeError: If the number of steps is none.
        ValueError: If it is below 1.
    """
    return LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
