"""Estimates: a number over seeds, and the interval that it has at any confidence.

That an interval can be asked for at any confidence gives p-values by inversion, for every kind of interval alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_regs.study.paper.criteria import Criterion

CONFIDENCE = 0.95
Ends = Callable[[float], tuple[float, float]]

_LEAST_P = 1e-6


@dataclass(frozen=True)
class Estimate:
    """What a measure gives.

    Args:
        ours: The number.
        ends: Confidence, between 0 and 1 -> lower and upper end of the interval.
        values: One number a seed, for their count and as a check that all are finite.
        invalid: Why the number is none to be judged, in a clause; empty where it is one.

    Raises:
        ValueError: If the number is NaN, or the ends are or do not have their order.
    """

    ours: float
    ends: Ends
    values: tuple[float, ...]
    invalid: str = ""

    def __post_init__(self) -> None:
        low, high = self.ends(CONFIDENCE)
        if math.isnan(self.ours) or not low <= high:
            raise ValueError(f"an estimate of {self.ours} has the interval {low} to {high}; give it numbers.")


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Compute the two-sided Student t-interval for the mean.

    Args:
        values: One number per seed, at least two.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper end; both the same when all values are equal.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least 2 values, got {n}; run more seeds.")
    if max(values) == min(values):
        return float(values[0]), float(values[0])
    from scipy.special import stdtrit

    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return mean - half, mean + half


def mean(values: Sequence[float]) -> Estimate:
    """Estimate a mean with its t-interval; one value alone has an interval without width."""
    ours = math.fsum(values) / len(values)

    def ends(confidence: float) -> tuple[float, float]:
        return interval(values, confidence) if len(values) > 1 else (ours, ours)

    low, high = ends(CONFIDENCE)
    return Estimate(min(max(ours, low), high), ends, tuple(values))


def every(values: Sequence[float]) -> Estimate:
    """Take measurements without spread over seeds as they are: from the least to the most; equal ones count once."""
    low, high = min(values), max(values)
    return Estimate(
        math.fsum(values) / len(values) if low < high else low,
        lambda confidence: (low, high),
        tuple(values) if low < high else (low,),
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
