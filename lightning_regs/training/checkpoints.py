"""Checkpoints that an interrupted training goes on from: whole files, of an epoch's end or the middle of one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_regs.core.files import DamagedFileError, load, whole
from lightning_regs.core.lightning import Checkpoint, end_epoch, pl


class Saver(Checkpoint):
    """Saves the state of a Trainer so that training goes on as if it had not been interrupted.

    Beside what Lightning saves it keeps what schedules that wait for a plateau are about to see; it leaves out the
    hyper-parameters, whose types are any; and of an epoch's end it sees to it that Lightning takes it for one.
    """

    of = ""  # whose training it is, for `check_owner`
    _saving = False
    _between_epochs = True

    def __init__(self) -> None:
        self._monitored: list[float | None] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what schedules that wait for a plateau are about to see, and whose training it is."""
        return {"monitored": self._monitored, "of": self.of}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what they have not seen."""
        self._monitored = state_dict["monitored"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let schedules see what they missed: Lightning asks them after the hook at the epoch's end, if it goes on."""
        for config, value in zip(trainer.lr_scheduler_configs, self._monitored, strict=False):
            if value is not None:
                pl_module.lr_scheduler_step(config.scheduler, value)
        self._monitored = []

    def save(self, trainer: pl.Trainer, path: Path, between_epochs: bool = True) -> None:
        """Save, from all processes of the Trainer; the file is there as a whole or not at all."""
        self._saving, self._between_epochs = True, between_epochs
        if between_epochs:
            self._monitored = [_awaited(trainer, config) for config in trainer.lr_scheduler_configs]
        try:
            if trainer.is_global_zero:
                # Lightning writes elsewhere and moves, a copy where that is another disk; only a rename is whole, and
                # what a kill leaves elsewhere nobody finds.
                theirs, trainer.strategy.checkpoint_io = trainer.strategy.checkpoint_io, _ToTheFile()
                try:
                    with whole(path) as part:
                        trainer.save_checkpoint(part, weights_only=False)
                finally:
                    trainer.strategy.checkpoint_io = theirs
            else:
                # Writes nothing, and takes part in what is collective.
                trainer.save_checkpoint(path, weights_only=False)
        finally:
            self._saving, self._monitored = False, []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Change what is saved here, and nothing that others save."""
        if not self._saving:
            return
        for key in [key for key in checkpoint if "hyper_parameters" in key or "hparams" in key]:
            del checkpoint[key]
        if self._between_epochs and trainer.max_steps >= 0:
            end_epoch(checkpoint["loops"]["fit_loop"])


class EpochCheckpoint(Saver):
    """Saves one checkpoint, replaced as a whole, at an epoch's end, not more often than every so many seconds.

    A run shorter than this writes none: it is cheaper to repeat.
    """

    def __init__(self, path: Path, every: float = 20.0) -> None:
        super().__init__()
        self.path = path
        self.every = every
        self.saved = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the last save is long enough ago."""
        # Saving is collective, and clocks differ.
        if trainer.strategy.broadcast(time.monotonic() - self.saved >= self.every):
            self.save(trainer, self.path)
            self.saved = time.monotonic()


class _ToTheFile(pl.plugins.TorchCheckpointIO):
    """Writes a checkpoint where it is told to, and nowhere else."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)


def check_owner(checkpoint: Mapping[str, Any], path: Path, of: str) -> None:
    """Refuse a whole checkpoint of another training than ``of``, or of none; earlier versions' do not say."""
    callbacks = checkpoint.get("callbacks")
    if not isinstance(callbacks, Mapping) or not {"state_dict", "loops", "optimizer_states"} <= checkpoint.keys():
        raise DamagedFileError(f"{path} is damaged (it is no checkpoint of a training)")
    owners = {state["of"] for state in callbacks.values() if isinstance(state, Mapping) and "of" in state}
    if owners and owners != {of}:
        raise DamagedFileError(f"{path} is damaged (it is of another training)")


def resumable(path: Path, of: str = "") -> Path | None:
    """Return the checkpoint that a training can go on from; remove, and refuse, a damaged or another training's."""
    if not path.exists():
        return None
    try:
        check_owner(load(path), path, of)
    except (DamagedFileError, pickle.UnpicklingError) as error:
        path.unlink()
        raise DamagedFileError(f"{error}: it was removed") from error
    return path


def _awaited(trainer: pl.Trainer, config: Any) -> float | None:
    """Return the metric that a schedule is stepped with after this epoch; None if it is not."""
    if not config.reduce_on_plateau or config.interval != "epoch" or (trainer.current_epoch + 1) % config.frequency:
        return None
    value = trainer.callback_metrics.get(config.monitor)
    return None if value is None else float(value)
