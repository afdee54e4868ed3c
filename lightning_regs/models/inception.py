"""The small Inception of Zhang et al., and Inception V3, torchvision's."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.inception import Inception3, InceptionOutputs

from lightning_regs.core.checks import Count, Probability, checked
from lightning_regs.models.layers import (
    LAYERS,
    ConvNet,
    Factor,
    InputShape,
    Norm,
    activation_layer,
    check_image,
    finish,
    norm_layer,
    scaled,
    to_channels_last,
)


class ShiftBatchNorm2d(nn.BatchNorm2d):
    r"""Batch norm with a learned shift and no learned scale, TensorFlow-Slim's default.

    Ioffe & Szegedy, arXiv 1502.03167, with :math:`\gamma = 1`: before a rectifier the next layer's weights can take
    the scale over. Shape: (N, C, H, W) to the same. One parameter a channel, as many as a convolution's bias.

    Args:
        num_features: Number of channels.
    """

    weight: Tensor  # type: ignore[assignment]

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        del self.weight
        # Ones that are no parameter, and not None: without a scale, CUDA computes no gradient of the shift.
        self.register_buffer("weight", torch.ones(num_features), persistent=False)


def conv_module(
    channels: int, filters: int, kernel: int, norm: str | None, activation: str, stride: int = 1
) -> nn.Sequential:
    """Return convolution, normalisation, activation: (N, C, H, W) to (N, filters, H / stride, W / stride), rounded up.

    Normalisations that are layers replace the convolution's bias by their own shift.
    """
    shifted = norm in LAYERS
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=not shifted)
    if shifted:
        layers["norm"] = ShiftBatchNorm2d(filters) if norm == "batch" else norm_layer(norm, filters, spatial=True)
    layers["act"] = activation_layer(activation)
    return nn.Sequential(layers)


class SideBySide(nn.ModuleDict):
    """Modules side by side, whose outputs are concatenated over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, sum of the modules' channels, H', W')."""
        return torch.cat([module(x) for module in self.values()], dim=1)


class SmallInception(ConvNet):
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
        norm: ``"batch"`` is the paper's, None its "Inception w/o BN"; or another
            :data:`~lightning_regs.models.layers.Norm`, on all layers but the head.
        dropout: Probability of dropping a unit of the pooled features, in [0, 1). Default 0.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's.
        width: Factor on the number of filters. Default 1.
    """

    architecture = "small_inception"

    STEM = 96
    # (c1, c3) is 1x1 and 3x3 convolutions side by side, (c3,) a 3x3 convolution of stride 2 beside a max pool.
    PLAN: tuple[tuple[int, ...], ...] = (
        *((32, 32), (32, 48), (80,)),
        *((112, 48), (96, 64), (80, 80), (48, 96), (96,)),
        *((176, 160), (176, 160)),
    )

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        activation: str = "relu",
        norm: Norm | None = "batch",
        dropout: Probability = 0.0,
        init: str | None = None,
        width: Factor = 1.0,
    ) -> None:
        super().__init__()
        images, _, _ = check_image("small_inception", input_shape, 4)
        (channels,) = scaled(width, self.STEM)
        modules: list[nn.Module] = [conv_module(images, channels, 3, norm, activation)]
        for plan in self.PLAN:
            sizes = scaled(width, *plan)
            sides: dict[str, nn.Module] = {}
            if len(sizes) == 2:
                sides["conv1x1"] = conv_module(channels, sizes[0], 1, norm, activation)
                sides["conv3x3"] = conv_module(channels, sizes[1], 3, norm, activation)
                channels = sum(sizes)
            else:
                sides["conv3x3"] = conv_module(channels, sizes[0], 3, norm, activation, stride=2)
                sides["pool"] = nn.MaxPool2d(3, 2, padding=1)
                channels += sizes[0]
            modules.append(SideBySide(sides))
        self.features = nn.Sequential(*modules)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        finish(self, norm, init, self.head)

    def embed(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the mean over the map (N, F), with dropout."""
        pooled: Tensor = self.dropout(super().embed(x))
        return pooled


class InceptionV3(Inception3):  # type: ignore[misc]
    """Inception V3 for ImageNet, without pretrained weights; 23,834,568 parameters for 1,000 classes.

    Szegedy et al., arXiv 1512.00567; the ImageNet net of Zhang et al., arXiv 1611.03530. The paper's size is
    3x299x299. Any size from 75x75 up will do, since the last pool is over the whole map; the auxiliary classifier
    needs 299x299. Shape: (N, 3, H, W) to (N, num_classes); computed in channels_last.

    Args:
        input_shape: (3, H, W), H and W at least 75.
        num_classes: Number of logits.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None. Default ``"batch"``.
        dropout: Probability of dropping a unit of the pooled features, in [0, 1). Default 0.5, torchvision's.
        init: A rule of :func:`~lightning_regs.init.initialize`; None draws torchvision's own,
            a truncated normal of standard deviation 0.1.
        aux_logits: Adds the auxiliary classifier (27,161,264 parameters); then forward returns torchvision's
            ``InceptionOutputs(logits, aux_logits)`` while training. Default False.
    """

    architecture = "inception_v3"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        norm: Norm | None = "batch",
        dropout: Probability = 0.5,
        init: str | None = None,
        aux_logits: bool = False,
    ) -> None:
        name, minimum = ("inception_v3 with aux_logits", 299) if aux_logits else ("inception_v3", 75)
        channels, _, _ = check_image(name, input_shape, minimum)
        if channels != 3:
            raise ValueError(f"inception_v3 takes images of 3 channels, got {channels}: repeat the channel 3 times.")
        super().__init__(num_classes=num_classes, aux_logits=aux_logits, init_weights=init is None, dropout=dropout)
        finish(self, norm, init, self.fc, *([self.AuxLogits.fc] if aux_logits else []))

    def forward(self, x: Tensor) -> Tensor | InceptionOutputs:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        output: Tensor | InceptionOutputs = super().forward(to_channels_last(x))
        return output
