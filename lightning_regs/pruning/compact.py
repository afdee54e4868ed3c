"""A net that was trained with gates as a smaller dense one."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules import conv, dropout, pooling

from lightning_regs.core.checks import checked
from lightning_regs.pruning.gates import HardConcrete, open_gates, remove_gates

# What computes each unit from that unit alone, and of channels what does so from each channel alone.
_UNIT_WISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity, dropout._DropoutNd)
_POOLS = (pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveMaxPoolNd, pooling._AdaptiveAvgPoolNd)
_FUNCTIONS = {F.relu, torch.relu, F.leaky_relu, F.elu, F.gelu, F.silu, torch.tanh, torch.sigmoid, F.dropout}
_METHODS = {"relu", "tanh", "sigmoid", "contiguous"}


@checked
@torch.no_grad()
def compact(network: nn.Module) -> nn.Module:
    """Return a net without what its gates have pruned: dense, smaller, of the same outputs in evaluation.

    Each gated layer loses its closed inputs, and its gates become part of its weights. A unit or channel that only such
    a layer reads, through activations, dropout, pools and the flattening of channels, is no longer computed; of other
    inputs, the network's own among them, the layer picks those that it reads. Convolutions in groups stay as large as
    they were.

    Args:
        network: One that was trained with :class:`~lightning_regs.L0`; it stays as it is.

    Returns:
        A copy in evaluation mode; layers that pick their inputs are an ``nn.Sequential`` of two.

    Raises:
        ValueError: If it has no gates, or is a stack of networks.
    """
    if any(z.ndim > 1 for z in open_gates(network).values()):
        raise ValueError("the network is a stack of several; give one of them, Replicated.network_of(i).")
    made = copy.deepcopy(network).eval()
    producers = _producers(made)
    for name, layer in list(made.named_modules()):
        gate = getattr(layer, "l0_gate", None)
        if not isinstance(gate, HardConcrete):
            continue
        z, axis = gate.values(), -1 - gate.dimensions
        remove_gates(layer)
        weight, dim = _gated_weight(layer, z)
        layer.weight = nn.Parameter(weight, layer.weight.requires_grad)
        if getattr(layer, "groups", 1) > 1:
            continue
        kept = z > 0
        kept[0] |= not kept.any()  # a layer without inputs is none; the weights of this one are zero
        producer, each = producers.get(name, (None, 1))
        units = kept.view(-1, each).any(1)
        _keep(layer, "in", dim, index := units.repeat_interleave(each).nonzero().squeeze(1))
        if producer is not None:
            _keep(producer, "out", 0, units.nonzero().squeeze(1))
        elif len(index) < len(z):
            picks = nn.Sequential(_Picks(index, axis), layer).eval()
            made = picks if layer is made else made
            for owner in list(made.modules()):
                for key, part in owner._modules.items() if owner is not picks else ():
                    owner._modules[key] = picks if part is layer else part
                    if part is layer and isinstance(owner, nn.TransformerEncoderLayer):
                        owner.activation_relu_or_gelu = 0  # else evaluation reads the weights of the layer, by no call
    return made


class _Picks(nn.Module):
    """Picks some of the inputs of a layer."""

    index: Tensor

    def __init__(self, index: Tensor, axis: int) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Return these inputs alone."""
        return x.index_select(self.axis, self.index)


def _gated_weight(layer: Any, z: Tensor) -> tuple[Tensor, int]:
    """Return a layer's weight times its gates, and the dimension that counts its inputs."""
    weight: Tensor = layer.weight
    if isinstance(layer, conv._ConvTransposeNd):
        return weight * z.view(-1, *[1] * (weight.ndim - 1)), 0
    parts = weight.view(getattr(layer, "groups", 1), -1, *weight.shape[1:])
    return (parts * z.view(len(parts), 1, -1, *[1] * (weight.ndim - 2))).flatten(0, 1), 1


def _keep(layer: Any, end: str, dim: int, index: Tensor) -> None:
    """Leave a layer some of its inputs or outputs alone."""
    dim = 1 - dim if end == "out" and isinstance(layer, conv._ConvTransposeNd) else dim
    layer.weight = nn.Parameter(layer.weight.index_select(dim, index), layer.weight.requires_grad)
    if end == "out" and layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[index], layer.bias.requires_grad)
    setattr(layer, f"{end}_{'features' if isinstance(layer, nn.Linear) else 'channels'}", len(index))


def _producers(network: nn.Module) -> dict[str, tuple[Any, int]]:
    """Return of each layer that alone reads the units of another that one, and how many inputs a unit is."""
    try:
        nodes = list(fx.symbolic_trace(network).graph.nodes)
    except Exception:  # whatever stands in a forward that cannot be traced: its layers pick their inputs
        return {}
    parts: dict[Any, Any] = dict(network.named_modules())
    calls = Counter(node.target for node in nodes if node.op == "call_module")

    def layer_of(node: Any) -> Any:
        part: Any = parts[node.target] if node.op == "call_module" and calls[node.target] == 1 else None
        plain = isinstance(part, nn.Linear) or (isinstance(part, conv._ConvNd) and part.groups == 1)
        return part if plain and "weight" in part._parameters else None  # not where it is computed from others

    found = {}
    for node in nodes:
        if (layer := layer_of(node)) is None or not node.args:
            continue
        source, kinds = node.args[0], set[str]()
        while len(source.users) == 1 and (kind := _kind(source, parts)):
            kinds.add(kind)
            source = source.args[0]
        producer = layer_of(source) if len(source.users) == 1 else None
        between = isinstance(producer, nn.Linear), isinstance(layer, nn.Linear), "flat" in kinds
        if between == (True, True, False) and "pool" not in kinds:
            found[node.target] = producer, 1
        elif producer is not None and between in ((False, False, False), (False, True, True)):
            outputs = layer.in_features if between[1] else layer.in_channels
            found[node.target] = producer, outputs // producer.out_channels
    return found


def _kind(node: Any, parts: dict[Any, Any]) -> str:
    """Say what a node does with units; nothing where it mixes them."""
    part = parts[node.target] if node.op == "call_module" else None
    if isinstance(part, nn.Flatten) and (part.start_dim, part.end_dim) == (1, -1):
        return "flat"
    if node.target in (torch.flatten, "flatten") and node.args[1:] == (1,) and not node.kwargs:
        return "flat"
    if isinstance(part, _POOLS):
        return "pool"
    known = _FUNCTIONS if node.op == "call_function" else _METHODS if node.op == "call_method" else set()
    return "unit" if isinstance(part, _UNIT_WISE) or node.target in known else ""
