"""Residual nets for small images: ResNet-18, ResNet-20 and ResNet-110, also without their shortcuts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from lightning_regs.core.checks import Count, checked
from lightning_regs.models.layers import ConvNet, InputShape, Norm, blocks_a_stage, check_image, finish

Shortcut = Literal["conv", "avgpool", "pad"]
"""How the shortcut of a halving block goes to the new shape."""


class PaddedShortcut(nn.Module):
    """Every other pixel, and as many channels of zeros behind them: (N, C, H, W) to (N, 2C, H / 2, W / 2), rounded up.

    Option A of He et al., arXiv 1512.03385: without parameters.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Halve the sides and double the channels."""
        return F.pad(x[..., ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))


class NoShortcut(nn.Module):
    """Adds nothing to a block: its layers are then a plain net's, as in arXiv 1712.09913."""

    def forward(self, x: Tensor) -> Tensor:
        """Return 0."""
        return x.new_zeros(())


class ResNet(ConvNet):
    """Stages of torchvision's ``BasicBlock`` behind one 3x3 convolution; the base of the ResNets.

    He et al., arXiv 1512.03385: every stage but the first halves the image, rounding up, and doubles the filters; then
    the mean over the whole map, and ``head``. Every convolution has batch norm, so a sample's gradient depends on the
    others of its batch, unless ``norm`` of a net below says otherwise. Shape: (N, C, H, W) to (N, num_classes);
    computed in channels_last. Names are torchvision's, so that its weights load here but for the head, its ``fc``.

    Args:
        channels: Number of input channels.
        num_classes: Number of logits.
        width: Filters of the first convolution and of the first stage.
        stages: Number of stages.
        blocks: Blocks in each of them.
        shortcut: How a halving block's shortcut goes to the new shape: ``"conv"`` is a 1x1 convolution of stride 2,
            ``"avgpool"`` a 2x2 average pool and a 1x1 convolution of stride 1, as Geiping et al. do (He et al.,
            arXiv 1812.01187), batch norm following either; ``"pad"`` is :class:`PaddedShortcut`. With None no block
            has a shortcut.
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
        shortcut: Shortcut | None = "conv",
        first_is_last: bool = False,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks)))
        for stage in range(2, stages + 1):
            if shortcut in (None, "pad"):
                downsample: nn.Module = PaddedShortcut()
            else:
                pool = [nn.AvgPool2d(2, ceil_mode=True)] if shortcut == "avgpool" else []
                projection = nn.Conv2d(width, 2 * width, 1, stride=1 if pool else 2, bias=False)
                downsample = nn.Sequential(*pool, projection, nn.BatchNorm2d(2 * width))
            others: Iterable[nn.Module] = (BasicBlock(2 * width, 2 * width) for _ in range(blocks - 1))
            if first_is_last:
                others = list(others)
            self.add_module(f"layer{stage}", nn.Sequential(BasicBlock(width, 2 * width, 2, downsample), *others))
            width *= 2
        for block in self.modules() if shortcut is None else ():
            if isinstance(block, BasicBlock):
                block.downsample = NoShortcut()
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
        shortcut: ``"conv"``, ``"avgpool"``, ``"pad"`` or None, see :class:`ResNet`. Default ``"conv"``.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None. Default ``"batch"``.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.
    """

    architecture = "resnet18"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        width: Count = 64,
        shortcut: Shortcut | None = "conv",
        norm: Norm | None = "batch",
        init: str | None = "kaiming_normal",
    ) -> None:
        channels, _, _ = check_image("resnet18", input_shape, 8)
        super().__init__(channels, num_classes, width, stages=4, blocks=2, shortcut=shortcut)
        finish(self, norm, init, self.head)


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
        shortcut: ``"conv"``, ``"avgpool"``, ``"pad"`` or None, see :class:`ResNet`. Default ``"conv"``.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None. Default ``"batch"``.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.
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
        shortcut: Shortcut | None = "conv",
        norm: Norm | None = "batch",
        init: str | None = "kaiming_normal",
    ) -> None:
        channels, _, _ = check_image(self.architecture, input_shape, 4)
        blocks = blocks_a_stage(depth, 6, others=2)
        super().__init__(channels, num_classes, width, 3, blocks, shortcut, first_is_last=True)
        finish(self, norm, init, self.head)


class ResNet110(ResNet20):
    """ResNet-110 for small images; 1,727,962 parameters on 3x32x32 with 10 classes.

    He et al., arXiv 1512.03385, section 4.2, as Huang et al., arXiv 1704.00109, ensemble it: :class:`ResNet20` with 18
    blocks a stage and shortcuts without parameters. Arguments and errors are those of :class:`ResNet20`.
    """

    architecture = "resnet110"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        depth: Count = 110,
        width: Count = 16,
        shortcut: Shortcut | None = "pad",
        norm: Norm | None = "batch",
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__(input_shape, num_classes, depth=depth, width=width, shortcut=shortcut, norm=norm, init=init)
