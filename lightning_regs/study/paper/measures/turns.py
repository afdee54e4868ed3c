"""Turns of a sweep whose metric falls, rises and falls again (double descent): by how much it does, and where.

A sweep is a mapping: position (a width, a number of samples, an epoch) to the cell there, or to a
:func:`~lightning_regs.study.value`. Of its means over seeds the *peak* is the top of the largest rise from one position
to a later one, the *valley* is where that rise begins, and the *end* is the last position.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from lightning_regs.core.checks import Name, NotNegative, checked, nonempty
from lightning_regs.study.paper.estimates import Estimate, UnfitError, mean
from lightning_regs.study.paper.measures.measure import Measure, apart, factor
from lightning_regs.study.paper.measures.samples import Part, Sample, Weights
from lightning_regs.study.paper.measures.sums import alone, may_be_largest, of_sums

Line = Annotated[Mapping[float, Name | Measure], nonempty]
_TOGETHER = 1.4  # by how much the error of seeds that choose each other's turns is larger; from simulations
_MOST_HALVES = 300  # that are taken one by one: those of 10 seeds are 252, of 11 462
_FITTED = 1.0  # percent of the training samples that are wrong where a net just fits


@checked
def rise(line: Line, metric: Name = "test_error", less: Line | None = None) -> Measure:
    """How much the metric rises again: at the peak less that in the valley before it.

    Each seed is read at the turns of the mean over half of the seeds, of which it is none, and the mean is taken over
    all such halves; of more than 10 seeds, over those whose seeds follow each other in a circle. So noise makes no
    rise: of a metric that falls throughout the mean is at most 0. Seeds that choose each other's turns depend on each
    other; where nothing turns a t-interval of 95 % would miss 0 in 7 to 16 of 100 cases, so its standard error is
    multiplied by 1.4. (Read at the turns of all others it would miss 0 in 10 at 3 seeds, and in 40 at 24.)

    Args:
        line: Position -> the cell there, at least two.
        metric: What rises, where a position has a cell.
        less: Another sweep over the same positions, whose rise between the turns of the first is subtracted.

    Raises:
        ValueError: If there are fewer than two positions, or the second sweep has others.
    """
    return _between("rise", line, metric, 1, 0, less)


@checked
def fall(line: Line, metric: Name = "test_error") -> Measure:
    """How much the metric falls after its peak: at the peak less that at the last position; see :func:`rise`."""
    return _between("fall", line, metric, 1, 2)


@checked
def second_descent(line: Line, metric: Name = "test_error") -> Measure:
    """How much lower than the first minimum the sweep ends: in the valley less at the last position; see `rise`."""
    return _between("second_descent", line, metric, 0, 2)


@checked
def peak_position(line: Line, metric: Name = "test_error") -> Measure:
    """Where the peak is.

    Its interval is that of the positions behind the valley that may be the peak. One may not where another of them is
    above it by a paired t-test, the error shared by all such tests (Bonferroni).

    Args:
        line: Position -> the cell there, at least two.
        metric: What has the peak, where a position has a cell.

    Raises:
        ValueError: If there are fewer than two positions.
    """
    positions, parts = _parts(line, metric)
    return Measure(peak_position.__name__, parts, None, partial(_peak, positions))


@checked
def peak_over_fit(
    line: Line, metric: Name = "test_error", fit: Name = "train_error", at_most: NotNegative = _FITTED
) -> Measure:
    """Where the peak is, as a multiple of the first position whose nets fit their training samples.

    The interval joins those of both positions, each with half of the error: the peak's as :func:`peak_position` has it;
    nets may fit from the first position on whose mean is not significantly above ``at_most``, and do from the first
    that is significantly below.

    Args:
        line: Position, above 0 -> the cell there, at least two.
        metric: What has the peak.
        fit: What says how far the nets fit.
        at_most: Up to which mean of it over seeds they do.

    Raises:
        ValueError: If there are fewer than two positions, or one is not above 0.
        TypeError: If a position has a measure.
    """
    if not all(isinstance(point, str) for point in line.values()):
        raise TypeError("line has a measure, of which nobody knows where it fits; give a cell at each position.")
    positions, parts = _parts(line, metric)
    if positions[0] <= 0:
        raise ValueError(f"line has the position {positions[0]:g}, of which nothing is a multiple; begin above 0.")
    size = len(parts)

    def estimate(sample: Sample) -> Estimate:
        peak = _peak(positions, sample, size)
        each = [of_sums(sample, [weights]) for weights in alone(2 * size)[size:]]

        def first(numbers: Sequence[float]) -> float:
            fitting = (position for position, number in zip(positions, numbers, strict=True) if number <= at_most)
            return next(fitting, math.inf)

        def ends(confidence: float) -> tuple[float, float]:
            (low, high), both = peak.ends((1 + confidence) / 2), [one.ends((1 + confidence) / 2) for one in each]
            return low / first([end for _, end in both]), high / first([end for end, _ in both])

        if (fitted := first([one.ours for one in each])) == math.inf:
            raise UnfitError(f"no position has a mean {fit} of at most {at_most:g}", len(sample.ranges))
        return Estimate(peak.ours / fitted, ends, tuple(value / fitted for value in peak.values))

    fits = ((cell, fit) for cell, _ in parts)
    return Measure(peak_over_fit.__name__, (*parts, *fits), None, estimate, in_unit=factor)


def _parts(line: Mapping[float, str | Measure], metric: str) -> tuple[list[float], tuple[Part, ...]]:
    positions, parts = sorted(line), list[Part]()
    if len(positions) < 2:
        raise ValueError(
            f"line has {len(positions)} position, and where there is none beside it nothing turns; add one."
        )
    for position in positions:
        point = line[position]
        single = (point, metric) if isinstance(point, str) else point.single
        if single is None:
            raise ValueError(f"line has a {point!r} at {position:g}; give a cell, or one cell's value.")
        parts.append(single)
    return positions, tuple(parts)


def _turns(curve: Sequence[float]) -> tuple[int, int, int]:
    """Return valley, peak and end; of a curve that never rises, where it falls least from one to the next."""
    valley, found = 0, (0, 1)
    for at in range(1, len(curve)):
        if curve[at] - curve[valley] > curve[found[1]] - curve[found[0]]:
            found = valley, at
        if curve[at] < curve[valley]:
            valley = at
    return *found, len(curve) - 1


def _means(lines: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*lines, strict=True)]


def _circle(n: int) -> list[tuple[int, ...]]:
    return [tuple((first + at) % n for at in range(n // 2)) for first in range(n)]


def _between(
    name: str, line: Mapping[float, str | Measure], metric: str, above: int, below: int,
    less: Mapping[float, str | Measure] | None = None,
) -> Measure:  # fmt: skip
    positions, parts = _parts(line, metric)
    others, also = _parts(less, metric) if less else (positions, ())
    if others != positions:
        raise ValueError(f"less has the positions {others}, and line has {positions}; give both the same.")
    size, signs = len(parts), (1.0, -1.0)[: 1 + bool(less)]

    def weights(lines: Sequence[Sequence[float]]) -> Weights:
        turns = _turns(_means(lines)[:size])
        found = [0.0] * size * len(signs)
        for half, sign in enumerate(signs):
            found[half * size + turns[above]] += sign
            found[half * size + turns[below]] -= sign
        return found

    def estimate(sample: Sample) -> Estimate:
        lines = [[low for low, _ in line] for line in sample.ranges]
        if len(lines) < 2:
            raise UnfitError("turns are those of other seeds, and there is one seed", len(lines))
        n = len(lines)
        halves = [*itertools.combinations(range(n), n // 2)] if math.comb(n, n // 2) <= _MOST_HALVES else _circle(n)
        turns = [weights([lines[at] for at in half]) for half in halves]

        def read(at: int) -> float:
            """Read a seed at the turns of the halves that it is not in."""
            own = [turn for half, turn in zip(halves, turns, strict=True) if at not in half]
            return statistics.fmean(sum(w * x for w, x in zip(turn, lines[at], strict=True)) for turn in own)

        (low, high), items = zip(*map(sample.bounds, turns), strict=True), statistics.fmean(map(sample.items, turns))
        return mean([read(at) for at in range(n)], items=items, bounds=(min(low), max(high)), wider=_TOGETHER)

    return Measure(name if less is None else f"{name}_less", parts + also, None, estimate, in_unit=apart)


def _peak(positions: Sequence[float], sample: Sample, size: int | None = None) -> Estimate:
    """Estimate where the first ``size`` parts have their peak."""
    size = len(positions) if size is None else size
    lines = [[low for low, _ in line[:size]] for line in sample.ranges]
    valley, peak, _ = _turns(_means(lines))
    behind = range(valley + 1, size)
    may_be = may_be_largest(sample, behind)

    def ends(confidence: float) -> tuple[float, float]:
        peaks = may_be(confidence)
        return positions[peaks[0]], positions[peaks[-1]]

    each = (max(behind, key=lambda at: line[at]) for line in lines)
    return Estimate(positions[peak], ends, tuple(positions[at] for at in each))
