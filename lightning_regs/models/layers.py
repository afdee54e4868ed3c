"""What the architectures share: the way from images to logits, activations, normalisation and checks of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lightning_regs.core.checks import Count, Range, nonempty
from lightning_regs.core.names import unknown_name
from lightning_regs.init import initialize
from lightning_regs.layers.mean_only_batch_norm import MeanOnlyBatchNorm

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
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}
"""Activation functions by name."""

MONOTONE = frozenset(ACTIVATIONS) - {"gelu", "silu"}
"""Activations that never decrease, and so commute with max pooling."""

Norm = Literal["batch", "layer", "group", "weight", "mean_only"]
"""What nets take as ``norm``; ``"mean_only"`` is weight norm with mean-only batch norm. See :func:`norm_layer`."""

# Those that are layers; weight norm is none.
LAYERS = ("batch", "layer", "group", "mean_only")
InputShape = Annotated[Sequence[Count], "sizes of at least 1, (C, H, W) or (L,)", nonempty]
Factor = Annotated[float, Range(above=0, why="it is the factor on every layer's size")]


class ConvNet(nn.Module):
    """A net of images that computes in channels_last: ``features``, then :meth:`embed`, then ``head``.

    Attributes:
        features: From images to a map (N, F, H', W'); a submodule, or a method.
        head: The linear layer that makes the logits.
    """

    features: Callable[[Tensor], Tensor]
    head: nn.Linear

    def embed(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to what the head sees (N, F): here, the mean over the map."""
        return self.features(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.embed(to_channels_last(x)))
        return logits


def activation_layer(name: str) -> nn.Module:
    """Return a fresh activation by its name in :data:`ACTIVATIONS`; a ``ValueError`` says that there is none."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def norm_layer(norm: str | None, features: int, spatial: bool) -> nn.Module:
    """Return a fresh normalisation of pre-activations (N, F, H, W), or (N, F) if not ``spatial``.

    Batch norm: Ioffe & Szegedy, arXiv 1502.03167. Layer norm: Ba, Kiros, Hinton, arXiv 1607.06450; on images it takes
    each sample's mean and variance over (C, H, W) and scales per channel. Group norm: Wu & He, arXiv 1803.08494, with
    their 32 groups, or the most that divide F and leave 8 in each. Mean-only batch norm:
    :class:`~lightning_regs.layers.MeanOnlyBatchNorm`. Any other name gives the identity. In training batch and
    mean-only batch norm refuse one value a feature, such as a batch of one (N, F); the others do not look at the batch.
    """
    if norm == "batch":
        return nn.BatchNorm2d(features) if spatial else nn.BatchNorm1d(features)
    if norm == "layer":
        return nn.GroupNorm(1, features) if spatial else nn.LayerNorm(features)
    if norm == "group":
        most = max(1, min(32, features // 8))
        return nn.GroupNorm(next(n for n in range(most, 0, -1) if features % n == 0), features)
    return MeanOnlyBatchNorm(features) if norm == "mean_only" else nn.Identity()


def normalized(norm: str | None, *layers: nn.Module) -> list[nn.Module]:
    """Return layers with a normalisation behind each that is linear or convolutional, where ``norm`` is a layer."""
    found: list[nn.Module] = []
    for layer in layers:
        found.append(layer)
        if norm in LAYERS and isinstance(layer, nn.Linear | nn.Conv2d):
            found.append(norm_layer(norm, len(layer.weight), spatial=isinstance(layer, nn.Conv2d)))
    return found


def finish(net: nn.Module, norm: str | None, init: str | None, *heads: nn.Module) -> None:
    """End a constructor: put ``norm`` in the place of other batch norms, draw the weights, reparametrise them.

    Without a layer that shifts, every convolution has a bias. Weight norm, Salimans & Kingma, arXiv 1602.07868, writes
    the weights of all layers but the heads as w = g v / |v|, per unit, and leaves the function as it is; so does
    ``"mean_only"``, beside its layers.
    """
    for owner in list(net.modules()) if norm != "batch" else ():
        for name, old in owner.named_children():
            if isinstance(old, nn.BatchNorm2d):
                setattr(owner, name, norm_layer(norm, old.num_features, spatial=True))
    for layer in net.modules() if norm in (None, "weight") else ():
        if isinstance(layer, nn.Conv2d) and layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_channels))
    initialize(net, init)
    for layer in list(net.modules()) if norm in ("weight", "mean_only") else ():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer not in heads:
            weight_norm(layer)


def to_channels_last(x: Tensor) -> Tensor:
    """Give images (N, C, H, W) the channels_last strides, also where C is 1 and torch takes either order for both.

    On a CPU, max pooling is about ten times faster in this format. Weights can stay as they are: torch's
    convolutions return the format of their input. Under ``torch.vmap`` over stacked nets images stay as they are: they
    have a dimension more than they show, and the convolutions of all nets are one over groups of channels.
    """
    # The compiler of torch 2.7 does not trace the question; where stacked nets are compiled, Replicated skips `to`.
    stacked = not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(x)
    return x if stacked else x.to(memory_format=torch.channels_last)


def flatten(x: Tensor) -> Tensor:
    """Flatten a map (N, C, H, W) to (N, H * W * C), in the order in which channels_last lies in memory: no copy."""
    return x.permute(0, 2, 3, 1).flatten(1)


def check_image(net: str, input_shape: Sequence[int], minimum: int) -> tuple[int, int, int]:
    """Return C, H and W of one sample, or refuse what a net cannot take; ``minimum`` is the least height and width."""
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise ValueError(f"{net} takes images (C, H, W), got input_shape {shape}: use 'mlp' for other shapes.")
    channels, height, width = shape
    if min(height, width) < minimum:
        raise ValueError(
            f"{net} cannot take {height}x{width} images, the minimum is {minimum}x{minimum}: "
            "enlarge the images, or use a net for smaller ones ('mlp' takes any size)."
        )
    return channels, height, width


def scaled(width: float, *sizes: int) -> tuple[int, ...]:
    """Multiply layer sizes by a factor, rounded, at least 1 each."""
    return tuple(max(1, round(size * width)) for size in sizes)


def blocks_a_stage(depth: int, layers: int, others: int) -> int:
    """Return n, the blocks in each stage of a net whose ``depth`` is ``layers`` n + ``others``."""
    blocks, rest = divmod(depth - others, layers)
    if blocks < 1 or rest:
        examples = ", ".join(str(layers * n + others) for n in (1, 2, 3))
        raise ValueError(
            f"depth must be {layers}n + {others}, with n blocks in each stage, got {depth}: take {examples}, ..."
        )
    return blocks
