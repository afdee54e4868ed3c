"""How the claims of Frankle & Carbin 2019 measure: functions from rows to one number a seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from lightning_regs.study.paper.measures import Measure, jackknife, per_seed
from lightning_regs.study.paper.rows import Rows

INF = math.inf
Cells = str | Sequence[str]


def gain(cells: Cells, others: Cells, metric: str = "test_acc_stop") -> Measure:
    """How much larger the metric is in ``cells`` than in ``others``, both means over cells, seed by seed."""
    return _combined(lambda a, b: a - b, (cells, metric), (others, metric))


def gain_of(part: tuple[str, str], other: tuple[str, str]) -> Measure:
    """How much larger one (cell, metric) is than another, seed by seed."""
    return per_seed(lambda a, b: a - b, part, other)


def times(slow: Cells, fast: Cells, metric: str = "stop_iteration") -> Measure:
    """How many times the metric of ``fast`` that of ``slow`` is: the quotient of the means over seeds, jackknifed."""
    return _quotient((slow, metric), (fast, metric))


def earlier(cells: Cells, others: Cells, metric: str = "stop_iteration") -> Measure:
    """By how many percent of ``others`` the metric is lower in ``cells``, of means over seeds, jackknifed."""
    quotient = _quotient((cells, metric), (others, metric))
    return lambda rows: [100 * (1 - value) for value in quotient(rows)]


def share(cells: Cells, worse: Cells, best: Cells, metric: str = "test_acc_stop") -> Measure:
    """The share that ``cells`` lose of what ``worse`` lose against ``best``, of means over seeds, jackknifed."""

    def measure(rows: Rows) -> list[float]:
        lost = _columns(rows, [(best, metric), (cells, metric), (worse, metric)])
        return jackknife([a - b for a, b, _ in lost], [a - c for a, _, c in lost])

    return measure


def _quotient(above: tuple[Cells, str], below: tuple[Cells, str]) -> Measure:
    def measure(rows: Rows) -> list[float]:
        pairs = _columns(rows, [above, below])
        return jackknife([a for a, _ in pairs], [b for _, b in pairs])

    return measure


def _combined(function: Callable[..., float], *parts: tuple[Cells, str]) -> Measure:
    return lambda rows: [function(*values) for values in _columns(rows, parts)]


def _columns(rows: Rows, parts: Sequence[tuple[Cells, str]]) -> list[tuple[float, ...]]:
    """Return, for each seed that all have, the mean over cells of each part."""
    found = []
    for cells, metric in parts:
        each = [rows.metric(cell, metric) for cell in ([cells] if isinstance(cells, str) else cells)]
        seeds = set.intersection(*(set(column) for column in each))
        found.append({seed: statistics.fmean(column[seed] for column in each) for seed in seeds})
    shared = sorted(set.intersection(*(set(column) for column in found)))
    return [tuple(column[seed] for column in found) for seed in shared]
