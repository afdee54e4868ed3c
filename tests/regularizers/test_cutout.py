"""Cutout against a loop over samples, and its hook."""

from __future__ import annotations

import warnings

import pytest
import torch
from foreign import Plain, at, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_regs import Cutout
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.functional import cutout
from lightning_regs.regularizers import NoEffectWarning


def one_by_one(x: Tensor, centers: Tensor, length: int, fill: float) -> Tensor:
    """The authors' mask rule, for one image after the other."""
    result = x.clone()
    height, width = x.shape[2:]
    for image, (row, column) in zip(result, centers.tolist(), strict=True):
        top, bottom = max(row - length // 2, 0), min(row + length // 2, height)
        left, right = max(column - length // 2, 0), min(column + length // 2, width)
        image[:, top:bottom, left:right] = fill
    return result


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 10),
    width=st.integers(1, 10),
    length=st.integers(2, 24),
    fill=st.floats(-2, 2, width=32),
    seed=st.integers(0, 999),
)
def test_equals_a_loop_over_samples(height: int, width: int, length: int, fill: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 2, height, width, generator=generator)
    centers = torch.stack([torch.randint(side, (5,), generator=generator) for side in (height, width)], 1)
    assert torch.equal(cutout(x, centers, length, fill), one_by_one(x, centers, length, fill))


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_an_odd_length_cuts_one_pixel_less_and_the_border_clips(length: int) -> None:
    x, side = torch.ones(2, 1, 8, 8), length // 2 * 2
    cut = cutout(x, torch.tensor([[4, 4], [0, 0]]), length)
    assert (cut[0] == 0).sum() == side**2
    assert (cut[1] == 0).sum() == (side // 2) ** 2


def test_centres_are_uniform_over_all_pixels_and_differ_between_samples() -> None:
    height, width, length, number = 6, 5, 4, 4000
    batch = [torch.ones(number, 2, height, width), torch.zeros(number, dtype=torch.long)]
    Cutout(length, seed=3).on_train_batch_start(batch=batch, **at())
    cut = batch[0] == 0
    assert torch.equal(cut[:, 0], cut[:, 1])  # one square for all channels
    # The chance of each pixel to be cut: of all the centres, those whose square covers it.
    centers = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    expected = (one_by_one(torch.ones(len(centers), 1, height, width), centers, length, 0) == 0)[:, 0].float().mean(0)
    spread = (expected * (1 - expected) / number).sqrt()
    assert ((cut[:, 0].float().mean(0) - expected).abs() < 4 * spread).all()


@pytest.mark.parametrize(("shape", "length"), [((3, 32, 32), 16), ((1, 28, 40), 14), ((1, 8, 8), 4)])
def test_the_default_length_is_half_of_the_smaller_side(shape: tuple[int, ...], length: int) -> None:
    default, given_length = ([torch.ones(20, *shape), torch.zeros(20, dtype=torch.long)] for _ in range(2))
    Cutout(seed=1).on_train_batch_start(batch=default, **at())
    Cutout(length, seed=1).on_train_batch_start(batch=given_length, **at())
    assert torch.equal(default[0], given_length[0])
    assert (default[0] == 0).any()


def test_draws_are_a_function_of_seed_epoch_batch_and_rank() -> None:
    def cut(seed: int, **place: int) -> Tensor:
        batch = [torch.ones(16, 1, 8, 8), torch.zeros(16, dtype=torch.long)]
        Cutout(seed=seed).on_train_batch_start(batch=batch, **at(**place))
        return batch[0]

    assert torch.equal(cut(1), cut(1))
    for other in (cut(2), cut(1, batch_idx=1), cut(1, epoch=1), cut(1, rank=1)):
        assert not torch.equal(cut(1), other)


def test_a_foreign_module_trains_on_cut_images_and_the_data_stay_whole() -> None:
    model, (x, y) = Plain(), images()
    original, loader = x.clone(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    fit(model, [Cutout(fill=9.0)], loader)
    assert all((batch_x == 9).any() for batch_x, _ in model.batches)
    assert torch.equal(torch.cat([batch_y for _, batch_y in model.batches]), y)
    assert torch.equal(x, original)


@pytest.mark.parametrize(
    ("shape", "message"), [((4, 9), r"found no images .* shape \(4, 9\)"), ((4, 1, 3, 9), r"images of 3x9 alone")]
)
def test_what_cannot_be_cut_is_left_alone_and_named_once(shape: tuple[int, ...], message: str) -> None:
    method, x = Cutout(), torch.ones(shape)
    batch = [x, torch.arange(4)]
    with pytest.warns(NoEffectWarning, match=message):
        method.on_train_batch_start(batch=batch, **at())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.on_train_batch_start(batch=batch, **at(1))
    assert batch[0] is x


def test_negative_fill_is_a_colour_like_any_other() -> None:
    assert (cutout(torch.ones(1, 1, 4, 4), torch.tensor([[2, 2]]), 2, -1.5) == -1.5).sum() == 4


def test_a_square_larger_than_the_images_and_bad_batches_are_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"length=16\) is larger than the 6x6 images .* at most 6"):
        fit(Plain(), [Cutout(16)])
    with pytest.raises(MisconfigurationException, match=r"Cutout .* this one is a dict"):
        Cutout().on_train_batch_start(batch={"x": torch.rand(2, 1, 4, 4)}, **at())
    assert Cutout(seed=1).refuses(Cutout(4, seed=1), before=True)
    assert Cutout(seed=1).refuses(Cutout(4, seed=2), before=True) is None
