"""Densely connected nets for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Probability, checked
from lightning_regs.models.layers import ConvNet, InputShape, Norm, blocks_a_stage, check_image, finish


class DenseLayer(nn.Sequential):
    """Modules whose output is put behind the channels of their input: (N, C, H, W) to (N, C + k, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the new channels."""
        new: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return torch.cat([x, new], 1)


class DenseNet(ConvNet):
    """DenseNet or DenseNet-BC of depth d and growth rate k, three dense blocks.

    Huang et al., arXiv 1608.06993: a 3x3 convolution with 16 filters, three blocks of (d - 4) / 3 layers (batch norm,
    ReLU, 3x3 convolution with k filters, dropout) that each see all maps before them, between the blocks batch norm,
    ReLU, 1x1 convolution, dropout and 2x2 average pool; then batch norm, ReLU, the mean over the whole map, and
    ``head``. DenseNet-BC has 2k filters in the first convolution, (d - 4) / 6 layers a block with a 1x1 convolution to
    4k maps before the 3x3 one, and halves the maps between the blocks. Shape: (N, C, H, W) to (N, num_classes);
    computed in channels_last. Parameters on 3x32x32 with 10 classes:

    =============  ==========
    d-k            parameters
    =============  ==========
    40-12          1,019,722
    100-24         27,249,082
    BC-100-12      769,162
    BC-190-40      25,624,430
    =============  ==========

    Args:
        input_shape: (C, H, W), H and W at least 4; two pools halve them, rounding up.
        num_classes: Number of logits.
        depth: Number d of convolutions and the head, 3n + 4 with n layers a block, of DenseNet-BC 6n + 4. Default 40.
        width: The growth rate k, an integer: maps that a layer adds. Default 12.
        bc: Whether it is DenseNet-BC.
        dropout: Probability of dropping an activation behind every convolution but the first, in [0, 1); the paper
            takes 0.2 where images are not augmented. Default 0.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None. Default ``"batch"``.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.
    """

    architecture = "densenet"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        depth: Count = 40,
        width: Count = 12,
        bc: bool = False,
        dropout: Probability = 0.0,
        norm: Norm | None = "batch",
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__()
        images, _, _ = check_image("densenet", input_shape, 4)
        size = blocks_a_stage(depth, 6 if bc else 3, others=4)
        channels = 2 * width if bc else 16
        parts: list[nn.Module] = [nn.Conv2d(images, channels, 3, padding=1, bias=False)]
        for block in range(3):
            if block:
                kept = channels // 2 if bc else channels
                parts += [*_convolution(channels, kept, 1, dropout), nn.AvgPool2d(2, ceil_mode=True)]
                channels = kept
            for _ in range(size):
                narrow = _convolution(channels, 4 * width, 1, dropout) if bc else []
                parts.append(DenseLayer(*narrow, *_convolution(4 * width if bc else channels, width, 3, dropout)))
                channels += width
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU())
        self.head = nn.Linear(channels, num_classes)
        finish(self, norm, init, self.head)


def _convolution(channels: int, filters: int, kernel: int, dropout: float) -> list[nn.Module]:
    """Return batch norm, ReLU and a convolution of the same size, with dropout behind it."""
    convolution = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False)
    drop = [nn.Dropout(dropout)] if dropout else []
    # In place, as batch norm does not keep what it gives: half of the activations that training holds.
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), convolution, *drop]
