"""Residual nets for small images: ResNet-18, ResNet-20 and its relatives, and wide ResNets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter
from torchvision.models.resnet import BasicBlock

from lightning_regs.core.checks import Count, checked
from lightning_regs.init import initialize
from lightning_regs.models.layers import ConvNet, InputShape, Probability, check_image, norm_layer

Shortcut = Literal["conv", "avgpool"]
"""How the shortcut of a halving block halves."""


class ResNet(ConvNet):
    """Stages of torchvision's ``BasicBlock`` behind one 3x3 convolution; the base of ``ResNet18`` and ``ResNet20``.

    He et al., arXiv 1512.03385: every stage but the first halves the image, rounding up, and doubles the filters; then
    the mean over the whole map, and ``head``. Every convolution has batch norm, so a sample's gradient depends on the
    others of its batch; :class:`WideResNet` does without. Shape: (N, C, H, W) to (N, num_classes); computed in
    channels_last. Names are torchvision's, so that its weights load here but for the head, which it calls ``fc``.

    Args:
        channels: Number of input channels.
        num_classes: Number of logits.
        width: Filters of the first convolution and of the first stage.
        stages: Number of stages.
        blocks: Blocks in each of them.
        shortcut: One of ``"conv"`` and ``"avgpool"``.
        first_is_last: Whether the first block of a halving stage draws its weights after the others. It decides what a
            seed gives where torch's initial weights are kept.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        width: int,
        stages: int,
        blocks: int,
        shortcut: Shortcut = "conv",
        first_is_last: bool = False,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks)))
        for stage in range(2, stages + 1):
            pool = [nn.AvgPool2d(2, ceil_mode=True)] if shortcut == "avgpool" else []
            projection = nn.Conv2d(width, 2 * width, 1, stride=1 if pool else 2, bias=False)
            downsample = nn.Sequential(*pool, projection, nn.BatchNorm2d(2 * width))
            others: Iterable[nn.Module] = (BasicBlock(2 * width, 2 * width) for _ in range(blocks - 1))
            if first_is_last:
                others = list(others)
            self.add_module(f"layer{stage}", nn.Sequential(BasicBlock(width, 2 * width, 2, downsample), *others))
            width *= 2
        self.head = nn.Linear(width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the last map."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x


class ResNet18(ResNet):
    """ResNet-18 with the CIFAR stem; 11,173,962 parameters on 3x32x32 with 10 classes.

    He et al., arXiv 1512.03385, as Geiping et al., arXiv 2109.14119, and Novack et al., arXiv 2211.15853, train it on
    CIFAR-10: a first convolution of stride 1, no max pool, and four stages of two blocks of :class:`ResNet`. With
    ``shortcut="conv"`` it is torchvision's ``resnet18`` with that stem.

    Args:
        input_shape: (C, H, W), H and W at least 8; three stages halve them, rounding up.
        num_classes: Number of logits.
        width: Filters of the stem and of the first stage, an integer; the stages have 1, 2, 4 and 8 times as many.
            Default 64; 16 has about a sixteenth of the parameters.
        shortcut: How a halving block's shortcut goes to the new shape: ``"conv"`` is a 1x1 convolution of stride 2,
            ``"avgpool"`` a 2x2 average pool and a 1x1 convolution of stride 1, as Geiping et al. do (He et al.,
            arXiv 1812.01187); batch norm follows either. Default ``"conv"``.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.

    Raises:
        TypeError: If a size or the width is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    architecture = "resnet18"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        width: Count = 64,
        shortcut: Shortcut = "conv",
        init: str | None = "kaiming_normal",
    ) -> None:
        channels, _, _ = check_image("resnet18", input_shape, 8)
        super().__init__(channels, num_classes, width, stages=4, blocks=2, shortcut=shortcut)
        initialize(self, init)


class ResNet20(ResNet):
    """ResNet-20 for small images, or another depth; 272,474 parameters on 3x32x32 with 10 classes.

    He et al., arXiv 1512.03385, section 4.2: three stages of (d - 2) / 6 blocks of :class:`ResNet` with 16, 32 and 64
    filters. Frankle & Carbin, arXiv 1803.03635, call it ResNet-18, and give its shortcuts 1x1 convolutions with batch
    norm where the shape changes, in place of the parameter-free ones of He et al. Of the parameters 267,696 are weights
    of 3x3 convolutions, 2,560 of shortcuts and 640 of the head, together 270,896; 1,568 are batch norm's and 10 the
    head's biases.

    Args:
        input_shape: (C, H, W), H and W at least 4; two stages halve them, rounding up.
        num_classes: Number of logits.
        depth: Number d of layers with weights on the longest path, 6n + 2 with n blocks a stage. Default 20.
        width: Filters of the stem and of the first stage, an integer; the stages have 1, 2 and 4 times as many.
            Default 16.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.

    Raises:
        TypeError: If a size, the depth or the width is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    architecture = "resnet20"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        depth: Count = 20,
        width: Count = 16,
        init: str | None = "kaiming_normal",
    ) -> None:
        channels, _, _ = check_image("resnet20", input_shape, 4)
        blocks = _blocks(depth, others=2)
        super().__init__(channels, num_classes, width, stages=3, blocks=blocks, first_is_last=True)
        initialize(self, init)


class WideBlock(nn.Module):
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
        norm: ``"batch"`` or None.
        dropout: Probability of dropping an activation, in [0, 1).
    """

    skip_scale: Parameter | None

    def __init__(self, channels: int, filters: int, stride: int, norm: str | None, dropout: float) -> None:
        super().__init__()
        bias = norm is None
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
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(active)
        return shortcut + branch


class WideResNet(ConvNet):
    """Wide ResNet d-k, without normalisation by default, as in Smith et al., arXiv 2101.12176.

    Zagoruyko & Komodakis, arXiv 1605.07146: a 3x3 convolution with 16 filters, three groups of (d - 4) / 6
    :class:`WideBlock` with 16k, 32k and 64k filters and strides 1, 2, 2, then (batch norm) ReLU, the mean over the
    whole map, and ``head``. Shape: (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's
    memory format. Parameters on 3x32x32 with 10 classes:

    ======  ===============  =========
    d-k     norm="batch"     norm=None
    ======  ===============  =========
    10-1    77,850           77,709
    10-4    1,198,810        1,198,349
    16-4    2,748,890        2,747,536
    ======  ===============  =========

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        depth: Number d of convolutions on the longest path and the head, 6n + 4 with n blocks a group. Default 10.
        width: Factor k on the filters of the groups, an integer. Default 1.
        norm: ``"batch"``, or None for biases and SkipInit.
        dropout: Probability of dropping an activation between the two convolutions of a block, in [0, 1). Default 0.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.

    Raises:
        TypeError: If a size, the depth or the width is not an integer.
        ValueError: If a size, a name or a number is out of its range.
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
        norm: Literal["batch"] | None = None,
        dropout: Probability = 0.0,
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__()
        channels, _, _ = check_image("wide_resnet", input_shape, 8)
        size = _blocks(depth, others=4)
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=norm is None)
        blocks, channels = [], 16
        for group, filters in enumerate((16 * width, 32 * width, 64 * width)):
            for block in range(size):
                blocks.append(WideBlock(channels, filters, 2 if group and not block else 1, norm, dropout))
                channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm_layer(norm, channels, spatial=True)
        self.head = nn.Linear(channels, num_classes)
        initialize(self, init)

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the last map."""
        return F.relu(self.norm(self.blocks(self.stem(x))))


def _blocks(depth: int, others: int) -> int:
    """Return n, the blocks in each of three stages, of a net of ``depth`` = 6n + ``others`` layers."""
    blocks, rest = divmod(depth - others, 6)
    if blocks < 1 or rest:
        examples = ", ".join(str(6 * n + others) for n in (1, 2, 3))
        raise ValueError(f"depth must be 6n + {others}, with n blocks in each stage, got {depth}: take {examples}, ...")
    return blocks
