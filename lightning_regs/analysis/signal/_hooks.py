"""Layers that are watched while a module computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lightning_regs.core.names import check_glob
from lightning_regs.core.undisturbed import undisturbed

_FUNCTIONS: Any = nn.modules.activation
_NOT_BY_ELEMENT = (nn.GLU, nn.MultiheadAttention, nn.RReLU, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)
ACTIVATIONS = tuple(t for t in (getattr(_FUNCTIONS, n) for n in _FUNCTIONS.__all__) if t not in _NOT_BY_ELEMENT)
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Below this share of its steepest slope an activation counts as saturated: tanh beyond 0.975, sigmoid beyond 0.987.
_FLAT = 0.05


@contextmanager
def watched(
    module: nn.Module, x: Tensor, globs: Sequence[str] | None, kinds: tuple[type, ...],
    see: Callable[[str, nn.Module, Tensor, Tensor], None],
) -> Iterator[None]:  # fmt: skip
    """Show each call of the chosen layers, its input and its output; leave the module and random streams as before."""
    if any(hasattr(part, "network_of") for part in module.modules()):
        raise ValueError(
            f"{type(module).__name__} has stacked nets, whose layers are called at once; give one, network_of(0)."
        )
    for glob in globs or ():
        check_glob(glob, [name for name, _ in module.named_modules()], "modules")
    chosen = {
        name: layer for name, layer in module.named_modules()
        if (isinstance(layer, kinds) if globs is None else any(fnmatchcase(name, glob) for glob in globs))
    }  # fmt: skip
    if not chosen:
        has = ", ".join(dict.fromkeys(type(m).__name__ for m in module.modules() if not any(m.children()))) or "none"
        raise ValueError(
            f"{type(module).__name__} has no activation, linear or convolutional layer; it has {has}. Name layers."
        )
    calls, before = Counter[str](), dict[str, Tensor]()
    handles: list[Any] = []

    def enter(name: str) -> Callable[..., None]:
        # A copy, as activations may work in place.
        return lambda layer, *given: before.update({name: _first(given).detach().clone()})

    def leave(name: str) -> Callable[..., None]:
        def left(layer: nn.Module, given: Any, out: Any) -> None:
            calls[name] += 1
            see(name if calls[name] == 1 else f"{name}#{calls[name]}", layer, before.pop(name), _first(out))

        return left

    for name, layer in chosen.items():
        entering = layer.register_forward_pre_hook(enter(name), with_kwargs=True)
        handles += [entering, layer.register_forward_hook(leave(name))]
    with torch.inference_mode(False), undisturbed(module, x, evaluate=False, buffers=True):
        # What noisy layers tell an InformationPenalty is of the training's own passes.
        found = (getattr(layer, "passes", None) for layer in module.modules())
        told = [passes for passes in found if isinstance(passes, list)]
        kept = [list(passes) for passes in told]
        try:
            # Kernels that were compiled without the hooks would not call them.
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            for handle in handles:
                handle.remove()
            for passes, own in zip(told, kept, strict=True):
                passes[:] = own


def _first(values: Any) -> Tensor:
    """Return the first tensor of what a layer is given, by place or by name, or returns."""
    return next(value for value in tree_leaves(values) if isinstance(value, Tensor))


def called(found: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """Return what was seen; refuse a module that called none of its layers."""
    if not found:
        raise ValueError(f"{type(module).__name__} has such layers and called none of them.")
    return dict(found)


def flatness(layer: nn.Module, before: Tensor) -> tuple[float, float]:
    """Return the shares of outputs and of units where an activation is flat, in percent."""
    if not isinstance(layer, ACTIVATIONS) or bool(before.isnan().any()):
        return torch.nan, torch.nan
    grid = torch.linspace(-5, 5, 41).to(before).view(-1, *[1] * (before.ndim - 1)).expand(-1, *before.shape[1:])
    slopes = []
    with torch.enable_grad():
        for z in (before, grid):
            entry = z.detach().clone().requires_grad_()
            slopes.append(torch.autograd.grad(layer.forward(entry.clone()).sum(), entry)[0].abs())
    still = slopes[0] == 0
    dead = still.transpose(1, -1).flatten(0, -2).all(0) if before.ndim > 3 else still.all(0)
    return tuple(100 * float(s.double().mean()) for s in (slopes[0] < _FLAT * slopes[1].max(), dead))  # type: ignore[return-value]
