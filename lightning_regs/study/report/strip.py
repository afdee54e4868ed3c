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


def strip(numbers: Mapping[str, float | None]) -> Strip | None:
    """Lay out a claim's interval, the paper's figure and where the claim holds; None without a measurement.

    Args:
        numbers: ``ours``, ``low``, ``high``, ``holds_low``, ``holds_high`` and ``paper``; None where there is none. A
            claim without a limit holds to that side without end.
    """
    ours, paper = numbers["ours"], numbers["paper"]
    if ours is None:
        return None
    low = ours if numbers["low"] is None else numbers["low"]
    high = ours if numbers["high"] is None else numbers["high"]
    below, above = numbers["holds_low"], numbers["holds_high"]
    holds = (-math.inf if below is None else below, math.inf if above is None else above)
    points = [low, high, *(end for end in (below, above, paper) if end is not None)]
    left, right = min(points), max(points)
    margin = (right - left or abs(right) or 1.0) * 0.12
    left, right = left - margin, right + margin
    if not 0 < right - left < math.inf:
        return None

    def place(value: float) -> float:
        return round(100 * min(max((value - left) / (right - left), 0.0), 1.0), 2)

    ends = place(holds[0]), place(holds[1])
    return Strip(place(low), place(high), place(ours), *ends, paper=None if paper is None else place(paper))
