"""ResNet-18 for small images, of torchvision's blocks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from lightning_regs.core.names import unknown_name
from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_image, to_channels_last

SHORTCUTS = ("conv", "avgpool")
"""How the shortcut of a halving block halves."""


class ResNet18(nn.Module):
    """ResNet-18 with the CIFAR stem; 11,173,962 parameters on 3x32x32 with 10 classes.

    He et al., arXiv 1512.03385, as Geiping et al., arXiv 2109.14119, and Novack et al., arXiv 2211.15853, train it on
    CIFAR-10: a 3x3 convolution of stride 1 and no max pool, four stages of two of torchvision's ``BasicBlock``, the
    mean over the whole map, and ``head``. With ``shortcut="conv"`` it is torchvision's ``resnet18`` with that stem.
    Shape: (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's memory format. Every
    convolution has batch norm, so a sample's gradient depends on the others of its batch; ``wide_resnet`` does without.

    Args:
        input_shape: (C, H, W), H and W at least 8; three stages halve them, rounding up.
        num_classes: Number of logits.
        width: Filters of the stem and of the first stage, an integer; the stages have 1, 2, 4 and 8 times as many.
            Default 64; 16 has about a sixteenth of the parameters.
        shortcut: How a halving block's shortcut goes to the new shape: ``"conv"`` is a 1x1 convolution of stride 2,
            ``"avgpool"`` a 2x2 average pool and a 1x1 convolution of stride 1, as Geiping et al. do (He et al.,
            arXiv 1812.01187); batch norm follows either. Default ``"conv"``.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.

    Raises:
        TypeError: If a size or the width is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    MINIMUM_SIZE = 8

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        width: int = 64,
        shortcut: str = "conv",
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__()
        channels, _, _ = check_image("resnet18", input_shape, num_classes, self.MINIMUM_SIZE)
        if not isinstance(width, int):
            raise TypeError(f"width must be an integer, the filters of the first stage, such as 64, got {width!r}.")
        if width < 1:
            raise ValueError(f"width must be at least 1, the filters of the first stage, got {width}.")
        if shortcut not in SHORTCUTS:
            raise unknown_name("shortcut", shortcut, SHORTCUTS)
        # torchvision's names, so that its weights load here but for the head, which it calls fc.
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width), BasicBlock(width, width))
        self.layer2 = _halving_stage(width, shortcut)
        self.layer3 = _halving_stage(2 * width, shortcut)
        self.layer4 = _halving_stage(4 * width, shortcut)
        self.head = nn.Linear(8 * width, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        features = F.relu(self.bn1(self.conv1(to_channels_last(x))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def _halving_stage(channels: int, shortcut: str) -> nn.Sequential:
    """Return two blocks: (N, C, H, W) to (N, 2 C, H / 2, W / 2), rounded up."""
    filters = 2 * channels
    if shortcut == "avgpool":
        pool, stride = [nn.AvgPool2d(2, ceil_mode=True)], 1
    else:
        pool, stride = [], 2
    projection = nn.Sequential(*pool, nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
    return nn.Sequential(BasicBlock(channels, filters, 2, projection), BasicBlock(filters, filters))
