"""Layers of a net that was not written for them: in the place of its own, or after them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torchvision import ops

from lightning_regs.core import registry
from lightning_regs.core.checks import NoEffectWarning, Probability, call, check, checked, warn
from lightning_regs.core.names import few, uncompiled, unknown_name
from lightning_regs.pruning.layers import NORMALISATION

# What torch's normalizations call the number of their channels.
_CHANNELS = ("num_features", "num_channels", "normalized_shape")
Kind = type[nn.Module] | tuple[type[nn.Module], str] | Callable[[nn.Module], bool]
Factory = Callable[[nn.Module], nn.Module]


@checked
def replace_layers(module: nn.Module, replacements: Mapping[Any, Factory] | tuple[Kind, Factory]) -> dict[str, int]:
    """Put other layers in the place of some of a net's, in place.

    A layer that is used at several places is replaced once, by one layer. Parameters of all other layers keep their
    names and values; a factory that keeps the old layer inside its own, as ``lambda old: nn.Sequential(old, drop)``
    does, lengthens its names. What is new is in the old layer's mode, training or evaluation; moving it to a device is
    the factory's business. What a factory returns is not searched again. The ``out_proj`` of torch's attention
    stays, as its weight is read without a call of the layer::

        replace_layers(net, {nn.ReLU: lambda old: nn.LeakyReLU(0.1)})
        replace_layers(net, {(nn.Linear, "body.*"): lambda old: nn.Sequential(nn.Dropout(0.2), old)})
        replace_layers(net, (lambda layer: isinstance(layer, nn.Conv2d) and layer.stride == (2, 2), factory))

    Args:
        module: The net; it is not replaced itself.
        replacements: Class (subclasses count), class and glob of names, or predicate -> factory, which is given the old
            layer and returns the new one, or the old one to leave it; or one such pair. Of several that fit the first
            counts.

    Returns:
        How many layers were replaced, by the name of the class or the predicate. A kind that fits none is warned about.
    """
    pairs = [replacements] if isinstance(replacements, tuple) else list(replacements.items())
    for kind, factory in pairs:
        match kind:
            case (type(), str()):
                known = True
            case _:
                known = callable(kind)
        if not known or isinstance(factory, nn.Module):
            raise TypeError(
                "layers are named by their class, or class and glob, and made by a function, as in {nn.ReLU: lambda "
                f"old: nn.GELU()}}, got {kind!r}: {factory!r}."
            )
    counts = {_name(kind): 0 for kind, _ in pairs}
    replaced: dict[nn.Module, nn.Module] = {}
    for prefix, owner in list(module.named_modules()):
        for name, layer in owner._modules.items():
            path = uncompiled(f"{prefix}.{name}".lstrip("."))
            for kind, factory in pairs:
                if layer is not None and _fits(kind, path, layer):
                    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
                        why = "its weight is read without a call of the layer"
                        warn(f"{path} stays as it is, as {why}.", NoEffectWarning)
                        break
                    if layer not in replaced:
                        cls = type(layer)  # which a parametrization in place changes
                        modes = {part: part.training for part in layer.modules()}  # a norm in it may be frozen
                        made = check(f"the layer in the place of {path}", factory(layer), nn.Module)
                        for part in made.modules():
                            part.training = modes.get(part, layer.training)
                        replaced[layer] = made
                        counts[_name(kind)] += replaced[layer] is not layer or type(layer) is not cls
                    owner._modules[name] = replaced[layer]
                    if isinstance(owner, nn.TransformerEncoderLayer):
                        owner.activation_relu_or_gelu = 0  # else evaluation reads the old layers' weights, by no call
                    break
    for kind, _ in pairs:
        if not counts[_name(kind)]:
            cls = kind[0] if isinstance(kind, tuple) else nn.Module
            named = [(uncompiled(name), layer) for name, layer in module.named_modules()]
            layers = {name: type(layer).__name__ for name, layer in named if isinstance(layer, cls)}
            glob = kind[1] if isinstance(kind, tuple) else ""
            has = few(glob, [*dict.fromkeys(layers.values() if cls is nn.Module else layers)])
            said = f"{type(module).__name__} has no layer {_name(kind)} to replace; it has {has}."
            warn(said, NoEffectWarning)
    return counts


@checked
def layer_replacements(entries: Sequence[Mapping[str, Any]]) -> list[tuple[Kind, Factory]]:
    """Read the pairs for :func:`replace_layers`, to be applied one after the other, from plain configuration.

    An entry is ``{"replace": "ReLU", "by": "LeakyReLU", "negative_slope": 0.1}`` or ``{"after": "ReLU", "add":
    "Dropout", "p": 0.5}``, or ``"before"``: names of classes in this folder, ``torch.nn`` or ``torchvision.ops``, and
    the new one's arguments. ``"named": "body.*"`` chooses layers by a glob of their names, so that each has its rate. A
    class that has ``like(old, ...)``, or whose first argument is ``layer``, is made with the old layer. A normalization
    of torch's in the place of another has its channels, and its scale and shift where it has such (``"affine": True``
    for those of an instance norm): ``{"replace": "BatchNorm2d", "by": "GroupNorm", "num_groups": 8}``; with one group
    that is layer norm of maps.

    A residual branch is dropped, as in stochastic depth (Huang et al., arXiv:1603.09382), behind its last layer:
    ``{"after": "BatchNorm2d", "named": "*.bn2", "add": "StochasticDepth", "p": 0.2, "mode": "row"}``.

    Raises:
        ValueError: If an entry has other names, a class is unknown, or it does not take the arguments; if the p of a
            dropout layer is outside [0, 1).
    """
    return [_replacement(dict(entry)) for entry in entries]


def _replacement(options: dict[str, Any]) -> tuple[Kind, Factory]:
    beside = next((place for place in ("after", "before") if place in options), None)
    try:
        old_kind, cls = (_layer(options.pop(key)) for key in ((beside, "add") if beside else ("replace", "by")))
    except KeyError as error:
        raise ValueError(
            f"a replacement of layers has no {error}; write {{replace: ReLU, by: LeakyReLU}} or {{after: ReLU, add: "
            "Dropout, p: 0.5}."
        ) from error
    names = options.pop("named", None)
    kind: Kind = old_kind if names is None else (old_kind, check("named", names, str))
    if "Drop" in cls.__name__ or cls is ops.StochasticDepth:
        options |= {key: check(key, value, Probability) for key, value in options.items() if key == "p"}
    wraps = next(iter(inspect.signature(cls).parameters), "") == "layer"
    made: Any = None if beside else cls if wraps else getattr(cls, "like", None)
    if made is not None:
        call("layer", made, nn.Linear(1, 1) if wraps else nn.BatchNorm1d(1), **options)
        return kind, lambda old: made(old, **options)
    channels = next((name for name in _CHANNELS if name in inspect.signature(cls).parameters), None)
    if channels and channels not in options and issubclass(cls, NORMALISATION) and not beside:
        return kind, lambda old: _norm(cls, channels, old, options)
    call("layer", cls, **options)
    if beside:
        return kind, lambda old: nn.Sequential(*(old, cls(**options))[:: 1 if beside == "after" else -1])
    return kind, lambda old: cls(**options)


def _norm(cls: type[nn.Module], channels: str, old: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """Return a normalization of the old one's channels, with its scale, shift, numbers and device."""
    number = next(
        (getattr(old, name) for name in _CHANNELS if isinstance(old, NORMALISATION) and hasattr(old, name)), None
    )
    if number is None:
        raise ValueError(f"{cls.__name__} takes the place of a normalization, got {old!r}; say {channels} for others.")
    if issubclass(cls, last := (nn.LayerNorm, nn.RMSNorm)) and not isinstance(old, (nn.BatchNorm1d, *last)):
        raise ValueError(
            f"{cls.__name__} is over the last dimensions, and {old!r} is of maps; take GroupNorm with num_groups=1."
        )
    made: nn.Module = call("layer", cls, **{channels: number}, **options)
    before = dict(old.named_parameters())
    if like := [t for t in (*before.values(), *old.buffers()) if t.is_floating_point()]:
        made.to(like[0].device, like[0].dtype)
    with torch.no_grad():
        for name, own in made.named_parameters():
            if name in before:
                own.copy_(before[name].view_as(own))
                own.requires_grad_(before[name].requires_grad)
    return made


def _layer(name: str) -> type[nn.Module]:
    ours = registry.subclasses("lightning_regs.layers", nn.Module)
    theirs = {n: c for n, c in {**vars(ops), **vars(nn)}.items() if inspect.isclass(c) and issubclass(c, nn.Module)}
    known: dict[str, type[nn.Module]] = theirs | ours
    if name not in known:
        where = "The classes of torch.nn, torchvision.ops and lightning_regs.layers are known."
        raise ValueError(f"{unknown_name('layer', name, known)} {where}")
    return known[name]


def _fits(kind: Kind, name: str, layer: nn.Module) -> bool:
    if isinstance(kind, tuple):
        return isinstance(layer, kind[0]) and fnmatchcase(name, kind[1])
    return isinstance(layer, kind) if isinstance(kind, type) else kind(layer)


def _name(kind: Kind) -> str:
    if isinstance(kind, tuple):
        return f"{kind[0].__name__} named {kind[1]}"
    return getattr(kind, "__name__", repr(kind))
