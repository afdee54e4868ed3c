"""How a search for tickets goes from level to level."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_regs.core.lightning import Callback, MisconfigurationException, pl
from lightning_regs.core.rng import derive_seed, generator
from lightning_regs.procedures.tickets import fingerprint
from lightning_regs.procedures.tickets.callbacks import Ends, Recorder, check_drawn_anew, drawn_anew, given
from lightning_regs.procedures.tickets.checkpoints import LevelCheckpoint, RewindPoint
from lightning_regs.procedures.tickets.factories import Factories, overrides
from lightning_regs.procedures.tickets.folders import (
    FINAL,
    INITIAL,
    LAST,
    MASK,
    METRICS,
    OPTIMIZER,
    REWIND,
    LevelFolder,
    locked,
    weights_in,
)
from lightning_regs.procedures.tickets.plain import digest, name_of, plain
from lightning_regs.procedures.tickets.plan import (
    Control,
    Training,
    check_search,
    check_trainer,
    trainer_options,
    trainings,
)
from lightning_regs.procedures.tickets.randomness import isolated
from lightning_regs.procedures.tickets.replay import Replay
from lightning_regs.procedures.tickets.results import Level, Tickets, read_level
from lightning_regs.procedures.tickets.time import Time
from lightning_regs.pruning import Mask, Pruning, random_mask
from lightning_regs.regularizers.weight_mask import WeightMask

DENSE = Training(0, "dense")


@dataclass(frozen=True)
class Search:
    """The arguments of ``find_ticket``, which documents them, checked.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If one is outside its range.
    """

    module: Callable[..., pl.LightningModule]
    data: Any
    folder: Path
    trainer: Mapping[str, Any]
    levels: int
    rewind_to: Time
    method: str
    pruning: Pruning
    one_shot: bool
    controls: tuple[Control, ...]
    fine_tune: Time | None
    callbacks: Callable[[str], list[Callback]] | None
    logger: Callable[[str], Any] | None
    seed: int
    monitor: str | None
    test: bool
    checkpoint_every: float

    def __post_init__(self) -> None:
        _ = self._factories
        for name in ("callbacks", "logger"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise TypeError(f"{name} must be a function of the level's name, as each level has its own.")
        if not isinstance(self.trainer, Mapping):
            raise TypeError(
                "trainer must be the options of a Trainer, such as {'max_epochs': 5}, as each level has its own, got "
                f"{type(self.trainer).__name__}."
            )
        check_search(self.levels, self.method, self.fine_tune, self.one_shot, self.controls)
        check_trainer(self.trainer, self.rewind_to)

    def run(self) -> Tickets:
        """Train what is not there yet."""
        found: list[Level] = []
        with isolated(), contextlib.ExitStack() as stack:
            _ = self._described  # refuse what can be refused before there is a folder
            if _first_process():
                stack.enter_context(locked(self.folder))
            for training in trainings(self.levels, self.one_shot, self.controls):
                found.append(self._level(training))
        return Tickets(tuple(found), self.folder)

    # -- one level ---------------------------------------------------------------------------------------------------

    def _level(self, training: Training) -> Level:
        folder = self._folder(training)
        config = {
            "settings": self._settings(training),
            "start": self._start(training),
            "inputs": self._inputs(training),
        }
        if not folder.ready(config, remove=_first_process()):
            self._train(training, folder, config)
        return read_level(folder, self.monitor)

    def _train(self, training: Training, folder: LevelFolder, config: Mapping[str, Any]) -> None:
        needed = [MASK, *([INITIAL] if training.kind in ("dense", "reinitialise") else [])]
        resumed = folder.resumable(*needed, *([REWIND] if folder.has(REWIND) else []))
        replay = Replay(self.seed)
        data, module = self._factories.make(self._seed_of(training))
        mask = None if training == DENSE else self._mask(training, module)
        if _first_process() and not resumed:
            folder.clear()
            folder.begin(config)
            if mask is not None:
                folder.save(MASK, mask.state_dict())
        ends = self._ends(training, folder, resumed, mask)
        trainer = pl.Trainer(
            **self._options(training, folder),
            callbacks=[
                ends,
                *([] if ends.mask is None else [ends.mask]),
                *(self.callbacks(folder.path.name) if self.callbacks is not None else []),
                RewindPoint(folder, replay, self.rewind_to if training == DENSE and self.rewind_to.value else None),
                Recorder(folder, resumed, None if self._fine_tune(training) else self.monitor),
                LevelCheckpoint(folder, self.checkpoint_every),
            ],
        )
        with warnings.catch_warnings():
            # It does go on with the right batch: see ReplayedLoader.
            warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
            data.fit(trainer, module, replay, self._go_on_from(training, folder, resumed))
        if not trainer.state.finished:
            raise KeyboardInterrupt
        if training == DENSE and self.rewind_to.value and not folder.has(REWIND):
            if _first_process():
                folder.clear()  # or another point would be refused, as this training has ended
            raise MisconfigurationException(
                f"training ended after {trainer.global_step} iterations, before rewind_to={str(self.rewind_to)!r}; "
                "choose an earlier point, or train for longer."
            )
        tested = data.test(trainer, module) if self.test else {}
        if trainer.is_global_zero:
            found = Mask(folder.load(MASK))
            folder.save_json(METRICS, {"density": found.density, "mask": found.report(), "test": tested})
            folder.finish()
        trainer.strategy.barrier("lightning_regs.procedures.tickets")
        _finish(trainer)

    def _options(self, training: Training, folder: LevelFolder) -> dict[str, Any]:
        options = {"default_root_dir": folder.path} | trainer_options(self.trainer, self._fine_tune(training))
        if self.logger is not None:
            options["logger"] = self.logger(folder.path.name)
        return options

    def _ends(self, training: Training, folder: LevelFolder, resumed: bool, mask: Mask | None) -> Ends:
        start: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None
        carried: dict[str, Any] = {}
        if training.kind == "reinitialise":
            assert mask is not None
            start = partial(drawn_anew, mask, digest(self._folder(DENSE).load(INITIAL)))
        elif mask is not None:
            name, _, file = self._start(training)["rewind"].partition("/")
            start = partial(given, mask.apply(weights_in(LevelFolder(self.folder / name).load(file))))
        if self._carries_on(training):
            carried = self._folder_named(training.mask_from).load(OPTIMIZER)
        return Ends(
            folder,
            resumed,
            self._seed_of(training),
            None if mask is None else WeightMask(mask),
            dense_mask=self._dense_mask if training == DENSE else None,
            keep_initial=training.kind in ("dense", "reinitialise"),
            start=start,
            optimizers=carried.get("optimizers"),
            constant_lr=carried.get("lr") if self.method == "fine_tuning" else None,
            keep_optimizer=self.method != "weight_rewinding" and training.kind in ("dense", "ticket"),
        )

    def _go_on_from(self, training: Training, folder: LevelFolder, resumed: bool) -> str | None:
        if resumed:
            return str(folder.path / LAST)
        return str(self._folder(DENSE).path / REWIND) if self._rewinds_position(training) else None

    def _dense_mask(self, module: pl.LightningModule) -> Mask:
        mask = self.pruning.start(module)
        for one in mask.unstack() if isinstance(getattr(module, "replicas", None), tuple) else [mask]:
            self.pruning.check(one, self.levels)
        return mask

    def _mask(self, training: Training, module: pl.LightningModule) -> Mask:
        source = self._folder_named(training.mask_from)
        before = Mask(source.load(MASK))
        if training.kind == "reinitialise":
            return before
        seeds = getattr(module, "replicas", None)
        stacked = isinstance(seeds, tuple)
        draws = [
            generator(seed, training.kind, training.level, training.repeat)
            for seed in (seeds if isinstance(seeds, tuple) else (self.seed,))
        ]
        if training.kind == "random_mask":
            return random_mask(before, draws, stacked)
        initial, final = self._folder(DENSE).load(INITIAL), source.load(FINAL)
        rounds = training.level if training.one_shot else 1
        return self.pruning.one_shot(before, initial, final, rounds, draws, stacked)

    # -- what it depends on ------------------------------------------------------------------------------------------

    def _fine_tune(self, training: Training) -> Time | None:
        return self.fine_tune if training.kind == "ticket" else None

    def _carries_on(self, training: Training) -> bool:
        return training.kind == "ticket" and self.method != "weight_rewinding"

    def _rewinds_position(self, training: Training) -> bool:
        if not self.rewind_to.value:
            return False
        return training.kind == "random_mask" or (training.kind == "ticket" and self.method != "fine_tuning")

    def _start(self, training: Training) -> dict[str, str]:
        """Return the files that have the initial weights, and those to start from before the mask."""
        initial = f"{DENSE.name if training.kind != 'reinitialise' else training.name}/{INITIAL}"
        rewind = initial
        if self._carries_on(training):
            rewind = f"{training.mask_from}/{FINAL}"
        elif self._rewinds_position(training) or (training == DENSE and self.rewind_to.value):
            rewind = f"{DENSE.name}/{REWIND}"
        return {"initial": initial, "rewind": rewind}

    def _inputs(self, training: Training) -> dict[str, str]:
        if training == DENSE:
            return {}
        source, dense = self._folder_named(training.mask_from), self._folder(DENSE)
        if training.repeat:
            return source.digests(MASK) | dense.digests(INITIAL, REWIND)
        return source.digests(MASK, FINAL, OPTIMIZER) | dense.digests(INITIAL, REWIND)

    def _settings(self, training: Training) -> dict[str, Any]:
        pruning = plain(asdict(self.pruning))
        return {
            "level": training.level,
            "kind": training.kind,
            "repeat": training.repeat,
            "seed": self.seed,
            "method": self.method,
            "rewind_to": str(self.rewind_to),
            "fine_tune": None if self.fine_tune is None else str(self.fine_tune),
            "pruning": pruning if training.level else {"layers": pruning["layers"]},
            **self._described,
        }

    @cached_property
    def _factories(self) -> Factories:
        return Factories(self.module, self.data, self.seed)

    @cached_property
    def _described(self) -> dict[str, Any]:
        data, module = self._factories.make(self.seed)
        # Where nothing is built later, what cannot be pruned is found before anything is trained.
        if not overrides(module, "configure_model"):
            self._dense_mask(module)
            if any(control.kind == "reinitialise" for control in self.controls) and not overrides(module, "setup"):
                again = self._factories.make(self._seed_of(Training(1, "reinitialise", 1)))[1]
                check_drawn_anew(again.state_dict(), digest(module.state_dict()))
        return {
            "module": fingerprint.of_module(self.module, module),
            "data": None if data.described is None else fingerprint.of_data(data.described),
            "trainer": fingerprint.of_trainer(self.trainer),
            "callbacks": None if self.callbacks is None else name_of(self.callbacks),
        }

    def _seed_of(self, training: Training) -> int:
        if training.kind != "reinitialise":
            return self.seed
        return derive_seed(self.seed, "reinitialise", training.level, training.repeat) % 2**31

    def _folder(self, training: Training) -> LevelFolder:
        return self._folder_named(training.name)

    def _folder_named(self, name: str) -> LevelFolder:
        return LevelFolder(self.folder / name)


def _first_process() -> bool:
    return bool(getattr(pl.utilities.rank_zero_only, "rank", 0) == 0)


def _finish(trainer: pl.Trainer) -> None:
    """End the runs of W&B, which else go on in the next level."""
    for logger in trainer.loggers:
        if any(base.__name__ == "WandbLogger" for base in type(logger).__mro__):
            logger.experiment.finish()  # type: ignore[attr-defined]
