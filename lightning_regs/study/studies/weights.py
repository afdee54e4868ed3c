"""What a training makes of the weights, as a task: how they grow, which are zero, and what L0 leaves of a net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lightning_regs.analysis import WeightNorms
from lightning_regs.core.runs import RunContext
from lightning_regs.pruning import compact, open_gates, prunable
from lightning_regs.pruning.gates import gates_of
from lightning_regs.training.fit import fit_stack, shared, stackable


@stackable
def weights(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train a net and measure its weights, those of linear and convolutional layers, at the end and after each epoch.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`; of several, which are replicas of one net, the same.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`; ``weight_norm``, ``weight_distance``,
        ``weight_growth``, ``zero_weights`` and ``small_weights``, see :func:`~lightning_regs.analysis.weight_norms`;
        where :class:`~lightning_regs.L0` has acted ``inputs_1``, ``inputs_2``, ...: how many inputs each gated layer
        keeps, and ``kept_weights``: the share in percent of the weights that
        :func:`~lightning_regs.pruning.compact` leaves. Curves have ``weights_norm``, ``weights_distance`` and
        ``weights_zeros``.

    Raises:
        ValueError: If the configurations differ.
    """
    found = fit_stack(shared(configs), runs, [norms := WeightNorms()])
    rows = []
    for i, trained in enumerate(found):
        names = {"norm": "weight_norm", "distance": "weight_distance", "growth": "weight_growth"}
        names |= {"zeros": "zero_weights", "small": "small_weights"}
        values = {names[key]: float(norms.last[key].expand(len(runs))[i]) for key in names}
        rows.append(trained.metrics | values | _left(trained.network()))
    return rows


def _left(network: nn.Module) -> dict[str, float]:
    if not gates_of(network):
        return {}
    counts = [float((z > 0).sum()) for z in open_gates(network).values()]
    before, after = (sum(w.numel() for w in prunable(net).values()) for net in (network, compact(network)))
    return {f"inputs_{i}": count for i, count in enumerate(counts, 1)} | {"kept_weights": 100 * after / before}
