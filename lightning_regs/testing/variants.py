"""The arguments that methods are tested with, and those that they are tested together with."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers import Regularizer
from lightning_regs.regularizers.base import Acts, conflicts
from lightning_regs.regularizers.gradient_penalty import GradientPenalty
from lightning_regs.regularizers.mixup import Mixup
from lightning_regs.regularizers.norm_penalty import NormPenalty
from lightning_regs.regularizers.weight_mask import WeightMask
from lightning_regs.testing.modules import CONV, OURS, Case
from lightning_regs.testing.runs import fit


@dataclass(frozen=True)
class Variant:
    """One of the instances that ``cls.variants()`` lists, made afresh whenever it is asked for."""

    cls: type[Regularizer]
    index: int
    label: str
    changed: tuple[tuple[str, Any], ...] = ()

    def make(self, **changes: Any) -> Regularizer:
        """Return a new instance, with some arguments changed."""
        method, changes = self.cls.variants()[self.index], dict(self.changed) | changes
        return type(method)(**(_arguments(method) | changes)) if changes else method

    def __str__(self) -> str:
        return self.label


def variants(cls: type[Regularizer]) -> list[Variant]:
    """Return the instances that the contracts run, labelled by the arguments that tell them apart."""
    found = [_arguments(method) for method in cls.variants()]
    telling = [name for name in found[0] if len({repr(values.get(name)) for values in found}) > 1]
    words = [", ".join(f"{name}={values.get(name)!r}" for name in telling) for values in found]
    return [Variant(cls, i, f"{cls.__name__}({text})" if text else cls.__name__) for i, text in enumerate(words)]


def partners() -> dict[Acts, Variant]:
    """Return the method that stands for each kind, in pairs."""
    chosen = (Mixup, GradientPenalty, NormPenalty, WeightMask)
    return {kind: variants(cls)[0] for kind, cls in zip(Acts, chosen, strict=True)}


def reason(first: Variant, second: Variant) -> str | None:
    """Return why two methods in this order are refused, or None."""
    return next(conflicts([first.make(), second.make()]), None)


@cache
def refusal(case: Case, variant: Variant) -> str | None:
    """Return why the method refuses this kind of module, or None."""
    try:
        fit(case, [variant.make()], batch=0)
    except MisconfigurationException as error:
        return str(error)
    except Exception:
        return None  # the contracts will show it
    return None


def case_of(first: Variant, second: Variant) -> Case:
    """Return the module that a pair is tried on: our own only where one of the two refuses others."""
    return OURS if refusal(CONV, first) or refusal(CONV, second) else CONV


def _arguments(method: Regularizer) -> dict[str, Any]:
    """Return the constructor's arguments, as the instance remembers them under the same names."""
    return {name: getattr(method, name) for name in inspect.signature(type(method)).parameters if hasattr(method, name)}
