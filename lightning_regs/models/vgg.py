"""VGG-11 and VGG-19 for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_image, check_norm, norm_layer, scaled, to_channels_last


class _VGG(nn.Module):
    NAME: ClassVar[str]
    STAGES: ClassVar[tuple[tuple[int, ...], ...]]
    POOLS: ClassVar[int]
    MINIMUM_SIZE = 8

    def __init__(
        self, input_shape: Sequence[int], num_classes: int, norm: str | None, init: str | None, width: float
    ) -> None:
        super().__init__()
        channels, _, _ = check_image(self.NAME, input_shape, num_classes, self.MINIMUM_SIZE)
        check_norm(norm, ("batch",))
        layers: list[nn.Module] = []
        for index, stage in enumerate(self.STAGES):
            for filters in scaled(width, *stage):
                layers.append(nn.Conv2d(channels, filters, 3, padding=1))
                if norm is not None:
                    layers.append(norm_layer(norm, filters, spatial=True))
                layers.append(nn.ReLU())
                channels = filters
            if index < self.POOLS:
                # Rounding up lets 28x28 images through five pools and changes nothing on 32x32.
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(to_channels_last(x)).mean(dim=(2, 3)))
        return logits


class VGG11(_VGG):
    """The convolutions of VGG-11 and one linear layer; 9,225,610 parameters on 3x32x32 with 10 classes.

    Simonyan & Zisserman, arXiv 1409.1556, configuration A, as Novack et al., arXiv 2211.15853, train it on CIFAR-10:
    3x3 convolutions with biases, each with a ReLU, 2x2 max pools that round up, the mean over what is left of the map
    (1x1 on 32x32), and ``head``. ``features`` are torchvision's ``vgg11(...).features``, or ``vgg11_bn``'s with
    ``norm="batch"`` (9,231,114 parameters). Shape: (N, C, H, W) to (N, num_classes); computed in channels_last whatever
    the input's memory format.

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        norm: ``"batch"`` normalises all pre-activations but the logits, None is none at all. Default None.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's, with which
            signals fade over the layers. The default, ``"kaiming_normal"``, is He et al.'s for ReLU: variance
            2 / fan_in, biases 0.
        width: Factor on the number of filters. Default 1.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    NAME = "vgg11"
    STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    POOLS = 5

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        norm: str | None = None,
        init: str | None = "kaiming_normal",
        width: float = 1.0,
    ) -> None:
        super().__init__(input_shape, num_classes, norm, init, width)


class VGG19(_VGG):
    """The convolutions of VGG-19, batch norm and one linear layer; 20,040,522 parameters on 3x32x32 with 10 classes.

    Simonyan & Zisserman, arXiv 1409.1556, configuration E, as Frankle & Carbin, arXiv 1803.03635, train it on CIFAR-10:
    3x3 convolutions with biases, each with batch norm and a ReLU, 2x2 max pools that round up after the first four
    stages, the mean over what is left of the map (2x2 on 32x32), and ``head``. ``features`` are torchvision's
    ``vgg19_bn(...).features`` without the last max pool, or ``vgg19``'s with ``norm=None`` (20,029,514 parameters).
    20,018,880 parameters are weights of convolutions, 5,120 of the head. Shape: (N, C, H, W) to (N, num_classes);
    computed in channels_last whatever the input's memory format.

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        norm: ``"batch"`` normalises all pre-activations but the logits, None is none at all. Default ``"batch"``.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None keeps torch's. The default,
            ``"kaiming_normal"``, is He et al.'s for ReLU: variance 2 / fan_in, biases 0.
        width: Factor on the number of filters. Default 1.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or a number is out of its range.
    """

    NAME = "vgg19"
    STAGES = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
    POOLS = 4

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        norm: str | None = "batch",
        init: str | None = "kaiming_normal",
        width: float = 1.0,
    ) -> None:
        super().__init__(input_shape, num_classes, norm, init, width)
