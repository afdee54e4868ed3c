"""VGG-11 for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_image, check_norm, norm_layer, scaled, to_channels_last


class VGG11(nn.Module):
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

    MINIMUM_SIZE = 8
    STAGES: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        norm: str | None = None,
        init: str | None = "kaiming_normal",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        channels, _, _ = check_image("vgg11", input_shape, num_classes, self.MINIMUM_SIZE)
        check_norm(norm, ("batch",))
        layers: list[nn.Module] = []
        for stage in self.STAGES:
            for filters in scaled(width, *stage):
                layers.append(nn.Conv2d(channels, filters, 3, padding=1))
                if norm is not None:
                    layers.append(norm_layer(norm, filters, spatial=True))
                layers.append(nn.ReLU())
                channels = filters
            # Rounding up lets 28x28 images through five pools and changes nothing on 32x32.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(to_channels_last(x)).mean(dim=(2, 3)))
        return logits
