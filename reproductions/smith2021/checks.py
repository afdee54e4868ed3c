"""How the claims of Smith et al. 2021 measure: functions from rows to one number a seed."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence

from lightning_regs.study.paper.measures import Estimate, Measure, jackknife, per_seed
from lightning_regs.study.paper.rows import Rows

INF = math.inf
RESAMPLES = 2000  # of the bootstrap


def ratio(cell: str, other: str, metric: str) -> Measure:
    """The metric in ``cell`` over that in ``other``; NaN where the latter is 0."""
    return per_seed(lambda a, b: a / b if b else math.nan, (cell, metric), (other, metric))


def closed(penalised: str, plain: str, best: str, small: str | None = None) -> Measure:
    """The share of the gap in test accuracy between ``best`` and ``plain`` that the penalty closes.

    The quotient of the means over seeds, jackknifed: quotients seed by seed have no mean where a gap is near zero.

    Args:
        penalised: The cell with the penalty.
        plain: The same without.
        best: The upper end of the gap.
        small: The lower end of the gap, where it is not ``plain``.
    """

    def measure(rows: Rows) -> list[float]:
        names = (penalised, plain, best, small or plain)
        columns = [rows.metric(cell, "test_acc") for cell in names]
        seeds = sorted(set.intersection(*(set(column) for column in columns)))
        gains = [columns[0][seed] - columns[1][seed] for seed in seeds]
        gaps = [columns[2][seed] - columns[3][seed] for seed in seeds]
        return jackknife(gains, gaps)

    return measure


def smallest(metric: str, *cells: str) -> Measure:
    """The smallest of the cells."""
    return per_seed(lambda *values: min(values), *((cell, metric) for cell in cells))


def mean_difference(pairs: Sequence[tuple[str, str]], metric: str = "test_acc") -> Measure:
    """The mean over pairs of cells of how much larger the metric is in the first."""

    def mean(*values: float) -> float:
        return statistics.fmean(a - b for a, b in zip(values[::2], values[1::2], strict=True))

    return per_seed(mean, *((cell, metric) for pair in pairs for cell in pair))


def peak_distance(lrs: Mapping[int, str], penalties: Mapping[int, str]) -> Callable[[Rows], Estimate]:
    """How far apart the peaks of two curves of means over seeds are, as the exponent of 2, with a bootstrap interval.

    Args:
        lrs: Exponent of the learning rate to its cell.
        penalties: Exponent of the coefficient to its cell.
    """
    exponents = [*lrs, *penalties]

    def distance(accuracies: Sequence[float]) -> float:
        curves = list(zip(accuracies, exponents, strict=True))
        (_, lr), (_, penalty) = max(curves[: len(lrs)]), max(curves[len(lrs) :])
        return float(penalty - lr)

    def measure(rows: Rows) -> Estimate:
        columns = [rows.metric(cell, "test_acc") for cell in (*lrs.values(), *penalties.values())]
        seeds = sorted(set.intersection(*(set(column) for column in columns)))
        generator = random.Random(0)  # noqa: S311  # a fixed stream, so that a claim is the same on every machine

        def of(chosen: Sequence[int]) -> float:
            return distance([statistics.fmean(column[seed] for seed in chosen) for column in columns])

        drawn = sorted(of(generator.choices(seeds, k=len(seeds))) for _ in range(RESAMPLES))
        edge = RESAMPLES // 40
        return Estimate(of(seeds), drawn[edge], drawn[-edge - 1], tuple(of([seed]) for seed in seeds))

    return measure
