"""Points of a training, and the order of its data as a function of (seed, epoch), from the middle of one too."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from lightning_regs.core.global_rng import seed_all, set_states, states_by_rank
from lightning_regs.core.lightning import MisconfigurationException, combined_mode, epochs_trained, pl
from lightning_regs.core.rng import derive_seed

CombinedLoader = pl.utilities.CombinedLoader
_WRITTEN = re.compile(r"(\d+)(it|ep)")
_UNITS = {"it": "iterations", "ep": "epochs"}


@dataclass(frozen=True)
class Time:
    """A point of a training, or a length: so many iterations, or so many epochs.

    An iteration is an optimizer step, as in ``Trainer(max_steps=...)``: with ``accumulate_grad_batches=4`` it takes
    four batches.

    Args:
        value: At least 0.
        unit: ``"it"`` or ``"ep"``.

    Raises:
        TypeError: If ``value`` is no whole number.
        ValueError: If it is negative, or the unit another.
    """

    value: int
    unit: Literal["it", "ep"] = "it"

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise TypeError(f"a time has a whole number of {_UNITS.get(self.unit, 'units')}, got {self.value!r}.")
        if self.unit not in _UNITS:
            raise ValueError(f"a time is in 'it' (iterations) or 'ep' (epochs), got {self.unit!r}.")
        if self.value < 0:
            raise ValueError(f"a time is at least 0, got {self.value}{self.unit}.")

    @classmethod
    def parse(cls, text: str | Time) -> Time:
        """Read ``"0it"``, ``"500it"`` or ``"2ep"``.

        Raises:
            TypeError: If it is neither a text nor a Time.
            ValueError: If it is written otherwise.
        """
        if isinstance(text, Time):
            return text
        if not isinstance(text, str):
            raise TypeError(f"a time is written like '500it' or '2ep', got {text!r}.")
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"a time is a whole number and its unit, like '500it' or '2ep', got {text!r}.")
        return cls(int(found[1]), "it" if found[2] == "it" else "ep")

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"

    def iterations(self, per_epoch: float) -> float:
        """Return this time in iterations, of which an epoch has so many."""
        return self.value if self.unit == "it" else self.value * per_epoch


class Replay:
    """Says where in its epochs a training is, to the loader that shuffles by that.

    Args:
        seed: Seed of order, augmentation and dropout.

    Attributes:
        trainer: Whose training it is; set when it starts.
        place: Where training goes on, as :meth:`here` gave it; None for an epoch's start.
        pending: States of the global streams to set before the next batch is read.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.trainer: pl.Trainer | None = None
        self.place: dict[str, Any] | None = None
        self.pending: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """The epoch whose batches come next. Lightning's ``current_epoch`` lags behind when it resumes."""
        if self.trainer is None:
            return 0
        return epochs_trained(self.trainer)

    @property
    def rank(self) -> int:
        """Rank of this process."""
        return 0 if self.trainer is None else self.trainer.global_rank

    def here(self, batches: int) -> dict[str, Any]:
        """Return where training is, within an epoch: for :attr:`place`, as plain types and tensors; collective.

        Training goes on with the random streams as they are now, also if a validation comes in between that draws from
        them: training that goes on from here later does not repeat it.

        Args:
            batches: Batches of this epoch that were trained on.
        """
        randomness = states_by_rank()
        self.pending = randomness[self.rank]
        return {"epoch": self.epoch, "batches": batches, "randomness": randomness}


class ReplayedLoader(CombinedLoader):
    """The training loaders, with an order that is a function of (seed, epoch).

    Lightning neither saves the global random streams, from which ``shuffle=True`` draws, nor skips the batches that
    were seen when it resumes in the middle of an epoch. This seeds these streams, and the loaders' own generators, at
    the start of each epoch, tells samplers the epoch before they are asked, and reads past what was seen.

    Args:
        loaders: One loader, or a collection of them as Lightning takes it.
        replay: Where training is.
    """

    def __init__(self, loaders: Any, replay: Replay) -> None:
        if isinstance(loaders, CombinedLoader):
            super().__init__(loaders.iterables, combined_mode(loaders))
        else:
            super().__init__(loaders, "max_size_cycle")
        self.replay = replay
        self._began = -1  # the epoch that the iterators were made for
        self._fresh = False
        self._ahead = False

    def __iter__(self) -> ReplayedLoader:
        self._began = epoch = self.replay.epoch
        for loader in self.flattened:
            for part in _samplers(loader):
                if callable(set_epoch := getattr(part, "set_epoch", None)):
                    set_epoch(epoch)
        for number, generator in enumerate(self._generators()):
            generator.manual_seed(derive_seed(self.replay.seed, "ticket loader", number, epoch))
        self._seed("ticket order")
        super().__iter__()
        self._fresh = True
        self.replay.pending = None
        place = self.replay.place
        if place is not None and place["epoch"] == epoch:
            for _ in range(0 if self._restores_itself() else place["batches"]):
                next(self)
            self._fresh = False
            self.replay.pending = place["randomness"][self.replay.rank]
            # Lightning reads a loader without a length one batch ahead, the first of them now.
            self._ahead = any(_has_no_length(loader) for loader in self.flattened)
        return self

    def __next__(self) -> Any:
        if self._fresh and self._began != self.replay.epoch:
            # A module that asks for the number of steps in configure_optimizers has the loaders made before Lightning
            # knows in which epoch training goes on.
            iter(self)
        if fresh := self._fresh:
            self._seed("ticket order")  # samplers draw their seed with the first batch
        elif self.replay.pending is not None and not self._ahead:
            set_states(self.replay.pending)
            self.replay.pending = None
        self._fresh = self._ahead = False
        batch = super().__next__()
        if fresh:
            self._seed("ticket step", self.replay.rank)
        return batch

    def _seed(self, purpose: str, *position: int) -> None:
        seed_all(derive_seed(self.replay.seed, purpose, self.replay.epoch, *position))

    def _generators(self) -> Iterable[torch.Generator]:
        found: dict[int, torch.Generator] = {}
        for loader in self.flattened:
            for part in (loader, *_samplers(loader)):
                if isinstance(generator := getattr(part, "generator", None), torch.Generator):
                    found.setdefault(id(generator), generator)
        return found.values()

    def _restores_itself(self) -> bool:
        stateful = {callable(getattr(loader, "load_state_dict", None)) for loader in self.flattened}
        if len(stateful) > 1:
            raise MisconfigurationException(
                "some of the training loaders restore their position by themselves (they have load_state_dict) and "
                "others do not; use loaders of one kind, or rewind to an epoch's end."
            )
        return stateful == {True}


@contextlib.contextmanager
def replaying(owner: pl.LightningModule | pl.LightningDataModule, replay: Replay) -> Iterator[None]:
    """Let the ``train_dataloader`` of a module or DataModule return a :class:`ReplayedLoader`."""
    own = vars(owner).get("train_dataloader")
    # Not the bound method: copied into another process, that would look itself up and find the one put here.
    made = own if own is not None else partial(type(owner).train_dataloader, owner)
    owner.train_dataloader = partial(_replayed, made, replay)  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del owner.train_dataloader
        else:
            owner.train_dataloader = own  # type: ignore[method-assign]


def _replayed(make: Any, replay: Replay) -> ReplayedLoader:
    # A split that is drawn here is the same at every level.
    seed_all(derive_seed(replay.seed, "ticket data"))
    return ReplayedLoader(make(), replay)


def _samplers(loader: Any) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    return [getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]


def _has_no_length(loader: Any) -> bool:
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        return True
    return False
