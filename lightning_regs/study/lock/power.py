"""What so many seeds can see: the effect that they would find most of the time."""

from __future__ import annotations

import math
import statistics

from lightning_regs.study.paper.claims import Claim, Frozen
from lightning_regs.study.paper.estimates import CONFIDENCE
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import estimated

POWER = 0.8


def smallest_effect(seeds: int, confidence: float = CONFIDENCE, power: float = POWER) -> float:
    """Return the smallest effect that a t-interval over seeds sees, in standard deviations over seeds.

    An effect is the distance of the true mean from the edge of a criterion; it is seen when the whole interval lies on
    that side of the edge. The quotient of the two is noncentral t distributed.

    Args:
        seeds: How many, at least 2.
        confidence: That of the interval.
        power: How often it is seen, as a share of repetitions.

    Raises:
        ValueError: If there are fewer than 2 seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seed has no interval that could see an effect; plan at least 2.")
    from scipy.special import nctdtrinc, stdtrit

    edge = float(stdtrit(seeds - 1, 0.5 + confidence / 2))
    return float(nctdtrinc(seeds - 1, 1 - power, edge)) / math.sqrt(seeds)


def sees(form: Claim, seeds: tuple[int, ...], rows: Rows | None = None) -> str:
    """Say which effect the planned seeds of a claim see: in its unit where rows tell how much seeds differ.

    Args:
        form: The claim at a scale.
        seeds: The plan, one number for each look.
        rows: What has been measured at that scale, if anything.
    """
    if form.exact:
        return ""
    if seeds[-1] < 2:
        return "one seed sees nothing"
    effect, unit = smallest_effect(seeds[-1], Frozen(seeds).confidence), "standard deviations over seeds"
    if spread := _spread(form, rows):
        effect, unit = effect * spread, form.unit
    return f"{seeds[-1]} seeds see {effect:.2g} {unit}".rstrip()


def _spread(form: Claim, rows: Rows | None) -> float:
    """Return the standard deviation over seeds; 0 where it is not known."""
    try:
        values = estimated(form, rows).values if rows is not None else ()
        return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0
    except Exception:  # a measure that fails says so when it is judged
        return 0.0
