"""How signals go through a net at the start of a training and over it, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regs.analysis import LayerSignals, layer_jacobians
from lightning_regs.core.runs import RunContext
from lightning_regs.layers import MeanOnlyBatchNorm
from lightning_regs.training.fit import fit_stack, shared, stackable

# What is told of each of the first activations.
_TOLD, _LAYERS = ("mean", "deviation", "saturation", "gradient"), 5
_MIX = (nn.modules.batchnorm._BatchNorm, MeanOnlyBatchNorm)


@stackable
def signals(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train a net and measure what :class:`~lightning_regs.analysis.LayerSignals` does, of its activations.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`; of several, which are replicas of one net, the same.
        runs: The engine's. An interrupted one goes on from its last saved epoch.

    Returns:
        The metrics of :func:`~lightning_regs.training.fit.fit`; ``start_deviation_ratio``, the last activation's
        deviation over the first one's before the first step, ``start_gradient_ratio``, the first one's gradient over
        the last one's; ``jacobian``, then, the mean singular value of layer Jacobians on four samples, of nets in which
        no sample changes another's outputs; of the first five activations ``start_deviation_1``, ... and, at the end,
        ``deviation_1``, with ``mean``, ``saturation`` and ``gradient`` alike. Curves have ``signal_deviation_1``, ...

    Raises:
        ValueError: If the configurations differ, or the net has no activation that is a module of torch's.
    """
    found = fit_stack(shared(configs), runs, [seen := _Activations()])
    rows = []
    for i, trained in enumerate(found):
        start, last = ({name: float(v[i]) for name, v in values.items()} for values in (seen.start, seen.last))
        rows.append(trained.metrics | {f"start_{n}" if n != "jacobian" else n: v for n, v in start.items()} | last)
    return rows


class _Activations(LayerSignals):
    """Signals of activations by their place, ``deviation_1``."""

    def measure(self, net: nn.Module, x: Tensor, y: Tensor | None, loss: Any) -> dict[str, float]:
        every = super().measure(net, x, y, loss)
        names = [key.partition("/")[2] for key in every if key.startswith("saturation/")]
        if not names:
            raise ValueError("the net has no activation that is a module of torch's; name another activation.")
        told = {f"{key}_{i}": every[f"{key}/{n}"] for i, n in enumerate(names[:_LAYERS], 1) for key in _TOLD}
        if self.start:
            return told
        for key, (above, below) in {"deviation": (names[-1], names[0]), "gradient": (names[0], names[-1])}.items():
            told[f"{key}_ratio"] = every[f"{key}/{above}"] / every[f"{key}/{below}"]
        if len(names) > 1 and not any(isinstance(m, _MIX) for m in net.modules()):
            means = [values.double().mean() for values in layer_jacobians(net, x[:4]).values()]
            told["jacobian"] = float(torch.stack(means).mean())
        return told
