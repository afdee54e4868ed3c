"""Pre-activation residual nets for small images: PreAct ResNet-18 and wide ResNets."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter

from lightning_regs.core.checks import Count, Probability, checked
from lightning_regs.models.layers import ConvNet, InputShape, Norm, blocks_a_stage, check_image, finish, norm_layer


class PreActBlock(nn.Module):
    r"""Pre-activation residual block: (N, C, H, W) to (N, filters, H / stride, W / stride), rounded up.

    He et al., arXiv 1603.05027, with dropout between the convolutions, Zagoruyko & Komodakis, arXiv 1605.07146:
    ``shortcut + conv3x3(dropout(relu(norm(conv3x3(relu(norm(x)))))))``. The shortcut is ``x`` itself where shape and
    stride allow, else a 1x1 convolution of ``relu(norm(x))``. Without normalisation the convolutions have biases and
    the branch has SkipInit's learned factor :math:`\alpha`, which starts at 0 (De & Smith, arXiv 2002.10444): at the
    start the block is its shortcut.

    Args:
        channels: Number of input channels.
        filters: Number of output channels.
        stride: Step of the first convolution and of the shortcut.
        norm: A normalisation's name, or None.
        dropout: Probability of dropping an activation, in [0, 1).
        active: Whether the shortcut is ``relu(norm(x))`` also where it could be ``x``.
    """

    skip_scale: Parameter | None

    def __init__(
        self, channels: int, filters: int, stride: int, norm: str | None, dropout: float, active: bool = False
    ) -> None:
        super().__init__()
        bias = norm is None
        self.active = active
        self.norm1 = norm_layer(norm, channels, spatial=True)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, filters, spatial=True)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=bias)
        same = channels == filters and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels, filters, 1, stride, bias=bias)
        self.register_parameter("skip_scale", Parameter(self.conv1.weight.new_zeros(())) if norm is None else None)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        active = F.relu(self.norm1(x))
        branch: Tensor = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        if self.skip_scale is not None:
            branch = self.skip_scale * branch
        same = active if self.active else x
        shortcut: Tensor = same if self.shortcut is None else self.shortcut(active)
        return shortcut + branch


class PreActResNet(ConvNet):
    """Groups of :class:`PreActBlock` behind ``stem``; the base of the pre-activation nets.

    Every group but the first halves the image, rounding up; then the mean over the whole map, and ``head``. Shape:
    (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's memory format.

    Args:
        stem: What makes maps of the images.
        channels: Number of channels of these maps.
        filters: Filters of each group.
        size: Blocks in each of them.
        norm: Of the blocks, as ``dropout`` and ``active``.
        dropout: As there.
        active: As there.
    """

    def __init__(
        self,
        stem: nn.Module,
        channels: int,
        filters: Sequence[int],
        size: int,
        norm: str | None,
        dropout: float,
        active: bool = False,
    ) -> None:
        super().__init__()
        self.stem = stem
        blocks = []
        for group, number in enumerate(filters):
            for block in range(size):
                blocks.append(PreActBlock(channels, number, 2 if group and not block else 1, norm, dropout, active))
                channels = number
        self.blocks = nn.Sequential(*blocks)

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the last map."""
        maps: Tensor = self.blocks(self.stem(x))
        return maps


class PreActResNet18(PreActResNet):
    """PreAct ResNet-18 as mixup's authors train it; 11,171,274 parameters on 3x32x32 with 10 classes.

    He et al., arXiv 1603.05027, in the form of the code of Zhang et al., arXiv 1710.09412: a 3x3 convolution with batch
    norm and ReLU, four groups of two :class:`PreActBlock` whose shortcuts all start from ``relu(norm(x))``, 1x1
    convolutions without batch norm where the shape changes, and no batch norm or ReLU behind the last block. Other
    implementations have no batch norm in the stem (11,171,146 parameters), or one behind the last block.

    Args:
        input_shape: (C, H, W), H and W at least 8; three groups halve them, rounding up.
        num_classes: Number of logits.
        width: Filters of the stem and of the first group, an integer; the groups have 1, 2, 4 and 8 times as many.
            Default 64.
        dropout: Probability of dropping an activation between the two convolutions of a block, in [0, 1). Default 0.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None. Default ``"batch"``.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's, as the authors' code does. The
            default, ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.
    """

    architecture = "preact_resnet18"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        width: Count = 64,
        dropout: Probability = 0.0,
        norm: Norm | None = "batch",
        init: str | None = "kaiming_normal",
    ) -> None:
        channels, _, _ = check_image("preact_resnet18", input_shape, 8)
        stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        super().__init__(stem, width, [width * n for n in (1, 2, 4, 8)], 2, "batch", dropout, active=True)
        self.head = nn.Linear(8 * width, num_classes)
        finish(self, norm, init, self.head)


class WideResNet(PreActResNet):
    """Wide ResNet d-k, without normalisation by default, as in Smith et al., arXiv 2101.12176.

    Zagoruyko & Komodakis, arXiv 1605.07146: a 3x3 convolution with 16 filters, three groups of (d - 4) / 6
    :class:`PreActBlock` with 16k, 32k and 64k filters, then (batch norm) ReLU, the mean over the whole map, and
    ``head``. Parameters on 3x32x32 with 10 classes:

    ======  ===============  =========
    d-k     norm="batch"     norm=None
    ======  ===============  =========
    10-1    77,850           77,709
    10-4    1,198,810        1,198,349
    16-4    2,748,890        2,747,536
    16-8    10,961,370       10,958,672
    28-10   36,479,194       36,471,350
    ======  ===============  =========

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        depth: Number d of convolutions on the longest path and the head, 6n + 4 with n blocks a group. Default 10.
        width: Factor k on the filters of the groups, an integer. Default 1.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None for biases and SkipInit.
        dropout: Probability of dropping an activation between the two convolutions of a block, in [0, 1). Default 0.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.
    """

    architecture = "wide_resnet"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        depth: Count = 10,
        width: Count = 1,
        norm: Norm | None = None,
        dropout: Probability = 0.0,
        init: str | None = "kaiming_normal",
    ) -> None:
        channels, _, _ = check_image("wide_resnet", input_shape, 8)
        filters, size = [n * width for n in (16, 32, 64)], blocks_a_stage(depth, 6, others=4)
        stem = nn.Conv2d(channels, 16, 3, padding=1, bias=norm is None)
        super().__init__(stem, 16, filters, size, norm, dropout)
        self.norm = norm_layer(norm, filters[-1], spatial=True)
        self.head = nn.Linear(filters[-1], num_classes)
        finish(self, norm, init, self.head)

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the last map."""
        return F.relu(self.norm(super().features(x)))
