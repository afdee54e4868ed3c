"""Weight agnostic nets: graphs evaluated at once are the graphs walked node by node, and what the search does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, WeightAgnosticNet, find_topology
from lightning_regs.core.lightning import pl
from lightning_regs.procedures.agnostic import graphs as parts
from lightning_regs.procedures.agnostic.find_topology import MUTATIONS
from lightning_regs.procedures.agnostic.graphs import ACTIVATIONS, Graph, accuracies, packed, unpacked
from lightning_regs.procedures.agnostic.operators import first_graphs, mutated, next_graphs, ranked

WEIGHTS = (-2.0, -0.5, 0.7, 1.0)
# Written anew, from the paper's list of names.
WALKED: list[Callable[[float], float]] = [
    lambda x: x, lambda x: float(x > 0), lambda x: math.sin(math.pi * x), lambda x: math.exp(-x * x / 2), math.tanh,
    lambda x: 1 / (1 + math.exp(-x)), lambda x: -x, abs, lambda x: max(x, 0.0), lambda x: math.cos(math.pi * x),
]  # fmt: skip


def grown(number: int = 6, changes: int = 60, inputs: int = 5, outputs: int = 3) -> list[Graph]:
    draws = np.random.Generator(np.random.PCG64(3))
    kinds = draws.choice(list(MUTATIONS), (number, changes), p=list(MUTATIONS.values()))
    found = first_graphs(number, inputs, outputs, 0.4, draws)
    for i, own in enumerate(kinds):
        for kind in own:
            found[i] = mutated(found[i], kind, range(len(ACTIVATIONS)), draws)
    return found


def walked(graph: Graph, sample: list[float], weights: list[float]) -> list[float]:
    """Return the outputs of one sample, each node by itself, from the outputs backwards."""
    first = 1 + graph.inputs
    on = [(a, b) for a, b, c in zip(graph.source.tolist(), graph.target.tolist(), graph.on.tolist(), strict=True) if c]

    def node(number: int) -> float:
        if number < first:
            return [1.0, *sample][number]
        total = math.fsum(w * node(a) for (a, b), w in zip(on, weights, strict=True) if b == number)
        hidden = number - first - graph.outputs
        return total if hidden < 0 else WALKED[graph.activation[hidden]](total)

    return [node(first + output) for output in range(graph.outputs)]


def scored(graph: Graph, x: Tensor, y: Tensor, weight: float) -> tuple[float, float]:
    made = torch.tensor(
        [walked(graph, sample, [weight] * graph.connections) for sample in x.tolist()], dtype=torch.float64
    )
    right = (made.argmax(1) == y).double().mean()
    return float(nn.functional.cross_entropy(made, y)), 100 * float(right)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_a_population_at_once_is_each_graph_walked_node_by_node(
    dtype: torch.dtype, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    population = grown()
    assert {int(a) for graph in population for a in graph.activation} == set(range(len(ACTIVATIONS)))
    assert max(graph.depth.max() for graph in population) > 2
    x, y = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
    each = [[scored(graph, x, y, w) for w in WEIGHTS] for graph in population]
    expected = torch.tensor(each, dtype=torch.float64).movedim(2, 0)
    for numbers in (parts._NUMBERS, 300):  # in one piece, and in several
        monkeypatch.setattr(parts, "_NUMBERS", numbers)
        found = parts.losses(population, x.to(dtype), y, WEIGHTS)
        torch.testing.assert_close(found, expected[0], rtol=near, atol=near)
        right = torch.stack([accuracies(graph, x.to(dtype), y, WEIGHTS) for graph in population])
        torch.testing.assert_close(right, expected[1])


def test_a_net_is_its_graph_with_a_shared_weight_or_weights_of_its_own() -> None:
    x = torch.rand(4, 5).double()
    for graph in grown(3):
        net = WeightAgnosticNet(graph, -0.5).double()
        assert [p.numel() for p in net.parameters()] == [graph.on.sum()]
        for weights in (
            torch.full_like(net.weights, -0.5),
            torch.full_like(net.weights, 2.0),
            torch.randn_like(net.weights),
        ):
            same = bool((weights == weights[0]).all())
            net.share(float(weights[0])) if same else net.load_state_dict({"weights": weights})
            expected = [walked(graph, sample, weights.tolist()) for sample in x.tolist()]
            torch.testing.assert_close(net(x.view(4, 5, 1)), torch.tensor(expected, dtype=torch.float64))


def test_a_net_s_gradient_is_that_of_finite_differences() -> None:
    smooth = [graph for graph in grown() if not set(graph.activation.tolist()) & {1, 7, 8}] or grown(1, 12)
    net = WeightAgnosticNet(smooth[0], 0.3).double()
    x = torch.rand(3, 5).double()

    def outputs(weights: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(net, {"weights": weights}, x)
        return made

    assert torch.autograd.gradcheck(outputs, net.weights.detach().requires_grad_())


def test_a_trainer_trains_the_weights() -> None:
    x = torch.rand(60, 5)
    y = (x[:, 0] > x[:, 1]).long() + 0 * x[:, 0].long()
    net = WeightAgnosticNet(grown(1)[0])
    before = net.weights.detach().clone()
    module = Classifier(net, num_classes=3, input_shape=(5,), optimizer={"name": "Adam", "lr": 0.05})
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 20)
    pl.Trainer(max_epochs=3, enable_checkpointing=False).fit(module, loader)
    trained: Any = module.network
    assert (trained.weights.detach().cpu() != before).any()


def test_each_change_is_one_change_and_leaves_no_circle() -> None:
    draws = np.random.Generator(np.random.PCG64(0))
    graph = first_graphs(1, 4, 2, 0.5, draws)[0]
    seen = set()
    for kind in [*["node"] * 3, *itertools.chain.from_iterable(itertools.repeat(list(MUTATIONS), 40))]:
        new = mutated(graph, kind, (0, 4, 9), draws)
        more = {
            n: len(getattr(new, n)) - len(getattr(graph, n)) for n in ("activation", "depth", "on", "source", "target")
        }
        changed = int((new.on[: len(graph.on)] != graph.on).sum())
        different = int((new.activation[: len(graph.activation)] != graph.activation).sum())
        assert new.connections - graph.connections == {"activation": 0}.get(kind, 1) or new is graph
        if new is not graph:
            seen.add(kind)
            added = {"node": (1, 2), "connection": (0, 1)}.get(kind, (0, 0))
            assert (more["activation"], more["on"]) == added
            assert more["depth"] == more["activation"]
            assert more["source"] == more["target"] == more["on"]
            assert changed == (kind in ("node", "enable"))
            assert different == (kind == "activation")
        graph = new
        pairs = list(zip(graph.source.tolist(), graph.target.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        depth = [0] * 5 + [10**9] * 2 + graph.depth.tolist()
        assert all(depth[a] < depth[b] for a, b in pairs)
        longest = {n: 1 + max([depth[a] for a, b in pairs if b == n]) for n in range(7, len(depth))}
        assert longest == dict(enumerate(graph.depth.tolist(), 7))
    assert seen == set(MUTATIONS)


def test_candidates_are_ranked_by_fronts_and_by_the_room_around_them() -> None:
    one = np.array([1.0, 2, 3, 4, 1, 2, 2.9, 0])
    other = np.array([4.0, 3, 2, 1, 1, 2, 2.1, 0])
    order = ranked(one, other).tolist()
    fronts, left = [], set(range(8))
    while left:
        front = {
            i
            for i in left
            if not any(
                one[j] >= one[i] and other[j] >= other[i] and (one[j], other[j]) != (one[i], other[i]) for j in left
            )
        }
        fronts.append(front)
        left -= front
    begin = 0
    for front in fronts:
        assert set(order[begin : begin + len(front)]) == front
        begin += len(front)
    assert set(order[:2]) == {0, 3}  # its ends
    assert order[2:5] == [1, 2, 6] or order[2] == 1  # then the one whose neighbours are far


def data() -> dict[str, Any]:
    x = torch.rand(80, 6, generator=torch.Generator().manual_seed(1))
    return {"x": x, "y": (x[:, 0] - x[:, 3] > 0).long(), "population": 16, "batch_size": 40, "seed": 5}


def test_the_search_finds_what_no_first_candidate_has() -> None:
    rows: list[dict[str, float]] = []
    net = find_topology(**data(), generations=40, on_generation=rows.append)
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.05
    whole = parts.losses([net.graph], data()["x"], data()["y"], (-2, -1, -0.5, 0.5, 1, 2))
    assert float(net.weights.detach()[0]) == (-2, -1, -0.5, 0.5, 1, 2)[int(whole.argmin())]


def test_a_killed_search_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = find_topology(**data(), generations=9)
    rows: list[dict[str, float]] = []

    def kill(row: dict[str, float]) -> None:
        rows.append(row)
        if row["step"] in (3, 7):
            raise KeyboardInterrupt

    for _ in range(3):
        try:
            net = find_topology(**data(), generations=9, folder=tmp_path, checkpoint_every=0, on_generation=kill)
        except KeyboardInterrupt:
            rows.append({"step": -1})
            kill = rows.append  # type: ignore[assignment]
    assert [row["step"] for row in rows[:5]] == [1, 2, 3, -1, 3]
    assert torch.equal(net.weights, whole.weights)
    assert all(
        (getattr(net.graph, n) == getattr(whole.graph, n)).all() for n in ("source", "target", "on", "activation")
    )
    with pytest.raises(ValueError, match="other arguments or data"):
        find_topology(**data() | {"population": 15}, generations=9, folder=tmp_path)
    (tmp_path / "search.pt").write_bytes(b"no")
    with pytest.warns(UserWarning, match="starts over"):
        again = find_topology(**data(), generations=9, folder=tmp_path)
    assert torch.equal(again.weights, whole.weights)


def test_of_two_searches_in_a_folder_the_second_is_refused_and_so_is_what_is_none(tmp_path: Path) -> None:
    def again(_: dict[str, float]) -> None:
        with pytest.raises(RuntimeError, match=r"another search is at work in .*; wait for it, or give another"):
            find_topology(**data() | {"seed": 6}, generations=2, folder=tmp_path)

    find_topology(**data(), generations=2, folder=tmp_path, on_generation=again)
    find_topology(**data(), generations=2, folder=tmp_path)
    torch.save(nn.Linear(1, 1), tmp_path / "search.pt")
    with pytest.raises(ValueError, match="is of a search with other arguments or data; give another folder"):
        find_topology(**data(), generations=2, folder=tmp_path)


def test_candidates_without_a_connection_come_last_and_are_no_champions() -> None:
    draws = np.random.Generator(np.random.PCG64(0))
    graphs = first_graphs(6, 8, 2, 0.5, draws)
    graphs[0] = replace(graphs[0], on=np.zeros_like(graphs[0].on))
    found = parts.losses(graphs, torch.rand(20, 8), torch.arange(20) % 2, (1.0, 2.0)).numpy()
    found[0] = np.inf
    made = next_graphs(graphs, found, draws, (1, 2), {"enable": 1.0}, 1.0, 0.2, 0.99, 2)
    assert all(graph.connections for graph in made)
    net = find_topology(**data(), generations=1, elite=0.99)  # some have less loss than any connection gives
    assert net.graph.connections


def test_a_champion_has_a_loss_on_all_samples() -> None:
    x, y = data()["x"].clone(), data()["y"]
    x[-1, 0] = 3e38  # which overflows in those that are connected to it
    rare: dict[str, Any] = data() | {"x": x, "batch_size": 1, "elite": 0.9}
    net = find_topology(**rare, generations=1)
    assert nn.functional.cross_entropy(net(x), y).isfinite()
    x[-1] = 3e38
    with pytest.raises(RuntimeError, match="died out: none of the elite has a loss on all samples"):
        find_topology(**rare, enabled=1.0, generations=1)


def test_the_order_in_which_changes_are_named_is_of_no_matter() -> None:
    one, other = (
        find_topology(**data(), generations=12, mutations=dict(order))
        for order in (MUTATIONS.items(), reversed(MUTATIONS.items()))
    )
    assert np.array_equal(one.graph.source, other.graph.source)


def test_what_is_packed_comes_back() -> None:
    for one, other in zip(grown(), unpacked(packed(grown())), strict=True):
        assert one.inputs == other.inputs
        assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in parts._ARRAYS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": torch.full((80, 6), 3e38), "enabled": 1.0}, "died out: in generation 1 "),
        ({"enabled": 0.0}, "died out: in generation 1 "),
        ({"x": torch.zeros(0, 6), "y": torch.zeros(0, dtype=torch.long)}, r"\(0, 6\) is empty; give samples"),
        ({"x": torch.zeros(80, 0)}, r"\(80, 0\) is empty; give samples"),
        ({"batch_size": 81}, "batch_size=81 is more than the 80 samples"),
        ({"weights": [1.0, 0.0]}, "has 0"),
        ({"x": torch.full((80, 6), math.nan)}, "NaN or infinite"),
        ({"y": torch.zeros(80, dtype=torch.long)}, "at least two"),
        ({"y": torch.arange(80) - 1}, "classes from 0 on"),
        ({"y": torch.arange(80) * 10**12}, "at most as many as the 80 samples"),
        ({"mutations": {"node": 0.0}}, "leaves nothing to change"),
        ({"mutations": {"crossover": 1.0}}, "crossover"),
        ({"activations": ["rely"]}, "relu"),
        ({"population": 1}, "at least 2"),
        ({"cull": 1.0}, "below 1"),
        ({"x": torch.rand(80)}, "shape"),
        ({"x": torch.rand(79, 6)}, "shape"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=words) as found:
        find_topology(**data() | changes, generations=2)
    assert "\n" not in str(found.value)


def test_a_loader_is_refused_with_the_line_that_makes_tensors_of_it() -> None:
    x, y = data()["x"], data()["y"]
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    with pytest.raises(TypeError, match=r"^x must be .*, x, y = map\(torch.cat, zip\(\*loader\)\), got <.*DataLoader"):
        find_topology(loader, y)  # type: ignore[arg-type]
    assert all(map(torch.equal, map(torch.cat, zip(*loader, strict=True)), (x, y)))
