"""CutMix against torchvision's on equal draws, and its hook."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import CLASSES, Plain, at, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from lightning_regs import CutMix, Mixup
from lightning_regs.core.batch import notes, with_notes
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.functional import MixedTarget, cutmix, cutmix_box, label_smoothing, mix_targets
from lightning_regs.regularizers import NoEffectWarning


@pytest.mark.parametrize("seed", range(8))
def test_equals_torchvisions_on_equal_draws(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(5, 3, 11, 8, generator=generator), torch.randint(CLASSES, (5,), generator=generator)
    theirs = v2.CutMix(num_classes=CLASSES)
    torch.manual_seed(seed)
    expected_x, expected_y = theirs(x, y)
    torch.manual_seed(seed)  # they draw the weight, then the column, then the row
    lam = float(theirs._dist.sample(()))
    column, row = int(torch.randint(8, (1,))), int(torch.randint(11, (1,)))
    box = cutmix_box(lam, (row, column), 11, 8)
    ours_x, ours_y = cutmix(x, y, box, torch.arange(5).roll(1))
    assert torch.equal(ours_x, expected_x)
    torch.testing.assert_close(ours_y.probabilities(CLASSES), expected_y)
    logits = torch.randn(5, CLASSES)
    torch.testing.assert_close(F.cross_entropy(logits, ours_y), F.cross_entropy(logits, expected_y))


@settings(max_examples=40, deadline=None)
@given(
    lam=st.floats(0, 1),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_labels_weigh_as_the_pixels_do(lam: float, height: int, width: int, place: tuple[float, float]) -> None:
    # Each image is filled with its own number, so the share of each number in it can be counted.
    x = torch.arange(3.0)[:, None, None, None].expand(3, 2, height, width)
    box = cutmix_box(lam, (int(place[0] * height), int(place[1] * width)), height, width)
    mixed_x, mixed_y = cutmix(x, torch.arange(3), box, torch.tensor([1, 2, 0]))
    counted = torch.stack([(mixed_x == k).float().mean((1, 2, 3)) for k in range(3)], 1)
    torch.testing.assert_close(mixed_y.probabilities(3), counted)
    area = (box[1] - box[0]) * (box[3] - box[2])
    assert area <= (1 - lam) * height * width + 1e-6  # never more than drawn, less at the border


def test_the_hook_pastes_from_one_partner_and_weighs_by_area() -> None:
    x = torch.arange(16.0)[:, None, None, None].expand(16, 3, 9, 7).contiguous()
    original = x.clone()
    shares = set()
    for seed in range(6):
        batch = [x, torch.arange(16)]
        CutMix(seed=seed).on_train_batch_start(batch=batch, **at())
        (own, lam), (partners, _) = batch[1].components
        is_own, is_partner = (batch[0] == labels[:, None, None, None] for labels in (own.float(), partners.float()))
        assert (is_own | is_partner).all()
        assert is_own[partners != own].float().mean().item() == pytest.approx(lam, abs=1e-6)
        shares.add(lam)
    assert len(shares) > 3
    assert torch.equal(x, original)  # a resident data set's images are never written to


@pytest.mark.parametrize("shape", [(6, 9, 7), (6, 2, 9, 7)])
@pytest.mark.parametrize("dtype", [torch.long, torch.float32])
def test_maps_have_the_box_of_the_images_pasted(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Each image and each map are filled with the number of their sample, so that they stay equal."""
    numbers = torch.arange(6.0)
    x, maps = (numbers.view(-1, *[1] * (len(s) - 1)).expand(s).contiguous() for s in ((6, 1, 9, 7), shape))
    for seed in range(4):
        batch = [x, maps.to(dtype)]
        CutMix(seed=seed).on_train_batch_start(batch=batch, **at())
        assert type(batch[1]) is torch.Tensor
        assert batch[1].dtype == dtype
        assert torch.equal(batch[1].float(), batch[0].expand(6, 1 if len(shape) == 3 else 2, 9, 7).reshape(shape))
    assert torch.equal(x[:, 0, 0, 0], numbers)  # the data stay whole


def test_of_mixed_maps_each_component_is_pasted() -> None:
    x, y, permutation = torch.rand(4, 1, 6, 6), torch.randint(3, (4, 6, 6)), torch.tensor([1, 2, 3, 0])
    mixed, box = mix_targets(y, 0.3, permutation), (1, 4, 2, 6)
    pasted: Any = label_smoothing(cutmix(x, mixed, box, permutation)[1], 0.1)
    for (ours, weight), (labels, share) in zip(pasted.components, mixed.components, strict=True):  # type: ignore[attr-defined]
        assert torch.equal(ours, cutmix(x, labels, box, permutation)[1])
        assert weight == share
    logits = torch.randn(4, 3, 6, 6)
    expected = sum(w * F.cross_entropy(logits, labels, label_smoothing=0.1) for labels, w in pasted.components)
    torch.testing.assert_close(F.cross_entropy(logits, pasted), expected)


@pytest.mark.parametrize("y", [torch.rand(4, 2, 3, 3), torch.rand(4, 3, 3), torch.zeros(4, 2, 5, dtype=torch.long)])
def test_maps_of_another_size_are_refused(y: torch.Tensor) -> None:
    with pytest.raises(MisconfigurationException, match=r"CutMix pastes a box of 6x6 images, .* \(N, ..., 6, 6\)"):
        CutMix().on_train_batch_start(batch=[torch.rand(4, 1, 6, 6), y], **at())
    with pytest.raises(ValueError, match="cutmix pastes a box of 6x6 images"):
        cutmix(torch.rand(4, 1, 6, 6), y, (0, 1, 0, 1), torch.arange(4))


def test_the_mask_of_corrupted_labels_is_that_of_the_heavier_labels() -> None:
    heavier_partner = 0
    for seed in range(40):
        labels = with_notes(torch.arange(16), {"corrupted": torch.arange(16) % 3 == 0})
        batch = [torch.rand(16, 1, 8, 8), labels]
        CutMix(seed=seed).on_train_batch_start(batch=batch, **at())
        assert torch.equal(notes(batch[1])["corrupted"], batch[1] % 3 == 0)
        heavier_partner += not torch.equal(batch[1], torch.arange(16))
    assert heavier_partner


def test_batches_that_are_no_images_are_left_alone_and_named_once() -> None:
    method, batch = CutMix(), [torch.rand(4, 9), torch.arange(4)]
    with pytest.warns(NoEffectWarning, match=r"CutMix found no images \(N, C, H, W\) but shape \(4, 9\)"):
        method.on_train_batch_start(batch=batch, **at())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.on_train_batch_start(batch=batch, **at(1))
    assert not isinstance(batch[1], MixedTarget)
    with pytest.warns(NoEffectWarning, match="CutMix left a batch of one sample"):
        CutMix().on_train_batch_start(batch=list(images(1)), **at())


def test_after_mixup_a_sample_has_four_parents() -> None:
    model = Plain()
    fit(model, [Mixup(seed=0), CutMix(seed=0)])
    (x, y), loss = model.batches[0], model.losses[0]
    assert isinstance(y, MixedTarget)
    assert len(y.components) == 4
    assert sum(weight for _, weight in y.components) == pytest.approx(1)
    torch.testing.assert_close(loss, F.cross_entropy(Plain().network(x), y.probabilities(CLASSES)))


@pytest.mark.parametrize("box", [(0, 7, 0, 2), (3, 2, 0, 2), (-1, 2, 0, 2)])
def test_a_box_that_is_not_inside_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=rf"\({', '.join(map(str, box))}\) is not inside the 6x6 image"):
        cutmix(torch.rand(2, 1, 6, 6), torch.zeros(2, dtype=torch.long), box, torch.arange(2))


def test_bad_batches_and_a_second_one_of_the_same_seed_are_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"CutMix .* this one is a tuple"):
        CutMix().on_train_batch_start(batch=images(), **at())
    assert CutMix(seed=1).refuses(CutMix(seed=1), before=True)
    assert CutMix(seed=1).refuses(CutMix(seed=2), before=True) is None
