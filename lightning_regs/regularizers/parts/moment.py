"""Where a training is, and the random streams that belong there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from lightning_regs.core import rng
from lightning_regs.core.lightning import pl


@dataclass(frozen=True)
class Moment:
    """Where a training is, and the draws that belong there; seed and name are the method's.

    Attributes:
        epoch: From 0.
        batch: From 0 in each epoch; repeats of a batch are one.
        rank: The process's; 0 in all of them for what acts on gradients and weights, which have to stay equal.
    """

    trainer: pl.Trainer
    module: pl.LightningModule
    epoch: int
    batch: int
    rank: int
    seed: int
    name: str

    @property
    def step(self) -> int:
        """Optimizer steps taken so far."""
        return self.trainer.global_step

    @cached_property
    def generator(self) -> torch.Generator:
        """The CPU generator that belongs to (seed, class, epoch, batch, rank)."""
        return self.stream()

    def stream(self, purpose: str = "", device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator apart from :attr:`generator`, where a method needs several or one on a device."""
        return torch.Generator(device=device).manual_seed(self.seed_of(purpose))

    def seed_of(self, purpose: str = "") -> int:
        """Return the seed of :meth:`stream`."""
        name = f"{self.name}.{purpose}" if purpose else self.name
        return rng.derive_seed(self.seed, name, self.epoch, self.batch, self.rank)
