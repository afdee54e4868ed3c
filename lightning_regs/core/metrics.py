"""Metrics as they are declared by what measures them: heading, unit, and what it means that there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lightning_regs.core.checks import Name, Whole, checked

# Ends of the names of metrics, in percent, of which one is 100 minus the other.
ACCURACY, ERROR = "_acc", "_error"
_PERCENTAGE = re.compile(r"(^|_)(acc|error)(_|$)|^barrier$")


def is_percentage(name: str) -> bool:
    """Return whether a metric is a percentage of samples by its name: an accuracy or an error, at any time."""
    return _PERCENTAGE.search(name) is not None


@checked
@dataclass(frozen=True)
class Metric:
    """A column of results.

    Args:
        name: The column.
        heading: What a table calls it.
        unit: ``"%"``, ``"epochs"``, ``"x"``, ...; percentages have two decimals.
        never: What is written where a run measured that there is no such number (NaN), such as ``"never fitted"``
            for the epoch of an event that did not come.
    """

    name: Name
    heading: str
    unit: str = ""
    never: str = "\u2013"


@checked
@dataclass(frozen=True)
class Family:
    """What one kind of run measures.

    Args:
        title: What the runs are, as the caption of their table: ``"Training runs"``.
        metrics: The metrics; runs that have the first one are of this family.
        shown: How many of them, from the first, the overview of cells shows.
    """

    title: str
    metrics: tuple[Metric, ...]
    shown: Whole = 4

    @property
    def names(self) -> set[str]:
        """The names of its metrics."""
        return {metric.name for metric in self.metrics}


def unit_of(name: str, families: Iterable[Family]) -> str:
    """Return a metric's unit: that of the first family that declares it, else ``"%"`` if it is one by its name."""
    declared = (metric.unit for family in families for metric in family.metrics if metric.name == name)
    return next(declared, "%" if is_percentage(name) else "")
