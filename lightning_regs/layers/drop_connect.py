"""Dropout of connections."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs.core.checks import Probability, checked

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class DropConnect(nn.Module):
    """A linear or convolutional layer whose weights and biases, not its units, are dropped in training.

    Wan et al. 2013, "Regularization of Neural Networks using DropConnect", ICML. As there, each sample has a mask of
    its own; what is kept is divided by 1 - p. In evaluation it is the layer, where the paper draws from a Gaussian of
    the same mean and variance; :func:`~lightning_regs.layers.monte_carlo` draws masks.

    The masks of a batch hold N times the layer's weights: where that is too much, ``per_sample=False`` draws one mask a
    batch, which regularizes less. Parameters are named ``layer.weight`` and ``layer.bias``. In a net:
    ``Classifier(layers=[{"replace": "Linear", "named": "body.*", "by": "DropConnect", "p": 0.5}])``.

    Args:
        layer: The layer, which is kept; its shapes are the shapes here.
        p: Probability of dropping a weight, in [0, 1).
        per_sample: Whether each sample has its mask, else each batch.

    Raises:
        TypeError: If the layer is neither linear nor convolutional, or does more than these: lazily, by hooks, or in a
            ``forward`` of its own.
        ValueError: If ``p`` is outside [0, 1).
    """

    @checked
    def __init__(self, layer: nn.Module, p: Probability = 0.5, per_sample: bool = True) -> None:
        super().__init__()
        if not isinstance(layer, _LAYERS):
            raise TypeError(f"layer must be linear or convolutional, for its weights to be dropped, got {layer!r}.")
        if type(layer).forward not in [cls.forward for cls in _LAYERS] or layer._forward_pre_hooks:
            raise TypeError(
                f"weights are dropped without a call of it, and {layer!r} has a forward or hooks of its own; let "
                "it see a batch where it is lazy, make pruning permanent, or use torch.nn.utils.parametrizations."
            )
        self.p, self.per_sample = p, per_sample
        self.layer: Any = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch as the layer does, in training with dropped weights."""
        if not self.training:
            out: Tensor = self.layer(x)
            return out
        # By attribute, as a weight may be computed, such as that of weight norm.
        both = {name: w for name in ("weight", "bias") if (w := getattr(self.layer, name)) is not None}
        if torch.amp.is_autocast_available(kind := x.device.type) and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)  # which autocast does not give to what torch.vmap calls
            x, both = x.to(dtype), {name: w.to(dtype) for name, w in both.items()}
        samples = [len(x)] if self.per_sample else []
        dropped = {name: F.dropout(w.expand(*samples, *w.shape), self.p) for name, w in both.items()}
        return torch.vmap(self._with)(dropped, x) if samples else self._with(dropped, x)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"p={self.p}, per_sample={self.per_sample}"

    def _with(self, dropped: dict[str, Tensor], x: Tensor) -> Tensor:
        weight, bias = dropped["weight"], dropped.get("bias")
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, bias=bias)
        out: Tensor = self.layer._conv_forward(x, weight, bias)
        return out
