"""The training task of Srivastava et al. 2014, with how active units are and what the nets say that dropout samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lightning_regs.analysis import layer_outputs
from lightning_regs.core.runs import RunContext
from lightning_regs.layers import monte_carlo
from lightning_regs.procedures.splits import samples
from lightning_regs.training.fit import Trained, fit_stack, shared, stackable

SAMPLES = (1, 5, 50)  # nets whose class probabilities are averaged


@stackable
def thinned(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train a net with rectified linear units, and look at it on the test set.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`.
        runs: The engine's, several as replicas of one net.

    Returns:
        The metrics of the training; ``active``, how many percent of all hidden units are above 0, mean over samples;
        and of a net with dropout ``mc_error_K``, the error of the average over K sampled nets, K 1, 5 and 50.

    Raises:
        ValueError: If the configurations differ.
    """
    found = fit_stack(shared(configs), runs)
    return [one.metrics | _measured(one, run.seed) for one, run in zip(found, runs, strict=True)]


def _measured(trained: Trained, seed: int) -> dict[str, float]:
    net, (x, y) = trained.network(), samples(trained.data, "test")
    units = layer_outputs(net, x, [name for name, part in net.named_modules() if isinstance(part, nn.ReLU)])
    row = {"active": 100 * (torch.cat(list(units.values()), dim=1) > 0).double().mean().item()}
    for number in SAMPLES if any(isinstance(part, nn.Dropout) for part in net.modules()) else ():
        wrong = monte_carlo(net, x, number, seed=seed).argmax(1) != y
        row[f"mc_error_{number}"] = 100 * wrong.double().mean().item()
    return row
