"""Measures that claims of several papers share: functions from rows to one number a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lightning_regs.study.paper.claims import Rows

Measure = Callable[[Rows], Sequence[float]]


def value(cell: str, metric: str = "test_acc") -> Measure:
    """One metric of one cell."""
    return lambda rows: list(rows.metric(cell, metric).values())


def per_seed(function: Callable[..., float], *parts: tuple[str, str]) -> Measure:
    """A function of several (cell, metric) pairs, applied seed by seed to the seeds that all of them have."""

    def measure(rows: Rows) -> list[float]:
        columns = [rows.metric(cell, metric) for cell, metric in parts]
        seeds = sorted(set.intersection(*(set(column) for column in columns)))
        return [function(*(column[seed] for column in columns)) for seed in seeds]

    return measure


def difference(cell: str, other: str, metric: str = "test_acc") -> Measure:
    """How much larger the metric is in ``cell`` than in ``other``, seed by seed."""
    return per_seed(lambda a, b: a - b, (cell, metric), (other, metric))


def jackknife(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return pseudo-values of the quotient of two means, one a seed.

    Their mean is the quotient with its first-order bias removed, and their t-interval the jackknife's. With one seed it
    is the quotient; NaN stands where a denominator's mean is 0.
    """
    n = len(numerators)
    above, below = math.fsum(numerators), math.fsum(denominators)

    def quotient(a: float, b: float) -> float:
        return a / b if b else math.nan

    whole = quotient(above, below)
    if n < 2:
        return [whole] * n
    without = [quotient(above - a, below - b) for a, b in zip(numerators, denominators, strict=True)]
    return [n * whole - (n - 1) * left for left in without]
