"""How sharp the minimum is that a training ends in, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning_regs import analysis
from lightning_regs.core import rng
from lightning_regs.core.checks import Count, checked
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.splits import samples
from lightning_regs.training.fit import Trained, fit_stack, shared, stackable
from lightning_regs.training.options import looks, section

# Keskar et al. 2017, arXiv:1609.04836.
EPSILONS = {"1e-3": 1e-3, "5e-4": 5e-4}


@checked
@dataclass(frozen=True)
class _Options:
    dimensions: Count | None = 100
    samples: Count | None = None


@looks(lambda config: section(config, "sharpness", _Options))
@stackable
def sharpness(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train a net and measure the sharpness of where it ends: of the cross-entropy on the training set.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`; ``config["sharpness"]`` may have ``dimensions`` of
            the random subspace (default 100, None for no subspace) and ``samples``, on how many training samples,
            drawn by the seed, the loss is measured (default all).
        runs: The engine's, several as replicas of one net. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`; ``sharpness_1e-3`` and ``sharpness_5e-4``, that of
        :func:`~lightning_regs.analysis.sharpness` at these epsilons, and ``subspace_1e-3`` and ``subspace_5e-4`` in the
        subspace.

    Raises:
        ValueError: If the configurations differ, or an option is unknown or has no such value.
    """
    config = shared(configs)
    options = section(config, "sharpness", _Options)
    found = fit_stack(config, runs)
    return [one.metrics | _measured(one, options, run.seed) for one, run in zip(found, runs, strict=True)]


def _measured(trained: Trained, options: _Options, seed: int) -> dict[str, float]:
    device = trained.trainer.strategy.root_device
    x, y = samples(trained.data, "train", options.samples, seed, device, trained.replica)
    net, row = trained.network().to(x.device), {}
    for name, epsilon in EPSILONS.items():
        row[f"sharpness_{name}"] = analysis.sharpness(net, x, y, epsilon)
        if options.dimensions is not None:
            drawn = rng.generator(seed, "sharpness")
            row[f"subspace_{name}"] = analysis.sharpness(net, x, y, epsilon, options.dimensions, drawn)
    return row
