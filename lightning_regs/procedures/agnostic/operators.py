"""What a generation of graphs becomes the next by: changes of one graph, and a ranking by two aims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_regs.procedures.agnostic.graphs import BEHIND, Graph

Draws = np.random.Generator


def next_graphs(
    graphs: Sequence[Graph], losses: NDArray[Any], draws: Draws, activations: Sequence[int],
    mutations: Mapping[Any, float], by_connections: float, cull: float, elite: float, tournament: int,
) -> list[Graph]:  # fmt: skip
    """Return the next generation, of as many graphs, given the loss of each with each weight, ``(P, W)``.

    All else is as of ``find_topology``, but ``activations`` are places in ``ACTIVATIONS``.
    """
    size = np.array([graph.connections or np.inf for graph in graphs])
    other = 1 / size if draws.random() < by_connections else -finite(losses.min(1))
    order = ranked(-finite(losses.mean(1)), other)
    parents = [graphs[i] for i in order[: len(graphs) - int(cull * len(graphs))]]
    made = parents[: int(elite * len(parents))]
    winners = draws.integers(len(parents), size=(len(graphs) - len(made), tournament)).min(1)
    chances = np.array(list(mutations.values())) / sum(mutations.values())
    kinds = draws.choice(list(mutations), len(winners), p=chances)
    return made + [
        mutated(parents[winner], str(kind), activations, draws) for winner, kind in zip(winners, kinds, strict=True)
    ]


def finite(losses: NDArray[Any]) -> NDArray[Any]:
    """Return losses with what is no number, or infinite, behind all others."""
    good = np.isfinite(losses)
    return np.where(good, losses, losses[good].max(initial=0) + 1)


def first_graphs(number: int, inputs: int, outputs: int, enabled: float, draws: Draws) -> list[Graph]:
    """Return graphs without hidden nodes, which connect the bias and each input with each output at random."""
    nodes, none = np.arange(1 + inputs + outputs, dtype=np.int32), np.zeros(0, np.int32)
    source, target = np.repeat(nodes[: 1 + inputs], outputs), np.tile(nodes[1 + inputs :], 1 + inputs)
    masks = (draws.random(len(source)) < enabled for _ in range(number))
    return [Graph(inputs, outputs, source, target, on, none, none) for on in masks]


def mutated(graph: Graph, kind: str, activations: Sequence[int], draws: Draws) -> Graph:
    """Return a graph with one change, a key of ``MUTATIONS``, or the graph itself where it has no place for it."""
    hidden, on = len(graph.activation), graph.on.copy()
    if kind == "activation":
        at = int(draws.integers(hidden)) if hidden else 0
        others = [number for number in activations if hidden and number != graph.activation[at]]
        if not others:
            return graph
        changed = graph.activation.copy()
        changed[at] = draws.choice(others)
        return replace(graph, activation=changed)
    if kind == "connection":
        ends = np.zeros(1 + graph.inputs, np.int32), np.full(graph.outputs, BEHIND, np.int32)
        depth = np.concatenate([*ends, graph.depth])
        for source in draws.permutation(len(depth)):
            free = depth > depth[source]
            free[graph.target[graph.source == source]] = False
            if free.any():
                return _connected(graph, [source], [draws.choice(np.flatnonzero(free))])
        return graph
    places = np.flatnonzero(on if kind == "node" else ~on)
    if not len(places):
        return graph
    at = draws.choice(places)
    on[at] = kind == "enable"
    if kind == "enable":
        return replace(graph, on=on)
    new = 1 + graph.inputs + graph.outputs + hidden
    activation = np.append(graph.activation, np.int32(draws.choice(activations)))
    split = replace(graph, on=on, activation=activation)
    return _connected(split, [graph.source[at], new], [new, graph.target[at]])


def _connected(graph: Graph, sources: Sequence[Any], targets: Sequence[Any]) -> Graph:
    """Return a graph with further connections, and the depths that its hidden nodes then have."""
    both = (graph.source, sources), (graph.target, targets)
    source, target = (np.append(old, np.array(new, np.int32)) for old, new in both)
    first, depth = 1 + graph.inputs + graph.outputs, np.ones(len(graph.activation), np.int32)
    inner = (source >= first) & (target >= first)
    a, b = source[inner] - first, target[inner] - first
    while True:
        deeper = depth.copy()
        np.maximum.at(deeper, b, depth[a] + 1)
        if (deeper == depth).all():
            break
        depth = deeper
    on = np.append(graph.on, np.ones(len(sources), bool))
    return replace(graph, source=source, target=target, on=on, depth=depth)


def ranked(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return the order of candidates by two numbers each, of which more is better: the first is the best.

    It is the non-dominated sorting of NSGA-II (Deb et al. 2002): those that none beats in both come first, then those
    that none of the others beats, and so on; within such a front, those with the most room around them.
    """
    a, b = one[:, None], other[:, None]
    beats = (a >= one) & (b >= other) & ((a > one) | (b > other))
    beaten, order = beats.sum(0), list[int]()
    while len(order) < len(one):
        front = np.flatnonzero(beaten == 0)
        room = _room(one[front]) + _room(other[front])
        order += front[np.argsort(-room, kind="stable")].tolist()
        beaten = beaten - beats[front].sum(0)
        beaten[front] = -1
    return np.array(order)


def _room(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distance between the neighbours of each value, as a share of the range; infinite at the ends."""
    order = np.argsort(values, kind="stable")
    gaps = np.concatenate([[np.inf], np.diff(values[order]), [np.inf]])
    room = np.empty(len(values))
    room[order] = (gaps[:-1] + gaps[1:]) / ((values.max() - values.min()) or 1)
    return room
