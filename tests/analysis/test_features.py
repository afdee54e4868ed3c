"""Gabor and random convolutional features against closed forms and loops over patches."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from lightning_regs.analysis.features import (
    ConvFilters,
    gabor_features,
    gabor_filters,
    random_conv_features,
    random_conv_filters,
)


def images(n: int, c: int = 3, size: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(seed))


def test_bank_is_normalised_and_blind_to_brightness():
    bank = gabor_filters(9, (3.0, 6.0), 6)
    assert bank.shape == (12, 2, 9, 9)
    torch.testing.assert_close(bank.flatten(2).norm(dim=2), torch.ones(12, 2))
    torch.testing.assert_close(bank.flatten(2).sum(dim=2), torch.zeros(12, 2), rtol=0, atol=1e-5)


def test_each_filter_answers_most_to_its_own_wave():
    wavelengths, orientations, size = (4.0, 8.0), 4, 31
    bank = gabor_filters(size, wavelengths, orientations)
    axis = torch.arange(size) - size // 2
    row, column = torch.meshgrid(axis.float(), axis.float(), indexing="ij")
    for i, wavelength in enumerate(wavelengths):
        for k in range(orientations):
            angle = math.pi * k / orientations
            phase = 2 * math.pi * (column * math.cos(angle) + row * math.sin(angle)) / wavelength + 0.7
            response = (bank * phase.sin()).sum(dim=(2, 3)).square().sum(dim=1)
            assert int(response.argmax()) == i * orientations + k


def test_gabor_features_by_loop():
    x, bank = images(2, size=9).double(), gabor_filters(5, (3.0,), 2).double()
    actual = gabor_features(x, bank, pool=4, block=1).unflatten(1, (2, 3, 3))
    grey = functional.pad(x.mean(dim=1), (2, 2, 2, 2))
    magnitude = torch.zeros(2, 2, 9, 9, dtype=torch.float64)
    for n in range(2):
        for f in range(2):
            for i in range(9):
                for j in range(9):
                    patch = grey[n, i : i + 5, j : j + 5]
                    magnitude[n, f, i, j] = math.hypot(*((patch * part).sum() for part in bank[f]))
    for n in range(2):
        for f in range(2):
            for i in range(3):
                for j in range(3):
                    window = magnitude[n, f, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
                    assert float(actual[n, f, i, j]) == pytest.approx(float(window.mean()), rel=1e-9)


def test_gabor_features_hardly_move_with_the_stroke():
    grating = torch.sin(torch.arange(32) * (2 * math.pi / 4)).expand(1, 1, 32, 32).contiguous()
    moved = grating.roll(1, dims=3)
    bank = gabor_filters(11, (4.0,), 4)
    a, b = gabor_features(grating, bank, pool=8), gabor_features(moved, bank, pool=8)
    assert float((a - b).norm() / a.norm()) < 0.1 < 1.0 < float((grating - moved).norm() / grating.norm())


def test_random_conv_features_by_loop():
    x = images(2, size=7).double()
    filters = random_conv_filters(images(20).double(), 3, torch.Generator().manual_seed(0), 4, 500)
    actual = random_conv_features(x, filters, pools=2, threshold=0.1, block=1).unflatten(1, (6, 2, 2))
    z = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    for n in range(2):
        for i in range(4):
            for j in range(4):
                patch = x[n, :, i : i + 4, j : j + 4].flatten()
                normal = (patch - patch.mean()) / (patch.var(unbiased=False) + 10 / 255**2).sqrt()
                z[n, :, i, j] = filters.weight.flatten(1) @ normal - filters.shift
    both = torch.cat([(z - 0.1).clamp_min(0), (-z - 0.1).clamp_min(0)], dim=1)
    expected = both.reshape(2, 6, 2, 2, 2, 2).mean(dim=(3, 5))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_filters_whiten_the_patches():
    x = functional.avg_pool2d(images(300, size=20), 3, 1).double()
    g = torch.Generator().manual_seed(0)
    filters = random_conv_filters(x, 200, g, patch_size=4, num_patches=4000, epsilon=1e-4)
    patches = functional.unfold(x, 4).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(dim=1, keepdim=True)
    patches = patches / (patches.square().mean(dim=1, keepdim=True) + 10 / 255**2).sqrt()
    z = patches @ filters.weight.flatten(1).T - filters.shift
    assert float(z.mean(dim=0).abs().max()) < 0.15
    # Whitened data have the same variance along every unit direction.
    deviation = z.std(dim=0)
    assert float(deviation.std() / deviation.mean()) < 0.1
    assert float(patches.std(dim=0).mean()) > 0.5


def test_filters_are_a_function_of_the_generator_and_split_freely():
    x = images(10)

    def draw(seed: int) -> ConvFilters:
        return random_conv_filters(x, 8, torch.Generator().manual_seed(seed), 4, 100)

    assert torch.equal(draw(1).weight, draw(1).weight)
    assert not torch.equal(draw(1).weight, draw(2).weight)
    whole = random_conv_features(x, draw(1)).unflatten(1, (2, 8, 4))
    part = random_conv_features(x, ConvFilters(draw(1).weight[2:5], draw(1).shift[2:5])).unflatten(1, (2, 3, 4))
    torch.testing.assert_close(whole[:, :, 2:5], part)


def test_brightness_and_contrast_do_not_matter():
    x = images(4)
    filters = random_conv_filters(x, 5, torch.Generator().manual_seed(0), 4, 200)
    a, b = random_conv_features(x, filters), random_conv_features(0.5 * x + 0.3, filters)
    torch.testing.assert_close(a, b, rtol=0.05, atol=0.01)


def test_refusals():
    g = torch.Generator()
    with pytest.raises(ValueError, match="odd side"):
        gabor_filters(4)
    with pytest.raises(ValueError, match="do not fit"):
        random_conv_filters(images(2, size=5), 3, g)
