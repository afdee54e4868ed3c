"""Turn plain configuration into torch's optimizers and learning-rate schedules."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Annotated, Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from lightning_regs.core import registry
from lightning_regs.core.checks import Count, Whole, call, check, checked, nonempty
from lightning_regs.core.names import unknown_name
from lightning_regs.optim.groups import grouped, groups_of, same_groups
from lightning_regs.optim.length import TIMES, Length, Time
from lightning_regs.optim.per_replica import NUMBERS, replica_numbers, with_numbers
from lightning_regs.optim.sequence import SequenceLR

Config = Mapping[str, Any]
Parts = Annotated[Sequence[Config], nonempty]

# Schedules whose arguments are not plain data, or which Lightning drives through a monitored metric.
_NOT_PLAIN = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "SequenceLR", "ChainedScheduler", "ReduceLROnPlateau"}
# Schedules that are made to be stepped once an optimizer step, and those that do not multiply the rate that they find.
_BY_STEP = {"CosineCyclesLR", "CyclicLR", "OneCycleLR", "StepCyclesLR"}
_OUTRIGHT = {*_BY_STEP, "CosineAnnealingWarmRestarts"}
# The one that means "the length of the training", filled in when the configuration leaves it out.
_LENGTH = {"CosineAnnealingLR": "T_max", "PolynomialLR": "total_iters"}
_LENGTH |= dict.fromkeys(("CosineCyclesLR", "OneCycleLR", "StepCyclesLR"), "total_steps")

# Of these torch has kernels that take a whole step at once on a CPU, and does not choose them by itself.
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
_KERNELS = {"fused": None, "foreach": None, "capturable": False, "differentiable": False}


def _classes(module: Any, base: type) -> dict[str, type]:
    found = inspect.getmembers(module, lambda c: inspect.isclass(c) and issubclass(c, base) and c is not base)
    both = {name: cls for name, cls in found if not name.startswith("_")}
    return both | registry.subclasses("lightning_regs.optim", base)


@cache
def optimizers() -> dict[str, type]:
    """Return the optimizers by name: torch's, and those that a file of this folder defines."""
    return _classes(torch.optim, Optimizer)


@cache
def schedules() -> dict[str, type]:
    """Return the learning-rate schedules by name: torch's, and those that a file of this folder defines."""
    found = _classes(lr_scheduler, lr_scheduler.LRScheduler)
    return {name: cls for name, cls in found.items() if name not in _NOT_PLAIN}


def _named(kind: str, config: Config, classes: dict[str, type]) -> tuple[type, dict[str, Any]]:
    """Return the class that a configuration names, and its options."""
    options = dict(config)
    name = options.pop("name", None)
    if not isinstance(name, str):
        example = "SGD" if kind == "optimizer" else "StepLR, or length: 3ep in a list"
        raise ValueError(f"the {kind} configuration {dict(config)!r} has no name; write for example name: {example}.")
    by_plain = {registry.plain(key): cls for key, cls in classes.items()}
    found = by_plain.get(registry.plain(name)) or by_plain.get(f"{registry.plain(name)}lr")
    if found is None:
        raise unknown_name(kind, name, classes)
    return found, options


@checked
def make_optimizer(
    params: Iterable[nn.Parameter | Config | tuple[str, nn.Parameter]], config: Config, sparse: bool = False
) -> Optimizer:
    """Build an optimizer, one of ``torch.optim``'s or of this folder's.

    SGD, Adam and AdamW step by torch's fused kernels on a CPU, which go through memory once where torch's default goes
    several times; say ``fused: false`` for that.

    Args:
        params: The parameters to train, with their names or in groups as torch takes them.
        config: ``{"name": "SGD", "lr": 0.1, "momentum": 0.9}``: the class (letter case is free) and its arguments.
            Under ``"groups"`` a glob of parameter names has arguments of its own for them, as in
            ``{"*bias": {"weight_decay": 0}}``; of several that match, the first. Such parameters need their names.
            Of stacked parameters ``(R, ...)`` the ``lr``, ``weight_decay`` and ``momentum`` may be lists, of one number
            a replica: each is trained as if alone, to rounding. For this the optimizer has to be one of torch's whose
            step is the rate times what does not depend on it, as of SGD and Adam, and momenta that differ go neither
            with ``nesterov`` nor with ``dampening``.
        sparse: Whether gradients may be sparse, as of ``nn.Embedding(sparse=True)``, which the fused kernels refuse.

    Raises:
        ValueError: If the name is missing or unknown, an argument is not one of the class's, or out of its range, or a
            glob matches no parameter that is left.
    """
    cls, options = _named("optimizer", config, optimizers())
    if options.pop("groups", None):
        params = grouped(list(params), config)
        _alone(config, params[0]["params"][:1])
    elif "base" not in options:
        params = [param[1] if isinstance(param, tuple) else param for param in params]
    listed = {name: given for name, given in replica_numbers(options).items() if name in options}
    numbers = {name: check(name, given, NUMBERS[name]) for name, given in listed.items()}
    optimizer = call("optimizer", cls, params, **options | {name: max(given) for name, given in numbers.items()})
    for group in optimizer.param_groups if type(optimizer) in _FUSED and not sparse else ():
        chosen = any(group.get(name, default) != default for name, default in _KERNELS.items())
        # Not by the argument, with which Lightning refuses to clip gradients in mixed precision.
        if not chosen and all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"]):
            group["fused"] = True
    optimizer.register_load_state_dict_pre_hook(same_groups)
    return with_numbers(optimizer, numbers)


def _alone(config: Config, params: list[nn.Parameter]) -> Config:
    """Return a configuration without its groups, whose arguments are tried first: torch does not check a group's."""
    if isinstance(base := config.get("base"), Mapping):
        return dict(config) | {"base": _alone(base, params)}
    own = {name: given for name, given in config.items() if name != "groups"}
    for glob, options in groups_of(config).items():
        if names := sorted({"name", "base", "groups", "params"} & set(options)):
            raise ValueError(
                f"the group {glob!r} has {names[0]!r}, and one optimizer steps all; give its numbers only."
            )
        if names := sorted({*replica_numbers(options), *(replica_numbers(own).keys() & options)}):
            raise ValueError(
                f"{names[0]} is one a replica, and the group {glob!r} has its own; give one number for all."
            )
        # With a second group, which some optimizers do not take.
        make_optimizer([{"params": params}, {"params": []}], {**own, **options})
    return own


@checked
def check_optimization(optimizer: Config, schedule: Config | Parts | None, replicas: Count | None = None) -> Optimizer:
    """Return such an optimizer, of one number or of one a replica, or raise what making it or its schedules would."""
    params = [torch.nn.Parameter(torch.zeros([replicas] if replicas else []))]
    probe = make_optimizer(params, _alone(optimizer, params))
    if schedule is not None:
        parts = [schedule] if isinstance(schedule, Mapping) else schedule
        named = {_named("schedule", part, schedules())[0].__name__ for part in parts if "name" in part}
        cycles = sorted(named & {"CyclicLR", "OneCycleLR"})
        minima = [f"eta_min={n}" for part in parts if (n := part.get("eta_min"))]
        apart = {name for options in groups_of(optimizer).values() for name in options}
        for name, own in {"lr": [*cycles, *minima], "momentum": cycles, "betas": cycles}.items():
            if own and name in apart | set(replica_numbers(optimizer)):
                many = "a group's own" if name in apart else "a list"
                raise ValueError(f"{name} is {many}, and {own[0]} has its own, which is for all; give one number.")
        _schedules(probe, schedule, Length(10**9, 10**9, 1, whose=""))  # long enough for whatever is tried
    return probe


@checked
def make_schedules(
    optimizer: Optimizer,
    config: Config | Parts,
    *,
    epochs: Whole | None,
    steps: Whole | None,
    per_epoch: Count | None = None,
) -> list[dict[str, Any]]:
    r"""Build a schedule, or several one after another, in the form that Lightning takes.

    ``{"name": "ExponentialLR", "gamma": 0.95, "interval": "epoch", "warmup": "2ep"}`` names a class (letter case and
    the ``LR`` are free) and its arguments. Those that are times, such as ``T_max``, ``step_size`` and ``milestones``,
    are numbers of intervals, or typed: ``"500it"``, of optimizer steps, or ``"2ep"``. The one that is the length of the
    training may be left out. The ``interval`` is by default ``"epoch"``, and ``"step"`` where a time is in steps or the
    class is made for it, as ``OneCycleLR`` is. Over the ``warmup``, of T optimizer steps or a typed time, the rate
    rises linearly to what the schedule says: it is the schedule's times :math:`\min(1, (t + 1) / T)` for optimizer
    step t, from 0, so that a drop comes when it would without the warm-up. With ``warmup`` the name may be left out.

    A list is a sequence, ``[{"warmup": "500it"}, {"length": "10ep"}, {"name": "CosineAnnealing"}]``: each part starts
    from the optimizer's own rate and momentum, counts its time from there and takes its ``length`` for that of the
    training. The last part has none, and takes what is left. A part without a name is constant, or a warm-up. One that
    goes by the epoch between others that go by the step does so from its start on, by the number of steps in an epoch.

    Super-convergence as of Smith & Topin 2017, arXiv:1708.07120, with the momentum (of Adam the first beta) in
    antiphase: ``{"name": "OneCycleLR", "max_lr": 3.0, "three_phase": True, "anneal_strategy": "linear"}``.

    Args:
        optimizer: The optimizer whose learning rate they drive.
        config: Of the schedule, or of the parts of a sequence.
        epochs: The length of the training in epochs; None where it is not known.
        steps: The same in optimizer steps.
        per_epoch: Optimizer steps in an epoch; None where it is not known, and times do not mix the two.

    Returns:
        Lightning's ``lr_scheduler`` dictionaries.

    Raises:
        ValueError: If a name is missing or unknown, an argument is not the class's, the interval is neither, a time
            counts what the training or the interval does not, a warm-up goes with a schedule that sets the rate
            outright, or the parts, or a 1cycle, are over before the training. What is longer than it is warned of.
    """
    return _schedules(optimizer, config, Length(epochs, steps, per_epoch))


def _schedules(optimizer: Optimizer, config: Config | Sequence[Config], length: Length) -> list[dict[str, Any]]:
    if not isinstance(config, Mapping):
        return [_sequence(optimizer, config, length)]
    options = dict(config)
    rising = length.count("warmup", _time("warmup", options.pop("warmup", 0), "step"), "step")
    warm: list[dict[str, Any]] = []
    if rising:
        warm.append({"scheduler": lr_scheduler.LinearLR(optimizer, **_rise(rising)), "interval": "step"})
        length.compare("warmup", rising, "step")
        if not options:
            return warm
    cls, options, interval = _schedule(options)
    # Its cosine starts from the rate that it finds, but ends at a rate of its own.
    ends = "(eta_min=...)" if cls is lr_scheduler.CosineAnnealingLR and options.get("eta_min") else ""
    if rising and (cls.__name__ in _OUTRIGHT or ends):
        raise ValueError(
            f"{cls.__name__}{ends} sets the learning rate outright, over a warm-up of {rising} steps too; leave warmup "
            f"out, or let one follow the other: [{{'warmup': {rising}}}, {{'name': {cls.__name__!r}, ...}}]."
        )
    options = _filled(cls, options, interval, length)
    return [*warm, {"scheduler": call("schedule", cls, optimizer, **options), "interval": interval}]


def _sequence(optimizer: Optimizer, configs: Sequence[Config], length: Length) -> dict[str, Any]:
    parts = [_part(config, length) for config in configs]
    by_epoch = all(way != "step" and (time is None or time.unit == "ep") for _, _, way, time in parts)
    interval = "epoch" if by_epoch else "step"
    whole, start = length.of(interval), 0
    makers, starts, paces = [], [], []
    for number, (cls, options, way, time) in enumerate(parts, start=1):
        if number == len(parts) and "warmup" in configs[-1]:
            time = None
        elif time is None and number < len(parts):
            raise ValueError(
                f"part {number} of the schedule, {dict(configs[number - 1])!r}, has no length, and only the last part "
                "takes what is left of the training; add one, such as length: 10ep."
            )
        left = None if whole is None else max(whole - start, 0)
        ticks = left if time is None else length.count("length", time, interval)
        options = _filled(cls, options, way, length.part(ticks, interval))
        makers.append(partial(call, "schedule", cls, optimizer, **options))
        starts.append(start)
        paces.append(length.count(f"the interval of {cls.__name__}", Time(1, "ep"), interval) if way == "epoch" else 1)
        start += ticks or 0
    length.compare("the schedule", max(start, starts[-1] + 1), interval)
    if length.whose and whole is not None and start < whole:
        raise ValueError(
            f"the parts of the schedule take {start} {interval}s and the training {whole}; leave the length of the "
            "last part out, and it takes what is left."
        )
    return {"scheduler": SequenceLR(optimizer, makers, starts, paces), "interval": interval}


def _part(config: Config, length: Length) -> tuple[type, dict[str, Any], str, Time | None]:
    """Return the class of a part of a sequence, its options, its interval, none of what is constant, and its length."""
    options = dict(config)
    if "warmup" in options:
        if len(options) > 1:
            raise ValueError(f"the part {options!r} of the schedule is more than its warmup; make that a part alone.")
        rise = _time("warmup", options["warmup"], "step")
        return lr_scheduler.LinearLR, _rise(length.count("warmup", rise, "step")), "step", rise
    written = options.pop("length", None)
    cls, named, interval = _schedule(options or {"name": "ConstantLR", "factor": 1.0}, written)
    time = None if written is None else _time("length", written, interval)
    return cls, named, interval if options else "", time


def _time(name: str, written: int | str, interval: str) -> Time:
    """Return a time that is typed, or a number of intervals."""
    given = check(name, written, Whole | str)
    return Time.parse(given) if isinstance(given, str) else Time(given, "ep" if interval == "epoch" else "it")


def _rise(steps: int) -> dict[str, Any]:
    """Return how to say to ``LinearLR`` that the rate rises from 1/T of it to all of it in T steps."""
    return {"start_factor": 1 / max(steps, 1), "total_iters": max(steps - 1, 0)}


def _schedule(config: Config, length: object = None) -> tuple[type, dict[str, Any], str]:
    """Return the class that a configuration names, its options and its interval."""
    cls, options = _named("schedule", config, schedules())
    times = [length, *(options.get(name) for name in TIMES if name != "milestones")]
    times += milestones if isinstance(milestones := options.get("milestones"), list | tuple) else []
    by_step = cls.__name__ in _BY_STEP or any(isinstance(time, str) and time.strip().endswith("it") for time in times)
    interval = options.pop("interval", "step" if by_step else "epoch")
    if interval not in ("epoch", "step"):
        raise ValueError(f"schedule interval {interval!r} is unknown; use 'epoch' or 'step'.")
    return cls, options, interval


def _filled(cls: type, options: dict[str, Any], interval: str, length: Length) -> dict[str, Any]:
    """Return the options with times as numbers of intervals, none of them beyond the length, which is filled in."""
    if "last_epoch" in options:
        raise ValueError(f"{cls.__name__}(last_epoch=...) is what a checkpoint brings; leave it out.")
    for name, number in options.items():
        if isinstance(number, (int, float)) and number < 0:
            raise ValueError(f"{name} of {cls.__name__} must be at least 0, got {number}.")
    own, ours, cycle = _LENGTH.get(cls.__name__), length.of(interval), cls is lr_scheduler.OneCycleLR
    epochs, an_epoch = options.get("epochs"), options.get("steps_per_epoch")
    if cycle and isinstance(epochs, int) and isinstance(an_epoch, int):
        options = {"total_steps": epochs * an_epoch} | options
    if own is not None and own not in options:
        if ours is None:
            raise ValueError(
                f"{cls.__name__} needs {own} where the number of {interval}s of the training is not known; give it."
            )
        options = options | {own: max(1, ours)}
    for name in (name for name in TIMES if options.get(name) is not None):
        several = name == "milestones"
        given = check(name, options[name], Sequence[Any]) if several else [options[name]]
        times = [length.count(name, _time(name, time, interval), interval) for time in given]
        options = options | {name: times if several else check(name, times[0], Whole if "iters" in name else Count)}
        last = max(times, default=0)
        if cycle and length.whose and last < (ours or 0):
            raise ValueError(
                f"OneCycleLR({name}={last}) is over before {length.whose}, of {ours} {interval}s, and has no rate for "
                "the others; leave it out, and the cycle takes as long."
            )
        length.compare(f"{cls.__name__}({name})", last, interval, name == own)
    return options
