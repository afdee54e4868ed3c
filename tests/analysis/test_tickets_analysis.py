"""Overlap of masks, distance travelled and early stopping, against brute force and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from torch import Tensor

from lightning_regs.analysis import distance_travelled, mask_overlap
from lightning_regs.pruning.masks import Mask


def random_masks(seed: int, density: float = 0.5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(*shape, generator=generator) < density for n, shape in (("a", (4, 3)), ("b", (5,)))}


# -- overlap ---------------------------------------------------------------------------------------------------------


def test_overlap_counts_and_jaccard_by_hand():
    a = {"a": torch.tensor([1, 1, 1, 0]), "b": torch.tensor([1, 0])}
    b = {"a": torch.tensor([0, 1, 1, 0]), "b": torch.tensor([0, 1])}
    overlap = mask_overlap(a, b)
    first, second, overall = overlap.layers["a"], overlap.layers["b"], overlap.overall
    assert (first.total, first.kept_a, first.kept_b, first.shared) == (4, 3, 2, 2)
    assert first.expected == 3 * 2 / 4
    assert first.jaccard == 2 / 3
    assert first.random_jaccard == 1.5 / 3.5
    assert (second.shared, second.expected) == (0, 0.5)
    assert (overall.total, overall.kept_a, overall.kept_b, overall.shared) == (6, 4, 3, 2)
    assert overall.expected == 2
    assert overall.jaccard == 2 / 5
    assert overall.z_score == 0


@pytest.mark.parametrize(("n", "kept_a", "kept_b"), [(5, 2, 3), (6, 4, 1), (5, 0, 3), (4, 4, 2), (1, 1, 1)])
def test_expectation_and_deviation_are_those_of_all_masks_of_the_densities(n, kept_a, kept_b):
    a = torch.arange(n) < kept_a
    shared = []
    for chosen in itertools.combinations(range(n), kept_b):
        b = torch.zeros(n, dtype=torch.bool)
        b[list(chosen)] = True
        shared.append(mask_overlap({"w": a}, {"w": b}).overall)
    counts = [overlap.shared for overlap in shared]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert shared[0].expected == pytest.approx(mean)
    assert shared[0].deviation == pytest.approx(math.sqrt(variance), abs=1e-12)
    assert math.isnan(shared[0].z_score) == (variance == 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_overlap_is_symmetric_and_that_of_scipy(seed, density_a, density_b):
    a, b = Mask(random_masks(seed, density_a)), Mask(random_masks(seed + 1, density_b))
    there, back = mask_overlap(a, b), mask_overlap(b, a)
    assert there.overall.jaccard == back.overall.jaccard
    for name, layer in there.layers.items():
        mean, variance = hypergeom.stats(layer.total, layer.kept_a, layer.kept_b, moments="mv")
        assert layer.expected == pytest.approx(float(mean))
        assert layer.deviation == pytest.approx(float(variance) ** 0.5, abs=1e-12)
        assert layer.shared == int((a[name] & b[name]).sum())
    assert there.overall.expected == pytest.approx(sum(layer.expected for layer in there.layers.values()))
    variances = sum(layer.deviation**2 for layer in there.layers.values())
    assert there.overall.deviation**2 == pytest.approx(variances, abs=1e-12)


def test_a_mask_overlaps_with_itself_far_more_than_with_a_random_one():
    generator = torch.Generator().manual_seed(0)
    masks = [{"w": torch.rand(100, 100, generator=generator) < 0.1} for _ in range(2)]
    assert mask_overlap(masks[0], masks[0]).overall.z_score > 50
    assert abs(mask_overlap(*masks).overall.z_score) < 5
    assert mask_overlap(masks[0], masks[0]).overall.jaccard == 1


def test_empty_masks_overlap_wholly_and_other_networks_are_refused():
    nothing = {"w": torch.zeros(3)}
    assert mask_overlap(nothing, nothing).overall.jaccard == 1
    with pytest.raises(ValueError, match="one of them lacks 'v'"):
        mask_overlap({"w": torch.ones(3)}, {"w": torch.ones(3), "v": torch.ones(1)})
    with pytest.raises(ValueError, match=r"'w' has the shapes \(3,\) and \(4,\)"):
        mask_overlap({"w": torch.ones(3)}, {"w": torch.ones(4)})


# -- distance --------------------------------------------------------------------------------------------------------


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
