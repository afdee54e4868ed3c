"""Measures that claims of several papers share: functions from rows to one number a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lightning_regs.study.claims import Rows

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
