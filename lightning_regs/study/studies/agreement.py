"""How far two trained nets are right on the same test samples, as a task."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_regs.analysis import agreement
from lightning_regs.core.runs import RunContext
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.procedures.splits import correct
from lightning_regs.study.paper.config import override
from lightning_regs.training.fit import Trained, fit_stack, shared, stackable
from lightning_regs.training.options import check_config, looks

# Added to the seed of each further net: far from the seeds of other runs.
OFFSET = 1000


def _other(config: Mapping[str, Any]) -> dict[str, Any]:
    if "other" not in config:
        raise ValueError("agreement is that of two nets: give as 'other' what the other changes, by dotted path.")
    return override(config, config["other"])


@looks(lambda config: check_config(_other(config)))
@stackable
def agree(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train two nets twice each, all independent of each other, and compare them on the test set.

    Args:
        configs: Of each run that of :func:`~lightning_regs.training.fit.fit` for the one net, and as ``"other"`` what
            the other changes in it, by dotted path; of several, which are replicas of each of the nets, the same.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        Correlations of being right, see :func:`~lightning_regs.analysis.correctness.agreement`: ``agreement`` between
        the one net and the other (the mean of four pairs), ``agreement_within`` between two seeds of the same net (the
        mean of both nets); ``test_acc`` of the one net and ``other_test_acc`` of the other.

    Raises:
        ValueError: If the configurations differ, or the nets have different test samples.
    """
    config = shared(configs)
    other = _other(config)
    nets = []
    # A stack takes hardly longer for the twins. What is not stacked would take longer as one.
    together = 2 if len(runs) > 1 else 1
    for run in runs:
        run.parts = 4 // together
    for number, made in ((0, config), (2, other)):
        first, twins = ([further(run, of, of // together) for run in runs] for of in (number, number + 1))
        parts = [[*first, *twins]] if together > 1 else [first, twins]
        trained = [net for part in parts for net in fit_stack(made, part)]
        nets += [trained[: len(runs)], trained[len(runs) :]]
    rows = []
    for four in zip(*nets, strict=True):
        _check_samples(*four)
        one, twin, second, other_twin = [correct(trained.network(), trained.data, "test") for trained in four]
        between = [agreement(a, b) for a in (one, twin) for b in (second, other_twin)]
        within = [agreement(one, twin), agreement(second, other_twin)]
        row = {"agreement": statistics.fmean(between), "agreement_within": statistics.fmean(within)}
        rows.append(row | {"test_acc": four[0].metrics["test_acc"], "other_test_acc": four[2].metrics["test_acc"]})
    return rows


def further(run: RunContext, number: int, at: int) -> RunContext:
    """Return the run of a further net of a run: in a folder of its own, and of a seed far from those of other runs.

    The net of number 0 is that of the run itself; ``at`` of its parts come before it.
    """
    return run.part(f"net{number}", at, run.seed + number * OFFSET) if number else run


def _check_samples(*nets: Trained) -> None:
    parts = [net.data.dataset("test") for net in nets]
    samples = [part.x for part in parts if isinstance(part, ImageArrays) and isinstance(part.x, Tensor)]
    if len(samples) < len(nets) or not all(torch.equal(samples[0], other) for other in samples):
        raise ValueError("the test samples of the nets differ; give all the same data, and draw no test set.")
