"""Estimates: a number over seeds, and the interval that it has at any confidence.

That an interval can be asked for at any confidence gives p-values by inversion, for every kind of interval alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lightning_regs.study.paper.criteria import Criterion, short

CONFIDENCE = 0.95
Ends = Callable[[float], tuple[float, float]]
# Variance of a numerator, covariance of both, variance of a denominator.
Covariance = tuple[float, float, float]
ANYTHING = (-math.inf, math.inf)

_LEAST_P = 1e-6


class UnfitError(ValueError):
    """Raised where numbers are none that an interval can be made of.

    Args:
        reason: Why, in a clause.
        n: How many numbers there are.
    """

    def __init__(self, reason: str, n: int) -> None:
        super().__init__(reason)
        self.n = n


@dataclass(frozen=True)
class Estimate:
    """What a measure gives.

    Args:
        ours: The number.
        ends: Confidence, between 0 and 1 -> lower and upper end of the interval.
        values: One number a seed, for their count.
        invalid: Why the number is none to be judged, in a clause; empty where it is one.
        bound: ``"above"`` where the number is only known to be above ``ours``, ``"below"`` where below, else empty.
        won: Share of pairs of seeds in which the first of two compared cells has the better of it.
        alone: What the seeds alone give, where the error of the test items has its part in ``ends``.
        half: Confidence -> half of the interval, before it was kept within bounds, on the scale on which it is
            symmetric; None where there is none.
        scale: To that scale and back; the logarithm and the exponential for a ratio.
        tuned: Of each tuned method in it, which setting was chosen, in words.

    Raises:
        ValueError: If the number is NaN, or the ends are or do not have their order.
    """

    ours: float
    ends: Ends
    values: tuple[float, ...]
    invalid: str = ""
    bound: str = ""
    won: float | None = None
    alone: Estimate | None = None
    half: Callable[[float], float] | None = None
    scale: tuple[Callable[[float], float], Callable[[float], float]] = (float, float)
    tuned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.ends(CONFIDENCE)
        if math.isnan(self.ours) or not low <= high:
            raise ValueError(f"an estimate of {self.ours} has the interval {low} to {high}; give it numbers.")

    def through(self, unit: Callable[[float], float], scale: Callable[[float], float]) -> Estimate:
        """Return it in another unit.

        Args:
            unit: To the new unit; rises or falls throughout.
            scale: Back.
        """
        falls = unit(1.0) < unit(0.0)

        def ends(confidence: float) -> tuple[float, float]:
            low, high = map(unit, self.ends(confidence))
            return (high, low) if falls else (low, high)

        to, back = self.scale
        turned = {"above": "below", "below": "above"} if falls else {}
        return replace(
            self,
            ours=unit(self.ours),
            ends=ends,
            values=tuple(map(unit, self.values)),
            bound=turned.get(self.bound, self.bound),
            won=1 - self.won if falls and self.won is not None else self.won,
            alone=self.alone.through(unit, scale) if self.alone else None,
            scale=(lambda number: to(scale(number)), lambda number: unit(back(number))),
        )


def mean(
    lows: Sequence[float],
    highs: Sequence[float] | None = None,
    *,
    items: float = 0.0,
    bounds: tuple[float, float] = ANYTHING,
    wider: float = 1.0,
) -> Estimate:
    """Estimate a mean with its t-interval; one value alone has an interval without width.

    A number that is only known to be above another (a time that has not come) is a range without an upper end. The
    interval then reaches from the lower end of the lower bounds' to the upper end of the upper bounds', which is open
    as soon as one of them is: nothing is known of how far above it is.

    Args:
        lows: One number a seed, or the least that it can be.
        highs: The most that it can be, where that is something else.
        items: Variance that the mean has because its test items are a sample, beside that which shows between seeds.
        bounds: Between which every such mean lies.
        wider: What the standard error is multiplied by, where the values depend on each other.

    Raises:
        UnfitError: If there is no number, or one is NaN, or infinite where it is no open end.
    """
    highs = lows if highs is None else highs
    n = len(lows)
    if not n:
        raise UnfitError("its measure gave no value", 0)
    if broken := sum(
        math.isnan(low + high) or low == math.inf or high == -math.inf for low, high in zip(lows, highs, strict=True)
    ):
        raise UnfitError(f"{broken} of {n} values are not finite", n)
    known = [side for side in (lows, highs) if all(map(math.isfinite, side))]
    if not known:
        raise UnfitError("nothing is known: of both things compared there are runs in which they never came", n)
    ours = math.fsum(map(_mean, known)) / len(known)
    (least, below), (most, above) = (
        (_mean(side), wider * _error(side)) if side in known else (end, 0.0)
        for side, end in zip((lows, highs), ANYTHING, strict=True)
    )

    def half(error: float, confidence: float) -> float:
        if n < 2:
            return 0.0
        of_seeds = quantile(n, confidence) * error
        return math.hypot(of_seeds, _z(confidence) * math.sqrt(items)) if items else of_seeds

    def ends(confidence: float) -> tuple[float, float]:
        low, high = least - half(below, confidence), most + half(above, confidence)
        return _clip(low, bounds), _clip(high, bounds)

    return Estimate(
        _clip(ours, bounds),
        ends,
        tuple(known[0]),
        bound="" if len(known) != 1 else "above" if lows in known else "below",
        alone=mean(lows, highs, bounds=bounds, wider=wider) if items else None,
        half=(lambda confidence: half(below, confidence)) if lows is highs and n > 1 else None,
    )


def every(values: Sequence[float]) -> Estimate:
    """Take measurements without spread over seeds as they are: from the least to the most; equal ones count once.

    Raises:
        UnfitError: If there is none, or one is not finite.
    """
    ours = mean(values).ours
    low, high = min(values), max(values)
    return Estimate(ours, lambda confidence: (low, high), tuple(values) if low < high else (low,))


def fieller(
    above: Sequence[float],
    below: Sequence[float],
    *,
    items: Covariance = (0.0, 0.0, 0.0),
    denominator: str = "its denominator",
) -> Estimate:
    """Estimate the quotient of two means with Fieller's interval (1954).

    The interval holds every number r for which the mean of ``above - r * below`` is not significantly other than 0. It
    is one only where the denominator's own interval excludes 0, and else everything, or everything but an interval:
    there is no quotient then, and the estimate is invalid. That is decided at 95 %, whatever confidence is asked for
    later; where a higher one is and the denominator does not carry it, the interval is everything.

    Args:
        above: One number a seed, of the numerator.
        below: The same of the denominator.
        items: What the sample of test items adds to the variances and the covariance of both means.
        denominator: What it is, for the reason.

    Raises:
        UnfitError: If a number is not finite.
    """
    under = mean(below, items=items[2])
    n, a, b = len(above), mean(above).ours, under.ours
    low, high = under.ends(CONFIDENCE)
    ours = a / b if b else math.inf
    seeds = [_covariance(*pair) / n if n > 1 else 0.0 for pair in ((above, above), (above, below), (below, below))]

    def ends(confidence: float) -> tuple[float, float]:
        if n < 2:
            return ours, ours
        t, z = quantile(n, confidence) ** 2, _z(confidence) ** 2
        of_above, of_both, of_below = (t * own + z * also for own, also in zip(seeds, items, strict=True))
        squared, mixed, free = b * b - of_below, a * b - of_both, a * a - of_above
        if squared <= 0:
            return ANYTHING
        root = math.sqrt(max(mixed * mixed - squared * free, 0.0))
        return min((mixed - root) / squared, ours), max((mixed + root) / squared, ours)

    def half(confidence: float) -> float:
        low, high = ends(confidence)
        return (high - low) / 2

    return Estimate(
        ours,
        ends,
        tuple(over / by if by else math.inf for over, by in zip(above, below, strict=True)),
        f"{denominator} may be 0: its interval is {short(low, 3)} to {short(high, 3)}"
        if low <= 0 <= high and n > 1
        else "",
        alone=fieller(above, below, denominator=denominator) if any(items) else None,
        half=half if n > 1 else None,
    )


def p_value(estimate: Estimate, criterion: Criterion) -> float:
    """Return the smallest error rate at which the interval decides the criterion: two-sided, at least 1e-6."""

    def decides(rate: float) -> bool:
        ends = estimate.ends(1 - rate)
        return criterion.contains(*ends) or criterion.excludes(*ends)

    least, most = math.log(_LEAST_P), 0.0
    if decides(_LEAST_P):
        return _LEAST_P
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (least, middle) if decides(math.exp(middle)) else (middle, most)
    return math.exp(most)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values (1995): each the false-discovery rate at which it is kept."""
    n, least = len(p_values), 1.0
    found = [1.0] * n
    for rank, at in sorted(enumerate(sorted(range(n), key=p_values.__getitem__), 1), reverse=True):
        found[at] = least = min(least, p_values[at] * n / rank)
    return found


def _mean(values: Sequence[float]) -> float:
    """Return the mean, exactly their value where all are equal."""
    return float(values[0]) if min(values) == max(values) else math.fsum(values) / len(values)


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 of one value."""
    return math.sqrt(_covariance(values, values) / len(values)) if len(values) > 1 else 0.0


def _covariance(first: Sequence[float], second: Sequence[float]) -> float:
    a, b = _mean(first), _mean(second)
    whole = math.fsum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    if math.isinf(whole):
        raise OverflowError
    return whole / (len(first) - 1)


@lru_cache(maxsize=2**14)
def quantile(n: int, confidence: float) -> float:
    """Return Student's t quantile of a two-sided interval for the mean of so many values."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + confidence / 2))


@lru_cache(maxsize=2**14)
def _z(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def _clip(number: float, bounds: tuple[float, float]) -> float:
    return min(max(number, bounds[0]), bounds[1])
