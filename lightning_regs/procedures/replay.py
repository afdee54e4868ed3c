"""Where a training is rewound to, and the order of its data as a function of (seed, epoch), within one too."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightning_regs.core.files import DamagedFileError
from lightning_regs.core.global_rng import seed_all, set_states, states_by_rank
from lightning_regs.core.lightning import MisconfigurationException, combined_mode, epochs_trained, pl
from lightning_regs.core.rng import derive_seed
from lightning_regs.optim.length import Time
from lightning_regs.procedures.level import read
from lightning_regs.training.checkpoints import Saver

CombinedLoader = pl.utilities.CombinedLoader


class RewindPoint(Saver):
    """Saves everything at the point that other levels rewind to, and finds the place in the data again.

    Where ``at`` is None there is nothing to save; ``seed`` is that of the order of the data, augmentation and dropout.

    Attributes:
        place: Where training goes on: the epoch, the batches of it that were trained on, and the states of the global
            streams in each process, as plain types and tensors; None for an epoch's start.
        pending: States of the global streams to set before the next batch is read.
    """

    trainer: pl.Trainer

    def __init__(self, path: Path, at: Time | None, seed: int) -> None:
        super().__init__()
        self.path = path
        self.at = at
        self.seed = seed
        self.place: dict[str, Any] | None = None
        self.pending: dict[str, Any] | None = None
        self._here: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the place within the epoch, and whether the point was saved."""
        return super().state_dict() | {"place": self._here, "saved": self.at is None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from that place; the loaders ask before the next hook."""
        super().load_state_dict(state_dict)
        self.place = state_dict["place"]
        if state_dict["saved"]:
            self.at = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Know whose training it is."""
        self.trainer = trainer

    @property
    def epoch(self) -> int:
        """The epoch whose batches come next. Lightning's ``current_epoch`` lags behind when it resumes."""
        return epochs_trained(self.trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a point after the end of training."""
        super().on_train_start(trainer, pl_module)
        if self.at is None or not pl_module.automatic_optimization or trainer.num_training_batches == math.inf:
            return
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        ends = [float(trainer.max_steps)] if trainer.max_steps >= 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            ends.append(trainer.max_epochs * per_epoch)
        if ends and self.at.iterations(per_epoch) >= min(ends):
            raise MisconfigurationException(
                f"rewind_to={str(self.at)!r} is not before the end of training, which takes {min(ends):.0f} iterations "
                f"({per_epoch} an epoch); choose an earlier point, or train for longer."
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after the iteration; one that ends an epoch waits for the epoch's end."""
        if self._reached(trainer.global_step, "it") and not trainer.is_last_batch:
            # A validation may come before the next batch and draw; who goes on from here later does not repeat it.
            states = states_by_rank()
            self.pending = states[trainer.global_rank]
            self._save(trainer, {"epoch": self.epoch, "batches": batch_idx + 1, "randomness": states})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the epoch's end."""
        if self._reached(trainer.global_step, "it") or self._reached(trainer.current_epoch + 1, "ep"):
            self._save(trainer, None)

    def _reached(self, now: int, unit: str) -> bool:
        return self.at is not None and self.at.unit == unit and now >= self.at.value

    def _save(self, trainer: pl.Trainer, here: dict[str, Any] | None) -> None:
        self.at, self._here = None, here
        self.save(trainer, self.path, between_epochs=here is None)
        self._here = None
        unreadable = None
        if trainer.is_global_zero:
            try:
                read(self.path)  # else the next level would find out, after this one was paid for
            except (MisconfigurationException, DamagedFileError) as error:
                self.path.unlink(missing_ok=True)
                unreadable = str(error)
        unreadable = trainer.strategy.broadcast(unreadable)
        if unreadable is not None:
            raise MisconfigurationException(unreadable)


class ReplayedLoader(CombinedLoader):
    """The training loaders, with an order that is a function of (seed, epoch).

    Lightning neither saves the global random streams, from which ``shuffle=True`` draws, nor skips the batches that
    were seen when it resumes in the middle of an epoch. This seeds these streams, and the loaders' own generators, at
    the start of each epoch, tells samplers the epoch before they are asked, and reads past what was seen. It takes one
    loader, or a collection of them as Lightning does, and the point that knows where training is.
    """

    def __init__(self, loaders: Any, point: RewindPoint) -> None:
        if isinstance(loaders, CombinedLoader):
            super().__init__(loaders.iterables, combined_mode(loaders))
        else:
            super().__init__(loaders, "max_size_cycle")
        self.point = point
        self._began = -1  # the epoch that the iterators were made for
        self._fresh = False
        self._ahead = False

    def __iter__(self) -> ReplayedLoader:
        self._began = epoch = self.point.epoch
        for loader in self.flattened:
            for part in _samplers(loader):
                if callable(set_epoch := getattr(part, "set_epoch", None)):
                    set_epoch(epoch)
        for number, generator in enumerate(self._generators()):
            generator.manual_seed(derive_seed(self.point.seed, "ticket loader", number, epoch))
        self._seed("ticket order")
        super().__iter__()
        self._fresh = True
        self.point.pending = None
        place = self.point.place
        if place is not None and place["epoch"] == epoch:
            for _ in range(0 if self._restores_itself() else place["batches"]):
                next(self)
            self._fresh = False
            self.point.pending = place["randomness"][self.point.trainer.global_rank]
            # Lightning reads a loader without a length one batch ahead, the first of them now.
            self._ahead = any(length(loader) is None for loader in self.flattened)
        return self

    def __next__(self) -> Any:
        if self._fresh and self._began != self.point.epoch:
            # A module that asks for the number of steps in configure_optimizers has the loaders made before Lightning
            # knows in which epoch training goes on.
            iter(self)
        if fresh := self._fresh:
            self._seed("ticket order")  # samplers draw their seed with the first batch
        elif self.point.pending is not None and not self._ahead:
            set_states(self.point.pending)
            self.point.pending = None
        self._fresh = self._ahead = False
        batch = super().__next__()
        if fresh:
            self._seed("ticket step", self.point.trainer.global_rank)
        return batch

    def _seed(self, purpose: str, *position: int) -> None:
        seed_all(derive_seed(self.point.seed, purpose, self.point.epoch, *position))

    def _generators(self) -> Iterable[torch.Generator]:
        parts = [part for loader in self.flattened for part in (loader, *_samplers(loader))]
        found = (getattr(part, "generator", None) for part in parts)
        return {id(one): one for one in found if isinstance(one, torch.Generator)}.values()

    def _restores_itself(self) -> bool:
        stateful = {callable(getattr(loader, "load_state_dict", None)) for loader in self.flattened}
        if len(stateful) > 1:
            raise MisconfigurationException(
                "some of the training loaders restore their position by themselves (they have load_state_dict) and "
                "others do not; use loaders of one kind, or rewind to an epoch's end."
            )
        return stateful == {True}


@contextlib.contextmanager
def replaying(owner: pl.LightningModule | pl.LightningDataModule, point: RewindPoint) -> Iterator[None]:
    """Let the ``train_dataloader`` of a module or DataModule return a :class:`ReplayedLoader`."""
    own = vars(owner).get("train_dataloader")
    # Not the bound method: copied into another process, that would look itself up and find the one put here.
    made = own if own is not None else partial(type(owner).train_dataloader, owner)
    owner.train_dataloader = partial(_replayed, made, point)  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del owner.train_dataloader
        else:
            owner.train_dataloader = own  # type: ignore[method-assign]


def _replayed(make: Any, point: RewindPoint) -> ReplayedLoader:
    # A split that is drawn here is the same at every level.
    seed_all(derive_seed(point.seed, "ticket data"))
    return ReplayedLoader(make(), point)


def _samplers(loader: Any) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    return [getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]


def length(thing: Any) -> int | None:
    """Return how many entries a loader or a data set has; None where it does not know."""
    try:
        return len(thing)
    except (TypeError, NotImplementedError):
        return None
