"""The small Inception of Zhang et al."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import (
    ShiftBatchNorm2d,
    activation_layer,
    apply_weight_norm,
    check_dropout,
    check_image,
    check_norm,
    norm_layer,
    scaled,
    to_channels_last,
)


def conv_module(
    channels: int, filters: int, kernel: int, norm: str | None, activation: str, stride: int = 1
) -> nn.Sequential:
    """Return convolution, normalisation, activation: (N, C, H, W) to (N, filters, H / stride, W / stride), rounded up.

    Args:
        channels: Number of input channels.
        filters: Number of filters.
        kernel: Side of the kernel, odd.
        norm: ``"batch"``, ``"layer"``, ``"weight"`` or None; batch and layer norm replace the convolution's bias by
            their own shift.
        activation: A key of :data:`~lightning_regs.models.layers.ACTIVATIONS`.
        stride: Step of the convolution. Default 1.

    Returns:
        Modules named ``conv``, ``norm`` (if any) and ``act``.
    """
    shifted = norm in ("batch", "layer")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=not shifted)
    if shifted:
        layers["norm"] = ShiftBatchNorm2d(filters) if norm == "batch" else norm_layer(norm, filters, spatial=True)
    layers["act"] = activation_layer(activation)
    return nn.Sequential(layers)


class Inception(nn.Module):
    """1x1 and 3x3 convolution modules side by side: (N, C, H, W) to (N, c1 + c3, H, W).

    Args:
        channels: Number of input channels.
        c1: Filters of the 1x1 module.
        c3: Filters of the 3x3 module.
        norm: As in :func:`conv_module`.
        activation: As in :func:`conv_module`.
    """

    def __init__(self, channels: int, c1: int, c3: int, norm: str | None, activation: str) -> None:
        super().__init__()
        self.conv1x1 = conv_module(channels, c1, 1, norm, activation)
        self.conv3x3 = conv_module(channels, c3, 3, norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate both modules' outputs over the channels."""
        return torch.cat([self.conv1x1(x), self.conv3x3(x)], dim=1)


class Downsample(nn.Module):
    """Stride-2 3x3 convolution module and max pool side by side: (N, C, H, W) to (N, c3 + C, H / 2, W / 2), rounded up.

    Args:
        channels: Number of input channels.
        c3: Filters of the convolution module.
        norm: As in :func:`conv_module`.
        activation: As in :func:`conv_module`.
    """

    def __init__(self, channels: int, c3: int, norm: str | None, activation: str) -> None:
        super().__init__()
        self.conv3x3 = conv_module(channels, c3, 3, norm, activation, stride=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the module's and the pool's outputs over the channels."""
        return torch.cat([self.conv3x3(x), self.pool(x)], dim=1)


class SmallInception(nn.Module):
    """The small Inception; 1,649,402 parameters on 3x28x28, with batch norm and without.

    Zhang et al., arXiv 1611.03530, Appendix A. The two counts agree because batch norm has a learned shift and no
    learned scale (TensorFlow-Slim's default) on convolutions without bias, and without it every convolution has a
    bias. Shape: (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's memory format.

    The two halving stages pad by 1 on every side, where TensorFlow's "same" pads an even size below and to the right
    only: as long as every halved size is even (28, 32, 8), that is the same net on images turned by 180 degrees. The
    mean pool is over the whole map, so any size from 4x4 up will do.

    Args:
        input_shape: (C, H, W), H and W at least 4.
        num_classes: Number of logits.
        activation: A key of :data:`~lightning_regs.models.layers.ACTIVATIONS`. Default ``"relu"``.
        norm: ``"batch"`` is the paper's, None its "Inception w/o BN"; ``"layer"`` normalises pre-activations over
            (C, H, W), ``"weight"`` reparametrises all layers but the head.
        dropout: Probability of dropping a unit of the pooled features, in [0, 1). Default 0.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's.
        width: Factor on the number of filters. Default 1.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    MINIMUM_SIZE = 4
    STEM = 96
    # One pair (c1, c3) is an Inception module, one single number c3 a downsampling one.
    PLAN: tuple[tuple[int, ...], ...] = (
        *((32, 32), (32, 48), (80,)),
        *((112, 48), (96, 64), (80, 80), (48, 96), (96,)),
        *((176, 160), (176, 160)),
    )

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        activation: str = "relu",
        norm: str | None = "batch",
        dropout: float = 0.0,
        init: str | None = None,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        channels, _, _ = check_image("small_inception", input_shape, num_classes, self.MINIMUM_SIZE)
        check_norm(norm)
        check_dropout(dropout)
        (filters,) = scaled(width, self.STEM)
        modules: list[nn.Module] = [conv_module(channels, filters, 3, norm, activation)]
        channels = filters
        for plan in self.PLAN:
            sizes = scaled(width, *plan)
            if len(sizes) == 2:
                modules.append(Inception(channels, sizes[0], sizes[1], norm, activation))
                channels = sum(sizes)
            else:
                modules.append(Downsample(channels, sizes[0], norm, activation))
                channels += sizes[0]
        self.features = nn.Sequential(*modules)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        initialize(self, init)
        if norm == "weight":
            apply_weight_norm(self, self.head)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        pooled = self.features(to_channels_last(x)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
