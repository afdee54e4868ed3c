"""Norms of weights, distances from where they started, and zeros: of one net, and over a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from lightning_regs.core.checks import checked, nonempty
from lightning_regs.core.lightning import Callback, log_nets, pl, replicas_of
from lightning_regs.regularizers.parts.selection import Parameters, select

Weights = Annotated[Mapping[str, Tensor], nonempty]


@checked
@torch.no_grad()
def weight_norms(weights: Weights, start: Weights, stacked: bool = False) -> dict[str, Tensor]:
    r"""Return how large weights are and how far they have gone, over all of them and by name.

    Args:
        weights: By name, of any shapes; of R stacked nets ``(R, ...)``.
        start: What they started as, at least of the same names.
        stacked: Whether the first dimension counts nets.

    Returns:
        ``norm`` :math:`\lVert w \rVert_2`, ``distance`` :math:`\lVert w - w_0 \rVert_2`, ``growth``
        :math:`\lVert w \rVert_2 / \lVert w_0 \rVert_2`, and ``zeros`` and ``small``, the shares in percent that are
        exactly zero and smaller than a thousandth; and the same of each weight as ``norm/NAME``. Scalars, or ``(R,)``,
        in float64.

    Raises:
        ValueError: If a weight has no start, or one of another shape, or stacked ones have several first dimensions.
    """
    if stacked and len({tuple(weight.shape[:1]) for weight in weights.values()} - {()}) > 1:
        raise ValueError("stacked weights count nets by their first dimension, and these have several; use one stack.")
    parts: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name not in start or start[name].shape != weight.shape:
            other = tuple(start[name].shape) if name in start else "none"
            raise ValueError(f"the start of {name!r} must have the shape {tuple(weight.shape)}, got {other}.")
        w, before = (v.detach().double().reshape(len(v) if stacked else 1, -1) for v in (weight, start[name]))
        sums = w.square(), (w - before).square(), before.square(), w == 0, w.abs() < 1e-3, torch.ones_like(w)
        parts[name] = torch.stack([values.sum(1, dtype=torch.float64) for values in sums])
    found: dict[str, Tensor] = {}
    for name, of in {"": torch.stack(list(parts.values())).sum(0), **parts}.items():
        square, moved, first, zeros, small, size = of if stacked else of.squeeze(1)
        ratios = {"growth": (square / first).sqrt(), "zeros": 100 * zeros / size, "small": 100 * small / size}
        values = {"norm": square.sqrt(), "distance": moved.sqrt()} | ratios
        found |= {f"{key}/{name}".rstrip("/"): value for key, value in values.items()}
    return found


class WeightNorms(Callback):
    """Logs after each epoch what :func:`weight_norms` measures, as ``weights/norm``, ``weights/norm/LAYER.weight``, ...

    On any LightningModule. What the weights started as is saved with it, so a resumed training goes on measuring from
    there. Of ``Classifier(replicas=...)`` means over nets are logged, and each one's own is in ``replica_results``.

    Attributes:
        last: What was measured last, before means over replicas; empty before the first epoch has ended.

    Args:
        parameters: Which weights: None for those of at least two dimensions that no normalisation layer owns; or as of
            :class:`~lightning_regs.NormPenalty`.
    """

    sees_initial_weights = "has kept what they start as"

    @checked
    def __init__(self, parameters: Parameters = None) -> None:
        self.parameters = parameters
        self.start: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin anew, where no checkpoint follows."""
        if stage == "fit" and not trainer.global_step:
            self.start = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what the weights start as, where no checkpoint has it."""
        if not self.start:
            self.start = {name: w.detach().clone() for name, w in self._weights(pl_module).items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and log."""
        weights = self._weights(pl_module)
        start = {name: self.start[name].to(w.device) for name, w in weights.items()}
        self.last = weight_norms(weights, start, bool(replicas_of(pl_module)))
        log_nets(pl_module, "weights", self.last)

    def state_dict(self) -> dict[str, Any]:
        """Return what the weights started as."""
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the weights started as."""
        self.start = dict(state_dict["start"])

    def _weights(self, module: pl.LightningModule) -> dict[str, Tensor]:
        return dict(select(module, self.parameters))
