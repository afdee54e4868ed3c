"""How far two trained nets are right on the same test samples, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_regs.analysis import agreement, disagreement
from lightning_regs.core.runs import RunContext
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.procedures.cells import correct
from lightning_regs.study.paper.config import override
from lightning_regs.training.fit import Trained, fit, fit_stack, shared

# Added to the seed of the second net: far from the seeds of other runs.
OFFSET = 1000


def agree(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train two nets, independent of each other, and compare them on the test set.

    Args:
        config: That of :func:`~lightning_regs.training.fit.fit` for the first net; ``config["other"]`` is what the
            second changes in it, by dotted path, beside its seed; empty where only that differs.
        run: The engine's run. An interrupted one goes on from its last saved epoch.

    Returns:
        ``agreement`` and ``disagreement`` (percent), see :func:`~lightning_regs.analysis.correctness.agreement`;
        ``test_acc`` of the first net and ``other_test_acc`` of the second.

    Raises:
        ValueError: If the two nets have different test samples.
    """
    return _agree([config], [run])[0]


def agree_stack(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Do so for several seeds, as replicas of each of the nets; see :func:`agree`.

    Raises:
        ValueError: If the configurations differ.
    """
    return _agree(configs, runs)


agree.stacked = agree_stack  # type: ignore[attr-defined]


def _agree(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    config = shared(configs)
    changes = config.pop("other")
    others = [RunContext(run.folder / "other", run.seed + OFFSET, run.threads) for run in runs]
    for context in others:
        context.folder.mkdir(exist_ok=True)
    rows = []
    for one, other in zip(_trained(config, runs), _trained(override(config, changes), others), strict=True):
        _check_samples(one, other)
        pair = [correct(trained.network(), trained.data, "test") for trained in (one, other)]
        row = {"agreement": agreement(*pair), "disagreement": 100 * disagreement(*pair)}
        rows.append(row | {"test_acc": one.metrics["test_acc"], "other_test_acc": other.metrics["test_acc"]})
    return rows


def _trained(config: dict[str, Any], runs: Sequence[RunContext]) -> list[Trained]:
    return [fit(config, runs[0])] if len(runs) == 1 else fit_stack(config, runs)


def _check_samples(*nets: Trained) -> None:
    one, other = (part.x if isinstance(part, ImageArrays) else None for part in (n.data.dataset("test") for n in nets))
    if not (isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)):
        raise ValueError("the test samples of the two nets differ; give both the same data, and draw no test set.")
