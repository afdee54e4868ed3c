"""Augmentation against slicing, float64 formulas and torchvision's own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from lightning_regs.data import augment
from lightning_regs.data.transforms import BatchTransform

FEW = settings(max_examples=25, deadline=None)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@FEW
@given(data=st.data(), as_float=st.booleans())
def test_crop_and_flip_equal_slicing_each_sample(data, as_float):
    n, c, h, w = (data.draw(st.integers(1, top)) for top in (5, 3, 9, 7))
    size = data.draw(st.integers(1, min(h, w)))
    x = images(n, c, h, w)
    x = x.float() if as_float else x
    corners = [(data.draw(st.integers(0, h - size)), data.draw(st.integers(0, w - size))) for _ in range(n)]
    flips = [data.draw(st.booleans()) for _ in range(n)]
    out = augment.random_crop(x, size, torch.tensor(corners), torch.tensor(flips))
    for i, ((top, left), flip) in enumerate(zip(corners, flips, strict=True)):
        window = x[i, :, top : top + size, left : left + size]
        assert torch.equal(out[i], window.flip(-1) if flip else window)


def test_crop_takes_non_contiguous_images_and_leaves_them_alone():
    x = images(4, 8, 8, 3).permute(0, 3, 1, 2)
    before = x.clone()
    offsets = torch.tensor([[0, 0], [1, 2], [3, 3], [2, 0]])
    assert torch.equal(augment.random_crop(x, 5, offsets), augment.random_crop(x.contiguous(), 5, offsets))
    assert torch.equal(x, before)


@pytest.mark.parametrize(("side", "size"), [(32, 28), (9, 3), (8, 8)])
def test_centre_crop_equals_torchvision_for_even_margins(side, size):
    x = images(2, 3, side, side)
    assert torch.equal(augment.center_crop(x, size), tv.center_crop(x, [size, size]))


@pytest.mark.parametrize("size", [0, 9])
def test_crop_larger_than_the_image_is_refused(size):
    for crop in (
        lambda x: augment.center_crop(x, size),
        lambda x: augment.random_crop(x, size, torch.zeros(2, 2).long()),
    ):
        with pytest.raises(ValueError, match=f"cannot cut {size}x{size} out of 8x12"):
            crop(images(2, 1, 8, 12))


def test_flip_mirrors_the_chosen_images_only():
    x = images(3, 2, 4, 5)
    out = augment.random_flip(x, torch.tensor([True, False, True]))
    assert torch.equal(out[[0, 2]], tv.horizontal_flip(x[[0, 2]]))
    assert torch.equal(out[1], x[1])


@pytest.mark.parametrize("shape", [(6, 3, 28, 28), (6, 1, 8, 8), (6, 40)])
def test_whitening_equals_the_formula_in_float64(shape):
    x = images(*shape)
    x[1] = x[1] // 128 + 100  # hardly any contrast: the floor of the standard deviation acts
    x[2] = 77
    pixels = x.numpy().astype(np.float64) / 255
    axes = tuple(range(1, x.ndim))
    mean, std = pixels.mean(axes, keepdims=True), pixels.std(axes, keepdims=True)
    floor = 1 / np.sqrt(x[0].numel())
    assert std.ravel()[1] < floor < std.ravel()[0]
    expected = (pixels - mean) / np.maximum(std, floor)
    assert augment.whiten(x).dtype == torch.float32
    np.testing.assert_allclose(augment.whiten(x).numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(augment.whiten(torch.from_numpy(pixels)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_whitening_leaves_its_input_alone(dtype):
    x = images(4, 3, 6, 6).to(dtype)
    before = x.clone()
    augment.whiten(x)
    augment.whiten(augment.center_crop(x, 4))
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (4, 1, 12, 20)])
def test_rotation_equals_torchvision(shape):
    x = images(*shape).float() / 255
    degrees = torch.tensor([0.0, 25.0, -17.5, 90.0])
    out = augment.random_rotate(x, degrees)
    for i, angle in enumerate(degrees.tolist()):
        expected = tv.rotate(x[i : i + 1], angle, interpolation=v2.InterpolationMode.BILINEAR, fill=None)
        torch.testing.assert_close(out[i : i + 1], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_jitter_equals_torchvision_step_by_step(channels):
    x = images(6, channels, 7, 5).float() / 255
    x[0] = x[0].mean(0, keepdim=True)  # grey pixels have no hue
    brightness = torch.tensor([1.0, 0.5, 1.5, 0.0, 1.2, 1.0])
    contrast = torch.tensor([1.0, 1.5, 0.5, 1.0, 0.0, 1.0])
    saturation = torch.tensor([1.0, 0.5, 1.5, 1.0, 0.7, 0.0])
    hue = torch.tensor([0.3, -0.2, 0.2, 0.5, -0.5, 0.0])
    out = augment.color_jitter(x, brightness, contrast, saturation, hue)
    for i in range(len(x)):
        expected = tv.adjust_brightness(x[i], brightness[i].item())
        expected = tv.adjust_contrast(expected, contrast[i].item())
        if channels == 3:
            expected = tv.adjust_hue(tv.adjust_saturation(expected, saturation[i].item()), hue[i].item())
        torch.testing.assert_close(out[i], expected, atol=2e-6, rtol=0)


def test_colour_jitter_with_neutral_factors_changes_nothing():
    x = images(3, 3, 5, 5).float() / 255
    one, zero = torch.ones(3), torch.zeros(3)
    torch.testing.assert_close(augment.color_jitter(x, one, one, one, zero), x, atol=1e-6, rtol=0)


def test_colour_jitter_refuses_two_channels():
    v = torch.ones(1)
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        augment.color_jitter(torch.rand(1, 2, 4, 4), v, v, v, v)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_window_and_both_sides_are_drawn_about_equally():
    n = 20_000
    x = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(n, 1, 4, 4)
    out = BatchTransform(3, whiten=False, crop=True, flip=True).training(x, gen()).mul(255).round().long()
    corner, nxt = out[:, 0, 0, 0], out[:, 0, 0, 1]
    flipped = nxt < corner
    start = torch.where(flipped, corner - 2, corner)
    counts = torch.stack([((start == s) & (flipped == f)).sum() for s in (0, 1, 4, 5) for f in (False, True)])
    assert counts.sum() == n
    assert (counts - n / 8).abs().max() < 5 * (n / 8) ** 0.5


def test_steps_do_not_share_draws():
    x = images(64, 3, 8, 8)
    crop = BatchTransform(6, whiten=False, crop=True).training(x, gen())
    both = BatchTransform(6, whiten=False, crop=True, flip=True).training(x, gen())
    mirrored = (both == crop.flip(-1)).flatten(1).all(1)
    same = (both == crop).flatten(1).all(1)
    assert (mirrored | same).all()
    assert 16 < mirrored.sum() < 48


def test_the_largest_draw_stays_inside_the_image():
    largest = 1 - 2**-24
    for room in range(1, 300):
        assert int(torch.tensor(largest) * room) == room - 1


def test_order_of_the_steps_is_rotate_crop_flip_jitter_whiten():
    x = images(8, 3, 12, 12)
    transform = BatchTransform(8, crop=True, flip=True, rotation=25.0, jitter=0.5)
    u = torch.rand((8, 8), generator=gen(3))
    y = augment.random_rotate(x.float() / 255, 50 * u[:, 3] - 25)
    y = augment.random_crop(y, 8, (u[:, :2] * 5).long())
    y = augment.random_flip(y, u[:, 2] < 0.5)
    factors = 0.5 + u[:, 4:7]
    y = augment.color_jitter(y, *factors.unbind(1), 0.4 * u[:, 7] - 0.2)
    torch.testing.assert_close(transform.training(x, gen(3)), augment.whiten(y), atol=1e-4, rtol=1e-4)


def test_without_augmentation_training_equals_evaluation():
    x = images(8, 3, 12, 12)
    transform = BatchTransform(8)
    assert torch.equal(transform.training(x, gen()), transform.evaluation(x))
    assert torch.equal(transform.evaluation(x), augment.whiten(x[..., 2:10, 2:10]))


def test_padded_crops_are_torchvision_s_and_every_place_is_drawn():
    x = images(4_000, 3, 8, 8)
    u = torch.rand((len(x), 8), generator=gen(5))
    out = BatchTransform(8, whiten=False, crop=True, flip=True, padding=4).training(x, gen(5)).mul(255).round().byte()
    corners = (u[:, :2] * 9).long()
    assert len(corners.unique(dim=0)) == 81
    for i in range(60):
        cut = tv.crop(tv.pad(x[i], [4]), *corners[i].tolist(), 8, 8)  # black frame, before anything is normalized
        assert torch.equal(out[i], cut.flip(-1) if u[i, 2] < 0.5 else cut)
    assert torch.equal(BatchTransform(8, padding=4).evaluation(x), augment.whiten(x))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalizing_is_torchvision_s_with_the_statistics_of_all_training_images(dtype):
    x = images(50, 3, 6, 5)
    x[:, 2] //= 3
    x = x if dtype == torch.uint8 else x / 255
    pixels = x.double() / (255 if dtype == torch.uint8 else 1)
    std, mean = torch.std_mean(pixels, (0, 2, 3), correction=0)
    before = x.clone()
    given = {"mean": mean.tolist(), "std": std.tolist()}
    for normalize in ("channels", given):
        out = BatchTransform(None, normalize=normalize).fitted(x, None).evaluation(x)
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, tv.normalize(pixels.float(), **given), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before)
    with pytest.raises(ValueError, match="statistics of 3 channels, and the samples have 1; give one of each"):
        BatchTransform(None, normalize=given).fitted(x[:, :1], None)
    signals = BatchTransform(None, normalize="channels").fitted(x[:, 0, 0], None).evaluation(x[:, 0, 0])
    assert signals.shape == (50, 5)
    assert signals.mean().abs() < 1e-5
    constant = (
        BatchTransform(None, normalize="channels")
        .fitted(torch.zeros(2, 1, 3, 3), None)
        .evaluation(torch.ones(1, 1, 3, 3))
    )
    assert torch.equal(constant, torch.ones(1, 1, 3, 3))
