"""The learning rate as one over time."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regs.core.checks import NotNegative, checked


class InverseTimeLR(LRScheduler):
    r"""Divide the learning rate by :math:`(1 + \gamma t)^p` after t steps of the schedule: 1/t decay.

    With p in (1/2, 1] it is a rate for which stochastic approximation converges, Robbins & Monro 1951. It multiplies
    the rate that it finds, so that a warm-up goes with it.

    When it does not help: without noise the rate falls for nothing, and with nets drops or a cosine end lower.

    Args:
        optimizer: Whose rates fall; each group from its own.
        gamma: How fast, at least 0.
        power: p, at least 0.
        last_epoch: Steps of the schedule done; -1 for none, as in torch.

    Raises:
        ValueError: If gamma or the power is negative.
    """

    @checked
    def __init__(
        self, optimizer: Optimizer, gamma: NotNegative, power: NotNegative = 1.0, last_epoch: int = -1
    ) -> None:
        self.gamma, self.power = gamma, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Return the rate of the next step, for each group."""
        t = self.last_epoch
        share = ((1 + self.gamma * (t - 1)) / (1 + self.gamma * t)) ** self.power if t > 0 else 1.0
        return [group["lr"] * share for group in self.optimizer.param_groups]
