"""Where the variance over seeds comes from: cells in which one thing at a time follows the seed, and their shares.

The method is that of Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks" (2103.03098).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from lightning_regs.core.checks import Name, checked
from lightning_regs.study.paper.cells import Cell, Cells
from lightning_regs.study.paper.config import override
from lightning_regs.study.paper.estimates import Estimate
from lightning_regs.study.paper.figure import Figure, points
from lightning_regs.study.paper.measures.measure import Measure
from lightning_regs.study.paper.measures.samples import Sample
from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.paper.tasks import TRAIN

SEEDS = 10
WHOLE = "variance/seed"
# What follows the run's seed -> what of the configuration keeps everything else at seed 0.
_VARIED: dict[str, dict[str, Any]] = {
    # Said all the same, so that the rows of an equal cell, which were perhaps trained otherwise, are not written anew.
    "seed": {"seeds": {}},
    "weights": {"seeds": {"order": 0, "split": 0}},
    "order": {"seeds": {"weights": 0, "split": 0}},
    "split": {"seeds": {"weights": 0, "order": 0}},
    "items": {"seeds": {"weights": 0, "order": 0}, "data.resplit": True},
}


@checked
def variance_cells(config: Mapping[str, Any], split: bool = True, stack: bool = True) -> Cells:
    """Make the cells of a study of variance.

    In ``variance/seed`` all follows the seed, as in any other cell; in ``variance/weights``, ``/order`` and ``/split``
    one of these does. In ``variance/items`` it is what other cells never draw: which samples of the data set are for
    training and which for test.

    Args:
        config: The configuration of a cell that trains.
        split: Whether the split depends on the seed: a subset, a validation split or corrupted labels are drawn.
        stack: Whether the runs of a cell are trained together, as replicas.
    """
    return Cells(
        Cell(name, TRAIN, override(config, changes), SEEDS, stack=name if stack else None)
        for varied, changes in _VARIED.items()
        if (split or varied != "split") and (name := f"variance/{varied}")
    )  # fmt: skip


@checked
def share_of_variance(cell: Name) -> Measure:
    """The variance of the test accuracy over seeds in one cell, over that where all follows the seed.

    The interval is Pitman's and Morgan's (1939), exact for normal values in pairs: runs of one seed share what both of
    them draw from it. Two seeds, or a whole that does not vary, give no share.
    """
    return Measure(share_of_variance.__name__, ((cell, "test_acc"), (WHOLE, "test_acc")), None, _share)


def _share(sample: Sample) -> Estimate:
    part, whole = sample.numbers(0), sample.numbers(1)
    n = len(part)
    if n < 3 or max(whole) == min(whole):
        raise MissingRows(f"a share of variance needs 3 seeds, and a whole that varies; there are {n} seeds")
    total = statistics.variance(whole)
    share = statistics.variance(part) / total
    unshared = max(0.0, 1 - statistics.correlation(part, whole) ** 2) if share else 1.0
    center = statistics.fmean(part)

    def ends(confidence: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        k = 1 + 2 * unshared * float(stdtrit(n - 2, 0.5 + confidence / 2)) ** 2 / (n - 2)
        factor = k + math.sqrt(k * k - 1)
        return share / factor, share * factor

    return Estimate(share, ends, tuple(n / (n - 1) * (value - center) ** 2 / total for value in part))


@checked
def variance_figure(what: str, split: str = "", on: Name = "quick") -> Figure:
    """Draw the variances of a study, at one scale, relative to the whole.

    It says what is trained, and what the split draws; empty where it draws nothing.
    """
    names = {"initial weights": "weights", "order": "order", split: "split", "train and test samples": "items"}
    drawn = {name: share_of_variance(f"variance/{varied}") for name, varied in names.items() if name}
    unsplit = "" if split else " No split is drawn here."
    return points(
        "variance", "Where the variance over seeds comes from", "test_acc", drawn,
        f"{what}, {SEEDS} seeds a line. How much the test accuracy varies where one source of randomness follows the "
        "seed and the others stay fixed, over its variance where all that our other rows draw follows the seed: 1 is "
        "as much. The shares need not sum to 1, as sources act together. The order of the samples has all other draws "
        f"of the training with it, such as dropout's.{unsplit} Our other rows never draw which samples are for "
        "training and which for test; of that line their intervals have the part of the test samples alone. A seed's "
        "number is its squared deviation from the mean.",
        y="variance, relative to all varying", on=(on,),
    )  # fmt: skip
