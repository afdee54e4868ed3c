"""What the methods that change the labels of a batch have in common."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_regs.core.batch import Keys, notes, with_notes
from lightning_regs.core.checks import Count, Positive, Seed, Share, Whole
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.base import Acts, Regularizer
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.targets import MixedTarget


class OnBatches(Regularizer, acts=Acts.BATCH):
    """A method on batches as type checkers see it: with what ``parts.moment.give`` gives to each."""

    if TYPE_CHECKING:
        seed: Seed | None = field(default=None, kw_only=True)
        batch: Keys = field(default=None, kw_only=True)
        p: Share = field(default=1.0, kw_only=True)
        from_epoch: Whole = field(default=0, kw_only=True)
        until_epoch: Count | None = field(default=None, kw_only=True)


class TargetMixing(OnBatches, ABC):
    """A method that changes the labels of a batch, and warns where the module's loss took no notice."""

    @abstractmethod
    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Return the samples and the mixed labels."""

    def reproach(self, target: MixedTarget, name: str) -> str | None:
        """Say what the losses that were differentiated took no notice of, if anything."""
        if target.was_seen_whole:
            return None
        return (
            f"had no effect on the loss: {name} computes it, or a part of it, from the labels otherwise than by "
            "F.cross_entropy, F.nll_loss, their layers or F.one_hot(...).float(), which know of it. Use one of them, "
            "or give the labels as float probabilities (N, K)."
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Warn, once, if no loss that depends on the labels was differentiated, or one without what the method did."""
        skipped, name = pl_module.automatic_optimization and not outputs, type(pl_module).__name__
        target = self.pair(batch)[1]
        if isinstance(target, MixedTarget) and not skipped and (why := self.reproach(target, name)):
            self.warn_once(why)
            target.mixture.read = False  # which is the same, said by the first of several methods
        elif isinstance(target, MixedTarget) and target.mixture.read:
            self.warn_once(
                f"is not in what {name}.training_step makes of labels that it reads as numbers (tolist, item, NumPy), "
                "or writes into a larger tensor, which are the heavier alone: right for a metric, wrong for a loss; "
                "compute that by functions of torch, or read the labels under torch.no_grad() for a metric."
            )

    def check_labels(self, x: Tensor, y: Tensor) -> None:
        """Refuse labels of another number than the samples.

        Raises:
            MisconfigurationException: If there is not one a sample.
        """
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
        batch: Keys of samples and labels, ``("image", "label")`` or ``(0, 1)``; None: where the usual ones are.
    """

    alpha: Positive = 1.0
    seed: Seed | None = None

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse another of its kind that would draw the same."""
        if type(other) is type(self) and other.seed == self.seed:
            return "both would draw the same weights and partners; give one of them another seed, or use one"
        return None

    def reproach(self, target: MixedTarget, name: str) -> str | None:
        """Say if no loss depends on the labels."""
        if not target.is_mixed or (target.was_seen and not target.mixture.lost):
            return None
        found = "sees the heavier labels alone in an autograd.Function" if target.was_seen else "depends on no label"
        return (
            f"mixed samples and labels, and as far as autograd shows the loss of {name} {found}. If it uses no label, "
            "all is well; what reads labels by Python numbers, NumPy, torch.jit or an autograd.Function sees the "
            "heavier one of each sample alone: compute it by functions of torch."
        )

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
