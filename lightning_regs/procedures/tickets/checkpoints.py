"""What a level saves on its way: the point that levels rewind to, and where an interrupted one goes on."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from lightning_regs.core.lightning import Checkpoint, MisconfigurationException, pl
from lightning_regs.procedures.tickets.folders import LAST, REWIND, LevelFolder
from lightning_regs.procedures.tickets.replay import Replay
from lightning_regs.procedures.tickets.time import Time


class _Saver(Checkpoint):
    """Saves the state of a Trainer, without the hyper-parameters."""

    _saving = False
    _between_epochs = True

    def __init__(self) -> None:
        self._monitored: list[float | None] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what schedules that wait for a plateau are about to see."""
        return {"monitored": self._monitored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what they have not seen."""
        self._monitored = state_dict["monitored"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let schedules see what they missed: Lightning asks them after the hook at the epoch's end, if it goes on."""
        for config, value in zip(trainer.lr_scheduler_configs, self._monitored, strict=False):
            if value is not None:
                pl_module.lr_scheduler_step(config.scheduler, value)
        self._monitored = []

    def save(self, trainer: pl.Trainer, folder: LevelFolder, name: str, between_epochs: bool = True) -> None:
        self._saving, self._between_epochs = True, between_epochs
        if between_epochs:
            self._monitored = [_awaited(trainer, config) for config in trainer.lr_scheduler_configs]
        unreadable: str | None = None
        try:
            if trainer.is_global_zero:
                with folder.writing(name) as part:
                    trainer.save_checkpoint(part, weights_only=False)
                    if name == REWIND:  # else the next level would find out, after this one was paid for
                        unreadable = _unreadable(part, folder.path / name)
            else:
                # Writes nothing, and takes part in what is collective.
                trainer.save_checkpoint(folder.path / name, weights_only=False)
            if name == REWIND and (unreadable := trainer.strategy.broadcast(unreadable)) is not None:
                raise MisconfigurationException(unreadable)
        finally:
            self._saving, self._monitored = False, []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave out the hyper-parameters: modules come from their factory, and the types are any."""
        if not self._saving:
            return
        for key in [key for key in checkpoint if "hyper_parameters" in key or "hparams" in key]:
            del checkpoint[key]
        if self._between_epochs and trainer.max_steps >= 0:
            _end_epoch(checkpoint["loops"]["fit_loop"])


class RewindPoint(_Saver):
    """Saves everything at the point that the levels rewind to, and finds the place in the data again.

    Args:
        folder: Of the first level.
        replay: Where training is in its epochs.
        at: The point; None where there is nothing to save.
    """

    def __init__(self, folder: LevelFolder, replay: Replay, at: Time | None) -> None:
        super().__init__()
        self.folder = folder
        self.replay = replay
        self.at = at
        self.place: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the place within the epoch, and whether the point was saved."""
        return super().state_dict() | {"place": self.place, "saved": self.at is None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from that place; the loaders ask before the next hook."""
        super().load_state_dict(state_dict)
        self.replay.place = state_dict["place"]
        if state_dict["saved"]:
            self.at = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tell the loader whose training it is."""
        self.replay.trainer = trainer

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a point after the end of training."""
        super().on_train_start(trainer, pl_module)
        if self.at is None or not pl_module.automatic_optimization:
            return
        if trainer.num_training_batches == math.inf:
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
        if self._reached(trainer, "it") and not trainer.is_last_batch:
            self._save(trainer, self.replay.here(batch_idx + 1))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the epoch's end."""
        if self._reached(trainer, "it") or self._reached(trainer, "ep"):
            self._save(trainer, None)

    def _reached(self, trainer: pl.Trainer, unit: str) -> bool:
        if self.at is None or self.at.unit != unit:
            return False
        return (trainer.global_step if unit == "it" else trainer.current_epoch + 1) >= self.at.value

    def _save(self, trainer: pl.Trainer, place: dict[str, Any] | None) -> None:
        self.at, self.place = None, place
        self.save(trainer, self.folder, REWIND, between_epochs=place is None)
        self.place = None


class LevelCheckpoint(_Saver):
    """Saves a checkpoint to go on from, at an epoch's end, not more often than every so many seconds.

    Args:
        folder: Of the level.
        every: Seconds between saves.
    """

    def __init__(self, folder: LevelFolder, every: float) -> None:
        super().__init__()
        self.folder = folder
        self.every = every
        self.saved = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the last save is long enough ago."""
        # Saving is collective, and clocks differ.
        due = trainer.strategy.broadcast(time.monotonic() - self.saved >= self.every)
        if due:
            self.save(trainer, self.folder, LAST)
            self.saved = time.monotonic()


def _awaited(trainer: pl.Trainer, config: Any) -> float | None:
    """Return the metric that a schedule is stepped with after this epoch; None if it is not."""
    if not config.reduce_on_plateau or config.interval != "epoch" or (trainer.current_epoch + 1) % config.frequency:
        return None
    value = trainer.callback_metrics.get(config.monitor)
    return None if value is None else float(value)


def _unreadable(part: Path, path: Path) -> str | None:
    try:
        LevelFolder.read(part, path)
    except MisconfigurationException as error:
        return str(error)
    return None


def _end_epoch(loop: dict[str, Any]) -> None:
    """Let a saved training go on with the next epoch.

    With ``max_steps`` Lightning takes a checkpoint of an epoch's end for one of its middle: it ends the epoch once
    more, with all hooks, and counts it twice.
    """
    for counts in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        counts["completed"] = counts["processed"]
    batches = loop["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
