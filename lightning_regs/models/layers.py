"""What the architectures share: activations, normalisation, input checks and memory format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lightning_regs.core.names import unknown_name

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
"""Activation functions by name."""

MONOTONE = frozenset(ACTIVATIONS) - {"gelu", "silu"}
"""Activations that never decrease, and so commute with max pooling."""

NORMS = ("batch", "layer", "weight")
"""Normalisations that every small net takes."""


def activation_layer(name: str) -> nn.Module:
    """Return an activation by name.

    Args:
        name: A key of :data:`ACTIVATIONS`.

    Returns:
        A fresh module.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def check_norm(norm: str | None, options: Sequence[str] = NORMS) -> None:
    """Refuse the name of a normalisation that is neither None nor among the options."""
    if norm is not None and norm not in options:
        raise unknown_name("norm", norm, [*options, "null"])


def norm_layer(norm: str | None, features: int, spatial: bool) -> nn.Module:
    """Return the normalisation of a layer's pre-activations.

    Batch norm: Ioffe & Szegedy, arXiv 1502.03167. Layer norm: Ba, Kiros, Hinton, arXiv 1607.06450; on images it takes
    each sample's mean and variance over (C, H, W) and scales per channel.

    Args:
        norm: ``"batch"``, ``"layer"``, or another name, for which there is nothing to insert.
        features: Number of channels or units.
        spatial: True for (N, C, H, W), False for (N, C).

    Returns:
        A fresh module; the identity where the norm is not one of pre-activations.
    """
    if norm == "batch":
        return nn.BatchNorm2d(features) if spatial else nn.BatchNorm1d(features)
    if norm == "layer":
        return nn.GroupNorm(1, features) if spatial else nn.LayerNorm(features)
    return nn.Identity()


def apply_weight_norm(module: nn.Module, head: nn.Module) -> None:
    """Reparametrise every linear and convolutional layer but the head as w = g v / |v|, per unit.

    Salimans & Kingma, arXiv 1602.07868. The function that the net computes does not change.

    Args:
        module: Changed in place.
        head: The layer that makes the logits, which is left as it is.
    """
    for layer in list(module.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer is not head:
            weight_norm(layer)


class ShiftBatchNorm2d(nn.BatchNorm2d):
    r"""Batch norm with a learned shift and no learned scale, TensorFlow-Slim's default.

    Ioffe & Szegedy, arXiv 1502.03167, with :math:`\gamma = 1`: before a rectifier the next layer's weights can take
    the scale over. Shape: (N, C, H, W) to the same. One parameter a channel, as many as a convolution's bias.

    Args:
        num_features: Number of channels.
    """

    weight: None  # type: ignore[assignment]

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        """Forget the running statistics and set the shift to 0."""
        self.reset_running_stats()
        nn.init.zeros_(self.bias)


def to_channels_last(x: Tensor) -> Tensor:
    """Give images (N, C, H, W) the channels_last strides, also where C is 1 and torch takes either order for both.

    On a CPU, max pooling is about ten times faster in this format. Weights can stay as they are: torch's
    convolutions return the format of their input. Under ``torch.vmap`` over stacked nets images stay as they are: they
    have a dimension more than they show, and the convolutions of all nets are one over groups of channels.
    """
    return x if torch._C._functorch.is_batchedtensor(x) else x.to(memory_format=torch.channels_last)


def check_shape(input_shape: Sequence[int], num_classes: int) -> tuple[int, ...]:
    """Check the shape of one sample and the number of classes.

    Args:
        input_shape: Sizes of one sample, without the batch dimension.
        num_classes: Number of logits.

    Returns:
        The shape as a tuple.

    Raises:
        TypeError: If a size or the number of classes is not an integer.
        ValueError: If a size or the number of classes is below 1, or the shape is empty.
    """
    if isinstance(input_shape, int) or not all(_is_int(size) for size in input_shape):
        raise TypeError(f"input_shape must be integers, (C, H, W) or (L,), got {input_shape!r}.")
    if not input_shape or min(input_shape) < 1:
        raise ValueError(f"input_shape must be one or more sizes of at least 1, got {tuple(input_shape)}.")
    if not _is_int(num_classes):
        raise TypeError(f"num_classes must be an integer, the number of logits, got {num_classes!r}.")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, one logit a class, got {num_classes}.")
    return tuple(input_shape)


def check_image(net: str, input_shape: Sequence[int], num_classes: int, minimum: int) -> tuple[int, int, int]:
    """Check that a convolutional net can take images of a size.

    Args:
        net: Name of the net, for the message.
        input_shape: (C, H, W).
        num_classes: Number of logits.
        minimum: Smallest height and width that the net can take.

    Returns:
        C, H, W.

    Raises:
        TypeError: If a size or the number of classes is not an integer.
        ValueError: If the shape is not (C, H, W), or the image is too small.
    """
    shape = check_shape(input_shape, num_classes)
    if len(shape) != 3:
        raise ValueError(f"{net} takes images (C, H, W), got input_shape {shape}: use 'mlp' for other shapes.")
    channels, height, width = shape
    if min(height, width) < minimum:
        raise ValueError(
            f"{net} cannot take {height}x{width} images, the minimum is {minimum}x{minimum}: "
            "enlarge the images, or use a net for smaller ones ('mlp' takes any size)."
        )
    return channels, height, width


def check_dropout(dropout: float) -> float:
    """Refuse a probability of dropping a unit that is outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), the probability of dropping a unit, got {dropout}.")
    return dropout


def scaled(width: float, *sizes: int) -> tuple[int, ...]:
    """Multiply layer sizes by a factor, rounded, at least 1 each.

    Args:
        width: The factor, finite and above 0.
        *sizes: Sizes at factor 1.

    Returns:
        The scaled sizes.

    Raises:
        ValueError: If the factor is not finite and positive.
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be finite and above 0, the factor on every layer's size, got {width}.")
    return tuple(max(1, round(size * width)) for size in sizes)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
