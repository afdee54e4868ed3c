"""Optimizers and learning-rate schedules by name, as plain configuration."""

from __future__ import annotations

from lightning_regs.optim.build import make_optimizer, make_schedule

__all__ = ["make_optimizer", "make_schedule"]
