"""What the methods that change the labels of a batch have in common."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.batch import notes, with_notes
from lightning_regs.core.checks import Positive
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.base import Acts, Regularizer
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.targets import MixedTarget


class TargetMixing(Regularizer, ABC, acts=Acts.BATCH):
    """A method that changes the labels of a batch, and warns where the module's loss took no notice."""

    in_vain = "had no effect on the loss"

    @abstractmethod
    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Return the samples and the mixed labels."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Warn, once, if the training step asked no loss for the mixture."""
        target = batch[1] if isinstance(batch, list) and len(batch) == 2 else None
        skipped = pl_module.automatic_optimization and not outputs
        if isinstance(target, MixedTarget) and not target.was_seen and not skipped:
            self.warn_once(
                f"{self.in_vain}: {type(pl_module).__name__} did not ask a loss of torch for the mixture. "
                "F.cross_entropy, F.nll_loss, their layers and F.one_hot know it; anything else saw the heavier label "
                "of each sample alone. Use one of them, or give the labels as float probabilities (N, K)."
            )

    def check_labels(self, x: Tensor, y: Tensor) -> None:
        """Refuse labels that cannot be mixed.

        Raises:
            MisconfigurationException: If they are neither class indices ``(N,)`` nor floating point, one a sample.
        """
        if not y.is_floating_point() and y.ndim != 1:
            raise MisconfigurationException(
                f"{type(self).__name__} takes labels as class indices (N,) or as floating-point targets, and this "
                f"batch has {y.dtype} of shape {tuple(y.shape)}; convert labels of other shapes with .float()."
            )
        if x.shape[:1] != y.shape[:1]:
            raise MisconfigurationException(
                f"{type(self).__name__} got {len(x)} samples with {y.shape[0] if y.ndim else 'a scalar'} as labels; "
                "a batch has to hold one label a sample."
            )


class PairMixing(TargetMixing, ABC):
    """A method that mixes each sample with a partner from its batch, with a Beta-distributed weight.

    Args:
        alpha: Both parameters of the Beta distribution, above 0.
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.
    """

    alpha: Positive = 1.0
    seed: int | None = None

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse another of its kind that would draw the same."""
        if type(other) is type(self) and other.seed == self.seed:
            return "both would draw the same weights and partners; give one of them another seed, or use one"
        return None

    def has_partners(self, x: Tensor) -> bool:
        """Return whether there is anything to mix, and warn where not."""
        if len(x) < 2:
            self.warn_once("left a batch of one sample as it is, for want of a partner; drop_last=True avoids those.")
        return len(x) > 1

    def draw_lam(self, at: Moment) -> float:
        """Return the batch's draw from Beta(alpha, alpha)."""
        seeded = random.Random(at.seed_of("lam"))  # noqa: S311 - an explicit stream, no secret
        return seeded.betavariate(self.alpha, self.alpha)


def draw_partners(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random permutation of the batch, ``(N,)``, on the device of ``x``."""
    # Blocking copies wait for all that the device has queued.
    return torch.randperm(len(x), generator=generator).to(x.device, non_blocking=True)


def follow_heavier(mixed: Tensor, y: Tensor, lam: float, permutation: Tensor) -> Tensor:
    """Give mixed labels the notes of the labels that they show: the partner's, where that is the heavier."""
    known = notes(y)
    return with_notes(mixed, {name: value[permutation] for name, value in known.items()} if lam < 0.5 else known)
