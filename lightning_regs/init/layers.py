"""Which weights of a module a rule may set, and how: linear and convolutional layers, with or without weight norm."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from lightning_regs.core.names import GRADIENT_MODEL

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Part(NamedTuple):
    """A parameter, or the weight that weight norm makes of two: its name, the layers that have it, and why it is left.

    ``key`` is ``"weight"`` or ``"bias"`` where a rule may set it, and then ``why`` is empty.
    """

    name: str
    layers: dict[str, nn.Module]
    key: str
    why: str


def parts(module: nn.Module) -> list[Part]:
    """Return the parameters of a module in its order, each once, however many layers share it."""
    owners: dict[Tensor, list[tuple[str, nn.Module, str]]] = {}
    for path, owner in module.named_modules():
        if GRADIENT_MODEL in path.split("."):
            continue
        normed = isinstance(owner, parametrize.ParametrizationList) and type(owner[0]).__name__ == "_WeightNorm"
        layer = module.get_submodule(path.removesuffix("parametrizations.weight").rstrip(".")) if normed else owner
        for key, parameter in owner.named_parameters(recurse=False):
            if normed and len(owner) == 1 and isinstance(layer, LAYERS):
                if key != "original0":
                    continue
                path, key = path.removesuffix("parametrizations.weight").rstrip("."), "weight"
            owners.setdefault(parameter, []).append((path, layer, key))
    found = []
    for parameter, places in owners.items():
        path, _, key = places[0]
        others = [type(o).__name__ for _, o, k in places if not isinstance(o, LAYERS) or k not in ("weight", "bias")]
        why = f"of {others[0]}" if others else ""
        if why and len(others) < len(places):
            why = f"tied to a parameter {why}"
        elif is_lazy(parameter):
            why = "lazy, without a shape before the first batch"
        elif not why and not parameter.requires_grad:
            why = "frozen"
        found.append(Part(f"{path}.{key}".lstrip("."), {p: o for p, o, _ in places}, key, why))
    return found


@torch.no_grad()
def put(layer: Any, weight: Tensor, bias: Tensor | None = None) -> None:
    """Set the weight of a layer, and where it has one that is trained its bias, which is zero where none is given."""
    if parametrize.is_parametrized(layer, "weight"):
        layer.weight = weight
    else:
        layer.weight.copy_(weight)
    if layer.bias is not None and layer.bias.requires_grad:
        layer.bias.copy_(torch.zeros_like(layer.bias) if bias is None else bias)
    torch.clear_autocast_cache()  # in which a layer would go on with the old ones


@torch.no_grad()
def drawn(like: Tensor, draw: Any, generator: torch.Generator | None, **options: Any) -> Tensor:
    """Return a weight that a rule draws, on the generator's device and at least in float32; on a CPU as torch draws."""
    device = like.device if generator is None else generator.device
    weight = like.detach().to(device, torch.promote_types(like.dtype, torch.float32), copy=True)
    draw(weight, generator, **options)
    return weight.to(like)


def weight_of(layer: Any) -> Tensor:
    """Return the weight of a layer."""
    return layer.weight  # type: ignore[no-any-return]
