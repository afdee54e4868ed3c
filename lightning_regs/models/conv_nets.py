"""Conv-2, Conv-4 and Conv-6 of Frankle & Carbin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_dropout, check_image, scaled, to_channels_last


class _ConvNet(nn.Module):
    NAME: ClassVar[str]
    STAGES: ClassVar[tuple[int, ...]]
    HIDDEN: ClassVar[int] = 256

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        dropout: float = 0.0,
        init: str | None = "xavier_normal",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        channels, height, columns = check_image(self.NAME, input_shape, num_classes, 2 ** len(self.STAGES))
        check_dropout(dropout)
        features: list[nn.Module] = []
        for filters in scaled(width, *self.STAGES):
            features += [
                nn.Conv2d(channels, filters, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(filters, filters, 3, padding=1),
            ]
            # The last ReLU of a stage comes after the pool, where it has a quarter of the elements to work on: the
            # values and gradients are those of the usual order, and a training step of Conv-2 takes a tenth less time.
            features += [nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
            channels, height, columns = filters, (height + 1) // 2, (columns + 1) // 2
        (hidden,) = scaled(width, self.HIDDEN)
        classifier: list[nn.Module] = []
        units = channels * height * columns
        for _ in range(2):
            classifier += [nn.Linear(units, hidden), nn.ReLU()]
            if dropout:
                classifier += [nn.Dropout(dropout)]
            units = hidden
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier)
        self.head = nn.Linear(units, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        features = self.features(to_channels_last(x))
        # In the order in which channels_last lies in memory: another one would copy the features.
        logits: Tensor = self.head(self.classifier(features.permute(0, 2, 3, 1).flatten(1)))
        return logits


class Conv2(_ConvNet):
    """Conv-2: two 3x3 convolutions of 64 filters and three linear layers; 4,301,642 parameters on 3x32x32.

    Frankle & Carbin, arXiv 1803.03635: VGG, arXiv 1409.1556, scaled down to CIFAR-10. Each stage is two 3x3
    convolutions with padding 1 and a ReLU each, then a 2x2 max pool that rounds up; then linear layers of 256, 256 and
    ``num_classes``. Of the parameters 38,592 are convolutional and 4,262,400 linear weights, 650 are biases. Shape:
    (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's memory format, and flattened in
    (H, W, C) order.

    Args:
        input_shape: (C, H, W), H and W at least 2.
        num_classes: Number of logits.
        dropout: Probability of dropping a unit of the two hidden linear layers, in [0, 1); the paper's runs with
            dropout take 0.5, and where it acts is not in what was read of it. Default 0.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's. The default,
            ``"xavier_normal"``, is the paper's: Gaussian Glorot weights, biases 0.
        width: Factor on the number of filters and hidden units. Default 1.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    NAME = "conv2"
    STAGES = (64,)


class Conv4(_ConvNet):
    """Conv-4: Conv-2's stage and one of 128 filters; 2,425,930 parameters on 3x32x32.

    Frankle & Carbin, arXiv 1803.03635; everything else is as in :class:`Conv2`. Of the parameters 259,776 are
    convolutional and 2,165,248 linear weights, 906 are biases.

    Args:
        input_shape: (C, H, W), H and W at least 4.
        num_classes: Number of logits.
        dropout: As in :class:`Conv2`.
        init: As in :class:`Conv2`.
        width: As in :class:`Conv2`.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    NAME = "conv4"
    STAGES = (64, 128)


class Conv6(_ConvNet):
    """Conv-6: Conv-4's stages and one of 256 filters; 2,262,602 parameters on 3x32x32.

    Frankle & Carbin, arXiv 1803.03635; everything else is as in :class:`Conv2`. Of the parameters 1,144,512 are
    convolutional and 1,116,672 linear weights, 1,418 are biases. The paper's table says 1.7M weights, which its layers
    do not give: that would take 2,048 features where three pools of 32x32 leave 4x4x256 = 4,096. Its percentages of
    weights remaining fit the net of this class.

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        dropout: As in :class:`Conv2`.
        init: As in :class:`Conv2`.
        width: As in :class:`Conv2`.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    NAME = "conv6"
    STAGES = (64, 128, 256)
