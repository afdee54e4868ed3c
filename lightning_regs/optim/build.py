"""Turn plain configuration into torch's optimizers and learning-rate schedules."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from lightning_regs.core import registry
from lightning_regs.core.checks import Whole, call, check, checked
from lightning_regs.core.names import unknown_name
from lightning_regs.optim.warmup import warmup

Config = Mapping[str, Any]

# Schedules whose arguments are not plain data, or which Lightning drives through a monitored metric.
_NOT_PLAIN = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}
# Schedules that do not multiply the rate that they find.
_OUTRIGHT = {"CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"}
# The argument that means "the length of the training", filled in when the configuration leaves it out.
_LENGTH = {
    **{"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"},
    **{"CosineCyclesLR": "total_steps", "StepCyclesLR": "total_steps"},
}


def _classes(module: Any, base: type, skip: Iterable[str] = ()) -> dict[str, type]:
    found = inspect.getmembers(module, lambda c: inspect.isclass(c) and issubclass(c, base) and c is not base)
    return {name: cls for name, cls in found if name not in skip and not name.startswith("_")}


@cache
def optimizers() -> dict[str, type]:
    """Return the optimizers by name: torch's, and those that a file of this folder defines."""
    return _classes(torch.optim, Optimizer) | registry.subclasses("lightning_regs.optim", Optimizer)


@cache
def schedules() -> dict[str, type]:
    """Return the learning-rate schedules by name: torch's, and those that a file of this folder defines."""
    base = lr_scheduler.LRScheduler
    return _classes(lr_scheduler, base, _NOT_PLAIN) | registry.subclasses("lightning_regs.optim", base)


def _lookup(kind: str, name: str, classes: dict[str, type]) -> type:
    by_lower = {key.lower(): cls for key, cls in classes.items()}
    found = by_lower.get(name.lower()) or by_lower.get(f"{name.lower()}lr")
    if found is None:
        raise unknown_name(kind, name, classes)
    return found


def _split(kind: str, config: Config) -> tuple[str, dict[str, Any]]:
    options = dict(config)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"the {kind} configuration {dict(config)!r} has no name; write for example name: SGD.")
    return name, options


@checked
def make_optimizer(params: Iterable[nn.Parameter | Config | tuple[str, nn.Parameter]], config: Config) -> Optimizer:
    """Build an optimizer, one of ``torch.optim``'s or of this folder's.

    Args:
        params: The parameters to train, with their names or in groups as torch takes them.
        config: ``{"name": "SGD", "lr": 0.1, "momentum": 0.9}``: the class (letter case is free) and its arguments.

    Returns:
        The optimizer.

    Raises:
        ValueError: If the name is missing or unknown, or an argument is not one of the class's, or out of its range.
    """
    name, options = _split("optimizer", config)
    optimizer = call("optimizer", _lookup("optimizer", name, optimizers()), params, **options)
    assert isinstance(optimizer, Optimizer)
    return optimizer


@checked
def check_optimization(optimizer: Config, schedule: Config | None) -> None:
    """Refuse configurations that :func:`make_optimizer` or :func:`make_schedules` would refuse.

    Raises:
        ValueError: As these do.
    """
    probe = make_optimizer([torch.nn.Parameter(torch.zeros(1))], optimizer)
    if schedule is not None:
        make_schedules(probe, schedule, epochs=2, steps=2)


@checked
def make_schedules(optimizer: Optimizer, config: Config, *, epochs: Whole, steps: Whole) -> list[dict[str, Any]]:
    """Build a schedule and the warm-up before it, in the form that Lightning takes.

    Args:
        optimizer: The optimizer whose learning rate they drive.
        config: ``{"name": "ExponentialLR", "gamma": 0.95, "interval": "epoch", "warmup": 500}``: the class (letter case
            and the ``LR`` are free), its arguments, ``interval``: ``"epoch"`` (default) or ``"step"``, and over how
            many optimizer steps the rate rises linearly to what the schedule says, see
            :func:`~lightning_regs.optim.warmup.warmup`. With ``warmup`` the name may be left out.
        epochs: The length of the training in epochs: the default of ``T_max`` and its likes.
        steps: The same in optimizer steps.

    Returns:
        Lightning's ``lr_scheduler`` dictionaries.

    Raises:
        ValueError: If the name is missing or unknown, an argument is not the class's, the interval is neither, or a
            warm-up goes with a schedule that sets the rate outright.
    """
    options = dict(config)
    rising = check("warmup", options.pop("warmup", 0), Whole)
    warm = [{"scheduler": warmup(optimizer, rising), "interval": "step"}] if rising else []
    if rising and not options:
        return warm
    name, options = _split("schedule", options)
    interval = options.pop("interval", "epoch")
    if interval not in ("epoch", "step"):
        raise ValueError(f"schedule interval {interval!r} is unknown; use 'epoch' or 'step'.")
    cls = _lookup("schedule", name, schedules())
    if rising and cls.__name__ in _OUTRIGHT:
        raise ValueError(
            f"{cls.__name__} sets the learning rate outright, over a warm-up of {rising} steps too; leave warmup out."
        )
    length = _LENGTH.get(cls.__name__)
    if length is not None and "steps_per_epoch" not in options:
        options.setdefault(length, max(1, steps if interval == "step" else epochs))
    return [*warm, {"scheduler": call("schedule", cls, optimizer, **options), "interval": interval}]
