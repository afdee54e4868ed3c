"""Fixup: residual nets that train without normalization."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves

from lightning_regs.init.layers import drawn, put, weight_of
from lightning_regs.init.scaled import kaiming_normal, zeros

__all__ = ["fixup"]


def fixup(
    module: nn.Module,
    outputs: Any,
    layers: dict[nn.Module, str],
    generator: torch.Generator | None,
    scaled: bool = True,
    scalars: bool = True,
) -> dict[str, str]:
    r"""Set a residual net by the rules of Fixup: at the start each block is its shortcut, and the classes are alike.

    Zhang, Dauphin, Ma, "Fixup initialization", arXiv:1901.09321, section 3. (1) The classifier, which is the last layer
    behind all blocks, and the last layer of each residual branch are zero. (2) All others are He et al.'s, a
    convolution's by its outputs as in the authors' code; in a branch of m layers they are scaled by
    :math:`L^{-1/(2m-2)}`, with L branches. (3) Each layer of a branch gets a scalar bias before it and one behind it,
    of 0, and the last a scalar factor, of 1, before the latter: as parameters ``fixup_before``, ``fixup_after`` and
    ``fixup_scale`` of the layer. Biases of layers are 0.

    Branches are found by what is differentiated: wherever two parts are added that have a common origin, the part with
    more layers is a branch, and the other its shortcut. A layer belongs to the shortest branch that it is in. Scalars
    are new parameters, so initialize before the optimizer is made.

    Args:
        module: The net.
        outputs: What it makes of a batch.
        layers: Its layers and their paths.
        generator: Source of the draws.
        scaled: Whether branches are scaled (2); without, only their last layers are zero.
        scalars: Whether scalars are added (3).

    Raises:
        ValueError: If there is no residual branch, a normalization is left in the net, or a scalar that is zero.
    """
    kinds = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    # By name those that are built on no kind of torch's, as our MeanOnlyBatchNorm.
    named = ((type(part).__name__, part) for part in module.modules())
    norms = {name for name, part in named if isinstance(part, kinds) or name.endswith("BatchNorm")}
    if norms:
        raise ValueError(
            f"fixup is for residual nets without normalization, and {type(module).__name__} has {min(norms)}; replace "
            "it first: replace_layers(net, {nn." + min(norms) + ": lambda _: nn.Identity()})."
        )
    held = [name for name, p in module.named_parameters() if not p.ndim and not p.any() and "fixup_" not in name]
    if held:
        raise ValueError(
            f"fixup makes the last layer of a branch zero, and {held[0]} is a scalar of {type(module).__name__} that "
            "is zero too, as SkipInit's factor: neither would learn; set it to 1 before."
        )
    branches, behind = _branches([t for t in tree_leaves(outputs) if isinstance(t, Tensor)], layers)
    if not branches:
        raise ValueError(
            f"fixup is for residual nets, and {type(module).__name__} adds no branch of linear or convolutional layers "
            "to a shortcut; use 'kaiming_normal' or 'lsuv'."
        )
    zero = {branch[-1] for branch in branches} | set(behind[-1:])
    factors = {e: len(branches) ** (-0.5 / (len(b) - 1)) for b in branches if scaled for e in b[:-1]}
    for layer in layers:
        rule, options = (zeros, {}) if layer in zero else (kaiming_normal, {"mode": "fan_out"})
        options = {} if isinstance(layer, nn.Linear) else options
        put(layer, drawn(weight_of(layer), rule, generator, **options) * factors.get(layer, 1.0))
    for branch in branches if scalars else ():
        for layer in branch:
            _add_scalars(layer, layer is branch[-1])
    return {}


def _branches(outputs: Iterable[Tensor], layers: dict[nn.Module, str]) -> tuple[list[list[nn.Module]], list[nn.Module]]:
    """Return the layers of each residual branch, and those behind the last sum, in the order of their calls."""
    owners = {weight_of(layer): layer for layer in layers}
    numbers: dict[Any, int] = {}
    before: list[int] = []  # of each node, as bits, itself and what it is computed from
    sums: list[tuple[int, int, int]] = []
    bits: dict[nn.Module, int] = {}
    stack = [(output.grad_fn, False) for output in outputs if output.grad_fn is not None]
    while stack:
        node, ready = stack.pop()
        if node in numbers:
            continue
        origins = [origin for origin, _ in node.next_functions if origin is not None]
        if not ready:
            stack += [(node, True), *((origin, False) for origin in origins)]
            continue
        number = numbers[node] = len(before)
        parts = [before[numbers[origin]] for origin in origins]
        before.append(1 << number)
        for part in parts:
            before[number] |= part
        if (variable := getattr(node, "variable", None)) in owners:
            bits[owners[variable]] = 1 << number
        if type(node).__name__ == "AddBackward0" and len(parts) == 2 and parts[0] & parts[1]:
            sums.append((number, parts[0] & ~parts[1], parts[1] & ~parts[0]))

    def within(nodes: int) -> list[nn.Module]:
        return [layer for layer in layers if nodes & bits.get(layer, 0)]

    sides = [sorted((within(one), within(other)), key=len) for _, one, other in sums]
    taken: set[nn.Module] = set()
    branches = []
    for shortcut, branch in sorted(sides, key=lambda pair: len(pair[1])):
        own = [layer for layer in branch if layer not in taken]
        if own and len(branch) > len(shortcut):
            branches.append(own)
            taken.update(own)
    last = before[max(sums)[0]] if sums else 0
    return branches, within(~last)


def _add_scalars(layer: nn.Module, last: bool) -> None:
    """Register scalars and the hooks that apply them, once."""
    new = not hasattr(layer, "fixup_before")
    for name, value in {"before": 0.0, "after": 0.0, **({"scale": 1.0} if last else {})}.items():
        layer.register_parameter(f"fixup_{name}", nn.Parameter(weight_of(layer).detach().new_tensor(value)))
    if new:
        layer.register_forward_pre_hook(_before)
        layer.register_forward_hook(_after)


def _before(layer: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0] + layer.fixup_before, *args[1:])


def _after(layer: Any, args: Any, out: Tensor) -> Any:
    return (out * layer.fixup_scale if hasattr(layer, "fixup_scale") else out) + layer.fixup_after
