"""Runs a module with methods, and keeps what the contracts compare."""

from __future__ import annotations

import contextlib
import logging
import pickle
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from discover import Variant, variants
from modules import CASES, Case
from torch import Tensor

from lightning_regs import Regularizer
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers import NoEffectWarning

SCALE = 2.0**7
Position = tuple[int, int, int]  # epoch, batch, rank


class Seeder(pl.Callback):
    """Sets the global generators, as Lightning saves none of them: a module's dropout would not survive a resume.

    Args:
        each_batch: Whether each batch has a seed of its own, else each epoch.
        position: Where the first batch stands, where it is not the first of rank 0.
    """

    def __init__(self, each_batch: bool = False, position: Position = (0, 0, 0)) -> None:
        self.each_batch = each_batch
        self.position = position

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # A module that sets them itself does so after the callbacks; where each batch has its seed, that is undone.
        theirs = pl_module.on_train_batch_start

        def seeded(batch: Any, batch_idx: int) -> None:
            theirs(batch, batch_idx)
            self.on_train_batch_start(trainer, pl_module, batch, batch_idx)

        if self.each_batch:
            pl_module.on_train_batch_start = seeded  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, i: int) -> None:
        epoch, first, rank = self.position
        if self.each_batch or i == 0:
            self.seed(epoch + trainer.current_epoch, first + i if self.each_batch else 0, rank + trainer.global_rank)

    @staticmethod
    def seed(epoch: int, batch: int, rank: int) -> None:
        number = 10_000 * epoch + 100 * batch + rank
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002 - the global generator is the one that must be left alone
        random.seed(number)


class Gradients(pl.Callback):
    """Keeps the gradient of the first step before any method changes it, and puts another in its place.

    Args:
        instead: That gradient, of all parameters as one vector; None leaves it.
    """

    def __init__(self, instead: Tensor | None = None) -> None:
        self.instead = instead
        self.found = torch.empty(0)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        if not len(self.found):
            self.found = torch.cat(
                [
                    torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten().clone()
                    for p in pl_module.parameters()
                ]
            )
        if self.instead is not None:
            parts = self.instead.split([p.numel() for p in pl_module.parameters()])
            for p, part in zip(pl_module.parameters(), parts, strict=True):
                if p.grad is not None:
                    p.grad.copy_(part.view_as(p))


class Probe(pl.Callback):
    """Writes down parameters after each batch, the gradient's norm at each step, losses and sizes of batches.

    The trajectory starts before the first batch: a method that acts on weights has set them up by then.
    """

    def __init__(self) -> None:
        self.initial = torch.empty(0)
        self.trajectory: list[Tensor] = []
        self.gradient_norms: list[float] = []
        self.losses: list[float] = []
        self.samples: list[int] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.initial = parameters(pl_module)
        (optimizer,) = trainer.optimizers
        optimizer.register_step_post_hook(self.after_step)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, i: int) -> None:
        if not self.trajectory:
            self.trajectory.append(parameters(pl_module))

    def after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.gradient_norms.append(torch.cat(groups).norm().item())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.trajectory.append(parameters(pl_module))
        self.samples.append(len(batch[0]))
        if isinstance(outputs, dict) and "loss" in outputs:
            self.losses.append(float(outputs["loss"]))


@dataclass
class Run:
    """What a training left behind; see ``Probe`` for the first five, and ``Gradients`` for the gradient."""

    initial: Tensor
    trajectory: list[Tensor]
    gradient_norms: list[float]
    losses: list[float]
    samples: list[int]
    gradient: Tensor
    module: pl.LightningModule
    trainer: pl.Trainer
    state: dict[str, Tensor]
    optimizer: dict[str, Any]
    random: tuple[bytes, bytes, Any] = field(repr=False)

    @property
    def start(self) -> Tensor:
        return self.trajectory[0]

    @property
    def end(self) -> Tensor:
        return self.trajectory[-1]

    @property
    def moved(self) -> Tensor:
        return self.end - self.start


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
        each_batch: See ``Seeder``.
        position: Where the first batch stands in the run that this one plays a part of; the methods draw for there.
        buffers: What the module's buffers start from, where that is not what they are made with.
        gradient: What each step has as its gradient, before the methods that change it, instead of the batch's.
        ckpt_path: What to resume from.
        val: Whether to validate, on the training data.
        **options: Of the Trainer.
    """
    for method in methods:
        if position != (0, 0, 0):
            method.position = lambda trainer, batch_idx: position  # type: ignore[method-assign]
    torch.manual_seed(0)
    module = case.build(list(methods))
    module.load_state_dict(buffers or {}, strict=False)
    probe, gradients = Probe(), Gradients(gradient)
    callbacks = [Seeder(each_batch, position), gradients, *([] if case.ours else methods), probe]
    with quiet():
        trainer = pl.Trainer(**(TRAINER | {"callbacks": callbacks, "limit_val_batches": 1.0 if val else 0} | options))
        loader = case.loader(batch, (trainer.global_rank, trainer.world_size))
        trainer.fit(module, loader, loader if val else None, ckpt_path=ckpt_path, weights_only=True)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    seen = (probe.initial, probe.trajectory, probe.gradient_norms, probe.losses, probe.samples, gradients.found)
    return Run(*seen, module, trainer, state, trainer.optimizers[0].state_dict(), generators())


def generators() -> tuple[bytes, bytes, Any]:
    """Return the states of all global generators: torch's, NumPy's and Python's."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(numpy_state), random.getstate()


TRAINER: dict[str, Any] = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
}


@cache
def plain(case: Case, precision: str = "32-true", **options: Any) -> Run:
    """Return the run without any method; kept, because every method is compared with it."""
    plugins = {"plugins": [half()]} if precision == "16-mixed" else {"precision": precision}
    return fit(case, [], **options, **plugins)


def half() -> Any:
    """Return the plugin that takes float16's scaled path on a CPU.

    Its scale is one at which nothing here overflows, not Lightning's 65536, which would skip the first steps.
    """
    return pl.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=SCALE))


def step_of_the_mean(case: Case, variant: Variant, places: Sequence[tuple[int, Position]]) -> Run:
    """Take one step from the initial parameters by the mean of the gradients that batches have at their places.

    That is what a step over several batches, accumulated or of several processes, has to be, whatever the method is.

    Args:
        case: The kind of module.
        variant: The method.
        places: For each batch its number and where it stands; the step is taken at the last one.
    """
    found, buffers = [], None
    accumulated = len({rank for _, (_, _, rank) in places}) == 1
    for batch, position in places:
        run = fit(case, [variant.make()], batch=batch, each_batch=True, position=position, buffers=buffers)
        if accumulated:  # batch-norm statistics go from one batch to the next, while the step is put off
            buffers = {name: run.state[name] for name, _ in run.module.named_buffers()}
        found.append(run.gradient)
    mean = torch.stack(found).mean(0)
    return fit(case, [variant.make()], batch=batch, each_batch=True, position=position, gradient=mean)


def parameters(module: torch.nn.Module) -> Tensor:
    """Return all parameters as one vector."""
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def distance(a: Tensor, b: Tensor) -> float:
    """Return the Euclidean distance of ``a`` from ``b`` relative to the length of ``b``."""
    return ((a - b).norm() / b.norm().clamp_min(1e-30)).item()


def assert_same_step(ours: Tensor, theirs: Tensor, without: Tensor) -> None:
    """Assert that two ways of computing a step agree, up to rounding.

    Args:
        ours: How far the parameters moved.
        theirs: The same, computed otherwise.
        without: How far they would have moved without the method, so that a weak method cannot be lost in the rest.
    """
    assert distance(ours, theirs) < 1e-4
    assert distance(ours - without, theirs - without) < 0.1


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


@cache
def refusal(case: Case, variant: Variant) -> str | None:
    """Return why the method refuses this kind of module, or None."""
    try:
        fit(case, [variant.make()], batch=0)
    except MisconfigurationException as error:
        return str(error)
    except Exception:
        return None  # this runs while tests are collected; each of them will show it
    return None


@cache
def all_pairs() -> tuple[list[tuple[Case, Variant]], list[tuple[Case, Variant, str]]]:
    """Return which methods go with which modules, and which refuse them, with the reason."""
    accepted, refused = [], []
    for case in CASES:
        for variant in variants():
            if reason := refusal(case, variant):
                refused.append((case, variant, reason))
            else:
                accepted.append((case, variant))
    return accepted, refused


def ids(pair: tuple[Any, ...]) -> str:
    """Return the test id of a module and a method."""
    return f"{pair[1]}-{pair[0]}"


def takes_over(case: Case, variant: Variant) -> bool:
    """Whether the method makes the module optimize manually, where Lightning forbids two flags of the Trainer."""
    return case.ours and variant.takes("accumulate_grad_batches")


def steps_options(case: Case, variant: Variant, **flags: Any) -> tuple[Regularizer, dict[str, Any]]:
    """Return the method and the Trainer's options for these flags, which go to the method where it takes over."""
    return (variant.make(**flags), {}) if takes_over(case, variant) else (variant.make(), flags)
