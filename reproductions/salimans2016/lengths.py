"""The training task of Salimans & Kingma 2016 whose rows say how the lengths of v grow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lightning_regs.core.runs import RunContext
from lightning_regs.study.studies.initialized import initialized
from lightning_regs.training.fit import stackable


@stackable
def lengths(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train from weights that a rule sets, and say how the weights grew that a ``WeightNorms`` callback has watched.

    Args:
        configs: Those of :func:`~lightning_regs.study.studies.initialized.initialized`, with
            :class:`~lightning_regs.analysis.WeightNorms` among the ``callbacks``.
        runs: The engine's, several as replicas of one net.

    Returns:
        The metrics of the training; ``growth``, the norm of all watched weights at the end over that of their start;
        and ``least_growth``, that of one layer over one epoch where it is least.
    """
    rows = initialized.stacked(configs, runs)
    for row, curve in zip(rows, (run.curves for run in runs), strict=True):
        layers = [[epoch[name] for epoch in curve] for name in curve[0] if name.startswith("weights_growth/")]
        steps = [after / before for each in layers for before, after in pairwise([1.0, *each])]
        row |= {"growth": curve[-1]["weights_growth"], "least_growth": min(steps)}
    return rows
