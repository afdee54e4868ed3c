"""Measures: what a claim looks at, from rows to one number a seed, or to a number with an interval of its own.

A measure knows its cells and metrics, so that pages can link a claim to its runs, figures can draw published values
where they belong, and tests can check that the cells exist.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lightning_regs.study.paper.estimates import Estimate
from lightning_regs.study.paper.rows import Cells, MissingRows, Rows

Part = tuple[Cells, str]
Paired = Sequence[tuple[float, ...]]

RESAMPLES = 2000  # of a bootstrap


@dataclass(frozen=True)
class Measure:
    """What a claim looks at.

    Args:
        parts: Cell (or cells, whose mean is taken) and metric of each number that it is made of.
        compute: Makes one number a seed, or an :class:`Estimate`, from the parts' values at each seed.
        others: What is measured instead where the parts have no rows, the first that has some; see :func:`either`.
    """

    parts: tuple[Part, ...]
    compute: Callable[[Paired], Sequence[float] | Estimate]
    others: tuple[Measure, ...] = ()

    def __call__(self, rows: Rows) -> Sequence[float] | Estimate:
        """Measure.

        Raises:
            MissingRows: If a cell or metric has no rows, or the parts have no seed in common.
        """
        try:
            return self.compute(rows.paired(*self.parts))
        except MissingRows as missing:
            reasons = [str(missing)]
            for other in self.others:
                try:
                    return other(rows)
                except MissingRows as also:
                    reasons.append(str(also))
            raise MissingRows(", and ".join(reasons), None if self.others else missing.cell) from None

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the cells, each once; those of the others too."""
        names = [name for cells, _ in self.parts for name in ([cells] if isinstance(cells, str) else cells)]
        return tuple(dict.fromkeys([*names, *(name for other in self.others for name in other.cells)]))

    def lacks(self, cells: Collection[str]) -> str | None:
        """Return the first cell that is not among these; None where it, or one of the others, has all that it needs."""
        lacking = [
            next((name for name in measure.cells if name not in cells), None)
            for measure in (replace(self, others=()), *self.others)
        ]
        return None if None in lacking else lacking[0]

    @property
    def single(self) -> tuple[str, str] | None:
        """Cell and metric of a :func:`value`, where a published value can be drawn; else None."""
        if len(self.parts) == 1 and self.compute is _same and isinstance(self.parts[0][0], str) and not self.others:
            return self.parts[0][0], self.parts[0][1]
        return None


def _same(paired: Paired) -> list[float]:
    return [number for (number,) in paired]


def value(cell: Cells, metric: str = "test_acc") -> Measure:
    """One metric of one cell, or its mean over several."""
    return Measure(((cell, metric),), _same)


def per_seed(function: Callable[..., float], *parts: Part) -> Measure:
    """A function of several (cell, metric) pairs, applied seed by seed to the seeds that all of them have."""
    return Measure(parts, lambda paired: [function(*numbers) for numbers in paired])


def difference(cells: Cells, others: Cells, metric: str = "test_acc") -> Measure:
    """How much larger the metric is in ``cells`` than in ``others``, seed by seed."""
    return per_seed(lambda a, b: a - b, (cells, metric), (others, metric))


def mean_difference(pairs: Sequence[tuple[str, str]], metric: str = "test_acc") -> Measure:
    """The mean over pairs of cells of how much larger the metric is in the first."""

    def mean(*numbers: float) -> float:
        return statistics.fmean(a - b for a, b in zip(numbers[::2], numbers[1::2], strict=True))

    return per_seed(mean, *((cell, metric) for pair in pairs for cell in pair))


def ratio(cells: Cells, others: Cells, metric: str = "test_acc") -> Measure:
    """The metric in ``cells`` over that in ``others``, seed by seed; NaN where the latter is 0."""
    return per_seed(lambda a, b: a / b if b else math.nan, (cells, metric), (others, metric))


def smallest(metric: str, *cells: str) -> Measure:
    """The smallest of the cells, seed by seed; NaN where one of them is."""
    return per_seed(lambda *numbers: _of_all(min, numbers), *((cell, metric) for cell in cells))


def largest(metric: str, *cells: str) -> Measure:
    """The largest of the cells, seed by seed; NaN where one of them is."""
    return per_seed(lambda *numbers: _of_all(max, numbers), *((cell, metric) for cell in cells))


def _of_all(choose: Callable[[Sequence[float]], float], numbers: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, numbers)) else choose(numbers)


def smallest_step(metric: str, sign: float, *cells: str) -> Measure:
    """The smallest rise (``sign`` 1) or fall (-1) of the metric from one cell to the next; NaN where a cell has NaN."""

    def steps(*numbers: float) -> float:
        return _of_all(min, [sign * (after - before) for before, after in pairwise(numbers)])

    return per_seed(steps, *((cell, metric) for cell in cells))


def rank_correlation(metric: str, *cells: str) -> Measure:
    """Spearman's correlation of the metric with the cells' order; a metric that never came (NaN) ranks last."""

    def correlate(*numbers: float) -> float:
        filled = [math.inf if math.isnan(number) else number for number in numbers]
        ordered = sorted(filled)
        if ordered[0] == ordered[-1]:
            return math.nan
        # Twice the mean rank among equals; scipy.stats, which has this, takes half a second to import.
        ranks = [bisect_left(ordered, number) + bisect_right(ordered, number) for number in filled]
        return statistics.correlation(range(len(ranks)), ranks)

    return per_seed(correlate, *((cell, metric) for cell in cells))


def quotient(cells: Cells, others: Cells, metric: str = "test_acc") -> Measure:
    """The metric's mean over seeds in ``cells`` over that in ``others``, jackknifed."""
    return Measure(((cells, metric), (others, metric)), _quotient)


def _quotient(paired: Paired) -> list[float]:
    return jackknife([a for a, _ in paired], [b for _, b in paired])


def percent_lower(cells: Cells, others: Cells, metric: str = "test_acc") -> Measure:
    """By how many percent of ``others`` the metric is lower in ``cells``, of means over seeds, jackknifed."""
    parts = ((cells, metric), (others, metric))
    return Measure(parts, lambda paired: [100 * (1 - number) for number in _quotient(paired)])


def share(cells: Cells, start: Cells, end: Cells, metric: str = "test_acc", end_from: Cells | None = None) -> Measure:
    """The share of the way from ``start`` to ``end`` that ``cells`` have gone, of means over seeds, jackknifed.

    Quotients seed by seed have no mean where a way is near zero.

    Args:
        cells: The cells that have gone some of the way.
        start: Where they come from.
        end: Where the way ends.
        metric: What is compared.
        end_from: Where the whole way starts, if that is not ``start``.
    """

    def shares(paired: Paired) -> list[float]:
        return jackknife([a - b for a, b, _, _ in paired], [c - d for _, _, c, d in paired])

    return Measure(tuple((part, metric) for part in (cells, start, end, end_from or start)), shares)


def peak_distance(cells: Mapping[int, str], others: Mapping[int, str], metric: str = "test_acc") -> Measure:
    """How far the peak of ``others`` is from that of ``cells``, of means over seeds, with a bootstrap interval.

    Args:
        cells: Position, such as an exponent, to the cell there.
        others: The same of the other curve.
        metric: Whose peaks are compared.
    """
    positions = [*cells, *others]

    def distance(means: Sequence[float]) -> float:
        curve = list(zip(means, positions, strict=True))
        (_, first), (_, second) = max(curve[: len(cells)]), max(curve[len(cells) :])
        return float(second - first)

    def estimate(paired: Paired) -> Estimate:
        def of(chosen: Paired) -> float:
            return distance([statistics.fmean(column) for column in zip(*chosen, strict=True)])

        generator = random.Random(0)  # noqa: S311  # a fixed stream, so that a claim is the same on every machine
        drawn = sorted(of(generator.choices(paired, k=len(paired))) for _ in range(RESAMPLES))

        def ends(confidence: float) -> tuple[float, float]:
            edge = int(RESAMPLES * (1 - confidence) / 2)
            return drawn[edge], drawn[-edge - 1]

        return Estimate(of(paired), ends, tuple(of([numbers]) for numbers in paired))

    return Measure(tuple((cell, metric) for cell in (*cells.values(), *others.values())), estimate)


def either(first: Measure, *others: Measure) -> Measure:
    """The first of several measures whose cells have rows: what differs between scales."""
    return replace(first, others=(*first.others, *others))


def jackknife(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return pseudo-values of the quotient of two means, one a seed.

    Their mean is the quotient with its first-order bias removed, and their t-interval the jackknife's. With one seed it
    is the quotient; NaN stands where a denominator's mean is 0.
    """
    n = len(numerators)
    above, below = math.fsum(numerators), math.fsum(denominators)

    def over(a: float, b: float) -> float:
        return a / b if b else math.nan

    whole = over(above, below)
    if n < 2:
        return [whole] * n
    without = [over(above - a, below - b) for a, b in zip(numerators, denominators, strict=True)]
    return [n * whole - (n - 1) * left for left in without]
