"""How the claims of Zhang et al. 2017 measure: functions from rows to one number a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from lightning_regs.study.paper.measures import Measure, per_seed
from lightning_regs.study.paper.rows import MissingRows, Rows

INF = math.inf
FITS = (99.0, INF)  # an interval around 99.97 may pass 100
NEEDS_GPU = "needs the paper scale (one GPU): two CPU cores cannot train this network to the end"
NEEDS_CIFAR = "the figure is CIFAR-10's; quick scale has embedded data only"
NEEDS_IMAGENET = (
    "ImageNet cannot be had here; configs/zhang2017/inception-v3-imagenet.yaml runs on an ILSVRC 2012 folder"
)
NOT_HERE = "this scale does not train the network that it is about"
REAL = ("standard", "paper")
PAPER_ONLY = ("paper",)


def either(*measures: Measure) -> Measure:
    """The first of several measures whose cells have rows: what differs between scales."""

    def measure(rows: Rows) -> Sequence[float]:
        for candidate in measures:
            try:
                return candidate(rows)
            except MissingRows:
                continue
        raise MissingRows("none of the cells that it can be measured on has rows")

    return measure


def slowdown(cell: str, reference: str, at_most: float) -> Measure:
    """Epochs to fit, relative to the reference.

    A cell that never fitted within its epochs gives a lower bound only: that decides the claim where the bound is above
    ``at_most``, and is no number (so nothing is decided) where it is not.
    """

    def ratio(fitted: float, epochs: float, reference_fitted: float) -> float:
        if not math.isnan(fitted):
            return fitted / reference_fitted
        bound = (epochs + 1) / reference_fitted
        return bound if bound > at_most else math.nan

    return per_seed(ratio, (cell, "fit_epoch"), (cell, "epochs"), (reference, "fit_epoch"))


def smallest_step(metric: str, sign: float, *cells: str) -> Measure:
    """The smallest rise (``sign`` 1) or fall (-1) of the metric from one cell to the next."""

    def steps(*values: float) -> float:
        return min(sign * (after - before) for before, after in pairwise(values))

    return per_seed(steps, *((cell, metric) for cell in cells))


def rank_correlation(metric: str, *cells: str) -> Measure:
    """Spearman's correlation of the metric with the cells' order; a missing fit ranks last."""

    def correlate(*values: float) -> float:
        from scipy.stats import spearmanr

        filled = [1e9 if math.isnan(v) else v for v in values]
        return float(spearmanr(range(len(filled)), filled).statistic)

    return per_seed(correlate, *((cell, metric) for cell in cells))
