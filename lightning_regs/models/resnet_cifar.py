"""He et al.'s residual networks for CIFAR: ResNet-20 and its relatives."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_image, to_channels_last


class ResNet20(nn.Module):
    """ResNet-20 for small images, or another depth; 272,474 parameters on 3x32x32 with 10 classes.

    He et al., arXiv 1512.03385, section 4.2: a 3x3 convolution with 16 filters, three stages of (d - 2) / 6 of
    torchvision's ``BasicBlock`` with 16, 32 and 64 filters, the last two of which halve the image, the mean over the
    whole map, and ``head``; every convolution has batch norm. Frankle & Carbin, arXiv 1803.03635, call it ResNet-18,
    and give its shortcuts 1x1 convolutions with batch norm where the shape changes, in place of the parameter-free
    ones of He et al. Of the parameters 267,696 are weights of 3x3 convolutions, 2,560 of shortcuts and 640 of the head,
    together 270,896; 1,568 are batch norm's and 10 the head's biases. Shape: (N, C, H, W) to (N, num_classes);
    computed in channels_last whatever the input's memory format. Batch norm makes a sample's gradient depend on the
    others of its batch; ``wide_resnet`` does without.

    Args:
        input_shape: (C, H, W), H and W at least 4; two stages halve them, rounding up.
        num_classes: Number of logits.
        depth: Number d of layers with weights on the longest path, 6n + 2 with n blocks a stage. Default 20.
        width: Filters of the stem and of the first stage, an integer; the stages have 1, 2 and 4 times as many.
            Default 16.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.

    Raises:
        TypeError: If a size, the depth or the width is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    MINIMUM_SIZE = 4

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        depth: int = 20,
        width: int = 16,
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__()
        channels, _, _ = check_image("resnet20", input_shape, num_classes, self.MINIMUM_SIZE)
        if not isinstance(depth, int) or not isinstance(width, int):
            raise TypeError(f"depth and width must be integers, as in 20 and 16, got {depth!r} and {width!r}.")
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2, with n blocks in each stage, got {depth}: take 8, 14, 20, ...")
        if width < 1:
            raise ValueError(f"width must be at least 1, the filters of the first stage, got {width}.")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks)))
        self.layer2 = _halving_stage(width, blocks)
        self.layer3 = _halving_stage(2 * width, blocks)
        self.head = nn.Linear(4 * width, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        features = F.relu(self.bn1(self.conv1(to_channels_last(x))))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def _halving_stage(channels: int, blocks: int) -> nn.Sequential:
    """Return blocks that map (N, C, H, W) to (N, 2 C, H / 2, W / 2), rounded up."""
    filters = 2 * channels
    # torchvision's name, downsample, holds the projection: its index 0 is the convolution, 1 the batch norm.
    projection = nn.Sequential(nn.Conv2d(channels, filters, 1, 2, bias=False), nn.BatchNorm2d(filters))
    following = [BasicBlock(filters, filters) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels, filters, 2, projection), *following)
