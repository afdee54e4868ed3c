"""Train on all data for as long as early stopping found on a part of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from lightning_regs.core import rng
from lightning_regs.core.checks import check, checked
from lightning_regs.core.lightning import pl
from lightning_regs.data import ImageDataModule
from lightning_regs.procedures.driver import Callbacks, Driver, Logger, Options
from lightning_regs.procedures.ends import Stage
from lightning_regs.procedures.results import Level
from lightning_regs.procedures.stopping.stop_when import StopWhen

__all__ = ["retrain"]

_DATA = (
    "an ImageDataModule with a val_split, or a function that makes one, as the second training has the same data "
    "without the split; with other data fit with stop = StopWhen(...), then anew with max_steps=stop.steps[stop.best]"
)


@checked
def retrain(
    module: Callable[..., pl.LightningModule],
    data: Annotated[ImageDataModule | Callable[[], Any], _DATA],
    *,
    folder: str | os.PathLike[str],
    trainer: Options,
    stopping: Callable[[], StopWhen],
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
        trainer: Options of the Trainer; its length is the most that the first training takes.
        stopping: Makes the callback that stops: ``lambda: StopWhen("GL5", "val/loss")``.
        by: Whether the second training has as many optimizer steps as the first had before its best validation, or as
            many passes over its data, which are more steps; of a pass that is validated midway the whole.
        callbacks: Makes further callbacks, given the level's name.
        logger: Makes the logger.
        seed: Of initial weights, order and draws; both trainings start from the same weights.
        test: Whether to test afterwards.
        checkpoint_every: Seconds between the checkpoints that an interrupted training goes on from.

    Returns:
        Both levels. ``metrics["iterations"]`` of the second is the length that was found, in optimizer steps, and
        ``module.load_state_dict(level.weights())`` takes its weights; those of the first are its best validation's.

    Raises:
        TypeError: As :func:`~lightning_regs.find_ticket`.
        ValueError: As that, or if there is no ``val_split``.
        RuntimeError: If another one is at work in the folder.
    """
    own, root = rng.run_seed(seed), Path(folder).expanduser().absolute()
    how = check("what stopping makes", stopping(), StopWhen)
    names = ("criterion", "monitor", "mode", "training", "smoothing", "restore")
    settings = {"level": 0, "repeat": 0, "method": by, "stopping": {name: getattr(how, name) for name in names}}

    def held_out() -> ImageDataModule:
        made: ImageDataModule = data if isinstance(data, ImageDataModule) else data()
        check("data", made, Annotated[ImageDataModule, _DATA])
        return made

    def whole() -> ImageDataModule:
        return type(made := held_out())(**{**made.hparams, "val_split": 0})

    def train(name: str, data: Any, options: Options, own_callbacks: Any, monitor: str | None) -> Level:
        stage = Stage(name, settings | {"kind": name}, own, own, masked=False, callbacks=own_callbacks)
        given = (options, callbacks, logger, own, test, checkpoint_every, monitor)
        return Driver(module, data, root / name, *given, name="retrain").run([stage])[0]

    if not held_out().hparams.get("val_split"):
        raise ValueError("retrain finds the length of a training on held-out data; give the data a val_split.")
    stopped = train("stopped", data, trainer, lambda: [stopping()], how.monitor)
    rows = [row for row in stopped.curve if how.monitor in row]
    how.validation = [row[how.monitor] for row in rows]
    best = rows[how.best]
    ends = {"max_epochs": int(best["epoch"]) + 1, "max_steps": -1} if by == "epochs" else {"max_epochs": -1}
    kept = {name: value for name, value in trainer.items() if name not in ("min_epochs", "min_steps", "max_time")}
    return stopped, train("retrained", whole, kept | {"max_steps": int(best["step"])} | ends, list, None)
