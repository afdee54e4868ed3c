"""Dropout of connections."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from lightning_regs.core.checks import Probability, checked


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
        TypeError: If the layer is neither linear nor convolutional.
        ValueError: If ``p`` is outside [0, 1).
    """

    @checked
    def __init__(self, layer: nn.Module, p: Probability = 0.5, per_sample: bool = True) -> None:
        super().__init__()
        if not isinstance(layer, (nn.Linear, _ConvNd)):
            raise TypeError(f"layer must be linear or convolutional, for its weights to be dropped, got {layer!r}.")
        self.layer, self.p, self.per_sample = layer, p, per_sample

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch as the layer does, in training with dropped weights."""
        samples = [len(x)] if self.training and self.per_sample else []
        weights = {
            name: F.dropout(weight.expand(*samples, *weight.shape), self.p, self.training)
            for name, weight in self.layer.named_parameters()
        }
        return torch.vmap(self._with)(weights, x) if samples else self._with(weights, x)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"p={self.p}, per_sample={self.per_sample}"

    def _with(self, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = functional_call(self.layer, weights, (x,))
        return out
