"""Every regularizer there is, found by reflection: a subclass is enrolled in the contracts by existing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import lightning_regs.regularizers
from lightning_regs import Regularizer


@dataclass(frozen=True)
class Variant:
    """One of the instances that ``cls.variants()`` lists, made afresh whenever it is asked for."""

    cls: type[Regularizer]
    index: int
    label: str

    def make(self, **changes: Any) -> Regularizer:
        """Return a new instance, with some constructor arguments changed; the others are read from its attributes."""
        method = self.cls.variants()[self.index]
        return type(method)(**(arguments(method) | changes)) if changes else method

    def takes(self, argument: str) -> bool:
        """Whether the constructor has this argument."""
        return argument in inspect.signature(self.cls).parameters

    def __str__(self) -> str:
        return self.label


def arguments(method: Regularizer) -> dict[str, Any]:
    """Return the constructor's arguments, as the instance remembers them under the same names."""
    return {name: getattr(method, name) for name in inspect.signature(type(method)).parameters if hasattr(method, name)}


def methods() -> list[type[Regularizer]]:
    """Return all concrete subclasses of Regularizer that are imported or can be, by name."""
    package = lightning_regs.regularizers
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return sorted({cls for cls in _below(Regularizer) if _is_method(cls)}, key=lambda cls: cls.__name__)


def variants() -> list[Variant]:
    """Return all instances that the contracts are about."""
    return [variant for cls in methods() for variant in _variants_of(cls)]


def _below(cls: type[Regularizer]) -> Iterator[type[Regularizer]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


def _is_method(cls: type[Regularizer]) -> bool:
    # Stand-ins that other tests define (in test_*.py, or inside a function) are no methods.
    stand_in = cls.__module__.rpartition(".")[2].startswith("test_") or "<locals>" in cls.__qualname__
    return not (cls.__name__.startswith("_") or inspect.isabstract(cls) or stand_in)


def _variants_of(cls: type[Regularizer]) -> list[Variant]:
    found = [arguments(method) for method in cls.variants()]
    labels = ["-".join([cls.__name__, *filter(None, words)]) for words in _telling(found)]
    return [Variant(cls, i, label) for i, label in enumerate(labels)]


def _telling(found: list[dict[str, Any]]) -> list[list[str]]:
    """Return the fewest arguments that tell the instances apart, strings first; their number where none do."""
    if len(found) == 1:
        return [[]]
    names = sorted(found[0], key=lambda name: not isinstance(found[0][name], str))
    for size in range(1, len(names) + 1):
        for some in combinations(names, size):
            words = [[_word(name, values.get(name)) for name in some] for values in found]
            if len(set(map(tuple, words))) == len(found):
                return words
    return [[str(i)] for i in range(len(found))]


def _word(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else ""
    return value if isinstance(value, str) else f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
