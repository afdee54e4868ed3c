"""LeNet-5."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from lightning_regs.core.checks import Count, Whole, checked, nonempty
from lightning_regs.models.layers import ConvNet, InputShape, Norm, activation_layer, check_image, finish, normalized

POOLS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
"""Poolings by name."""


class LeNet(ConvNet):
    """LeNet-5 as it is commonly taught; 61,706 parameters on 1x28x28, 62,006 on 3x32x32, with 10 classes.

    LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998 (before arXiv): 5x5
    convolutions with 6 and 16 filters, each with a 2x2 pool, then linear layers of 120, 84 and ``num_classes``. The
    paper's net is for 32x32 images, MNIST's 28x28 in a frame of 2 zeros: here the first convolution pads images by
    those 2 where a side is below 32, and nothing larger. Unlike the paper's, all filters of the second convolution see
    all 6 maps, pools have no weights, and the head is linear. Shape: (N, C, H, W) to (N, num_classes); computed in
    channels_last whatever the input's memory format, and flattened in (C, H, W) order. With ``filters=(20, 50),
    hidden=(500,), padding=0`` it is the LeNet of Caffe's examples, 431,080 parameters on 1x28x28, but for activations
    behind its convolutions.

    Args:
        input_shape: (C, H, W), H and W at least 12; 16 where ``padding=0``.
        num_classes: Number of logits.
        activation: A key of :data:`~lightning_regs.models.layers.ACTIVATIONS`. Default ``"relu"``.
        pool: ``"max"`` or ``"average"``. Default ``"max"``.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None.
        filters: Filters of both convolutions.
        hidden: Width of each hidden linear layer.
        padding: Of the first convolution; default: that which is described above.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's.
    """

    architecture = "lenet"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        activation: str = "relu",
        pool: Literal["max", "average"] = "max",
        norm: Norm | None = None,
        filters: tuple[Count, Count] = (6, 16),
        hidden: Annotated[Sequence[Count], nonempty] = (120, 84),
        padding: Whole | None = None,
        init: str | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = check_image("lenet", input_shape, 12 if padding is None else max(1, 16 - 2 * padding))
        padding = (2 if min(height, width) < 32 else 0) if padding is None else padding
        rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in (height, width))
        first, second = filters
        features: list[nn.Module] = []
        for convolution in (nn.Conv2d(channels, first, 5, padding=padding), nn.Conv2d(first, second, 5)):
            features += [*normalized(norm, convolution), activation_layer(activation), POOLS[pool](2)]
        self.features = nn.Sequential(*features)
        units: list[nn.Module] = [nn.Flatten()]
        sizes = [second * rows * columns, *hidden]
        for layer in itertools.starmap(nn.Linear, itertools.pairwise(sizes)):
            units += [*normalized(norm, layer), activation_layer(activation)]
        self.classifier = nn.Sequential(*units)
        self.head = nn.Linear(sizes[-1], num_classes)
        finish(self, norm, init, self.head)

    def embed(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the units of the last hidden layer (N, hidden[-1])."""
        units: Tensor = self.classifier(self.features(x))
        return units
