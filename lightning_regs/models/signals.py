"""Nets of signals in one dimension: the convolutional and the recurrent one of MNIST-1D."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_regs.core.checks import Count, checked
from lightning_regs.init import initialize
from lightning_regs.models.layers import InputShape


def _length(net: str, input_shape: Sequence[int], minimum: int) -> int:
    if len(input_shape) != 1 or input_shape[0] < minimum:
        raise ValueError(
            f"{net} takes signals (L,) of at least {minimum} values, got input_shape {tuple(input_shape)}: use 'lenet' "
            "for images, 'mlp' for any shape."
        )
    return int(input_shape[0])


class SignalConv(nn.Module):
    """Three convolutions over a signal, 5,210 parameters on 40 values with 10 classes.

    Greydanus & Kobak, arXiv 2011.14439: kernels of 5, 3 and 3 at a stride of 2, padded by 1, each with ReLU; ``head``
    sees all positions. Shape: (N, L) to (N, num_classes).

    Args:
        input_shape: (L,), at least 7.
        num_classes: Number of logits.
        channels: Of each convolution. Default 25.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's.
    """

    architecture = "signal_conv"

    @checked
    def __init__(
        self, input_shape: InputShape, num_classes: Count, *, channels: Count = 25, init: str | None = None
    ) -> None:
        super().__init__()
        length, before, layers = _length("signal_conv", input_shape, 7), 1, list[nn.Module]()
        for kernel in (5, 3, 3):
            layers += [nn.Conv1d(before, channels, kernel, stride=2, padding=1), nn.ReLU()]
            length, before = (length + 2 - kernel) // 2 + 1, channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(length * channels, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map signals (N, L) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(x.unsqueeze(1)).flatten(1))
        return logits


class SignalGRU(nn.Module):
    """A gated recurrent net that reads a signal in both directions, 5,134 parameters on 40 values with 10 classes.

    Greydanus & Kobak, arXiv 2011.14439: ``head`` sees the outputs at all positions. Shape: (N, L) to (N, num_classes).
    Nets of it are not stacked, as torch's recurrent layers cannot be.

    Args:
        input_shape: (L,).
        num_classes: Number of logits.
        units: Of each direction. Default 6.
    """

    architecture = "signal_gru"

    @checked
    def __init__(self, input_shape: InputShape, num_classes: Count, *, units: Count = 6) -> None:
        super().__init__()
        length = _length("signal_gru", input_shape, 1)
        self.gru = nn.GRU(1, units, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * units * length, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map signals (N, L) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.gru(x.unsqueeze(2))[0].flatten(1))
        return logits
