"""Checks of arguments, in one sentence that names the value: by a call, or by the annotation of a parameter.

``alpha: Positive = 1.0`` declares a parameter and its range at once; :func:`check` reads the annotation.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lightning_regs.core.names import unknown_name


class NoEffectWarning(UserWarning):
    """A method found nothing to act on."""


def check_number(
    name: str,
    value: object,
    low: float = 0.0,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return ``value`` if it is a finite number in ``[low, high]``; without the ends that are open.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is outside.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    number = float(value)
    ends = (open_low and number == low) or (open_high and number == high)
    if not math.isfinite(number) or number > high or number < low or ends:
        bounds = f"{'above' if open_low else 'at least'} {low:g}" if low > -math.inf else "finite"
        upper = f" and {'below' if open_high else 'at most'} {high:g}" if high < math.inf else ""
        raise ValueError(f"{name} must be {bounds}{upper}, got {value}.")
    return number


def check_whole(name: str, value: object, low: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``low``.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is below.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}.")
    return value


# What a run draws for: initial weights; the order of the data, with augmentation, dropout and the draws of methods; the
# split, with subsets and corruption.
PURPOSES = ("weights", "order", "split")


def check_seeds(seeds: object) -> dict[str, int]:
    """Return the seeds that purposes have apart from the run's: ``{"weights": 0}``; of None, that none has one.

    Raises:
        TypeError: If it is no mapping, or a seed no integer.
        ValueError: If a purpose is none of :data:`PURPOSES`, or a seed below 0.
    """
    if seeds is None:
        return {}
    if not isinstance(seeds, Mapping):
        raise TypeError(f"seeds is {seeds!r}; give those apart from the run's by purpose, such as {{'weights': 0}}.")
    for purpose in seeds:
        if purpose not in PURPOSES:
            raise unknown_name("purpose of a seed", purpose, PURPOSES)
    return {purpose: check_whole(f"the seed of {purpose}", seed, 0) for purpose, seed in seeds.items()}


def seeds_apart(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the seeds that a configuration sets apart from the run's, as :func:`check_seeds` does.

    Raises:
        TypeError: As there.
        ValueError: As there, or if one of its sections says what the run does.
    """
    for section in ("data", "model"):
        if given := {"seed", "seeds", "replicas"}.intersection(config.get(section) or ()):
            raise ValueError(
                f"{section}.{min(given)} is set by the run; leave it out, and give what has another seed as seeds "
                "beside the sections, such as {'weights': 0}."
            )
    return check_seeds(config.get("seeds"))


# What follows the type in an annotation takes (name, value) and returns the value to use.
Finite = Annotated[float, partial(check_number, low=-math.inf)]
NotNegative = Annotated[float, check_number]
Positive = Annotated[float, partial(check_number, open_low=True)]
Share = Annotated[float, partial(check_number, high=1.0)]
Count = Annotated[int, check_whole]


def check(name: str, value: Any, hint: Any) -> Any:
    """Return the value of a parameter as its annotation wants it; what the annotation says nothing of passes.

    Args:
        name: The parameter's.
        value: What was given.
        hint: A type, ``Literal`` (one of whose values it has to be), or ``Annotated`` with functions of
            ``(name, value)``; any of these ``| None``.

    Raises:
        TypeError: If the value is of another type.
        ValueError: If it is outside its range, or none of the names.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        for test in hint.__metadata__:
            value = test(name, value)
    elif origin is Literal and value not in parts:
        raise unknown_name(name, value, parts)
    elif origin in (Union, types.UnionType) and not (value is None and type(None) in parts):
        others = [part for part in parts if part is not type(None)]
        return check(name, value, others[0]) if len(others) == 1 else value
    return value


def call(kind: str, cls: type[Any], *args: Any, **options: Any) -> Any:
    """Make one of a class whose name and options come from a configuration.

    Args:
        kind: What it is, as a noun: ``"optimizer"``.
        cls: The class.
        *args: What the configuration does not say; they come first.
        **options: What it says.

    Raises:
        ValueError: If the class does not take them; the message names what it takes.
    """
    try:
        return cls(*args, **options)
    except (TypeError, ValueError) as error:
        accepted = ", ".join(list(inspect.signature(cls).parameters)[len(args) :])
        raise ValueError(f"{kind} {cls.__name__} does not take {options!r}: {error}. It takes: {accepted}.") from error
