"""The distance that weights travelled, against a loop and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_regs.analysis import distance_travelled
from lightning_regs.pruning.masks import Mask


def random_masks(seed: int, density: float = 0.5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(*shape, generator=generator) < density for n, shape in (("a", (4, 3)), ("b", (5,)))}


def test_distances_and_sign_changes_by_hand():
    initial = {"a": torch.tensor([1.0, -1.0, 2.0, 0.0]), "b": torch.tensor([[3.0]]), "bias": torch.tensor([9.0])}
    final = {"a": torch.tensor([4.0, 3.0, 1.0, 0.0]), "b": torch.tensor([[-1.0]]), "bias": torch.tensor([0.0])}
    mask = {"a": torch.tensor([1, 1, 0, 0]), "b": torch.tensor([[1]])}
    distances = distance_travelled(initial, final, mask)
    kept, pruned = distances.layers["a"].kept, distances.layers["a"].pruned
    assert (kept.count, kept.mean, kept.l2, kept.sign_changes) == (2, 3.5, 5.0, 0.5)
    assert (pruned.count, pruned.mean, pruned.l2, pruned.sign_changes) == (2, 0.5, 1.0, 0.0)
    nothing = distances.layers["b"].pruned
    assert (nothing.count, nothing.l2) == (0, 0.0)
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.sign_changes)
    overall = distances.overall
    assert (overall.kept.count, overall.kept.sign_changes) == (3, 2 / 3)
    assert overall.kept.mean == pytest.approx(11 / 3)
    assert overall.kept.l2 == pytest.approx(math.sqrt(41))
    assert (overall.pruned.count, overall.pruned.mean) == (2, 0.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([torch.float64, torch.float32, torch.float16]))
def test_distances_are_a_loop_over_weights(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    mask = random_masks(seed)
    initial, final = (
        {n: torch.randn(m.shape, generator=generator).to(dtype) for n, m in mask.items()} for _ in range(2)
    )
    overall = distance_travelled(initial, final, Mask(mask)).overall
    for kept, travel in ((True, overall.kept), (False, overall.pruned)):
        pairs = [
            (float(i), float(f))
            for n in mask
            for i, f, m in zip(initial[n].flatten(), final[n].flatten(), mask[n].flatten(), strict=True)
            if bool(m) == kept
        ]
        assert travel.count == len(pairs)
        assert travel.l2 == pytest.approx(math.sqrt(sum((f - i) ** 2 for i, f in pairs)), rel=1e-12)
        if pairs:
            assert travel.mean == pytest.approx(sum(abs(f - i) for i, f in pairs) / len(pairs), rel=1e-12)
            assert travel.sign_changes == pytest.approx(sum(i * f < 0 for i, f in pairs) / len(pairs))


def test_distances_of_other_networks_are_refused():
    with pytest.raises(ValueError, match="unknown weight in the mask 'w'"):
        distance_travelled({"v": torch.ones(2)}, {"w": torch.ones(2)}, {"w": torch.ones(2)})
    with pytest.raises(ValueError, match=r"has the shape \(2,\), and the weight \(3,\)"):
        distance_travelled({"w": torch.ones(2)}, {"w": torch.ones(3)}, {"w": torch.ones(2)})
