"""VGG nets for small images: VGG-11, VGG-19, ConvPool-CNN-C, and Frankle & Carbin's Conv-2, Conv-4 and Conv-6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

from torch import Tensor, nn

from lightning_regs.core.checks import Count, Probability, checked, nonempty
from lightning_regs.models.layers import (
    ConvNet,
    Factor,
    InputShape,
    Norm,
    check_image,
    finish,
    flatten,
    normalized,
    scaled,
)

Stages = tuple[tuple[int, ...], ...]


def convolutions(
    channels: int, stages: Stages, width: float, pools: int, norm: str | None = None, pool_first: bool = False
) -> tuple[list[nn.Module], int]:
    """Return stages of 3x3 convolutions with biases, each with a ReLU, and the number of channels that they end with.

    Args:
        channels: Number of input channels.
        stages: Filters of each convolution, a tuple a stage.
        width: Factor on the filters.
        pools: Stages that end in a 2x2 max pool. It rounds up: that lets 28x28 images through five of them, and changes
            nothing on 32x32.
        norm: What is behind each convolution, if it is a layer.
        pool_first: Puts the last ReLU of a stage after the pool, where it has a quarter of the elements to work on: the
            values and gradients are those of the usual order, and a training step of Conv-2 takes a tenth less time.
    """
    layers: list[nn.Module] = []
    for index, stage in enumerate(stages):
        for filters in scaled(width, *stage):
            layers += [*normalized(norm, nn.Conv2d(channels, filters, 3, padding=1)), nn.ReLU()]
            channels = filters
        if index < pools:
            layers.insert(len(layers) - pool_first, nn.MaxPool2d(2, ceil_mode=True))
    return layers, channels


class VGG(ConvNet):
    """The convolutions of a VGG net and one linear layer; the base of the three classes below.

    Simonyan & Zisserman, arXiv 1409.1556: 3x3 convolutions with biases, each with a ReLU, 2x2 max pools, the mean over
    what is left of the map, and ``head``. Shape: (N, C, H, W) to (N, num_classes); computed in channels_last.

    Args:
        input_shape: (C, H, W), H and W at least 8.
        num_classes: Number of logits.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's, with which
            signals fade over the layers. The default, ``"kaiming_normal"``, is He et al.'s for ReLU: variance
            2 / fan_in, biases 0.
        width: Factor on the number of filters. Default 1.
    """

    architecture: ClassVar[str]
    STAGES: ClassVar[Stages]
    POOLS: ClassVar[int]
    POINTWISE: ClassVar[int] = 0  # further 1x1 convolutions

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        norm: Norm | None = None,
        init: str | None = "kaiming_normal",
        width: Factor = 1.0,
    ) -> None:
        super().__init__()
        channels, _, _ = check_image(self.architecture, input_shape, 8)
        layers, channels = convolutions(channels, self.STAGES, width, self.POOLS, norm)
        for _ in range(self.POINTWISE):
            layers += [*normalized(norm, nn.Conv2d(channels, channels, 1)), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)
        finish(self, norm, init, self.head)


class VGG11(VGG):
    """VGG-11; 9,225,610 parameters on 3x32x32 with 10 classes. Arguments and errors are those of :class:`VGG`.

    Configuration A, as Novack et al., arXiv 2211.15853, train it on CIFAR-10, without batch norm by default. What is
    left of a 32x32 map is 1x1. ``features`` are torchvision's ``vgg11(...).features``, or ``vgg11_bn``'s with
    ``norm="batch"`` (9,231,114 parameters).
    """

    architecture = "vgg11"
    STAGES, POOLS = ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2), 5


class VGG19(VGG):
    """VGG-19; 20,040,522 parameters on 3x32x32 with 10 classes. Arguments and errors are those of :class:`VGG`.

    Configuration E, as Frankle & Carbin, arXiv 1803.03635, train it on CIFAR-10, with batch norm by default. The last
    stage has no pool, so what is left of a 32x32 map is 2x2: ``features`` are torchvision's ``vgg19_bn(...).features``
    without the last one, or ``vgg19``'s with ``norm=None`` (20,029,514 parameters). 20,018,880 parameters are weights
    of convolutions, 5,120 of the head.
    """

    architecture = "vgg19"
    STAGES, POOLS = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4), 4

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        norm: Norm | None = "batch",
        init: str | None = "kaiming_normal",
        width: Factor = 1.0,
    ) -> None:
        super().__init__(input_shape, num_classes, norm=norm, init=init, width=width)


class ConvPool(VGG):
    """ConvPool-CNN-C; 1,406,794 parameters on 3x32x32 with 10 classes. Arguments and errors are those of :class:`VGG`.

    Springenberg et al., arXiv 1412.6806, as Salimans & Kingma, arXiv 1602.07868, train it, from memory: seven 3x3
    convolutions of which the third and the sixth end in a max pool, two of 1x1, the mean over the map, a linear layer.
    Theirs has leaky ReLUs of slope 0.1, dropout behind the pools, and no padding in the seventh convolution.
    """

    architecture = "convpool"
    STAGES, POOLS, POINTWISE = ((96,) * 3, (192,) * 3, (192,)), 2, 2


class SmallVGG(ConvNet):
    """VGG scaled down to CIFAR-10; the base of :class:`Conv2`, :class:`Conv4` and :class:`Conv6`.

    Frankle & Carbin, arXiv 1803.03635, after Simonyan & Zisserman, arXiv 1409.1556. Each stage is two 3x3 convolutions
    with a ReLU each, then a 2x2 max pool; the features, flattened in (H, W, C) order, go through linear layers of 256,
    256 and ``num_classes``. Shape: (N, C, H, W) to (N, num_classes); computed in channels_last. The VGG-9 of Li et al.,
    arXiv 1712.09913, is ``stages=[[64, 64], [128, 128], [256, 256, 256]]``, ``hidden=[256]`` and ``norm="batch"``.

    Args:
        input_shape: (C, H, W); H and W at least 2, 4 and 8 for one, two and three stages.
        num_classes: Number of logits.
        dropout: Probability of dropping a unit of the two hidden linear layers, in [0, 1); the paper's runs with
            dropout take 0.5, and where it acts is not in what was read of it. Default 0.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's. The default,
            ``"xavier_normal"``, is the paper's: Gaussian Glorot weights, biases 0.
        width: Factor on the number of filters and hidden units. Default 1.
        stages: Filters of each convolution, a list a stage; None for those of the class.
        hidden: Units of each hidden linear layer.
    """

    architecture: ClassVar[str]
    STAGES: ClassVar[Stages]

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        dropout: Probability = 0.0,
        norm: Norm | None = None,
        init: str | None = "xavier_normal",
        width: Factor = 1.0,
        stages: Annotated[Sequence[Sequence[Count]], nonempty] | None = None,
        hidden: Sequence[Count] = (256, 256),
    ) -> None:
        super().__init__()
        made = tuple(map(tuple, stages or self.STAGES))
        shrink = 2 ** len(made)
        channels, height, columns = check_image(self.architecture, input_shape, shrink)
        layers, channels = convolutions(channels, made, width, len(made), norm, pool_first=True)
        self.features = nn.Sequential(*layers)
        units = channels * math.ceil(height / shrink) * math.ceil(columns / shrink)
        classifier: list[nn.Module] = []
        for size in scaled(width, *hidden):
            linear, drop = normalized(norm, nn.Linear(units, size)), [nn.Dropout(dropout)] if dropout else []
            classifier += [*linear, nn.ReLU(), *drop]
            units = size
        self.classifier = nn.Sequential(*classifier)
        self.head = nn.Linear(units, num_classes)
        finish(self, norm, init, self.head)

    def embed(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the units of the last hidden layer (N, 256)."""
        units: Tensor = self.classifier(flatten(self.features(x)))
        return units


class Conv2(SmallVGG):
    """Conv-2, one stage; 4,301,642 parameters on 3x32x32. Arguments and errors are those of :class:`SmallVGG`.

    Of the parameters 38,592 are convolutional and 4,262,400 linear weights, 650 are biases.
    """

    architecture = "conv2"
    STAGES = ((64,) * 2,)


class Conv4(SmallVGG):
    """Conv-4, two stages; 2,425,930 parameters on 3x32x32. Arguments and errors are those of :class:`SmallVGG`.

    Of the parameters 259,776 are convolutional and 2,165,248 linear weights, 906 are biases.
    """

    architecture = "conv4"
    STAGES = ((64,) * 2, (128,) * 2)


class Conv6(SmallVGG):
    """Conv-6, three stages; 2,262,602 parameters on 3x32x32. Arguments and errors are those of :class:`SmallVGG`.

    Of the parameters 1,144,512 are convolutional and 1,116,672 linear weights, 1,418 are biases. The paper's table says
    1.7M weights, which its layers do not give: that would take 2,048 features where three pools of 32x32 leave
    4x4x256 = 4,096. Its percentages of weights remaining fit the net of this class.
    """

    architecture = "conv6"
    STAGES = ((64,) * 2, (128,) * 2, (256,) * 2)
