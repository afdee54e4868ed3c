"""A net of a given topology, whose connections share one weight or have weights of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import checked
from lightning_regs.procedures.agnostic.graphs import ACTIVATIONS, Graph, Union, with_bias


class WeightAgnosticNet(nn.Module):
    """A graph that :func:`~lightning_regs.find_topology` found, as a net (Gaier & Ha 2019, arXiv:1906.04358).

    Shape: ``(N, ...)`` of D numbers each to logits ``(N, K)``. The only parameters are ``weights``, one for each
    connection that is switched on; there are no biases but the connections of a node that is always 1. ``share(0.7)``
    sets all to one number, and a Trainer trains each by itself. Steps have no gradient.

    Args:
        graph: The topology.
        weight: What all weights are at first.
    """

    @checked
    def __init__(self, graph: Graph, weight: float = 1.0) -> None:
        super().__init__()
        self.graph, self._union = graph, Union([graph])
        self.weights = nn.Parameter(torch.full((graph.connections,), float(weight)))
        places = torch.stack([torch.from_numpy(self._union.target), torch.from_numpy(self._union.source)])
        self._places: Tensor
        self.register_buffer("_places", places, persistent=False)

    @checked
    def share(self, weight: float) -> WeightAgnosticNet:
        """Set all weights to one number, and return the net."""
        nn.init.constant_(self.weights, weight)
        return self

    def extra_repr(self) -> str:
        """Return the sizes of the graph, which ``print`` shows."""
        graph = self.graph
        sizes = f"inputs={graph.inputs}, outputs={graph.outputs}, hidden={len(graph.depth)}"
        return f"{sizes}, connections={graph.connections}"

    def forward(self, x: Tensor) -> Tensor:
        """Map samples ``(N, ...)`` to logits ``(N, K)``."""
        union, shape = self._union, (self._union.rows, self._union.inputs + self._union.rows)
        matrix = self.weights.new_zeros(shape).index_put((self._places[0], self._places[1]), self.weights)
        values = [with_bias(x)]
        for start, stop, parts in union.levels:
            total = matrix[start:stop, : union.inputs + start] @ torch.cat(values)
            values += [ACTIVATIONS[name](total[a - start : b - start]) for name, a, b in parts]
        return values[-1].T
