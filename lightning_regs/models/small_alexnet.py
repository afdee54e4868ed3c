"""The small AlexNet of Zhang et al."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from lightning_regs.core.checks import Count, Probability, checked
from lightning_regs.models.layers import (
    LAYERS,
    MONOTONE,
    ConvNet,
    Factor,
    InputShape,
    Norm,
    activation_layer,
    check_image,
    finish,
    flatten,
    norm_layer,
    scaled,
)
from lightning_regs.models.lrn import LocalResponseNorm


class SmallAlexNet(ConvNet):
    """Two convolutions with local response normalisation and three linear layers; 1,387,786 parameters on 3x28x28.

    Zhang et al., arXiv 1611.03530, Appendix A: (convolution 5x5, max pool 3x3, local response normalisation) twice,
    linear 384, 192 and ``num_classes``. The 64 filters a convolution are the number that gives the paper's count.
    Shape: (N, C, H, W) to (N, num_classes); computed in channels_last whatever the input's memory format.

    Three choices are invisible in what the net can learn. The activation comes after the pool, where it has a quarter
    of the elements to work on: it is monotone, so the values and gradients are those of the order in the paper
    (activations that are not monotone stay before the pool). The features are flattened in (H, W, C) order, as in
    TensorFlow. Pooling pads by 1 on every side, where TensorFlow's "same" pads an even size below and to the right
    only: as long as every halved size is even (28, 32, 8), that is the same net on images turned by 180 degrees.

    Args:
        input_shape: (C, H, W), H and W at least 4; each stage halves them, rounding up.
        num_classes: Number of logits.
        activation: A key of :data:`~lightning_regs.models.layers.ACTIVATIONS`. Default ``"relu"``.
        norm: ``"lrn"`` is the paper's; or a :data:`~lightning_regs.models.layers.Norm` on all layers but the head;
            None is none at all.
        dropout: Probability of dropping a unit of the two hidden linear layers, in [0, 1). Default 0.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's.
        width: Factor on the number of filters and hidden units. Default 1.
    """

    architecture = "small_alexnet"

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        activation: str = "relu",
        norm: Norm | Literal["lrn"] | None = "lrn",
        dropout: Probability = 0.0,
        init: str | None = None,
        width: Factor = 1.0,
    ) -> None:
        super().__init__()
        channels, height, columns = check_image("small_alexnet", input_shape, 4)
        filters, wide, narrow = scaled(width, 64, 384, 192)
        features: OrderedDict[str, nn.Module] = OrderedDict()
        for stage in (1, 2):
            features[f"conv{stage}"] = nn.Conv2d(channels, filters, 5, padding=2)
            if norm in LAYERS:
                features[f"norm{stage}"] = norm_layer(norm, filters, spatial=True)
            act, pool = (f"act{stage}", activation_layer(activation)), (f"pool{stage}", nn.MaxPool2d(3, 2, padding=1))
            features.update((pool, act) if activation in MONOTONE else (act, pool))
            if norm == "lrn":
                features[f"norm{stage}"] = LocalResponseNorm(size=9, alpha=0.001, beta=0.75, k=1.0)
            channels, height, columns = filters, (height + 1) // 2, (columns + 1) // 2
        units = channels * height * columns
        classifier: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, size in ((3, wide), (4, narrow)):
            classifier[f"fc{stage}"] = nn.Linear(units, size)
            if norm in LAYERS:
                classifier[f"norm{stage}"] = norm_layer(norm, size, spatial=False)
            classifier[f"act{stage}"] = activation_layer(activation)
            if dropout:
                classifier[f"drop{stage}"] = nn.Dropout(dropout)
            units = size
        self.features = nn.Sequential(features)
        self.classifier = nn.Sequential(classifier)
        self.head = nn.Linear(units, num_classes)
        finish(self, norm, init, self.head)

    def embed(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the units of the last hidden layer (N, 192)."""
        units: Tensor = self.classifier(flatten(self.features(x)))
        return units
