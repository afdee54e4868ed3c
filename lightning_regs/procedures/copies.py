"""Trainings of copies, which leave the module, its data and their order, and the global random streams as they are."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_regs.core.global_rng import isolated, seed_all
from lightning_regs.core.lightning import Callback, pl, warn_if_other_came_later
from lightning_regs.data import ImageDataModule
from lightning_regs.procedures.objects import Data
from lightning_regs.procedures.replay import RewindPoint
from lightning_regs.training.classifier import Classifier

# What is said to the Trainer here; modules that ask self.logger for its experiment get one that does nothing.
_OURS: dict[str, Any] = {"limit_val_batches": 0, "num_sanity_val_steps": 0, "logger": pl.loggers.logger.DummyLogger()}
_TAKEN = ("max_epochs", "max_steps", "max_time", "barebones", "fast_dev_run", "enable_checkpointing")
_QUIET = {"devices": 1, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 0}


@dataclass(frozen=True)
class Copies:
    """A module and its data, for trainings of copies; ``name`` is the function that users call."""

    name: str
    module: pl.LightningModule
    source: Any
    options: Mapping[str, Any]
    folder: Path

    def fit(self, callback: Callback, seed: int, **ours: Any) -> None:
        """Train a copy, with the order of the data and all that is drawn from a seed, and options of the Trainer."""
        seed_all(0)  # a split that is drawn is the same for all
        data, copied = Data.make(self.source), self.copied
        if not callable(self.source) or isinstance(self.source, pl.LightningDataModule):
            data = Data(copied(data.datamodule), data.loaders and (copied(data.loaders[0]), None, None))
        own = copied(self.module)
        for part in (own, data.datamodule):
            if isinstance(part, (Classifier, ImageDataModule)):  # whose draws follow a seed of theirs
                part._apart = part._apart | {"order": seed}
        if isinstance(own, Classifier):
            own.schedule_config, own.cuda_graph = None, False  # which may not fit this training
        point = RewindPoint(self.folder / "point", None, seed)
        given = _QUIET | {name: copied(value) for name, value in self.options.items()} | _OURS | ours
        same = pl.callbacks.LambdaCallback(setup=lambda *_, **__: seed_all(0))  # weights drawn in configure_model
        callbacks = [same, callback, *(given.pop("callbacks", None) or []), point]
        data.fit(pl.Trainer(**given, default_root_dir=self.folder, callbacks=callbacks), own, point, None)

    def copied(self, thing: Any) -> Any:
        """Return a deep copy; tensors of data sets are shared, and Trainers and running workers left out."""
        memo: dict[int, Any] = {}
        parts = [thing]
        for part in parts:  # which grow
            for value in getattr(part, "__dict__", {}).values():
                if isinstance(value, pl.Trainer) or type(value).__name__ == "_MultiProcessingDataLoaderIter":
                    memo[id(value)] = None
                elif isinstance(value, (Dataset, DataLoader)):
                    parts += [] if any(value is known for known in parts) else [value]
                elif isinstance(part, Dataset):
                    held = value if isinstance(value, tuple) else (value,)
                    memo |= {id(entry): entry for entry in held if isinstance(entry, (Tensor, np.ndarray))}
        try:
            return copy.deepcopy(thing, memo)
        except (TypeError, RuntimeError, AttributeError) as error:
            whole = isinstance(thing, pl.LightningModule)
            remedy = "let it keep what it keeps of a step detached" if whole else "give a function that makes it"
            why = f"{self.name} works on copies, and {type(thing).__name__} cannot be copied ({error})"
            raise TypeError(f"{why}; {remedy}.") from error


@contextmanager
def copies(name: str, module: pl.LightningModule, source: Any, trainer: Mapping[str, Any] | None) -> Iterator[Copies]:
    """Make copies possible, and leave the global streams as they were; refuse options that ``name`` says itself."""
    warn_if_other_came_later()
    options = dict(trainer or {})
    if taken := sorted({*_OURS, *_TAKEN} & set(options)):
        raise ValueError(f"trainer={{{taken[0]!r}: ...}} is for {name} itself to say; leave it out.")
    devices = options.get("devices", 1)
    if devices != 1 and not (isinstance(devices, Sequence) and len(devices) == 1):
        raise ValueError(f"trainer={{'devices': {devices!r}}}: {name} works on one device; leave devices out.")
    with isolated(), tempfile.TemporaryDirectory() as folder:
        yield Copies(name, module, source, options, Path(folder))
