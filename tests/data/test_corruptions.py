"""Corruptions: what changes, how often, and that the draw is the generator's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.data import corruptions as cor

FEW = settings(max_examples=25, deadline=None)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("p", "classes"), [(0.2, 10), (0.6, 10), (1.0, 10), (1.0, 2), (0.5, 100)])
def test_the_draw_includes_the_old_class(p, classes):
    n = 40_000
    y = torch.randint(classes, (n,), generator=gen(1))
    labels, changed = cor.corrupt_labels(y, p, classes, gen())
    share = p * (1 - 1 / classes)
    assert abs(changed.double().mean().item() - share) < 5 * (share * (1 - share) / n) ** 0.5
    assert torch.equal(changed, labels != y)


def test_redrawn_labels_are_uniform_and_independent_of_the_old():
    y = torch.arange(4).repeat(10_000)
    labels, _ = cor.corrupt_labels(y, 1.0, 4, gen())
    table = torch.bincount(y * 4 + labels, minlength=16).double()
    assert (table - 2500).abs().max() < 5 * 2500**0.5


def test_p_0_changes_nothing():
    y = torch.randint(10, (500,), generator=gen(1))
    labels, changed = cor.corrupt_labels(y, 0.0, 10, gen())
    assert torch.equal(labels, y)
    assert not changed.any()


@FEW
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_corruptions_of_one_seed_are_nested(a, b, seed):
    low, high = sorted((a, b))
    y = torch.arange(200) % 7
    few, few_changed = cor.corrupt_labels(y, low, 7, gen(seed))
    many, many_changed = cor.corrupt_labels(y, high, 7, gen(seed))
    assert not (few_changed & ~many_changed).any()
    assert torch.equal(few[few_changed], many[few_changed])


def test_the_global_stream_is_not_touched():
    before = torch.random.get_rng_state()
    y, x = torch.arange(50) % 5, torch.arange(2 * 3 * 16, dtype=torch.uint8).view(2, 3, 4, 4)
    cor.corrupt_labels(y, 0.5, 5, gen())
    cor.random_pixels(x, gen())
    cor.gaussian_images((2, 1, 4, 4), 0.5, 0.2, gen())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", [n for n in cor.CORRUPTIONS if n != "partial_labels"])
def test_p_with_a_mode_that_has_none_is_refused(name):
    cor.check_corruption(name, 1.0)
    with pytest.raises(ValueError, match=f"corruption_p=0.5 has no meaning with corruption='{name}'"):
        cor.check_corruption(name, 0.5)


def marked_images(n: int, c: int = 3, side: int = 6) -> torch.Tensor:
    """Pixel value = 50 * channel + position: says where it came from."""
    return (
        (50 * torch.arange(c)[:, None] + torch.arange(side * side))
        .view(c, side, side)
        .to(torch.uint8)
        .repeat(n, 1, 1, 1)
    )


def test_shuffled_pixels_moves_every_image_alike():
    permutation = torch.randperm(36, generator=gen())
    out = cor.shuffle_pixels(marked_images(4), permutation).flatten(2)
    assert torch.equal(out, (50 * torch.arange(3)[None, :, None] + permutation).to(torch.uint8).expand(4, 3, 36))


def test_random_pixels_gives_each_image_its_own_permutation_with_channels_together():
    out = cor.random_pixels(marked_images(50), gen()).flatten(2).long()
    positions = out[:, 0]
    assert torch.equal(positions.sort(1).values, torch.arange(36).expand(50, 36))
    assert torch.equal(out, positions[:, None] + 50 * torch.arange(3)[None, :, None])
    assert len({tuple(p.tolist()) for p in positions}) == 50


def test_random_pixels_does_not_depend_on_the_chunks(monkeypatch):
    x = marked_images(10)
    whole = cor.random_pixels(x, gen())
    monkeypatch.setattr(cor, "_CHUNK", 3)
    assert torch.equal(cor.random_pixels(x, gen()), whole)


def test_random_pixels_are_uniform_over_positions():
    out = cor.random_pixels(torch.arange(4, dtype=torch.float32).repeat(20_000, 1), gen()).long()
    for position in range(4):
        assert (torch.bincount(out[:, position]) - 5000).abs().max() < 5 * 5000**0.5


def test_gaussian_images_have_the_moments_of_the_data():
    x = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=gen(5)) // 2
    mean, std = cor.pixel_statistics(x)
    pixels = x.numpy().astype(np.float64) / 255
    assert (mean, std) == pytest.approx((pixels.mean(), pixels.std()), abs=1e-12)
    assert cor.pixel_statistics(x.float() / 255) == pytest.approx((mean, std), abs=1e-6)
    out = cor.gaussian_images((256, 3, 16, 16), mean, std, gen())
    n = out.numel()
    assert out.dtype == torch.float32
    assert abs(out.double().mean().item() - mean) < 5 * std / n**0.5
    assert abs(out.double().std().item() - std) < 5 * std / (2 * n) ** 0.5
