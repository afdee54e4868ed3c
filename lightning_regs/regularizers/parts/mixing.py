"""What the methods that act on batches have in common, and those of them that change the labels."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_regs.core.batch import Keys, find_keys, notes, take, with_notes
from lightning_regs.core.checks import Count, Positive, Seed, Share, Whole
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.base import Acts, Regularizer
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.targets import MixedTarget, count_odd_rows


class OnBatches(Regularizer, acts=Acts.BATCH):
    """A method on batches as type checkers see it: with what ``parts.parameters.give`` gives to each."""

    if TYPE_CHECKING:
        seed: Seed | None = field(default=None, kw_only=True)
        batch: Keys = field(default=None, kw_only=True)
        p: Share = field(default=1.0, kw_only=True)
        from_epoch: Whole = field(default=0, kw_only=True)
        until_epoch: Count | None = field(default=None, kw_only=True)

    def has_images(self, x: Tensor) -> bool:
        """Return whether the samples are images, and warn where not."""
        if x.ndim != 4:
            self.warn_once(
                f"found no images (N, C, H, W) but shape {tuple(x.shape)}, and leaves such batches alone; leave it out "
                "where samples are no images."
            )
        return x.ndim == 4


class Watch:
    """Checks numbers of each batch without waiting for the device: of the first batch, and on a CPU, at once."""

    def __init__(self) -> None:
        self._started = False
        self._on_their_way: deque[tuple[Tensor, Any, Callable[..., None]]] = deque()

    @staticmethod
    def _is_late(numbers: Tensor) -> bool:
        return numbers.is_cuda

    def see(self, numbers: Tensor, check: Callable[..., None]) -> None:
        """Call ``check`` with the numbers ``(k,)`` of a batch once they have arrived, and those of batches before."""
        numbers = numbers.detach()
        if not self._started or not self._is_late(numbers):
            self._started = True
            check(*numbers.tolist())
            return
        arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._on_their_way.append((numbers.to("cpu", non_blocking=True), arrived, check))
        arrived.record()
        while self._on_their_way and self._on_their_way[0][1].query():
            self._check_next()

    def rest(self) -> None:
        """Wait for what is still on its way, and check it."""
        while self._on_their_way:
            self._on_their_way[0][1].synchronize()
            self._check_next()

    def _check_next(self) -> None:
        numbers, _, check = self._on_their_way.popleft()
        check(*numbers.tolist())


class TargetMixing(OnBatches):
    """A method that changes the labels of a batch, and warns where the module's loss took no notice."""

    def __post_init__(self) -> None:
        """Check the parameters, and expect the first batch."""
        super().__post_init__()
        self._odd_rows = Watch()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check what the last batches were seen to hold."""
        self._odd_rows.rest()

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
        target = take(batch, find_keys(batch, self.batch, type(self).__name__)[1])
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
        """Refuse labels of another number than the samples."""
        if x.shape[:1] != y.shape[:1]:
            raise MisconfigurationException(
                f"{type(self).__name__} got {len(x)} samples with {y.shape[0] if y.ndim else 'a scalar'} as labels; "
                "a batch has to hold one label a sample."
            )

    def check_probabilities(self, y: Tensor, takes: str, remedy: str) -> None:
        """Refuse float labels, on CUDA perhaps some batches later, that are not the probabilities it takes them for."""
        name, shape = type(self).__name__, tuple(y.shape)

        def check(odd: float) -> None:
            if odd:
                raise MisconfigurationException(
                    f"{name} {takes} as probabilities, and {odd:.0f} rows of these {shape} are negative or do not sum "
                    f"to 1, as in a regression or with several labels a sample; {remedy}."
                )

        self._odd_rows.see(count_odd_rows(y), check)


class PairMixing(TargetMixing):
    """A method that mixes each sample with a partner from its batch, with a weight from Beta(alpha, alpha)."""

    alpha: Positive = 1.0
    seed: Seed | None = None
    twice = "both would draw the same weights and partners; give one of them another seed, or use one"
    unless = ("seed", "__class__")

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
