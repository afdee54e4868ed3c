"""Measures: what a claim looks at, from rows to a number with its interval.

What is measured over seeds is one of few things, each with the interval that belongs to it: a weighted sum, or the
least or largest of several (Student's t, within the bounds of percentages); a ratio of two positive things (Student's
t of logarithms); a quotient of sums that may be near 0 (Fieller); a correlation of ranks; the distance of two peaks.
Times that a run may end before (``until=``) are bounds where it did.
"""

from lightning_regs.study.paper.measures.measure import Measure, per_seed
from lightning_regs.study.paper.measures.orders import peak_distance, rank_correlation
from lightning_regs.study.paper.measures.quotients import percent_lower, ratio, share
from lightning_regs.study.paper.measures.sums import (
    difference,
    largest,
    margin,
    smallest,
    smallest_step,
    value,
    weighted_sum,
)

__all__ = [
    "Measure",
    "difference",
    "largest",
    "margin",
    "peak_distance",
    "per_seed",
    "percent_lower",
    "rank_correlation",
    "ratio",
    "share",
    "smallest",
    "smallest_step",
    "value",
    "weighted_sum",
]
