"""Rules for a layer by what it sees in a batch: unit variance layer by layer or unit by unit, principal directions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs.core.checks import Positive
from lightning_regs.init.layers import drawn, put, weight_of
from lightning_regs.init.scaled import normal, orthogonal

__all__ = ["data_statistics", "lsuv", "pca"]

_ATTEMPTS = 20
_LEAST = 1e-6  # of the largest variance of a direction: below it is rounding


@torch.no_grad()
def lsuv(
    layer: nn.Module, x: Tensor, generator: torch.Generator | None, last: bool, tolerance: Positive = 0.02,
    logits: bool = True,
) -> str:  # fmt: skip
    """Draw orthonormal weights and scale them to outputs of variance 1 over the batch: layer-sequential unit variance.

    Mishkin & Matas, "All you need is a good init", arXiv:1511.06422, algorithm 1. Biases are 0. The outputs are those
    before the activation; use a batch of some hundred samples, of inputs whose variance is about 1.

    Args:
        layer: The layer.
        x: What it sees.
        generator: Source of the draws.
        last: Whether it is the last of the net.
        tolerance: How far from 1 the variance of all outputs together may be. The authors' script has 0.02.
        logits: Whether the last layer is set too.

    Raises:
        ValueError: If the outputs do not vary, or the variance is not reached in 20 attempts, as with a frozen bias.
    """
    if last and not logits:
        return "the last layer, and logits=False"
    put(layer, drawn(weight_of(layer), orthogonal, generator))
    for _ in range(_ATTEMPTS):
        variance = layer.forward(x).float().var(correction=0)
        if abs(variance - 1) <= tolerance:
            return ""
        put(layer, weight_of(layer) / _vary(variance).sqrt())
    raise ValueError(f"its outputs have the variance {variance:.3g} after {_ATTEMPTS} attempts; raise the tolerance.")


@torch.no_grad()
def data_statistics(
    layer: nn.Module, x: Tensor, generator: torch.Generator | None, last: bool, std: Positive = 0.05
) -> str:
    """Draw from N(0, std^2), scale each unit to variance 1 over the batch, and let its bias take its mean to 0.

    Salimans & Kingma, "Weight normalization", arXiv:1602.07868, section 3: g = 1 / sd[t] and b = -mean[t] / sd[t] for
    t = v x / |v|. With or without weight norm the net is the same; ``std`` shows in the length of v alone.

    Raises:
        ValueError: If a unit's outputs do not vary.
    """
    put(layer, drawn(weight_of(layer), normal, generator, std=std))
    out = layer.forward(x).float()
    out = (out if isinstance(layer, nn.Linear) else out.movedim(1, -1)).reshape(-1, len(weight_of(layer)))
    variance, mean = torch.var_mean(out, 0, correction=0)
    scale = _vary(variance).rsqrt()
    put(layer, weight_of(layer) * scale.view(-1, *[1] * (weight_of(layer).ndim - 1)), -mean * scale)
    return ""


@torch.no_grad()
def pca(layer: nn.Module, x: Tensor, generator: torch.Generator | None, last: bool) -> str:
    """Let units be the leading principal directions of what a layer sees, each scaled to variance 1 and centred.

    Of a convolution these are directions of patches, by groups of channels, with its padding. Where there are more
    units than directions (those of at least a millionth of the largest variance), the others are random orthonormal
    combinations of all directions so scaled: of variance 1 too, uncorrelated among each other in sets as large as there
    are directions. A layer without a trained bias is not centred.

    Raises:
        ValueError: If the inputs do not vary.
    """
    weight: Any = weight_of(layer)
    groups, size = getattr(layer, "groups", 1), weight[0].numel()
    second, total, count = torch.zeros(groups, size, size).double(), torch.zeros(groups, size).double(), 0
    for part in torch.split(x, 64):
        rows = _patches(layer, part).view(-1, groups, size).cpu().double()
        second += torch.einsum("pgi,pgj->gij", rows, rows)
        total, count = total + rows.sum(0), count + len(rows)
    mean = total / count
    values, vectors = torch.linalg.eigh(second / count - mean[:, :, None] * mean[:, None])
    made = []
    for value, directions in zip(values.flip(1), vectors.flip(2).mT, strict=True):
        kept = value > _LEAST * _vary(value[:1])
        units = directions[kept] * directions[kept].gather(1, directions[kept].abs().argmax(1, True)).sign()
        units = units / value[kept].sqrt()[:, None]  # whose sign is the largest entry's
        wanted, number = len(weight) // groups, len(units)
        mixed = [torch.eye(number)]
        while number * len(mixed) < wanted:
            mixed.append(drawn(torch.empty(number, number), orthogonal, generator))
        made.append(torch.cat(mixed)[:wanted].double() @ units)
    bias = -torch.einsum("gui,gi->gu", torch.stack(made), mean).flatten()
    put(layer, torch.cat(made).view(weight.shape).to(weight), bias.to(weight))
    return ""


def _vary(variance: Tensor) -> Tensor:
    """Return variances, none of which is zero or no number."""
    if not bool(((variance > 1e-20) & variance.isfinite()).all()):
        raise ValueError(
            "what it sees in this batch does not vary, or is no number, and cannot be scaled to variance 1; give a "
            "batch of some hundred different samples, in which no unit before is dead."
        )
    return variance


def _patches(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the inputs of each position of each sample as rows ``(P, I)``, in the order of the weight's entries."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    conv: Any = layer
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = F.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
    for i, (size, step, gap) in enumerate(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)):
        x = x.unfold(2 + i, gap * (size - 1) + 1, step)[..., ::gap]
    spatial = len(conv.kernel_size)
    return x.movedim(1, 1 + spatial).flatten(0, spatial).flatten(1)
