"""Mask: what it takes, what it counts, and what it does to weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_regs.pruning import Mask, Pruning, random_mask

ENTRIES = {"a.weight": [[1, 0, 1], [0, 0, 1]], "b": [1, 1]}


def example(dtype: torch.dtype = torch.bool) -> Mask:
    return Mask({name: torch.tensor(values, dtype=dtype) for name, values in ENTRIES.items()})


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    def one(shape: list[int]) -> Tensor:
        size = math.prod(shape)
        return torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size))).view(shape)

    shapes = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3))
    return Mask({f"layer{i}": one(shape) for i, shape in enumerate(shapes)})


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_zeros_and_ones_of_any_type_become_bool(dtype: torch.dtype) -> None:
    mask = example(dtype)
    assert all(m.dtype == torch.bool for m in mask.values())
    assert {name: m.int().tolist() for name, m in mask.items()} == ENTRIES
    assert mask == example()


def test_counts() -> None:
    mask = example()
    assert (mask.kept, mask.total, mask.density) == (5, 8, 5 / 8)
    assert mask.counts == {"a.weight": 3, "b": 2}
    assert "5 of 8" in repr(mask)
    assert "62.5 %" in repr(mask)


def test_it_is_a_mapping_in_order() -> None:
    mask = example()
    assert list(mask) == ["a.weight", "b"]
    assert len(mask) == 2
    assert "b" in mask
    assert "c" not in mask
    assert list(dict(mask)) == list(mask)
    with pytest.raises(TypeError):
        mask["b"] = torch.ones(2)  # type: ignore[index]
    with pytest.raises(TypeError):
        hash(mask)


def test_it_copies_what_it_is_made_of() -> None:
    source = {"w": torch.ones(3, dtype=torch.bool)}
    mask = Mask(source)
    source["w"][0] = False
    source["v"] = torch.ones(1)
    assert mask.kept == 3
    assert list(mask) == ["w"]
    state = mask.state_dict()
    state["w"][0] = False
    assert mask["w"].all()


def test_equality_is_of_tensors() -> None:
    mask = example()
    other = {name: m.clone() for name, m in mask.items()}
    assert mask == Mask(other)
    assert mask == Mask(dict(reversed(other.items())))
    other["b"][0] = False
    assert mask != Mask(other)
    assert mask != Mask({"b": mask["b"]})
    assert mask != Mask({"a.weight": mask["a.weight"].view(3, 2), "b": mask["b"]})
    assert mask != ENTRIES


def test_its_state_goes_through_a_checkpoint(tmp_path: Path) -> None:
    mask = example()
    torch.save(mask.state_dict(), tmp_path / "mask.pt")
    assert Mask(torch.load(tmp_path / "mask.pt", weights_only=True)) == mask
    assert copy.deepcopy(mask) == mask
    assert mask.to("cpu") is mask
    assert {m.device.type for m in mask.to("meta").values()} == {"meta"}


@pytest.mark.parametrize(
    ("masks", "error", "words"),
    [
        ({"w": torch.tensor([1.0, 0.5])}, ValueError, r"'w' has 0\.5"),
        ({"w": torch.tensor([0, 2])}, ValueError, "'w' has 2"),
        ({"w": torch.tensor([1.0, math.nan])}, ValueError, "'w' has nan"),
        ({"w": torch.tensor([-1])}, ValueError, "'w' has -1"),
        ({"w": torch.ones(0, 3)}, ValueError, r"'w' is empty, of shape \(0, 3\)"),
    ],
)
def test_what_is_no_mask_is_refused(masks: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Mask(masks)


def test_apply_gives_copies_with_positive_zeros() -> None:
    weights = {
        "a.weight": torch.tensor([[-1.0, -2.0, 3.0], [math.inf, math.nan, -4.0]]),
        "b": torch.tensor([-5.0, 6.0]),
        "other": torch.ones(2),
    }
    pruned = example().apply(weights)
    assert pruned["a.weight"].tolist() == [[-1.0, 0.0, 3.0], [0.0, 0.0, -4.0]]
    assert not pruned["a.weight"][0, 1].signbit()
    assert pruned["b"].tolist() == [-5.0, 6.0]
    assert list(pruned) == list(weights)
    for name, value in pruned.items():
        value.fill_(7.0)
        assert not (weights[name] == 7).any()


def test_apply_and_check_take_the_state_of_a_compiled_module() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    mask = Mask({"0.weight": torch.tensor([[1, 0, 1], [0, 1, 0]])})
    state = {f"_orig_mod.{name}": value for name, value in network.state_dict().items()}
    pruned = mask.apply(state)
    assert list(pruned) == ["_orig_mod.0.weight", "_orig_mod.0.bias"]
    assert torch.equal(pruned["_orig_mod.0.weight"] != 0, mask["0.weight"])


def test_apply_masks_a_shared_weight_under_each_of_its_names() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    dense = {name: w.clone() for name, w in network.state_dict().items()}
    kept = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    for name in ("0.weight", "2.weight"):
        for weights in (network.state_dict(), dict(network.named_parameters(remove_duplicate=False))):
            pruned = Mask({name: kept}).apply(weights)
            other = copy.deepcopy(network)
            other.load_state_dict(pruned)
            assert torch.equal(other[0].weight != 0, kept)
            assert other[2].weight is other[0].weight
            assert torch.equal(pruned["3.weight"], dense["3.weight"])
            assert all(torch.equal(dense[n], w) for n, w in network.state_dict().items())
    same = Mask({"0.weight": kept, "2.weight": kept})
    assert torch.equal(same.apply(network.state_dict())["2.weight"] != 0, kept)
    with pytest.raises(ValueError, match=r"'0\.weight' and '2\.weight' are one weight"):
        Mask({"0.weight": kept, "2.weight": ~kept}).apply(network.state_dict())
    # What only has the same values, or a part of the memory, is another weight.
    storage = torch.ones(3, 4)
    views = {"a": storage[:2], "b": storage[1:], "c": torch.ones(2, 4), "d": storage[:2].double()}
    pruned = Mask({"a": torch.zeros(2, 4)}).apply(views)
    assert [int(w.sum()) for w in pruned.values()] == [0, 8, 8, 8]


def test_check_names_what_does_not_fit() -> None:
    mask = example()
    weights: dict[str, Tensor] = {"a.weight": torch.ones(2, 3), "b": torch.ones(2), "c": torch.ones(1)}
    mask.check(weights)
    with pytest.raises(ValueError, match=r"unknown weight in the mask 'a\.weight'\. Did you mean 'A\.weight'"):
        mask.check({"A.weight": weights["a.weight"], "b": weights["b"]})
    with pytest.raises(ValueError, match=r"'a\.weight' has the shape \(2, 3\), and the weight \(3, 2\)"):
        mask.check(weights | {"a.weight": torch.ones(3, 2)})


def test_the_mask_of_another_network_is_refused() -> None:
    mask = example()
    with pytest.raises(ValueError, match="lacks 'b'"):
        mask.check_same(Mask({"a.weight": mask["a.weight"]}))
    with pytest.raises(ValueError, match="'b' has the shapes"):
        mask.check_same(Mask({"a.weight": mask["a.weight"], "b": torch.ones(3)}))


@settings(max_examples=20, deadline=None)
@given(masks(), st.integers(1, 3))
def test_random_masks_keep_as_many_and_stacks_come_apart(mask: Mask, number: int) -> None:
    drawn = [random_mask(mask, torch.Generator().manual_seed(r)) for r in range(number)]
    assert all(one.counts == mask.counts for one in drawn)
    stacked = Mask.stack(drawn)
    assert stacked.unstack() == drawn
    assert stacked.kept == number * mask.kept
    assert all(m.shape == (number, *mask[name].shape) for name, m in stacked.items())


def test_random_masks_are_uniform() -> None:
    mask = Mask({"w": torch.tensor([True] * 3 + [False] * 7)})
    generator = torch.Generator().manual_seed(0)
    often = torch.stack([random_mask(mask, generator)["w"] for _ in range(3000)]).double().mean(0)
    # The standard deviation of each share is 0.0084.
    assert (often - 0.3).abs().max() < 0.04


def test_stacks_that_cannot_be_made_or_come_apart() -> None:
    mask = example()
    with pytest.raises(ValueError, match="lacks 'b'"):
        Mask.stack([mask, Mask({"a.weight": mask["a.weight"]})])
    with pytest.raises(ValueError, match=r"not stacked: 'c' has the shape \(3,\)"):
        Mask({**mask, "c": torch.ones(3)}).unstack()
    with pytest.raises(ValueError, match="not stacked"):
        Mask({"w": torch.tensor(True)}).unstack()
    stack = Mask.stack([mask, mask])
    weights = {name: kept.double() for name, kept in stack.items()}
    with pytest.raises(ValueError, match="each of the 2 networks; got 3"):
        Pruning(criterion="random").next(stack, weights, weights, [torch.Generator()] * 3, stacked=True)
