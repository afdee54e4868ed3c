"""What a method declares, and the parameters that say on which batches it acts, which all on batches are given."""

from __future__ import annotations

import math
import random
from dataclasses import field, fields, is_dataclass, replace
from functools import cache
from typing import Any, get_type_hints

from lightning_regs.core.batch import Keys
from lightning_regs.core.checks import Count, Seed, Share, Whole
from lightning_regs.regularizers.parts.moment import Moment

# Parameter -> what it may be, its default, and what the docstring says of it.
GIVEN: dict[str, tuple[Any, Any, str]] = {
    "seed": (Seed | None, None, "Seed of its draws; default: what ``seed_everything`` was given, else 0."),
    "batch": (Keys, None, 'Keys of samples and labels, ``("image", "label")`` or ``(0, 1)``; None: the usual ones.'),
    "p": (Share, 1.0, "Probability of acting on a batch, in [0, 1]; drawn anew for each, alike in all processes."),
    "from_epoch": (Whole, 0, "The first epoch in which it acts, from 0."),
    "until_epoch": (Count | None, None, "The first epoch in which it acts no more; None: it acts to the end."),
}


def give(cls: Any, names: tuple[str, ...]) -> None:
    """Declare some of these parameters, by keyword only, where neither the class nor a base of it does.

    One that a class declares itself means what it says there. Without any other, a seed can be given by place too.
    """
    inherited, own = declared(cls), cls.__annotations__
    if not inherited and not own:
        own["seed"], cls.seed = Seed | None, None
    for name in names:
        if name not in inherited and name not in own:
            own[name], cls.given = GIVEN[name][0], cls.given | {name}
            setattr(cls, name, field(default=GIVEN[name][1], kw_only=True))
    head, args, tail = (vars(cls).get("__doc__") or "").partition("    Args:\n")
    if args:
        entries, gap, rest = tail.partition("\n\n")
        more = [f"        {name}: {GIVEN[name][2]}\n" for name in names if f"    {name}: " not in entries]
        cls.__doc__ = f"{head}{args}{entries.rstrip()}\n{''.join(more)}{gap[1:]}{rest}" + ("" if gap else "    ")


def declared(cls: Any) -> dict[str, tuple[Any, ...]]:
    """Return the declared parameters, and the examples of each."""
    return {f.name: f.metadata.get("examples", ()) for f in fields(cls)} if is_dataclass(cls) else {}


@cache
def hints(cls: Any) -> dict[str, Any]:
    """Return what the declared parameters may be."""
    return get_type_hints(cls, include_extras=True)


def check_order(method: Any) -> None:
    """Refuse a method that would act in no epoch, by a ``ValueError``."""
    first, end = _epochs(method)
    if end <= first:
        raise ValueError(
            f"{type(method).__name__}(from_epoch={first}, until_epoch={end}) acts in no epoch, as it stops before "
            f"epoch {end}; give an until_epoch of at least {first + 1}."
        )


def meet(one: Any, other: Any) -> bool:
    """Whether there is an epoch in which both methods act."""
    (first, end), (other_first, other_end) = _epochs(one), _epochs(other)
    return max(first, other_first) < min(end, other_end)


def come(method: Any, at: Moment) -> bool:
    """Tell whether the method acts on this batch; nothing is drawn where it acts on all."""
    (first, end), chance = _epochs(method), _given(method, "p")
    if not first <= at.epoch < end:
        return False
    # One draw for all processes: where one attacks its batch, the others would wait for it.
    return bool(chance == 1 or random.Random(replace(at, rank=0).seed_of("p")).random() < chance)  # noqa: S311


def _epochs(method: Any) -> tuple[int, float]:
    return _given(method, "from_epoch"), _given(method, "until_epoch") or math.inf


def _given(method: Any, name: str) -> Any:
    return getattr(method, name) if name in method.given else GIVEN[name][1]
