"""Pruning, against a reference in plain Python: exact counts, ties, scopes, rates, and the paper's grid of P_m."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_regs.functional import prune, zero_pruned
from lightning_regs.pruning import SCORES, Mask, Pruning, prunable, random_mask

LENET = {"body.1.weight": (300, 784), "body.3.weight": (100, 300), "head.weight": (10, 100)}
CONVS = {
    "Conv-2": [(64, 3, 3, 3), (64, 64, 3, 3), (256, 16384), (256, 256), (10, 256)],
    "Conv-4": [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 8192), (256, 256), (10, 256)],
}
CONVS["Conv-6"] = [*CONVS["Conv-4"][:4], (256, 128, 3, 3), (256, 256, 3, 3), (256, 4096), (256, 256), (10, 256)]
# The sheet's table of P_m after n rounds.
SHEET = {
    "LeNet": {3: 51.3, 7: 21.1, 9: 13.5, 10: 10.8, 11: 8.7, 12: 7.0, 14: 4.5, 15: 3.6, 20: 1.2},
    "Conv-2": {3: 51.4, 7: 21.2, 9: 13.7, 10: 11.0, 11: 8.8, 12: 7.1, 14: 4.6, 15: 3.7, 20: 1.3},
    "Conv-4": {3: 53.6, 7: 23.9, 9: 16.2, 10: 13.4, 11: 11.1, 12: 9.2, 14: 6.4, 15: 5.4, 20: 2.3},
    "Conv-6": {3: 56.4, 7: 26.6, 9: 18.4, 10: 15.3, 11: 12.7, 12: 10.6, 14: 7.4, 15: 6.2, 20: 2.5},
}


def by_hand(scores: dict[str, list[float]], kept: dict[str, set[int]], rates: dict[str, float], scope: str) -> dict:
    """Remove survivors one list at a time, sorted by score, then layer, then place."""
    groups = [list(scores)] if scope == "global" else [[name] for name in rates]
    left = {name: set(places) for name, places in kept.items()}
    for names in groups:
        there = [(scores[n][i], list(scores).index(n), i) for n in names for i in sorted(kept[n])]
        for _, layer, i in sorted(there)[: round(rates[names[0]] * len(there))]:
            left[list(scores)[layer]].remove(i)
    return left


def places(mask: Mask) -> dict[str, set[int]]:
    return {name: {i for i, kept in enumerate(m.flatten().tolist()) if kept} for name, m in mask.items()}


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, list[float]], dict[str, list[bool]]]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    # Few values, so that ties are frequent; both zeros, which are equal.
    values = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, math.inf])
    scores = {f"l{9 - i}": draw(st.lists(values, min_size=n, max_size=n)) for i, n in enumerate(sizes)}
    return scores, {n: draw(st.lists(st.booleans(), min_size=len(v), max_size=len(v))) for n, v in scores.items()}


@settings(max_examples=40, deadline=None)
@given(layers(), st.floats(0.01, 0.99), st.sampled_from(["layer", "global"]), st.booleans())
def test_a_round_is_that_of_the_reference(
    case: tuple[dict[str, list[float]], dict[str, list[bool]]], rate: float, scope: str, some: bool
) -> None:
    scores, kept = case
    mask = Mask({name: torch.tensor(values) for name, values in kept.items()})
    before = copy.deepcopy(mask)
    rates = dict.fromkeys(list(scores)[: 1 if some and scope == "layer" else None], rate)
    tensors = {name: torch.tensor(values) for name, values in scores.items()}
    after = prune(tensors, mask, rates if scope == "layer" and some else rate, scope)
    assert places(after) == by_hand(scores, places(mask), rates, scope)
    assert mask == before
    for name, m in after.items():
        assert not (m & ~mask[name]).any()  # pruned stays pruned
        if scope == "layer":
            removed = round(rate * mask.counts[name]) if name in rates else 0
            assert after.counts[name] == mask.counts[name] - removed
    if scope == "global":
        assert after.kept == mask.kept - round(rate * mask.kept)


def test_order_in_memory_and_a_graph_do_not_matter() -> None:
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).round(decimals=1).requires_grad_()
    mask = Mask.dense({"w": weight})
    expected = by_hand({"w": weight.abs().flatten().tolist()}, places(mask), {"w": 0.4}, "layer")
    for same in (weight.abs(), weight.abs().to(memory_format=torch.channels_last)):
        for dense in (mask, Mask({"w": mask["w"].to(memory_format=torch.channels_last)})):
            assert places(prune({"w": same}, dense, 0.4)) == expected


def test_what_is_pruned_is_zeroed() -> None:
    weights = {"w": torch.tensor([0.1, -3.0, 0.2, 2.0])}
    mask = prune({"w": weights["w"].abs()}, Mask.dense(weights), 0.5)
    zero_pruned([weights["w"]], [mask["w"].float()])
    assert weights["w"].tolist() == [0.0, -3.0, 0.0, 2.0]


# -- the paper's grid ------------------------------------------------------------------------------------------------


def paper(net: str) -> tuple[Pruning, dict[str, tuple[int, ...]]]:
    if net == "LeNet":
        return Pruning(), LENET
    rate = 0.15 if net == "Conv-6" else 0.1
    shapes = {f"{'conv' if len(s) == 4 else 'fc'}{i}.weight": s for i, s in enumerate(CONVS[net])}
    return Pruning(rates={"conv*": rate}), shapes


@pytest.mark.parametrize("net", list(SHEET))
def test_densities_are_those_of_the_sheet(net: str) -> None:
    pruning, shapes = paper(net)
    found = pruning.densities(shapes, 20)
    if net in ("LeNet", "Conv-2"):
        assert {n: round(found[n], 1) for n in SHEET[net]} == SHEET[net]
    # The sheet has 53.6 and 13.4 where the exact counts of Conv-4 give 53.55 and 13.35.
    assert [found[n] for n in SHEET[net]] == pytest.approx(list(SHEET[net].values()), abs=0.06)


def test_lenets_grid() -> None:
    grid = [100, 80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5, 10.8, 8.7, 7.0, 5.6, 4.5, 3.6, 2.9, 2.3]
    assert [round(p, 1) for p in Pruning().densities(LENET, 17)] == grid
    # In exact numbers: the first round leaves 188160 + 24000 + 900 of 266200.
    assert Pruning().densities(LENET, 1)[1] == 100 * 213060 / 266200


def test_rounds_and_one_shot_leave_the_counts_that_densities_say() -> None:
    network = nn.Sequential(nn.Linear(13, 11), nn.Linear(11, 7), nn.Linear(7, 3))
    g = torch.Generator().manual_seed(0)
    initial = network.state_dict()
    for pruning in (Pruning(0.3), Pruning(0.3, scope="global"), Pruning(0.2, {"1": 0.35}, output_rate=0.05)):
        mask = dense = pruning.start(network)
        expected = pruning.densities(dense, 5)
        assert expected == pruning.densities({name: m.shape for name, m in dense.items()}, 5)
        for n in range(5):
            final = {name: w + 0.1 * torch.randn(w.shape, generator=g) for name, w in initial.items()}
            smaller = pruning.next(mask, initial, final)
            assert 100 * smaller.kept / dense.total == expected[n + 1]
            assert all(not (m & ~mask[name]).any() for name, m in smaller.items())
            assert pruning.densities(mask, 1)[1] == expected[n + 1]
            at_once = pruning.one_shot(dense, initial, final, n + 1)
            assert at_once.kept == smaller.kept
            if pruning.scope == "layer":
                assert at_once.counts == smaller.counts
            # The greatest of all are what one-shot keeps.
            kept = torch.cat([final[name][m].abs() for name, m in at_once.items()])
            gone = torch.cat([final[name][~m].abs() for name, m in at_once.items()])
            assert pruning.scope == "layer" or kept.min() >= gone.max()
            mask = smaller
        assert pruning.one_shot(mask, initial, initial, 0) == mask


def test_rates_of_layers() -> None:
    network = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 10))

    def removed(**options: object) -> list[int]:
        pruning = Pruning(**options)
        state = network.state_dict()
        return [100 - n for n in pruning.of(network).next(pruning.start(network), state, state).counts.values()]

    assert removed() == [20, 20, 10]
    assert removed(rate=0.5, output_rate=0.4) == [50, 50, 40]
    assert removed(rates={"1": 0.1}) == [20, 10, 10]
    assert removed(rates={"2.weight": 0.3}) == [20, 20, 30]
    assert removed(rates={"*": 0.3}, output_rate=0.05) == [30, 30, 5]
    assert removed(rates={"0": 0.4, "*": 0.3}) == [40, 30, 30]
    assert removed(layers=["0", "1"]) == [20, 20]


def test_ranks_are_of_the_survivors_that_are_compared() -> None:
    # Of all five, weight 2 ranks low initially; of the three survivors it has the least lower rank.
    initial = {"a": torch.tensor([9.0, 8.0, 1.0, 2.0, 3.0])}
    final = {"a": torch.tensor([0.0, 0.0, 3.0, 2.0, 1.0])}
    mask = Mask({"a": torch.tensor([0, 0, 1, 1, 1])})
    pruning = Pruning(0.5, criterion="large_init_large_final", output_rate=0.34)
    assert places(pruning.next(mask, initial, final)) == {"a": {3, 4}}
    # Over all layers the ranks are over all layers: a small layer's best may be nobody.
    both = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0, 5.0, 6.0])}
    ranked = Pruning(0.5, scope="global", criterion="large_init_large_final").next(Mask.dense(both), both, both)
    assert places(ranked) == {"a": set(), "b": {1, 2, 3}}


@pytest.mark.parametrize("criterion", [*SCORES, "random"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_stacked_networks_are_pruned_each_by_itself(criterion: str, scope: str) -> None:
    g = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (3, 4, 5), "b.weight": (3, 6)}
    initial, final = ({n: torch.randn(s, generator=g) for n, s in shapes.items()} for _ in range(2))
    dense = Mask.dense({name: w[0] for name, w in initial.items()})
    mask = Mask.stack([random_mask(prune(dense_scores(dense), dense, 0.2), g) for _ in range(3)])
    pruning = Pruning(0.3, scope=scope, criterion=criterion)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(r) for r in range(3)]

    def one(state: dict[str, Tensor], r: int) -> dict[str, Tensor]:
        return {name: w[r] for name, w in state.items()}

    for levels in (1, 3):
        apart = [
            pruning.one_shot(m, one(initial, r), one(final, r), levels, g)
            for r, (m, g) in enumerate(zip(mask.unstack(), generators(), strict=True))
        ]
        assert pruning.one_shot(mask, initial, final, levels, generators(), stacked=True).unstack() == apart
    assert pruning.next(mask, initial, final, generators(), stacked=True).kept < mask.kept


def dense_scores(mask: Mask) -> dict[str, Tensor]:
    return {name: torch.arange(m.numel()).view(m.shape) for name, m in mask.items()}


def test_random_pruning_draws_from_its_generator() -> None:
    weights = {"a.weight": torch.randn(20, 20, generator=torch.Generator().manual_seed(0))}
    mask, pruning = Mask.dense(weights), Pruning(0.5, criterion="random", output_rate=0.5)
    first, again, other = (
        pruning.next(mask, weights, weights, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first.kept == other.kept == 200
    with pytest.raises(ValueError, match="give it a generator"):
        pruning.next(mask, weights, weights)


# -- which weights ---------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.conv1, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose1d(4, 4, 2)
        self.inner = nn.ModuleDict({"one": nn.Linear(4, 4), "two": nn.Linear(4, 4)})
        self.inner["two"].weight = self.inner["one"].weight
        self.head = nn.Linear(4, 5, bias=False)


def test_weights_of_linear_and_conv_layers_in_order_once() -> None:
    net = Net()
    found = prunable(net)
    assert list(found) == ["conv1.weight", "up.weight", "inner.one.weight", "head.weight"]
    assert all(found[name] is dict(net.named_parameters())[name] for name in found)
    net.head.weight = net.embedding.weight  # a language model's output, which is its embedding too
    assert list(prunable(net)) == ["conv1.weight", "up.weight", "inner.one.weight"]
    assert list(prunable(nn.Linear(2, 2))) == ["weight"]


def test_weights_without_entries_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(0, 3), nn.Linear(3, 2))
    assert list(prunable(network)) == ["1.weight"]
    assert Pruning().start(network) == Mask({"1.weight": torch.ones(2, 3)})
    with pytest.raises(ValueError, match="'0' matches none of the 1 prunable weights"):
        prunable(network, "0")
    with pytest.raises(ValueError, match="nothing to prune"):
        prunable(nn.Linear(0, 3))


def test_globs_of_parameters_and_modules() -> None:
    assert list(prunable(Net(), "inner.*")) == ["inner.one.weight"]
    assert list(prunable(Net(), ["head", "conv1.weight"])) == ["conv1.weight", "head.weight"]
    assert list(prunable(Net(), "inner.two")) == ["inner.two.weight"]
    with pytest.raises(ValueError, match=r"'conv3' matches none of the 5 prunable weights; near ones: conv1\.weight"):
        prunable(Net(), ["head", "conv3"])
    with pytest.raises(ValueError, match="matches none"):
        prunable(Net(), "norm")
    with pytest.raises(ValueError, match="selects nothing"):
        prunable(Net(), [])
    with pytest.raises(TypeError, match="globs"):
        prunable(Net(), 3)  # type: ignore[arg-type]


def test_the_names_are_those_before_compiling() -> None:
    net = Net()
    # What torch.compile makes of a module has the module in it under this name; to make one takes ten seconds.
    compiled = nn.ModuleDict({"net": nn.ModuleDict({"_orig_mod": net})})
    assert list(prunable(compiled)) == [f"net.{name}" for name in prunable(net)]
    assert list(prunable(compiled, "net.conv1")) == ["net.conv1.weight"]


def test_weights_that_are_no_parameters_are_refused_by_name() -> None:
    net = Net()
    nn.utils.parametrizations.weight_norm(net.head)
    with pytest.raises(ValueError, match=r"'head\.weight' is no parameter.*remove its parametrization"):
        prunable(net)
    assert list(prunable(net, "conv1")) == ["conv1.weight"]
    with pytest.raises(ValueError, match=r"'0\.weight' has no shape yet"):
        prunable(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match="Sequential has nothing to prune"):
        prunable(nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"criterion": "large_finale"}, ValueError, "Did you mean 'large_final'"),
        ({"scope": "global", "rates": {"*": 0.1}}, ValueError, "one rate"),
        ({"scope": "global", "output_rate": 0.1}, ValueError, "one rate"),
        ({"layers": []}, ValueError, "selects nothing"),
        ({"layers": [1]}, TypeError, "globs"),
    ],
)
def test_other_arguments_are_refused(options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Pruning(**options)


def test_weights_and_globs_that_do_not_fit_are_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    state, pruning = network.state_dict(), Pruning()
    mask = pruning.start(network)
    with pytest.raises(ValueError, match="'2' matches none"):
        Pruning(rates={"2": 0.1}).start(network)
    with pytest.raises(ValueError, match=r"mask '1\.weight'"):
        pruning.next(mask, state, {"0.weight": state["0.weight"]})
    with pytest.raises(ValueError, match=r"mask '0\.weight'"):
        pruning.next(mask, {"1.weight": state["1.weight"]}, state)
    with pytest.raises(ValueError, match="has the shape"):
        pruning.next(mask, state, state | {"0.weight": torch.ones(2, 3)})
    with pytest.raises(ValueError, match="unknown weight '2'"):
        prune(state, mask, {"2": 0.1})
    with pytest.raises(ValueError, match="one rate"):
        prune(state, mask, {"1.weight": 0.1}, "global")
    for refused in (lambda: pruning.one_shot(mask, state, state, -1), lambda: pruning.densities(mask, -1)):
        with pytest.raises(ValueError, match="levels must be at least 0, got -1"):
            refused()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_scores_that_are_nan_name_the_layer(scope: str) -> None:
    weights = {"a": torch.ones(2), "b": torch.tensor([1.0, math.nan])}
    with pytest.raises(ValueError, match="'b' has a weight with the score NaN"):
        prune(weights, Mask.dense(weights), 0.5, scope)
    # What is pruned already is not looked at.
    mask = Mask({"a": torch.ones(2), "b": torch.tensor([1, 0])})
    assert prune(weights, mask, 0.4, scope).kept == 2


def test_a_pruning_is_plain_data() -> None:
    rates = {"conv*": 0.1}
    pruning = Pruning(rates=rates, layers="conv*")
    rates["fc*"] = 0.3
    assert json.loads(json.dumps(dataclasses.asdict(pruning))) == {
        "rate": 0.2,
        "rates": {"conv*": 0.1},
        "output_rate": None,
        "scope": "layer",
        "criterion": "large_final",
        "layers": ["conv*"],
        "output": None,
    }
    assert pruning == Pruning(rates={"conv*": 0.1}, layers=["conv*"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        pruning.rate = 0.3  # type: ignore[misc]
