"""What so many seeds can see: the effect that they find most of the time."""

from __future__ import annotations

import math

from lightning_regs.study.paper.criteria import Criterion
from lightning_regs.study.paper.estimates import CONFIDENCE, Estimate, quantile

POWER = 0.8  # how often an effect is to be seen, as a share of repetitions
_MOST = 10_000


def smallest_effect(seeds: int, confidence: float = CONFIDENCE) -> float:
    """Return the smallest effect that a t-interval over so many seeds sees, in standard deviations over seeds.

    An effect is the distance of the true mean from the edge of a criterion; it is seen when the whole interval lies on
    that side of the edge. The quotient of the two is noncentral t distributed. One seed sees none.
    """
    from scipy.special import nctdtrinc

    return float(nctdtrinc(seeds - 1, 1 - POWER, quantile(seeds, confidence))) / math.sqrt(seeds)


def seeds_needed(distance: float, spread: float, confidence: float = CONFIDENCE, error: float = 0.0) -> int | None:
    """Return the fewest seeds whose interval lies wholly beyond an edge most of the time; None where 10,000 do not.

    It takes the distance of the true mean from the edge, the standard deviation over seeds, and the standard ``error``
    that is the same for any number of them: that of the test items.
    """
    from scipy.special import nctdtr, ndtri

    def seen(seeds: int) -> bool:
        of_seeds, z = spread / math.sqrt(seeds), float(ndtri((1 + confidence) / 2))
        whole = math.hypot(of_seeds, error) or math.ulp(0.0)
        half = math.hypot(quantile(seeds, confidence) * of_seeds, z * error)
        return float(nctdtr(seeds - 1, distance / whole, half / whole)) <= 1 - POWER

    high = 2
    while not seen(high):  # upwards: far beyond what is asked for, the noncentral t underflows
        if (high := 2 * high) > 2 * _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high if high <= _MOST else None


def smallest_beyond(
    estimate: Estimate, criterion: Criterion, confidence: float = CONFIDENCE, seeds: int | None = None
) -> float | None:
    """Return how far beyond the nearest edge of a criterion a number has to be for so many seeds to see it.

    What is as far inside, and spreads as the measured numbers do, is found to satisfy the criterion 4 times in 5. A
    ratio's distance is that of a factor, in the unit of the criterion. The seeds are by default as many as were
    measured. It is None where the interval has no width of its own, or the edge is none on its scale.
    """
    n = len(estimate.values)
    edges = [(criterion.low, 1), (criterion.high, -1)]
    edge, inside = min(edges, key=lambda each: abs(each[0] - estimate.ours))
    if n < 2 or estimate.half is None or not math.isfinite(width := estimate.half(confidence)):
        return None
    spread = width / quantile(n, confidence) * math.sqrt(n)
    shift = smallest_effect(seeds or n, confidence) * spread
    to, back = estimate.scale
    try:
        moved = [back(to(edge) + sign * shift) for sign in (1, -1)]
    except ValueError:  # the edge of a ratio is 0 or below
        return None
    return max(inside * (number - edge) for number in moved)
