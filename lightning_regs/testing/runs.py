"""Runs a module with methods, and keeps what the contracts compare."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import random
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.core.global_rng import seed_all
from lightning_regs.core.lightning import pl
from lightning_regs.core.names import GRADIENT_MODEL
from lightning_regs.regularizers import NoEffectWarning, Regularizer
from lightning_regs.testing.modules import Case

SCALE = 2.0**7
Position = tuple[int, int, int]  # epoch, batch, rank
TRAINER: dict[str, Any] = {
    "max_epochs": 1,
    "accelerator": os.environ.get("PL_TRAINER_ACCELERATOR", "cpu"),  # Lightning's own word for another default
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
}


class _First(pl.Callback):
    """Stands before the methods: sets the global generators, which Lightning does not save, and sees gradients first.

    Args:
        each_batch: Whether each batch has a seed of its own, else each epoch.
        position: Where the first batch stands, where it is not the first of rank 0.
        gradient: What each step has as its gradient instead of the batch's, all parameters as one vector.
    """

    def __init__(self, each_batch: bool, position: Position, gradient: Tensor | None) -> None:
        self.each_batch, self.position, self.instead, self.found = each_batch, position, gradient, torch.empty(0)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # A module that seeds by itself does so after the callbacks; where each batch has its seed, that is undone.
        theirs = pl_module.on_train_batch_start

        def seeded(batch: Any, batch_idx: int) -> None:
            theirs(batch, batch_idx)
            self.on_train_batch_start(trainer, pl_module, batch, batch_idx)

        if self.each_batch:
            pl_module.on_train_batch_start = seeded  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, i: int) -> None:
        epoch, first, rank = self.position
        if self.each_batch or i == 0:
            number = 10_000 * (epoch + trainer.current_epoch) + (100 * (first + i) if self.each_batch else 0)
            number += rank + trainer.global_rank
            seed_all(number)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        own = [(p, torch.zeros_like(p) if p.grad is None else p.grad) for p in pl_module.parameters()]
        if not len(self.found):
            self.found = torch.cat([g.flatten().clone() for _, g in own])
        if self.instead is not None:
            for (_, g), part in zip(own, torch.split(self.instead, [p.numel() for p, _ in own]), strict=True):
                g.copy_(part.view_as(g))


class Run(pl.Callback):
    """What a training leaves behind.

    Attributes:
        initial: The parameters before the methods have done anything, as one vector.
        trajectory: The parameters before the first batch, when a method has set weights up, and after each.
        gradient: Of the first step, before any method changes it.
        gradient_norms: Of each step, as the optimizer takes it.
        losses: What the training step returned, where that is a dict.
        samples: Sizes of the batches.
        state: The module's state dict; ``optimizer`` is the optimizer's.
        random: The states of all global generators.
    """

    def __init__(self) -> None:
        self.initial = self.gradient = torch.empty(0)
        self.trajectory: list[Tensor] = []
        self.gradient_norms: list[float] = []
        self.losses: list[float] = []
        self.samples: list[int] = []
        self.module: pl.LightningModule
        self.trainer: pl.Trainer
        self.state: dict[str, Tensor] = {}
        self.optimizer: dict[str, Any] = {}
        self.random: tuple[bytes, bytes, Any]

    @property
    def moved(self) -> Tensor:
        """The way from the first parameters to the last."""
        return self.trajectory[-1] - self.trajectory[0]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the initial parameters."""
        self.initial = parameters(pl_module)
        trainer.optimizers[0].register_step_post_hook(self._after_step)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, i: int) -> None:
        """Keep the parameters before the first batch."""
        if not self.trajectory:
            self.trajectory.append(parameters(pl_module))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the batch did."""
        self.trajectory.append(parameters(pl_module))
        self.samples += [len(batch[0])] if batch else []  # none where the step fetches it
        if isinstance(outputs, dict) and "loss" in outputs:
            self.losses.append(float(outputs["loss"]))

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.gradient_norms.append(torch.cat(groups).norm().item() if groups else 0.0)  # an optimizer may clear them


def fit(
    case: Case,
    methods: Sequence[Regularizer],
    *,
    batch: int | None = None,
    each_batch: bool = False,
    position: Position = (0, 0, 0),
    buffers: dict[str, Tensor] | None = None,
    gradient: Tensor | None = None,
    ckpt_path: Path | None = None,
    val: bool = False,
    **options: Any,
) -> Run:
    """Train a module of this kind from the same initial parameters as every other run.

    Args:
        case: The kind.
        methods: What acts on it, in order.
        batch: Trains on this batch alone.
        each_batch: Whether the global generators are seeded for each batch.
        position: Where the first batch stands in the run that this one plays a part of; the methods draw for there.
        buffers: What the module's buffers start from, where that is not what they are made with.
        gradient: What each step has as its gradient, before the methods that change it, instead of the batch's.
        ckpt_path: What to resume from.
        val: Whether to validate, on the training data.
        **options: Of the Trainer.
    """
    for method in methods if position != (0, 0, 0) else ():
        method.position = lambda trainer, batch_idx: position  # type: ignore[method-assign]
    torch.manual_seed(0)
    run, first, module = Run(), _First(each_batch, position, gradient), case.build(methods)
    module.load_state_dict(buffers or {}, strict=False)
    callbacks = [first, *([] if case.ours else methods), run]
    with quiet():
        trainer = pl.Trainer(**(TRAINER | {"callbacks": callbacks, "limit_val_batches": 1.0 if val else 0} | options))
        loader = case.loader(batch, (trainer.global_rank, trainer.world_size))
        trainer.fit(module, loader, loader if val else None, ckpt_path=ckpt_path, weights_only=True)
    run.module, run.trainer, run.gradient, run.random = module, trainer, first.found, generators()
    run.state = {name: value.clone() for name, value in module.state_dict().items()}
    run.optimizer = trainer.optimizers[0].state_dict()
    return run


@cache
def plain(case: Case, precision: str = "32-true", **options: Any) -> Run:
    """Return the run without any method; kept, because every method is compared with it."""
    plugins = {"plugins": [half()]} if precision == "16-mixed" else {"precision": precision}
    return fit(case, [], **options, **plugins)


def half(scale: float = SCALE) -> Any:
    """Return the plugin that takes float16's scaled path, on a CPU too, at a scale at which nothing here overflows."""
    device = "cpu" if TRAINER["accelerator"] == "cpu" else "cuda"
    return pl.plugins.MixedPrecision("16-mixed", device, torch.amp.GradScaler(device, init_scale=scale))


def generators() -> tuple[bytes, bytes, Any]:
    """Return the states of all global generators: torch's, NumPy's and Python's."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(numpy_state), random.getstate()


def parameters(module: torch.nn.Module) -> Tensor:
    """Return all of the module's own parameters as one vector on the CPU."""
    return torch.cat([p.detach().flatten() for p in own_parameters(module)]).cpu()


def own_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the parameters that the module has without methods, which may have given it gates or gradient models."""
    return [p for name, p in module.named_parameters() if not {"l0_gate", GRADIENT_MODEL} & set(name.split("."))]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Lightning says about itself; a method that found nothing to act on is an error."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|lightning_fabric|torch)\.")
        warnings.simplefilter("error", NoEffectWarning)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
