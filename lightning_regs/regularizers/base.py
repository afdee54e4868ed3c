"""What every regularization method is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.lightning import (
    Callback,
    MisconfigurationException,
    check_trainer,
    pl,
    warn_if_other_came_later,
)


class NoEffectWarning(UserWarning):
    """A method found nothing to act on."""


class Regularizer(Callback):
    """A regularization method as a Lightning callback.

    Passed to ``Trainer(callbacks=[...])`` it acts on any LightningModule whose batches are the list ``[x, y]``. Passed
    to ``Classifier(regularizers=[...])`` it is the same object: the module hands it to the trainer. A subclass acts at
    exactly one hook. What it draws is a function of (seed, class, epoch, batch, rank), so nothing has to be saved for a
    resumed run to draw the same; what it must remember beyond that goes into ``state_dict`` as plain types and tensors.
    Methods act in the order of the list.

    Args:
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        warn_if_other_came_later()
        self.seed = rng.run_seed(seed)
        self._warned: set[str] = set()

    # -- for the contract suite and for composition ------------------------------------------------------------------

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return the instances that the contract suite runs; a method with modes lists one of each."""
        return [cls()]

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Say why this method cannot go together with another one.

        Args:
            other: The other method.
            before: Whether this one stands before ``other`` in the list.

        Returns:
            The reason and the remedy, or None where the two compose.
        """
        return None

    @property
    def acts_on_replicas(self) -> bool:
        """Whether it acts on each net of ``Classifier(replicas=...)`` as on a net of its own."""
        return False

    # -- what subclasses use -----------------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a Trainer of the other Lightning, and methods that do not go together."""
        check_trainer(type(self).__name__, trainer)
        methods = regularizers_of(trainer)
        if self is methods[0]:
            for reason in conflicts(methods):
                raise MisconfigurationException(reason)

    def position(self, trainer: pl.Trainer, batch_idx: int) -> tuple[int, int, int]:
        """Return where the training is, as the draws count it: (epoch, batch, rank); repeats of a batch are one."""
        repeats = getattr(getattr(trainer, "datamodule", None), "batch_repeats", 1)
        return trainer.current_epoch, batch_idx // repeats, trainer.global_rank

    def generator(self, trainer: pl.Trainer, batch_idx: int) -> torch.Generator:
        """Return the fresh CPU generator of one batch."""
        return rng.generator(self.seed, type(self).__name__, *self.position(trainer, batch_idx))

    def pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return ``x`` and ``y`` of a batch that can be changed in place.

        Raises:
            MisconfigurationException: If the batch is not the list ``[x, y]`` of two tensors.
        """
        if isinstance(batch, list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
            return batch[0], batch[1]
        raise MisconfigurationException(
            f"{type(self).__name__} replaces the images and labels of a batch in place, so batches have to be the list "
            f"[x, y] of two tensors, and this one is {_describe(batch)}: let the data set return pairs (the default "
            "collate_fn makes the list), or end your collate_fn or on_after_batch_transfer with `return [x, y]`."
        )

    def warn_once(self, text: str) -> None:
        """Warn, once a method, that it had no effect."""
        if text not in self._warned:
            self._warned.add(text)
            warnings.warn(f"{type(self).__name__} {text}", NoEffectWarning, stacklevel=3)


def regularizers_of(trainer: pl.Trainer) -> list[Regularizer]:
    """Return the Trainer's methods, in the order in which they act."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, Regularizer)]


def conflicts(methods: Sequence[Regularizer]) -> Iterator[str]:
    """Yield a sentence for each two methods of the list that do not go together."""
    for i, first in enumerate(methods):
        for second in methods[i + 1 :]:
            if reason := first.refuses(second, before=True) or second.refuses(first, before=False):
                yield f"{type(first).__name__} and {type(second).__name__} do not go together in this order: {reason}."


def check_number(
    name: str, value: object, low: float = 0.0, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Return ``value`` if it is a finite number in ``[low, high]`` (``(low, high]`` with ``open_low``).

    Raises:
        TypeError: If it is no number.
        ValueError: If it is outside.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    number = float(value)
    if not math.isfinite(number) or number > high or number < low or (open_low and number == low):
        bounds = f"{'above' if open_low else 'at least'} {low:g}"
        raise ValueError(f"{name} must be {bounds}{f' and at most {high:g}' if high < math.inf else ''}, got {value}.")
    return number


def _describe(batch: Any) -> str:
    name = type(batch).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    if isinstance(batch, dict):
        return f"{article} {name} with the keys {sorted(map(str, batch))}"
    if isinstance(batch, (list, tuple)):
        parts = ", ".join(type(part).__name__ for part in batch)
        return f"{article} {name} of {len(batch)} ({parts})"
    return f"{article} {name}"
