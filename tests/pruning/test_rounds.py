"""Pruning's rounds: which layer is the output, and rounds that remove nothing or everything."""

from __future__ import annotations

import copy
import warnings
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_regs.pruning import Mask, Pruning, prune


def three(size: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(size, size), nn.LayerNorm(size), nn.Linear(size, size), nn.Linear(size, size))


def left(pruning: Pruning, network: nn.Module, mask: Mask | None = None, levels: int = 1) -> list[int]:
    state = network.state_dict()
    dense = pruning.start(network) if mask is None else mask
    return list(pruning.of(network).one_shot(dense, state, state, levels).counts.values())


# -- the output ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "counts"),
    [
        (None, [80, 80, 90]),
        (["*"], [80, 80, 90]),
        (["0", "2"], [80, 80]),
        (["2", "3"], [80, 90]),
        (["0"], [80]),
        (["3"], [90]),
    ],
)
def test_half_the_rate_is_the_outputs_alone(layers: list[str] | None, counts: list[int]) -> None:
    network, pruning = three(), Pruning(layers=layers)
    mask = pruning.start(network)
    assert left(pruning, network) == counts
    assert pruning.of(network).densities(mask, 1)[1] == pytest.approx(100 * sum(counts) / mask.total)
    # Another process has the mask and the network.
    for other in (Pruning(layers=layers), replace(pruning), copy.deepcopy(pruning)):
        assert other == pruning
        assert left(other, network, mask) == counts
    stacked = {name: torch.stack([w, w]) for name, w in network.state_dict().items()}
    both = pruning.of(network).next(Mask.stack([mask, mask]), stacked, stacked, stacked=True)
    assert [list(one.counts.values()) for one in both.unstack()] == [counts, counts]
    assert asdict(pruning) == asdict(Pruning(layers=layers))


def test_other_rates_of_the_output_are_the_outputs_too() -> None:
    network = three()
    assert left(Pruning(layers=["2", "3"], output_rate=0.4), network) == [80, 60]
    assert left(Pruning(layers=["0", "2"], rates={"2": 0.3}), network) == [80, 70]
    with pytest.raises(ValueError, match=r"output_rate=0\.4 .* '3\.weight', which `layers` leaves out"):
        Pruning(layers=["0", "2"], output_rate=0.4).start(network)


def test_one_pruning_of_two_networks() -> None:
    pruning = Pruning(layers=["0", "2"])
    whole, part = three(), three()[:3]
    masks = [pruning.start(net) for net in (whole, part)]
    assert left(pruning, part) == [80, 90]
    assert left(pruning, whole) == [80, 80]
    assert list(masks[0]) == list(masks[1])


def test_without_the_network_nobody_knows_whether_layers_leaves_out_the_output() -> None:
    network, pruning = three(), Pruning(layers=["0", "2"])
    mask, state = pruning.start(network), network.state_dict()
    for unknown in (lambda: pruning.next(mask, state, state), lambda: pruning.densities(mask, 1)):
        with pytest.raises(ValueError, match=r"layers=\['0', '2'\].* use pruning\.of\(module\)"):
            unknown()
    together = replace(pruning, scope="global")
    assert together.next(mask, state, state).kept == 160


def test_an_output_that_shares_its_weight_or_is_an_embedding() -> None:
    network = three()
    network[3].weight = network[0].weight
    # As without `layers`: a shared weight stands where it comes first.
    assert left(Pruning(), network) == left(Pruning(layers="*"), network) == [80, 90]
    tied = nn.ModuleDict({"embedding": nn.Embedding(10, 10), "inner": nn.Linear(10, 10), "head": nn.Linear(10, 10)})
    tied["head"].weight = tied["embedding"].weight
    assert left(Pruning(layers="*"), tied) == left(Pruning(), tied) == [90]


def test_a_computed_output_is_the_output_still() -> None:
    network = three()
    nn.utils.parametrizations.weight_norm(network[3])
    assert left(Pruning(layers=["0", "2"]), network) == [80, 80]


def test_a_network_on_the_meta_device_can_be_started() -> None:
    with torch.device("meta"):
        network = three()
    assert {name: m.shape for name, m in Pruning().start(network).items()} == dict.fromkeys(
        ("0.weight", "2.weight", "3.weight"), (10, 10)
    )


# -- rounds of nothing, and of everything ----------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_round_that_removes_nothing_is_refused(scope: str) -> None:
    network = three(3)
    with pytest.raises(ValueError, match=r"round 1 would remove none of the 27 weights .* rate=0\.01"):
        Pruning(0.01, scope=scope).start(network)
    pruning = Pruning(0.2, scope=scope)
    dense, state = pruning.start(network), network.state_dict()
    levels = next(n for n in range(99) if pruning.densities(dense, n)[-1] == pruning.densities(dense, n + 1)[-1])
    assert levels > 2
    pruning.check(dense, levels)
    pruning.check({name: m.shape for name, m in dense.items()}, levels)
    last = pruning.one_shot(dense, state, state, levels)
    assert pruning.one_shot(last, state, state, 0) == last
    for refused in (
        lambda: pruning.check(dense, levels + 1),
        lambda: pruning.one_shot(dense, state, state, levels + 1),
        lambda: pruning.next(last, state, state),
    ):
        with pytest.raises(ValueError, match="would remove none of"):
            refused()
    stack = Mask.stack([dense, last])
    both = {name: torch.stack([w, w]) for name, w in state.items()}
    with pytest.raises(ValueError, match="would remove none of"):
        pruning.next(stack, both, both, stacked=True)
    # A small layer may wait, as long as another does not.
    small = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 1), nn.Linear(1, 2))
    assert left(Pruning(), small) == [80, 8, 2]


def test_a_round_that_removes_everything_is_refused() -> None:
    network = three(3)
    with pytest.raises(ValueError, match=r"round 1 would leave nothing of '0\.weight': the rate 0\.99"):
        Pruning(0.99).start(network)
    with pytest.raises(ValueError, match=r"round 1 would leave nothing of '3\.weight': the rate 0\.99"):
        Pruning(output_rate=0.99).start(network)
    with pytest.raises(ValueError, match="would leave nothing of all 27 weights"):
        Pruning(0.99, scope="global").start(network)
    pruning = Pruning(0.7)
    dense, state = pruning.start(network), network.state_dict()
    # 9, 3, 1, 0
    pruning.check(dense, 2)
    last = pruning.one_shot(dense, state, state, 2)
    for refused in (
        lambda: pruning.check(dense, 3),
        lambda: pruning.one_shot(dense, state, state, 3),
        lambda: pruning.next(last, state, state),
    ):
        with pytest.raises(ValueError, match=r"would leave nothing of '0\.weight'"):
            refused()


def test_all_weights_together_may_empty_a_layer_and_say_so() -> None:
    weights: dict[str, Tensor] = {"a": torch.full((4,), 0.1), "b": torch.arange(1.0, 13.0)}
    pruning = Pruning(0.3, scope="global")
    with pytest.warns(UserWarning, match="nothing is left of 'a'"):
        mask = pruning.next(Mask.dense(weights), weights, weights)
    assert mask.counts == {"a": 0, "b": 11}
    with warnings.catch_warnings():
        # Once is enough.
        warnings.simplefilter("error")
        assert pruning.next(mask, weights, weights).counts == {"a": 0, "b": 8}
    both = {name: torch.stack([w, w.flip(0)]) for name, w in weights.items()}
    with pytest.warns(UserWarning, match="nothing is left of 'a'"):
        pruning.next(Mask.stack([Mask.dense(weights)] * 2), both, both, stacked=True)


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), Fraction(1, 4)])
def test_rates_are_any_real_numbers(rate: float) -> None:
    network = three()
    assert left(Pruning(rate), network) == left(Pruning(0.25), network)
    assert left(Pruning(rates={"*": rate}, output_rate=rate), network) == [75, 75, 75]
    plain = asdict(Pruning(rate, rates={"0": rate}, output_rate=rate))
    assert {type(plain["rate"]), type(plain["rates"]["0"]), type(plain["output_rate"])} == {float}
    weights = {"w": torch.arange(8.0)}
    for scope in ("layer", "global"):
        assert prune(weights, Mask.dense(weights), rate, scope).kept == 6
    assert prune(weights, Mask.dense(weights), {"w": rate}).kept == 6
