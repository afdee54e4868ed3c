"""Weighted sums of metrics, and the least or largest of several, seed by seed: Student's t, within their bounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated

from lightning_regs.core.checks import Name, checked, nonempty
from lightning_regs.study.paper.cells import Tuned
from lightning_regs.study.paper.estimates import Estimate, mean
from lightning_regs.study.paper.measures.measure import Measure, apart, same
from lightning_regs.study.paper.measures.samples import Part, Sample, Weights
from lightning_regs.study.paper.rows import Names

Choose = Callable[[Sequence[float]], float]


@checked
def value(cell: Names, metric: Name = "test_acc") -> Measure:
    """One metric of one cell, or its mean over several."""
    return Measure(value.__name__, ((cell, metric),), same, lambda sample: of_sums(sample, [(1,)]), in_unit=str)


@checked
def weighted_sum(*terms: tuple[float, Names, str]) -> Measure:
    """A weighted sum, seed by seed: weight, cell (or cells) and metric of each term."""
    weights: dict[Part, float] = {}
    for weight, cells, metric in terms:
        part = (cells if isinstance(cells, str | Tuned) else tuple(cells), metric)
        weights[part] = weights.get(part, 0.0) + weight
    return _sums(weighted_sum.__name__, tuple(weights), [tuple(weights.values())])


@checked
def difference(
    cells: Names, others: Names, metric: Name = "test_acc", other_metric: str = "", until: str = ""
) -> Measure:
    """How much larger the metric is in ``cells`` than in ``others``, seed by seed.

    Args:
        cells: The cell, or cells whose mean is taken.
        others: What it is compared with.
        metric: What is compared.
        other_metric: The metric of the others, where that is another.
        until: The column that says for how long a run went on, where the metric is a time that may never have come.
    """
    parts = ((cells, metric), (others, other_metric or metric))

    def estimate(sample: Sample) -> Estimate:
        return replace(of_sums(sample, [(1, -1)]), won=share_won(sample))

    return replace(_sums(difference.__name__, parts, [(1, -1)], until=until), estimate=estimate)


@checked
def margin(
    cell: Name, others: Annotated[Sequence[Name], nonempty], metric: Name = "test_acc", until: str = ""
) -> Measure:
    """How far the metric in ``cell`` is above the largest of ``others``, seed by seed; arguments as in `difference`."""
    over = [[1, *(-float(at == other) for at in range(len(others)))] for other in range(len(others))]
    return _sums(margin.__name__, ((cell, metric), *((other, metric) for other in others)), over, until=until)


@checked
def smallest(metric: Name, *cells: str) -> Measure:
    """The smallest of the cells, seed by seed."""
    return _sums(smallest.__name__, tuple((cell, metric) for cell in cells), alone(len(cells)), in_unit=str)


@checked
def largest(metric: Name, *cells: str) -> Measure:
    """The largest of the cells, seed by seed."""
    return _sums(largest.__name__, tuple((cell, metric) for cell in cells), alone(len(cells)), max, in_unit=str)


@checked
def smallest_step(metric: Name, sign: float, *cells: str) -> Measure:
    """The smallest rise (``sign`` 1) or fall (-1) of the metric from one cell to the next, seed by seed."""
    steps = [
        [sign * (after - before) for before, after in zip(*two, strict=True)] for two in pairwise(alone(len(cells)))
    ]
    return _sums(smallest_step.__name__, tuple((cell, metric) for cell in cells), steps)


def alone(size: int) -> list[list[float]]:
    """Return, for each of so many parts, the weights of the sum that is that part."""
    return [[float(at == part) for at in range(size)] for part in range(size)]


def _sums(
    name: str, parts: tuple[Part, ...], sums: Sequence[Weights], choose: Choose = min, until: str = "",
    in_unit: Callable[[str], str] = apart,
) -> Measure:  # fmt: skip
    """Make the measure of the least (or largest) of some weighted sums of the parts, seed by seed."""

    def each(*numbers: float) -> float:
        found = [math.fsum(w * x for w, x in zip(weights, numbers, strict=True) if w) for weights in sums]
        return math.nan if any(map(math.isnan, found)) else choose(found)

    return Measure(name, parts, each, lambda sample: of_sums(sample, sums, choose), until, in_unit)


def of_sums(sample: Sample, sums: Sequence[Weights], choose: Choose = min) -> Estimate:
    """Estimate the least (or largest) of some weighted sums of a measure's parts, seed by seed."""
    ranges = [list(zip(*sample.sums(weights), strict=True)) for weights in sums]
    lows, highs = ([choose(numbers) for numbers in zip(*sides, strict=True)] for sides in zip(*ranges, strict=True))
    low, high = (choose(ends) for ends in zip(*map(sample.bounds, sums), strict=True))
    # Which of the sums is the least may differ from seed to seed: the one with the largest error counts.
    return mean(lows, None if lows == highs else highs, items=max(map(sample.items, sums)), bounds=(low, high))


def may_be_largest(sample: Sample, parts: Sequence[int]) -> Callable[[float], list[int]]:
    """Return what gives, for a confidence, those of some parts whose mean may be the largest.

    It may not where another one is above it by a paired t-test, the error shared by all tests of a part (Bonferroni).
    """
    each = alone(len(sample.ranges[0]))
    above = {
        (at, other): of_sums(sample, [[b - a for a, b in zip(each[at], each[other], strict=True)]])
        for at in parts for other in parts if at != other
    }  # fmt: skip

    def may(confidence: float) -> list[int]:
        share = 1 - (1 - confidence) / max(len(parts) - 1, 1)
        return [a for a in parts if all(above[a, b].ends(share)[0] <= 0 for b in parts if b != a)]

    return may


def share_won(sample: Sample) -> float:
    """Return the share of pairs of seeds in which the first part's number is the larger; ties are half."""
    first, second = sample.numbers(0), sample.numbers(1)
    pairs = [(a > b) + (a == b) / 2 for a in first for b in second]
    return statistics.fmean(pairs)
