"""How a procedure goes from level to level: each is trained in a folder of its own, once."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lightning_regs.core.checks import warn
from lightning_regs.core.files import DamagedFileError, lock
from lightning_regs.core.global_rng import isolated
from lightning_regs.core.identity import sources
from lightning_regs.core.lightning import Callback, MisconfigurationException, pl
from lightning_regs.procedures.ends import Ends, Stage, ValidationRecorder
from lightning_regs.procedures.level import LAST, REWIND, LevelFolder, LevelState, first_process
from lightning_regs.procedures.objects import Data, describe, describe_data, describe_module, make, name_of
from lightning_regs.procedures.replay import RewindPoint
from lightning_regs.procedures.results import Level, read_level
from lightning_regs.training.checkpoints import EpochCheckpoint

# Options of a Trainer that change what is shown or kept, not what is trained.
_SHOW = {
    *("default_root_dir", "detect_anomaly", "enable_autolog_hparams", "enable_checkpointing"),
    *("enable_model_summary", "enable_progress_bar", "log_every_n_steps", "num_sanity_val_steps", "profiler"),
}
_QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
_LENGTH = ("max_epochs", "max_steps", "min_epochs", "min_steps")
_MADE_ANEW = {"callbacks": "[...]", "logger": "CSVLogger('logs', name=level)"}

# The arguments of the functions that users call.
Source = Annotated[
    pl.LightningDataModule | Callable[[], Any] | Iterable[Any] | None,
    "a LightningDataModule, a function that makes one, or one that returns loaders, and not a data set",
]
Options = Annotated[Mapping[str, Any], "the options of a Trainer, such as {'max_epochs': 5}, as each level has its own"]
_PER_LEVEL = "a function of the level's name, as each level has its own"
Callbacks = Annotated[Callable[[str], list[Callback]] | None, _PER_LEVEL]
Logger = Annotated[Callable[[str], Any] | None, _PER_LEVEL]


@dataclass(frozen=True)
class Driver:
    """Trains the levels of a procedure; ``find_ticket`` documents the arguments, and ``name`` is what users call."""

    module: Callable[..., pl.LightningModule]
    data: Any
    folder: Path
    trainer: Mapping[str, Any]
    callbacks: Callable[[str], list[Callback]] | None
    logger: Callable[[str], Any] | None
    seed: int
    test: bool
    checkpoint_every: float
    monitor: str | None = None
    name: str = "find_ticket"

    def __post_init__(self) -> None:
        for name, instead in _MADE_ANEW.items():
            if self.trainer.get(name) not in (None, False, True):
                raise ValueError(
                    f"trainer={{{name!r}: ...}} would be one object for all levels, and each level has its own "
                    f"Trainer; give {self.name}(..., {name}=lambda level: {instead}), which is called for each."
                )
        if self.trainer.get("barebones"):
            raise ValueError(
                "trainer={'barebones': True} keeps no checkpoints and logs no metrics, and both are needed "
                "here; leave it out: progress bar, model summary and logger are off as it is."
            )
        if not {"max_epochs", "max_steps", "max_time"} & set(self.trainer):
            raise ValueError("trainer says nothing of the length of training; add for example {'max_epochs': 5}.")

    def make(self, seed: int) -> tuple[Data, pl.LightningModule]:
        """Make data, and a module with this seed."""
        return make(self.module, self.data, self.seed, seed)

    def run(
        self, stages: Iterable[Stage], check: Callable[[Driver, pl.LightningModule], object] = lambda *_: None
    ) -> list[Level]:
        """Train what is not there yet of levels each of which comes after those that it needs.

        Before there is a folder, ``check`` refuses what cannot go well, given this and a module.
        """
        with isolated(), contextlib.ExitStack() as stack:
            data, module = self.make(self.seed)
            check(self, module)
            shared = self._made_from(data, module)
            del data, module
            if first_process():
                stack.enter_context(lock(self.folder, self._refuse, ".lock"))
            found: dict[str, Level] = {}
            digests: dict[str, str] = {}
            for stage in stages:
                made_from = shared | {
                    "settings": stage.settings | shared["settings"],
                    "inputs": {name: digests[name] for name in stage.needs},
                }
                folder = LevelFolder(self.folder / stage.name)
                if not folder.ready(made_from, [REWIND] if stage.point else []):
                    self._train(stage, folder, made_from)
                state = LevelState.load(folder.path)
                found[stage.name], digests[stage.name] = read_level(folder, state, self.monitor), state.digest
            return list(found.values())

    def _refuse(self, _: int | None) -> None:
        raise RuntimeError(f"another {self.name} is at work in {self.folder}; wait for it, or use another folder.")

    # -- one level ---------------------------------------------------------------------------------------------------

    def _train(self, stage: Stage, folder: LevelFolder, made_from: Mapping[str, Any]) -> None:
        resumed = _resumable(stage, folder)
        data, module = self.make(stage.seed)
        if first_process() and not resumed:
            folder.begin(made_from)
        of = folder.owner if first_process() else ""  # whose files they are
        recorder = ValidationRecorder(folder.path, resumed, None if stage.length else self.monitor)
        ends = Ends(stage, self.folder, resumed, recorder.last, of)
        point = RewindPoint(folder.path / REWIND, stage.point, stage.order)
        saver = EpochCheckpoint(folder.path / LAST, self.checkpoint_every)
        point.of = saver.of = of
        trainer = pl.Trainer(
            **self._options(stage, folder.path),
            callbacks=[
                *([ends, ends.mask] if stage.needs else [ends]),
                *(self.callbacks(stage.name) if self.callbacks is not None else []),
                *stage.callbacks(),
                *(point, recorder, saver),
            ],
        )
        goes_on_from = folder.path / LAST if resumed else stage.rewinds and self.folder / stage.rewinds / REWIND
        with warnings.catch_warnings():
            # It does go on with the right batch: see ReplayedLoader.
            warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
            if stage.length is not None:  # whose rate does not follow a schedule
                warnings.filterwarnings("ignore", message=".*, longer than the training")
            data.fit(trainer, module, point, str(goes_on_from) if goes_on_from else None)
        if not trainer.state.finished:
            raise KeyboardInterrupt
        if stage.point is not None and not folder.has(REWIND):
            if first_process():
                folder.begin({})  # or another point would be refused, as this training has ended
            raise MisconfigurationException(
                f"training ended after {trainer.global_step} iterations, before rewind_to={str(stage.point)!r}; "
                "choose an earlier point, or train for longer."
            )
        tested = data.test(trainer, module) if self.test else {}
        if trainer.is_global_zero:
            folder.finish(tested)
        trainer.strategy.barrier("lightning_regs.procedures")
        _finish(trainer)

    def _options(self, stage: Stage, folder: Path) -> dict[str, Any]:
        # Strategies and plugins keep the Trainer that they were given to, so each level has copies.
        options = {"default_root_dir": folder} | _QUIET | copy.deepcopy(dict(self.trainer))
        for name in ("callbacks", "enable_checkpointing", *(_LENGTH if stage.length else ())):
            options.pop(name, None)
        if stage.length is not None:
            ends = {"max_epochs": stage.length.value}
            options |= ends if stage.length.unit == "ep" else {"max_steps": stage.length.value, "max_epochs": -1}
        if self.logger is not None:
            options["logger"] = self.logger(stage.name)
        return options

    # -- what it depends on ------------------------------------------------------------------------------------------

    def _made_from(self, data: Data, module: pl.LightningModule) -> dict[str, dict[str, Any]]:
        """Return what all levels are made from, as plain data."""
        trainer = {name: describe(value) for name, value in sorted(self.trainer.items()) if name not in _SHOW}
        callbacks = None if self.callbacks is None else name_of(self.callbacks)
        given = data.datamodule or data.loaders
        written = [self.module, self.data if callable(self.data) else None, *self.trainer.values()]
        written += sorted({type(part) for part in module.modules()}, key=name_of)
        sets = [getattr(loader, "dataset", None) for loader in data.loaders or ()]
        for part in (data.datamodule, *(data.loaders or ()), *sets):
            written += [type(part), *filter(callable, getattr(part, "__dict__", {}).values())]
        return {
            "settings": {"trainer": trainer, "callbacks": callbacks},
            "objects": {"module": describe_module(self.module, module), "data": given and describe_data(given)},
            # What classes of callbacks hold are most often states of theirs.
            "sources": sources(self.callbacks, attributes=False) | sources(*written),
        }


def _resumable(stage: Stage, folder: LevelFolder) -> bool:
    """Whether the interrupted level can go on from its last epoch."""
    if not folder.has(LAST):
        return False
    try:
        folder.state()
        point = folder.checkpoint(LAST)["callbacks"].get(RewindPoint.__qualname__, {})
        if stage.point is not None and point.get("saved"):
            folder.checkpoint(REWIND)
    except (DamagedFileError, MisconfigurationException) as error:
        warn(f"{error}; the level starts over.")
        return False
    return True


def _finish(trainer: pl.Trainer) -> None:
    """End the runs of W&B, which else go on in the next level."""
    for logger in trainer.loggers:
        if any(base.__name__ == "WandbLogger" for base in type(logger).__mro__):
            logger.experiment.finish()  # type: ignore[attr-defined]
