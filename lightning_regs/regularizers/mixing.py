"""What the methods that change the labels of a batch have in common."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.base import Regularizer, check_number
from lightning_regs.regularizers.targets import MixedTarget


class TargetMixing(Regularizer, ABC):
    """A method that changes the labels of a batch, and warns where the module's loss took no notice."""

    in_vain = "had no effect on the loss"

    @abstractmethod
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Replace the labels, and whatever goes with them, in the batch."""

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

    def labelled(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return ``x`` and ``y`` of a batch whose labels can be mixed.

        Raises:
            MisconfigurationException: If the batch is no list ``[x, y]``, or its labels are neither class indices
                ``(N,)`` nor floating point.
        """
        x, y = self.pair(batch)
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
        return x, y


class PairMixing(TargetMixing, ABC):
    """A method that mixes each sample with a partner from its batch, with a Beta-distributed weight.

    Args:
        alpha: Both parameters of the Beta distribution, above 0.
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.
    """

    def __init__(self, alpha: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.alpha = check_number("alpha", alpha, open_low=True)

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

    def draw_lam(self, trainer: pl.Trainer, batch_idx: int) -> float:
        """Return the batch's draw from Beta(alpha, alpha)."""
        seed = rng.derive_seed(self.seed, f"{type(self).__name__}.lam", *self.position(trainer, batch_idx))
        return random.Random(seed).betavariate(self.alpha, self.alpha)  # noqa: S311 - an explicit stream, no secret


def draw_partners(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random permutation of the batch, ``(N,)``, on the device of ``x``."""
    # Blocking copies wait for all that the device has queued.
    return torch.randperm(len(x), generator=generator).to(x.device, non_blocking=True)


def follow_heavier(trainer: pl.Trainer, lam: float, permutation: Tensor) -> None:
    """Make the mask of changed labels that of the heavier labels, where the partner's is the heavier."""
    if lam < 0.5:
        change_corrupted(trainer, lambda mask: mask[permutation])


def change_corrupted(trainer: pl.Trainer, function: Callable[[Tensor], Tensor]) -> None:
    """Apply to the DataModule's mask of changed labels, where it keeps one, what was done to the samples."""
    data: Any = getattr(trainer, "datamodule", None)
    mask = getattr(data, "batch_corrupted", None)
    if isinstance(mask, Tensor):
        data.batch_corrupted = function(mask)
