"""Where cells stand in an order: correlations of ranks, and the distance of two peaks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated

from lightning_regs.core.checks import Name, checked, nonempty
from lightning_regs.study.paper.estimates import Estimate, mean
from lightning_regs.study.paper.measures.measure import Measure
from lightning_regs.study.paper.measures.samples import Sample
from lightning_regs.study.paper.measures.sums import may_be_largest


@checked
def rank_correlation(metric: Name, *cells: str, until: str = "") -> Measure:
    """Spearman's correlation of the metric with the cells' order, seed by seed.

    Times that never came within runs of equal length rank last. Where that is more than one, their own order is not
    known: each seed has a range, and the interval reaches from that of the least to that of the most.

    Args:
        metric: What is ranked.
        *cells: The cells, in their order.
        until: The column that says for how long a run went on, where the metric is a time that may never have come.
    """

    def estimate(sample: Sample) -> Estimate:
        found = [_correlations(line) for line in sample.ranges]
        lows, highs = [low for low, _ in found], [high for _, high in found]
        return mean(lows, None if lows == highs else highs, bounds=(-1, 1))

    parts = tuple((cell, metric) for cell in cells)
    return Measure(rank_correlation.__name__, parts, lambda *numbers: _spearman(numbers), estimate, until)


def _correlations(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the least and the most that Spearman's correlation can be."""
    known = [low for low, high in ranges if low == high]
    never = [low for low, high in ranges if low != high]
    if never and min(never) <= max(known, default=-math.inf):
        return -1.0, 1.0  # a run ended before others had their time: it may have any rank

    def ordered(sign: int) -> float:
        return _spearman(
            [low if low == high else max(never) + len(ranges) + sign * at for at, (low, high) in enumerate(ranges)]
        )

    return ordered(-1), ordered(1)


def _spearman(numbers: Sequence[float]) -> float:
    if any(map(math.isnan, numbers)) or min(numbers) == max(numbers):
        return math.nan
    # Twice the mean rank among equals; scipy.stats, which has this, takes half a second to import.
    ranks = [sum((other < one) + (other <= one) for other in numbers) for one in numbers]
    return statistics.correlation(range(len(ranks)), ranks)


@checked
def peak_distance(
    cells: Annotated[Mapping[int, Name], nonempty],
    others: Annotated[Mapping[int, Name], nonempty],
    metric: Name = "test_acc",
) -> Measure:
    """How far the peak of ``others`` is from that of ``cells``, of means over seeds.

    The interval is that of the distances between positions that may be peaks. One may not be where another position of
    its curve is above it by a paired t-test, the error shared by the two curves and by the positions of each
    (Bonferroni): a peak is left out wrongly as seldom as the confidence says, however many positions are close to it,
    which a bootstrap over few seeds does not keep.

    Args:
        cells: Position, such as an exponent, to the cell there.
        others: The same of the other curve.
        metric: Whose peaks are compared.
    """
    curves = [range(len(cells)), range(len(cells), len(cells) + len(others))]
    positions = [*cells, *others]

    def peak(numbers: Sequence[float], curve: range) -> int:
        return max((numbers[at], positions[at]) for at in curve)[1]

    def distance(*numbers: float) -> float:
        first, second = (peak(numbers, curve) for curve in curves)
        return math.nan if any(map(math.isnan, numbers)) else float(second - first)

    def estimate(sample: Sample) -> Estimate:
        lines = [[low for low, _ in line] for line in sample.ranges]
        peaks = [may_be_largest(sample, curve) for curve in curves]

        def ends(confidence: float) -> tuple[float, float]:
            # Two curves, and one side of a two-sided interval.
            first, second = ([positions[at] for at in may(confidence)] for may in peaks)
            return float(min(second) - max(first)), float(max(second) - min(first))

        ours = distance(*(statistics.fmean(column) for column in zip(*lines, strict=True)))
        return Estimate(ours, ends, tuple(distance(*line) for line in lines))

    parts = tuple((cell, metric) for cell in (*cells.values(), *others.values()))
    return Measure(peak_distance.__name__, parts, distance, estimate)
