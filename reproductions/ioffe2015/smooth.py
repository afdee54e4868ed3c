"""The training task of Ioffe & Szegedy 2015: how smooth a net's loss is, and how stable a layer's inputs are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regs.analysis import LayerSignals, along_gradient, layer_outputs
from lightning_regs.core.runs import RunContext
from lightning_regs.layers import replace_layers
from lightning_regs.training.fit import data_of, fit_stack, initial_network, shared, stackable

RANGE = (0.5, 1.0, 2.0, 4.0)  # of steps, in units of the rate
SPREAD = torch.tensor([0.15, 0.5, 0.85], dtype=torch.float64)


class NoisyBatchNorm(nn.BatchNorm1d):
    """Batch norm whose outputs ``(N, C)`` get other means and scales at each step of training, of a unit and a sample.

    Santurkar et al. 2018 (1805.11604): a unit's mean is drawn from U(-0.5, 0.5) and its scale from U(1, 1.25), a
    sample's within 0.1 of them; these numbers are recalled. In evaluation it is batch norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize and disturb."""
        y = super().forward(x)
        if not self.training:
            return y
        units, each = partial(torch.rand, y.shape[1], device=y.device), partial(torch.rand, y.shape, device=y.device)
        scale = 1 + 0.25 * units() + 0.1 * torch.randn(y.shape, device=y.device)
        return y * scale + (units() - 0.5) + 0.2 * (each() - 0.5)


class LpNorm(nn.BatchNorm1d):
    """Takes a batch's mean from ``(N, C)`` and divides by the mean size, by p = 1, 2 or infinity, as they were before.

    Running averages are kept as batch norm does, with the size in the place of the variance.
    """

    def __init__(self, features: int, p: float) -> None:
        super().__init__(features)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, scale and shift."""
        mean, size = self.running_mean, self.running_var
        assert mean is not None
        assert size is not None
        assert self.momentum is not None
        if self.training:
            own = x.mean(0), torch.linalg.vector_norm(x, self.p, dim=0) / len(x) ** (1 / self.p)
            for running, now in zip((mean, size), own, strict=True):
                running.mul_(1 - self.momentum).add_(self.momentum * now.detach())
            mean, size = own
        return (x - mean) / (size + self.eps) * self.weight + self.bias


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "noisy": NoisyBatchNorm, **{f"l{p:g}": partial(LpNorm, p=p) for p in (1.0, 2.0, float("inf"))}
}  # fmt: skip


@stackable
def smooth(configs: Sequence[dict[str, Any]], runs: Sequence[RunContext]) -> list[dict[str, float]]:
    """Train an MLP and measure, at the start and after each epoch, the loss along the gradient of the first batch.

    Args:
        configs: Those of :func:`~lightning_regs.training.fit.fit`, and as ``"normalization"`` a name of
            :data:`NORMS`, what stands in the place of batch norm.
        runs: The engine's, several as replicas of one net.

    Returns:
        The metrics of the training; means over the training of ``loss_range``, ``gradient_change`` (the largest) and
        ``smoothness`` of :func:`~lightning_regs.analysis.along_gradient` over half to four times the rate, and of
        ``gradient_turn``, that change over the gradient's norm; ``input_shift``, how far the median of what the last
        activation gets wanders over the epochs (standard deviation), over its spread (15th to 85th percentile),
        mean over units.
    """
    config = shared(configs)
    data = data_of(config, *runs)
    nets = [initial_network(config["model"], data, run.seed) for run in runs]
    for net in nets if "normalization" in config else ():
        make = NORMS[config["normalization"]]
        replace_layers(net, (nn.BatchNorm1d, lambda old: make(old.num_features)))  # noqa: B023
    seen = _Along(config["model"]["optimizer"]["lr"])
    found = fit_stack(config, runs, [seen], nets, data)
    rows = []
    for i, one in enumerate(found):
        own, inputs = seen.every[i :: len(found)], torch.stack(seen.inputs[i :: len(found)])
        row = {name: torch.tensor([values[name] for values in own], dtype=torch.float64).mean() for name in own[0]}
        low, median, high = inputs.unbind(1)  # (epochs, units)
        row["input_shift"] = (median.std(0) / (high - low).mean(0)).mean()
        rows.append(one.metrics | {name: float(v) for name, v in row.items() if name != "input"})
    return rows


class _Along(LayerSignals):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.steps = [rate * factor for factor in RANGE]
        self.every: list[dict[str, float]] = []
        self.inputs: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"every": self.every, "inputs": self.inputs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.every, self.inputs = list(state_dict["every"]), list(state_dict["inputs"])

    def measure(self, net: nn.Module, x: Tensor, y: Tensor | None, loss: Any) -> dict[str, float]:
        net = getattr(net, "network", net)
        assert y is not None
        found = along_gradient(net.train(), x, y, self.steps)
        name = f"body.{len(net.body) - 2}"  # before the last activation
        inputs = layer_outputs(net, x, name)[name].double().quantile(SPREAD.to(x.device), dim=0).cpu()
        change = float(found.changes.max())
        self.inputs.append(inputs)
        self.every.append({"loss_range": found.loss_range, "gradient_change": change, "smoothness": found.smoothness,
                           "gradient_turn": change / found.norm, "input": float(inputs[1, 0])})  # fmt: skip
        return self.every[-1]
