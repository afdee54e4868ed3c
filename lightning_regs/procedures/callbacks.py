"""What callbacks of procedures ask for that drive the learning rate."""

from __future__ import annotations

import torch

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.training.classifier import Classifier


def only_optimizer(ours: str, trainer: pl.Trainer, module: pl.LightningModule) -> torch.optim.Optimizer:
    """Return the one optimizer of a training, whose rate ``ours`` is to drive; refuse where that is not possible."""
    name = type(module).__name__
    found = [optimizer for optimizer in trainer.optimizers if any("lr" in g for g in optimizer.param_groups)]
    if len(found) != 1:
        raise MisconfigurationException(
            f"{ours} drives the rate of one optimizer, and {name} has {len(found)}; train with one."
        )
    if not module.automatic_optimization and not isinstance(module, Classifier):
        raise MisconfigurationException(
            f"{name} optimizes manually, where Lightning steps no schedule and does not know the number of steps, "
            f"and {ours} needs both; use automatic optimization."
        )
    return found[0]
