"""Turn plain configuration into torch's optimizers and learning-rate schedules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

from lightning_regs.core.names import unknown_name

Config = Mapping[str, Any]

# Schedules whose arguments are not plain data, or which Lightning drives through a monitored metric.
_NOT_PLAIN = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}
# The argument that means "the length of the training", filled in when the configuration leaves it out.
_LENGTH = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}


def _classes(module: Any, base: type, skip: Iterable[str] = ()) -> dict[str, type]:
    found = inspect.getmembers(module, lambda c: inspect.isclass(c) and issubclass(c, base) and c is not base)
    return {name: cls for name, cls in found if name not in skip and not name.startswith("_")}


OPTIMIZERS = _classes(torch.optim, Optimizer)
SCHEDULES = _classes(lr_scheduler, lr_scheduler.LRScheduler, _NOT_PLAIN)


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


def _call(kind: str, cls: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return cls(*args, **options)
    except (TypeError, ValueError) as error:
        accepted = [p for p in inspect.signature(cls).parameters if p not in {"params", "optimizer"}]
        raise ValueError(
            f"{kind} {getattr(cls, '__name__', cls)} does not take {options!r}: {error}. "
            f"It takes: {', '.join(accepted)}."
        ) from error


def make_optimizer(params: Iterable[torch.nn.Parameter], config: Config) -> Optimizer:
    """Build one of ``torch.optim``'s optimizers.

    Args:
        params: The parameters to train.
        config: ``{"name": "SGD", "lr": 0.1, "momentum": 0.9}``: the class (letter case is free) and its arguments.

    Returns:
        The optimizer.

    Raises:
        ValueError: If the name is missing or unknown, or an argument is not one of the class's, or out of its range.
    """
    name, options = _split("optimizer", config)
    optimizer = _call("optimizer", _lookup("optimizer", name, OPTIMIZERS), params, **options)
    assert isinstance(optimizer, Optimizer)
    return optimizer


def make_schedule(optimizer: Optimizer, config: Config, *, epochs: int, steps: int) -> dict[str, Any]:
    """Build one of ``torch.optim.lr_scheduler``'s schedules, in the form that Lightning takes.

    Args:
        optimizer: The optimizer whose learning rate it drives.
        config: ``{"name": "ExponentialLR", "gamma": 0.95, "interval": "epoch"}``: the class (letter case and the
            ``LR`` are free), its arguments, ``interval``: ``"epoch"`` (default) or ``"step"``, and ``warmup``: over
            how many first steps the learning rate rises linearly to what the schedule says, which goes with
            ``"step"``. Default 0.
        epochs: The length of the training in epochs: the default of ``T_max`` and its likes.
        steps: The same in optimizer steps.

    Returns:
        Lightning's ``lr_scheduler`` dictionary.

    Raises:
        ValueError: If the name is missing or unknown, an argument is not the class's, the interval is neither, or the
            warm-up is none.
    """
    name, options = _split("schedule", config)
    interval = options.pop("interval", "epoch")
    if interval not in ("epoch", "step"):
        raise ValueError(f"schedule interval {interval!r} is unknown; use 'epoch' or 'step'.")
    warmup = options.pop("warmup", 0)
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0 or (warmup and interval != "step"):
        raise ValueError(f"warmup is a number of steps, at least 0, and goes with interval: step; got {warmup!r}.")
    cls = _lookup("schedule", name, SCHEDULES)
    length = _LENGTH.get(cls.__name__)
    if length is not None and "steps_per_epoch" not in options:
        options.setdefault(length, max(1, steps if interval == "step" else epochs))
    schedule = _call("schedule", cls, optimizer, **options)
    if warmup > 1:
        # The first step has its share already, and the last one of the warm-up the whole learning rate.
        rising = lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        schedule = lr_scheduler.ChainedScheduler([schedule, rising], optimizer)
    return {"scheduler": schedule, "interval": interval}
