"""How a batch becomes an optimizer step: as Lightning does it, or by a gradient that a method makes in its own way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import MisconfigurationException, datamodule_of, only_gathers_statistics, pl
from lightning_regs.regularizers import Regularizer
from lightning_regs.regularizers.parts.rows import LossOf, Rows

Batch = Sequence[Tensor]
ALL = slice(None)


class Step:
    """A step of Lightning's automatic optimization."""

    driver: Regularizer | None = None
    accumulate_grad_batches = 1  # where the Trainer's flag decides

    def check(self, trainer: pl.Trainer) -> None:
        """Refuse what the Trainer cannot do with such a step."""

    def training_step(self, module: pl.LightningModule, loss_of: LossOf, batch: Batch, batch_idx: int) -> Any:
        """Return what the module's ``training_step`` returns: the mean loss of a batch ``[x, y]``."""
        return loss_of(batch, ALL, True)

    def clip(self, module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Clip unscaled gradients in ``on_before_optimizer_step``, where the Trainer does not."""

    def length(self, trainer: pl.Trainer) -> dict[str, int | None]:
        """Return the ``epochs`` and optimizer ``steps`` of a training, and those ``per_epoch``; None: not known."""
        total: float = trainer.estimated_stepping_batches
        if trainer.train_dataloader is None:
            trainer.fit_loop.setup_data()
        # Of manual optimization Lightning does not know how many batches a step takes.
        batches, every = trainer.num_training_batches, self.accumulate_grad_batches * trainer.accumulate_grad_batches
        per_epoch = math.ceil(batches / every) if 0 < batches < math.inf else None
        epochs = max(trainer.max_epochs or 0, 0) or None
        if per_epoch:
            total = min(total, per_epoch * (epochs or math.inf))
        if isinstance(getattr(datamodule_of(trainer), "batch_size", 0), (list, tuple)):
            return {"epochs": epochs, "steps": None, "per_epoch": None}  # an epoch of larger batches takes fewer
        steps = int(total) if 0 <= total < math.inf else None
        if per_epoch and steps is not None:
            epochs = math.ceil(steps / per_epoch)
        return {"epochs": epochs, "steps": steps, "per_epoch": per_epoch}


class DrivenStep(Step):
    """A step by the gradient that a method makes, in manual optimization with all that automatic optimization gives.

    Gradients are averaged over the micro-batches (by size) and the accumulated batches, reduced over the processes once
    a step, unscaled and clipped before it. Schedules step as they do in automatic optimization. Each batch ends in at
    most one step of Lightning's own optimizer, so ``global_step``, ``max_steps`` and checkpoints count as usual. The
    driver's :meth:`Regularizer.backward` makes the gradient; some attributes of it, where it has them, do what the
    Trainer's flags cannot do here.
    """

    def __init__(self, driver: Regularizer) -> None:
        self.driver: Regularizer = driver
        self.name = type(driver).__name__
        self.micro_batch_size: int | None = getattr(driver, "micro_batch_size", None)
        self.accumulate_grad_batches: int = getattr(driver, "accumulate_grad_batches", 1)
        self.gradient_clip_val: float | None = getattr(driver, "gradient_clip_val", None)
        self.gradient_clip_algorithm: str = getattr(driver, "gradient_clip_algorithm", "norm")

    def check(self, trainer: pl.Trainer) -> None:
        """Refuse what Lightning refuses in manual optimization, and say which argument takes its place."""
        clip: dict[str, Any] = {"gradient_clip_val": trainer.gradient_clip_val}
        if trainer.gradient_clip_algorithm is not None:
            clip["gradient_clip_algorithm"] = str(getattr(trainer.gradient_clip_algorithm, "value", "norm"))
        flags = [clip] if trainer.gradient_clip_val else []
        if trainer.accumulate_grad_batches != 1:
            flags.append({"accumulate_grad_batches": trainer.accumulate_grad_batches})
        for flag in flags:
            arguments = ", ".join(f"{name}={value!r}" for name, value in flag.items())
            raise MisconfigurationException(
                f"Trainer({arguments}) does not reach manual optimization, which {self.name} needs; "
                f"use {self.name}({arguments}) instead."
            )
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, pl.callbacks.GradientAccumulationScheduler) for callback in callbacks):
            raise MisconfigurationException(
                f"GradientAccumulationScheduler does not reach manual optimization, which {self.name} needs; "
                f"use {self.name}(accumulate_grad_batches=...), one number for the whole training, instead."
            )

    def training_step(self, module: pl.LightningModule, loss_of: LossOf, batch: Batch, batch_idx: int) -> Any:
        """Take one batch, and a step where one is due; return the mean loss as the driver reports it to callbacks."""
        trainer = module.trainer
        if only_gathers_statistics(trainer):
            return {"loss": loss_of(batch, ALL, True).detach()}
        optimizer: Any = module.optimizers()
        if isinstance(optimizer, list) or isinstance(optimizer.optimizer, torch.optim.LBFGS):
            raise MisconfigurationException(f"{self.name} steps one optimizer without a closure; LBFGS needs one.")
        every, number = self.accumulate_grad_batches, len(batch[0])
        last_batch = batch_idx + 1 >= trainer.num_training_batches or trainer.is_last_batch
        stepping = last_batch or (batch_idx + 1) % every == 0
        if batch_idx % every == 0:
            optimizer.zero_grad()
        mean = torch.zeros((), device=batch[0].device)
        size = self.micro_batch_size or max(number, 1)
        for start in range(0, number, size):
            rows = slice(start, min(start + size, number))
            share = (rows.stop - rows.start) / number
            sync = stepping and rows.stop == number
            mean += share * self.driver.backward(Rows(module, loss_of, batch, rows, share / every, sync))
        if stepping:
            optimizer.step()
            self._step_schedules(module, "step", batch_idx)
        if last_batch:
            self._step_schedules(module, "epoch", trainer.current_epoch)
        return {"loss": mean}

    def clip(self, module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Clip as the driver says."""
        if self.gradient_clip_val is not None:
            module.clip_gradients(optimizer, self.gradient_clip_val, self.gradient_clip_algorithm)

    def _step_schedules(self, module: pl.LightningModule, interval: str, index: int) -> None:
        for config in module.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                raise MisconfigurationException(
                    "ReduceLROnPlateau follows a metric, which Lightning takes out of the schedule in manual "
                    f"optimization; use a schedule of the epoch or the step with {self.name}."
                )
            if config.interval == interval and (index + 1) % config.frequency == 0:
                module.lr_scheduler_step(config.scheduler, None)


def step_of(methods: Sequence[Regularizer]) -> Step:
    """Return how a training with these methods steps: by the first that makes the gradient in its own way, if any."""
    return next((DrivenStep(method) for method in methods if method.drives), Step())
