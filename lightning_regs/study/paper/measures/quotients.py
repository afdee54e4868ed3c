"""Quotients of two means: of positive things by their logarithms, of others by Fieller's interval."""

from __future__ import annotations

import math
from dataclasses import replace

from lightning_regs.core.checks import Name, checked
from lightning_regs.study.paper.estimates import Estimate, UnfitError, fieller, mean
from lightning_regs.study.paper.measures.measure import Measure, factor
from lightning_regs.study.paper.measures.samples import Sample
from lightning_regs.study.paper.measures.sums import share_won
from lightning_regs.study.paper.rows import Names


@checked
def ratio(cells: Names, others: Names, metric: Name = "test_acc", other_metric: str = "", until: str = "") -> Measure:
    """The metric in ``cells`` over that in ``others``.

    Where both are positive at every seed it is the geometric mean of the quotients seed by seed, with the t-interval of
    their logarithms; else the quotient of the means, with Fieller's interval.

    Args:
        cells: The cell, or cells whose mean is taken.
        others: What it is compared with.
        metric: What is compared.
        other_metric: The metric of the others, where that is another.
        until: The column that says for how long a run went on, where the metric is a time that may never have come.
    """
    parts = ((cells, metric), (others, other_metric or metric))
    return Measure(ratio.__name__, parts, _over, lambda sample: _ratio(sample, others), until, factor)


def _ratio(sample: Sample, others: Names) -> Estimate:
    won = share_won(sample)
    if min(low for line in sample.ranges for low, _ in line) > 0:
        logs = [[(math.log(low), math.log(high)) for low, high in line] for line in sample.ranges]
        lows, highs = [a[0] - b[1] for a, b in logs], [a[1] - b[0] for a, b in logs]
        means = [math.fsum(sample.numbers(part)) / len(logs) for part in range(2)]
        error = sample.items([1 / means[0], -1 / means[1]])  # 0 where a time never came: it is no percentage
        return replace(mean(lows, None if lows == highs else highs, items=error), won=won).through(_exp, math.log)
    a, b = sample.numbers(0), sample.numbers(1)
    if not all(map(math.isfinite, (*a, *b))):
        raise UnfitError("times that never came are compared with times that are not positive", len(a))
    items = (sample.items((1, 0)), sample.items((1, 0), (0, 1)), sample.items((0, 1)))
    return replace(fieller(a, b, items=items, denominator=f"its denominator, {_named(others)},"), won=won)


def _over(above: float, below: float) -> float:
    return above / below if below else math.nan


def _exp(number: float) -> float:
    return math.exp(number) if number < 700 else math.inf


@checked
def percent_lower(cells: Names, others: Names, metric: Name = "test_acc") -> Measure:
    """By how many percent of ``others`` the metric is lower in ``cells``, from their :func:`ratio`."""

    def lower(quotient: float) -> float:
        return 100 * (1 - quotient)

    return Measure(
        percent_lower.__name__,
        ((cells, metric), (others, metric)),
        lambda a, b: lower(_over(a, b)),
        lambda sample: _ratio(sample, others).through(lower, lambda percent: 1 - percent / 100),
        in_unit=lambda unit: "%",
    )


@checked
def share(cells: Names, start: Names, end: Names, metric: Name = "test_acc") -> Measure:
    """The share of the way from ``start`` to ``end`` that ``cells`` have gone, of means over seeds.

    Its interval is Fieller's: quotients seed by seed have no mean where a way is near zero.

    Args:
        cells: The cells that have gone some of the way.
        start: Where they come from.
        end: Where the way ends.
        metric: What is compared.
    """
    parts = ((cells, metric), (start, metric), (end, metric))
    way, whole = [1.0, -1.0, 0.0], [0.0, -1.0, 1.0]
    named = f"the whole way, {_named(end)} less {_named(start)},"

    def each(*numbers: float) -> float:
        above, below = (math.fsum(w * x for w, x in zip(weights, numbers, strict=True)) for weights in (way, whole))
        return _over(above, below)

    def estimate(sample: Sample) -> Estimate:
        above, below = ([low for low, _ in sample.sums(weights)] for weights in (way, whole))
        items = (sample.items(way), sample.items(way, whole), sample.items(whole))
        return fieller(above, below, items=items, denominator=named)

    return Measure(share.__name__, parts, each, estimate)


def _named(cells: Names) -> str:
    return cells if isinstance(cells, str) else f"the mean of {', '.join(cells)}"
