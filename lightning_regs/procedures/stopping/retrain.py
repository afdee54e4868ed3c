"""Train on all data for as long as early stopping found on a part of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lightning_regs.core import rng
from lightning_regs.core.checks import Count, Name, checked
from lightning_regs.core.lightning import Callback, pl
from lightning_regs.data import ImageDataModule
from lightning_regs.procedures.driver import Callbacks, Driver, Logger, Options
from lightning_regs.procedures.ends import Stage
from lightning_regs.procedures.level import State
from lightning_regs.procedures.results import Level
from lightning_regs.procedures.starts import Start
from lightning_regs.procedures.stopping.criteria import Criterion, criterion_of, errors_of
from lightning_regs.procedures.stopping.stop_when import StopWhen
from lightning_regs.pruning import Mask

__all__ = ["retrain"]


@checked
def retrain(
    module: Callable[..., pl.LightningModule],
    data: ImageDataModule | Callable[[], ImageDataModule],
    *,
    folder: str | os.PathLike[str],
    trainer: Options,
    criterion: str | Criterion,
    monitor: Name = "val/loss",
    mode: Literal["min", "max"] = "min",
    training: Name | None = None,
    smoothing: Count = 1,
    by: Literal["steps", "epochs"] = "steps",
    callbacks: Callbacks = None,
    logger: Logger = None,
    seed: int | None = None,
    test: bool = True,
    checkpoint_every: float = 20.0,
) -> tuple[Level, Level]:
    """Find by early stopping how long to train, and train from the start on all data for as long.

    It is algorithm 7.2 of Goodfellow et al., "Deep Learning" (2016), chapter 7: no data are lost to the validation.
    Each training is a level in a folder, as those of :func:`~lightning_regs.find_ticket`, which documents what is not
    said here; killed and called again, it goes on where it was.

    Does not help: where the best length depends much on the number of samples, as nothing says any more when to stop. A
    schedule of the learning rate that spans the training spans the shorter one in the second.

    Args:
        module: Makes the LightningModule.
        data: An :class:`~lightning_regs.ImageDataModule` with a ``val_split``, or a function that makes one. The second
            training has the same without the split.
        folder: Where the levels ``stopped`` and ``retrained`` are.
        trainer: Options of the Trainer; its length is at most that of the first training.
        criterion: See :class:`StopWhen`, also for the next four.
        monitor: The metric of the validation.
        mode: Whether lower or higher is better.
        training: The training error, for PQ.
        smoothing: How many measurements are averaged.
        by: Whether the second training has as many optimizer steps as the first had before its best validation, or as
            many passes over its data, which are more steps.
        callbacks: Makes further callbacks, given the level's name.
        logger: Makes the logger.
        seed: Of initial weights, order and draws; both trainings start from the same weights.
        test: Whether to test afterwards.
        checkpoint_every: Seconds between the checkpoints that an interrupted training goes on from.

    Returns:
        Both levels. The weights of the first are those of its best validation.

    Raises:
        TypeError: As :func:`~lightning_regs.find_ticket`.
        ValueError: As that and :class:`StopWhen`, or if there is no ``val_split``.
        RuntimeError: If another one is at work in the folder.
    """
    own, root = rng.run_seed(seed), Path(folder).expanduser().absolute()

    def stopping() -> list[Callback]:
        return [StopWhen(criterion, monitor, mode, training, smoothing)]

    def whole() -> ImageDataModule:
        made = data if isinstance(data, ImageDataModule) else data()
        return type(made)(**{**made.hparams, "val_split": 0})

    def start(_: pl.LightningModule, weights: State, __: Any) -> Start:
        return Start(weights, Mask.dense(weights))

    def train(name: str, data: Any, trainer: Options, own_callbacks: Callable[[], list[Callback]], **how: Any) -> Level:
        settings = {"level": 0, "kind": name, "repeat": 0, "method": by} | how
        stage = Stage(name, settings, own, own, start, masked=False, callbacks=own_callbacks)
        monitored = monitor if how else None
        given = (trainer, callbacks, logger, own, test, checkpoint_every, monitored)
        return Driver(module, data, root / name, *given, name="retrain").run([stage])[0]

    held_out = data if isinstance(data, ImageDataModule) else data()
    if not held_out.hparams.get("val_split"):
        raise ValueError("retrain finds the length of a training on held-out data; give the data a val_split.")
    how = {"criterion": str(criterion_of(criterion)), "monitor": monitor, "mode": mode, "smoothing": smoothing}
    stopped = train("stopped", data, trainer, stopping, training=training, **how)
    rows, sign = [row for row in stopped.curve if monitor in row], 1 if mode == "min" else -1
    best = rows[int(errors_of([sign * row[monitor] for row in rows], smoothing).argmin())]
    steps = {"max_steps": int(best["step"]), "max_epochs": -1}
    length = steps if by == "steps" else {"max_epochs": int(best["epoch"]) + 1, "max_steps": -1}
    kept = {name: value for name, value in trainer.items() if name not in ("min_epochs", "min_steps", "max_time")}
    return stopped, train("retrained", whole, kept | length, list)
