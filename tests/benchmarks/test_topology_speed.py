"""Weight agnostic candidates on 16x16 images: all at once against NumPy loops over candidates, weights and nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from harness import Table, alternate, ratio, seconds
from numpy.typing import NDArray

from lightning_regs.procedures.agnostic.find_topology import MUTATIONS, WEIGHTS
from lightning_regs.procedures.agnostic.graphs import ACTIVATIONS, Graph, losses
from lightning_regs.procedures.agnostic.operators import first_graphs, mutated

POPULATION, CHANGES, SAMPLES, ROUNDS = 96, 240, 1000, 5
Array = NDArray[np.float32]
NODES: list[Callable[[Array], Array]] = [
    lambda x: x, lambda x: (x > 0).astype(x.dtype), lambda x: np.sin(np.pi * x), lambda x: np.exp(-x * x / 2), np.tanh,
    lambda x: 1 / (1 + np.exp(-x)), lambda x: -x, np.abs, lambda x: np.maximum(x, 0), lambda x: np.cos(np.pi * x),
]  # fmt: skip


def population() -> list[Graph]:
    """Return candidates as they are some hundred generations on: some 150 connections and 50 hidden nodes."""
    draws, found = np.random.Generator(np.random.PCG64(0)), []
    for graph in first_graphs(POPULATION, 256, 10, 0.05, draws):
        for kind in draws.choice(list(MUTATIONS), CHANGES, p=list(MUTATIONS.values())):
            graph = mutated(graph, str(kind), [n for n in range(len(ACTIVATIONS)) if n != 1], draws)
        found.append(graph)
    return found


def loop(graphs: list[Graph], x: Array, y: NDArray[np.int64], dense: bool) -> Array:
    """Return the loss of each candidate and weight, with samples at once; ``dense``: as the authors' code sums."""
    found = np.zeros((len(graphs), len(WEIGHTS)), np.float32)
    for i, graph in enumerate(graphs):
        first = 1 + graph.inputs
        order = [*(first + graph.outputs + graph.depth.argsort(kind="stable")), *range(first, first + graph.outputs)]
        source, target = graph.source[graph.on], graph.target[graph.on]
        matrix = np.zeros((first + graph.outputs + len(graph.depth),) * 2, np.float32)
        matrix[source, target] = 1
        before = [source[target == node] for node in order]
        for j, weight in enumerate(WEIGHTS):
            values = np.zeros((len(x), len(matrix)) if dense else (len(matrix), len(x)), np.float32)
            nodes = values.T if dense else values
            nodes[0], nodes[1:first] = 1, x.T
            for node, sources in zip(order, before, strict=True):
                total = weight * (values @ matrix[:, node] if dense else values[sources].sum(0))
                hidden = node - first - graph.outputs
                nodes[node] = total if hidden < 0 else NODES[graph.activation[hidden]](total)
            made = nodes[first : first + graph.outputs]
            shifted = made - made.max(0)
            found[i, j] = (np.log(np.exp(shifted).sum(0)) - shifted[y, np.arange(len(y))]).mean()
    return found


@pytest.mark.parametrize("way", ["dense", "sparse"])
def test_candidates_of_a_population(table: Table, way: str) -> None:
    graphs, generator = population(), torch.Generator().manual_seed(0)
    shape = (SAMPLES, 256)
    x = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.3)
    y = torch.randint(10, (SAMPLES,), generator=generator)
    some = graphs[:: 24 if way == "dense" else 6]  # of the loop, whose candidates are alike
    expected = torch.from_numpy(loop(some, x.numpy(), y.numpy(), way == "dense"))
    torch.testing.assert_close(losses(some, x, y, WEIGHTS).float(), expected, rtol=1e-3, atol=1e-3)
    times = alternate(
        {
            "ours": lambda: seconds(lambda: losses(graphs, x, y, WEIGHTS)) / len(graphs),
            "loop": lambda: seconds(lambda: loop(some, x.numpy(), y.numpy(), way == "dense")) / len(some),
        },
        ROUNDS,
    )
    name = "candidates a second, 6 weights, 1,000 images of 16x16: "
    said = {"dense": "a NumPy loop as the authors' / ours", "sparse": "a NumPy loop over connections / ours"}
    table.add(name + said[way], measured := ratio(times, "loop", "ours"), {"dense": 20.0, "sparse": 2.0}[way])
    print(way, {key: 1 / min(value) for key, value in times.items()})
    assert measured > {"dense": 10, "sparse": 1}[way]
