"""What a measure is made of: its parts' numbers at the seeds that all of them have, and what their test items add."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence

from lightning_regs.core.metrics import is_percentage
from lightning_regs.study.paper.estimates import ANYTHING, UnfitError
from lightning_regs.study.paper.rows import Names, Rows

Part = tuple[Names, str]
Weights = Sequence[float]

_WRONG = re.compile(r"(^|_)error(_|$)")
_OF_OTHERS = re.compile(r"^(train|val|stop_val)_|^barrier$")  # percentages of other samples than the test's
_EDGES = 4  # pseudo-counts of Agresti and Coull (1998), so that a share of all has an error too


class Sample:
    """The parts of a measure at the seeds that all of them have.

    Args:
        rows: The measured rows.
        parts: Cell (or cells, whose mean is taken) and metric of each number.
        until: The column that says for how long a run went on, where the metrics are times in whole steps: one that
            never came (NaN) is then known to be at least one more.

    Attributes:
        ranges: A line a seed, in it the least and the most that each part's number can be.

    Raises:
        MissingRows: If a cell or metric has no rows, or the parts have no seed in common.
        UnfitError: If a number is not finite.
    """

    def __init__(self, rows: Rows, parts: Sequence[Part], until: str = "") -> None:
        found = rows.paired(*parts, *((cells, until) for cells, _ in parts if until))
        size = len(parts)
        whole = [(*line[:size], *(line[size:] or [math.nan] * size)) for line in found]
        self.ranges = [[_range(*at) for at in zip(line[:size], line[size:], strict=True)] for line in whole]
        if broken := sum(not all(math.isfinite(low) for low, _ in line) for line in self.ranges):
            raise UnfitError(f"{broken} of {len(self.ranges)} values are not finite", len(self.ranges))
        self._metrics = [metric for _, metric in parts]
        self._agreement = rows.agreement if rows.test_items else (1.0, 0.0)
        self._spreads = [self._spread(at, rows.test_items) for at in range(size)]

    def numbers(self, at: int) -> list[float]:
        """Return a part's number a seed, infinite where the time never came."""
        return [line[at][1] for line in self.ranges]

    def sums(self, weights: Weights) -> Iterator[tuple[float, float]]:
        """Return the least and the most that a weighted sum of the parts can be, a pair a seed."""
        for line in self.ranges:
            ends = [(weight * low, weight * high) for weight, (low, high) in zip(weights, line, strict=True) if weight]
            yield math.fsum(map(min, ends)), math.fsum(map(max, ends))

    def bounds(self, weights: Weights) -> tuple[float, float]:
        """Return between which a weighted sum lies, as percentages lie between 0 and 100."""
        used = [(weight, metric) for weight, metric in zip(weights, self._metrics, strict=True) if weight]
        if not all(is_percentage(metric) for _, metric in used):
            return ANYTHING
        return sum(min(100 * weight, 0.0) for weight, _ in used), sum(max(100 * weight, 0.0) for weight, _ in used)

    def items(self, first: Weights, second: Weights | None = None) -> float:
        """Return what the sample of test items adds to the covariance of the means of two weighted sums.

        A net is right on a test sample or not: an accuracy p of N samples has the variance p (1 - p) / N. What of it is
        not the net's own, which seeds average out, is the share that two seeds of one net have in common; and two
        accuracies covary as far as their nets are right on the same samples.

        Args:
            first: Weights of the parts.
            second: Those of the other sum; by default the same, for the variance.
        """
        a = [weight * spread for weight, spread in zip(first, self._spreads, strict=True)]
        b = [weight * spread for weight, spread in zip(second or first, self._spreads, strict=True)]
        own = math.fsum(x * y for x, y in zip(a, b, strict=True))
        within, between = self._agreement
        return (within - between) * own + between * math.fsum(a) * math.fsum(b)

    def _spread(self, at: int, items: int) -> float:
        """Return the standard error of a part as a percentage of test items; negative for errors, 0 for others."""
        metric = self._metrics[at]
        if not items or _OF_OTHERS.search(metric) or not is_percentage(metric):
            return 0.0
        percent = statistics.fmean(self.numbers(at))
        if not 0 <= percent <= 100:
            raise UnfitError(f"a mean {metric} of {percent:.4g} is no percentage of test samples", len(self.ranges))
        share = (items * percent / 100 + _EDGES / 2) / (items + _EDGES)
        spread = 100 * math.sqrt(share * (1 - share) / items)
        return -spread if _WRONG.search(metric) else spread


def _range(number: float, length: float) -> tuple[float, float]:
    if math.isnan(number) and not math.isnan(length):
        return length + 1, math.inf
    return number, number
