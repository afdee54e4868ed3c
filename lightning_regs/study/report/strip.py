"""A claim's interval as a picture: where it lies, where the claim holds, and where the paper's figure is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Strip:
    """A claim's interval as a picture; every number is a share of the width, in percent."""

    low: float
    high: float
    ours: float
    holds_from: float
    holds_to: float
    paper: float | None


def span(numbers: Mapping[str, float | None]) -> tuple[float, float] | None:
    """Return the ends of an axis for a claim's numbers; None without a measurement, or where they fit on none.

    Args:
        numbers: ``ours``, ``low``, ``high``, ``holds_low``, ``holds_high`` and ``paper``; None where there is none.
    """
    if numbers["ours"] is None:
        return None
    points = [number for number in numbers.values() if number is not None and math.isfinite(number)]
    if not points:
        return None
    margin = (max(points) - min(points) or abs(points[0]) or 1.0) * 0.12
    left, right = min(points) - margin, max(points) + margin
    return (left, right) if 0 < right - left < math.inf else None


def strip(numbers: Mapping[str, float | None]) -> Strip | None:
    """Lay out a claim's interval, the paper's figure and where the claim holds; None where :func:`span` has no ends.

    Args:
        numbers: As for :func:`span`. A claim without a limit holds to that side without end.
    """
    ends, ours = span(numbers), numbers["ours"]
    if ends is None or ours is None:
        return None
    left, right = ends

    def place(value: float) -> float:
        return round(100 * min(max((value - left) / (right - left), 0.0), 1.0), 2)

    low, high, below, above = (numbers[name] for name in ("low", "high", "holds_low", "holds_high"))
    paper = numbers["paper"]
    return Strip(
        place(ours if low is None else low),
        place(ours if high is None else high),
        place(ours),
        place(-math.inf if below is None else below),
        place(math.inf if above is None else above),
        None if paper is None else place(paper),
    )
