"""Nets as graphs without weights, and many of them evaluated at once, as one graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "step": lambda x: (x > 0).to(x.dtype),
    "sin": lambda x: torch.sin(math.pi * x),
    "gaussian": lambda x: x.square().div_(-2).exp_(),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "inverse": torch.neg,
    "absolute": torch.abs,
    "relu": torch.relu,
    "cos": lambda x: torch.cos(math.pi * x),
}
"""What a hidden node does to the sum of its inputs, by name."""

_NAMES = list(ACTIVATIONS)
BEHIND = 2**30  # the depth of outputs, which come last
_NUMBERS = 2**23  # of the values of nodes that are held at once: what fits into the caches of a CPU


@dataclass(frozen=True, eq=False)
class Graph:
    """A feed-forward net without weights. Node 0 is the bias; then come D inputs, K outputs, and H hidden nodes.

    Attributes:
        inputs: D.
        outputs: K; their activation is linear.
        source: Where each connection starts, ``(E,)``, those among them that are switched off.
        target: Where it ends, ``(E,)``.
        on: Whether it is switched on, bool ``(E,)``.
        activation: The place in :data:`ACTIVATIONS` of each hidden node's, ``(H,)``.
        depth: The most connections between a hidden node and an input, ``(H,)``, switched off or on.
    """

    inputs: int
    outputs: int
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    on: NDArray[np.bool_]
    activation: NDArray[np.int32]
    depth: NDArray[np.int32]

    @property
    def connections(self) -> int:
        """The number of connections that are switched on."""
        return int(self.on.sum())


_ARRAYS = ("source", "target", "on", "activation", "depth")


def packed(graphs: Sequence[Graph]) -> dict[str, Any]:
    """Return graphs of the same inputs and outputs as tensors and numbers, for :func:`unpacked`."""
    sizes = {"inputs": graphs[0].inputs, "outputs": graphs[0].outputs}
    lengths = {f"{name}_lengths": [len(getattr(graph, name)) for graph in graphs] for name in _ARRAYS}
    values = {name: np.concatenate([getattr(graph, name) for graph in graphs]) for name in _ARRAYS}
    return sizes | lengths | {name: torch.from_numpy(array) for name, array in values.items()}


def unpacked(state: Mapping[str, Any]) -> list[Graph]:
    """Return the graphs."""
    parts = (map(Tensor.numpy, state[name].split(state[f"{name}_lengths"])) for name in _ARRAYS)
    return [Graph(state["inputs"], state["outputs"], *arrays) for arrays in zip(*parts, strict=True)]


class Union:
    """Graphs side by side as one graph, whose nodes but inputs are rows by depth and, within it, by activation.

    The last rows are the outputs, graph by graph. ``source`` and ``target`` are those of the connections that are on,
    in their order; a source is an input, or, behind the bias and the inputs, a row.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.inputs, self.outputs, self.number = graphs[0].inputs + 1, graphs[0].outputs, len(graphs)
        begins = np.cumsum([0, *(self.outputs + len(graph.depth) for graph in graphs)])
        source, target, on = (np.concatenate([getattr(g, n) for g in graphs]) for n in ("source", "target", "on"))
        shift = np.repeat(begins[:-1] - self.inputs, [len(graph.on) for graph in graphs])[on]
        source, target = source[on], target[on] + shift
        ends = np.full(self.outputs, BEHIND), np.zeros(self.outputs, int)
        depth, activation = (
            np.concatenate([part for graph in graphs for part in (end, getattr(graph, name))])
            for end, name in zip(ends, ("depth", "activation"), strict=True)
        )
        order = np.lexsort((activation, depth))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        inner, self.rows, self.target = source >= self.inputs, len(order), place[target]
        self.source = source.astype(np.int64)
        self.source[inner] = self.inputs + place[(source + shift)[inner]]
        self._of_inputs, self._of_rows = map(self._sources, (~inner, inner), (0, self.inputs))
        # Start and stop of each depth, and those of each activation there.
        self.levels: list[tuple[int, int, list[tuple[str, int, int]]]] = []
        depth, activation = depth[order], activation[order]
        new = (depth[1:] != depth[:-1]) | (activation[1:] != activation[:-1])
        for start, stop in pairwise([0, *(np.flatnonzero(new) + 1).tolist(), self.rows]):
            part = (_NAMES[activation[start]], start, stop)
            if start and depth[start] == depth[start - 1]:
                begin, _, parts = self.levels.pop()
                self.levels.append((begin, stop, [*parts, part]))
            else:
                self.levels.append((start, stop, [part]))

    def _sources(self, some: NDArray[np.bool_], shift: int) -> tuple[Tensor, list[int]]:
        """Return what each row is a sum of, one after another, and where those of each begin, and the last end."""
        order = np.argsort(self.target[some], kind="stable")
        begins = np.concatenate([[0], np.bincount(self.target[some], minlength=self.rows).cumsum()])
        return torch.from_numpy(self.source[some][order] - shift), begins.tolist()

    def sums(self, table: Tensor, start: int, stop: int, of_inputs: bool = False) -> Tensor:
        """Return for each of some rows the sum over its sources among the inputs or the rows, which are ``table``'s."""
        sources, begins = self._of_inputs if of_inputs else self._of_rows
        first, last = begins[start], begins[stop]
        offsets = torch.tensor(begins[start:stop], device=table.device) - first
        return F.embedding_bag(sources[first:last].to(table.device), table, offsets, mode="sum")


def with_bias(x: Tensor) -> Tensor:
    """Return samples ``(N, ...)`` of D numbers as the nodes have them, ``(1 + D, N)``."""
    return torch.cat([x.new_ones(1, len(x)), x.flatten(1).T])


def logits(union: Union, x: Tensor, weights: Tensor, scratch: Tensor | None = None) -> Tensor:
    """Evaluate graphs on samples ``(N, D)`` with each of W weights that all connections share: ``(P, K, W, N)``.

    The values of nodes are in ``scratch``, where it is given: new memory would cost a tenth of the time.
    """
    of_inputs, by = union.sums(with_bias(x), 0, union.rows, of_inputs=True)[:, None], weights[:, None]
    shape = union.rows, len(weights), len(x)
    weighted = (x.new_empty(math.prod(shape)) if scratch is None else scratch[: math.prod(shape)]).view(shape)
    for start, stop, parts in union.levels:
        total = union.sums(weighted.flatten(1), start, stop).view(stop - start, *shape[1:])
        total.addcmul_(of_inputs[start:stop], by)
        for name, a, b in parts if stop < union.rows else ():
            # Values are kept times the weight, as sums need them.
            torch.mul(ACTIVATIONS[name](total[a - start : b - start]), by, out=weighted[a:b])
    return total.view(union.number, union.outputs, len(weights), -1)


@torch.no_grad()
def losses(graphs: Sequence[Graph], x: Tensor, y: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the mean cross-entropy of P graphs with each of W shared weights, ``(P, W)``, float64.

    Args:
        graphs: Graphs of the same inputs and outputs.
        x: Samples ``(N, D)``, on the device and in the precision that they are evaluated in.
        y: Classes ``(N,)``.
        weights: Values, one of which all connections share.
    """
    shared, samples, found = x.new_tensor(list(weights)), min(len(x), 1000), []
    values = [(graph.outputs + len(graph.depth)) * len(shared) * samples for graph in graphs]
    scratch = x.new_empty(min(sum(values), max(_NUMBERS, *values)))
    ends = [0]  # of what fits into it
    for at in range(len(graphs)):
        if sum(values[ends[-1] : at + 1]) > len(scratch):
            ends.append(at)
    for start, stop in pairwise([*ends, len(graphs)]):
        union = Union(graphs[start:stop])
        total = x.new_zeros(union.number, len(shared), dtype=torch.float64)
        for some, to in zip(torch.split(x, samples), torch.split(y, samples), strict=True):
            made = logits(union, some, shared, scratch)
            own, most = made.gather(1, to.expand(union.number, 1, len(shared), -1)), made.amax(1, keepdim=True)
            loss = made.sub_(most).exp_().sum(1, keepdim=True).log_().add_(most).sub_(own)
            total += loss.sum((1, 3), dtype=torch.float64)
        found.append(total / len(x))
    return torch.cat(found)


@torch.no_grad()
def accuracies(graph: Graph, x: Tensor, y: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the accuracy of a graph in percent with each of W shared weights, ``(W,)``, float64."""
    shared, union = x.new_tensor(list(weights)), Union([graph])
    parts = zip(torch.split(x, 1000), torch.split(y, 1000), strict=True)
    right = torch.stack([(logits(union, some, shared)[0].argmax(0) == to).sum(-1) for some, to in parts])
    return 100 * right.sum(0).double() / len(x)
