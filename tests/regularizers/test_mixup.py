"""Mixup against torchvision's on equal draws, and its hook on foreign modules and bad batches."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from foreign import CLASSES, Plain, at, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from lightning_regs import Mixup
from lightning_regs.core.batch import notes, with_notes
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.functional import mixup
from lightning_regs.regularizers import NoEffectWarning


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_equals_torchvisions_on_equal_draws(alpha: float) -> None:
    x, y = images(7)
    theirs = v2.MixUp(alpha=alpha, num_classes=CLASSES)
    torch.manual_seed(3)
    expected_x, expected_y = theirs(x, y)
    torch.manual_seed(3)
    lam = theirs.make_params([x])["lam"]
    ours_x, ours_y = mixup(x, y, lam, torch.arange(7).roll(1))
    torch.testing.assert_close(ours_x, expected_x)
    torch.testing.assert_close(ours_y.probabilities(CLASSES), expected_y)
    logits = torch.randn(7, CLASSES)
    torch.testing.assert_close(F.cross_entropy(logits, ours_y), F.cross_entropy(logits, expected_y))
    soft_x, soft_y = mixup(x, F.one_hot(y, CLASSES).float(), lam, torch.arange(7).roll(1))
    assert torch.equal(soft_x, ours_x)
    torch.testing.assert_close(soft_y, expected_y)


@settings(max_examples=30, deadline=None)
@given(lam=st.floats(0, 1), number=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_batch_keeps_its_mean_and_its_class_shares(lam: float, number: int, seed: int) -> None:
    x, y = images(number, seed)
    permutation = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    mixed_x, mixed_y = mixup(x.double(), y, lam, permutation)
    torch.testing.assert_close(mixed_x.mean(0), x.double().mean(0))
    torch.testing.assert_close(mixed_y.probabilities(CLASSES).sum(0), torch.bincount(y, minlength=CLASSES).float())
    assert torch.equal(mixed_y, y if lam >= 0.5 else y[permutation])


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_loss_is_the_mixture_of_the_losses(lam: float) -> None:
    x, y = images()
    permutation = torch.randperm(8)
    _, mixed = mixup(x, y, lam, permutation)
    logits = torch.randn(8, CLASSES)
    expected = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[permutation])
    torch.testing.assert_close(torch.nn.CrossEntropyLoss()(logits, mixed), expected)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_weights_are_beta_distributed(alpha: float) -> None:
    method = Mixup(alpha, seed=7)
    draws = [method.draw_lam(method.moment(at()["trainer"], None, i)) for i in range(1500)]
    assert scipy.stats.kstest(draws, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_the_hook_mixes_images_and_labels_by_one_draw() -> None:
    x, _ = images(16)
    batch = [x, torch.arange(16)]  # each label names its sample
    Mixup(seed=1).on_train_batch_start(batch=batch, **at())
    (own, lam), (partners, rest) = batch[1].components
    assert torch.equal(own, torch.arange(16))
    assert torch.equal(partners.sort().values, torch.arange(16))
    assert not torch.equal(own, partners)
    assert lam + rest == pytest.approx(1)
    torch.testing.assert_close(batch[0], lam * x + rest * x[partners])


def test_draws_are_a_function_of_seed_epoch_batch_and_rank() -> None:
    def drawn(seed: int, **place: int) -> tuple[float, list[int]]:
        batch = [images(16)[0], torch.arange(16)]
        Mixup(seed=seed).on_train_batch_start(batch=batch, **at(**place))
        return batch[1].components[0][1], batch[1].components[1][0].tolist()

    assert drawn(1) == drawn(1)
    others = [drawn(2), drawn(1, batch_idx=1), drawn(1, epoch=1), drawn(1, rank=1)]
    for lam, partners in others:
        assert lam != drawn(1)[0]
        assert partners != drawn(1)[1]


@pytest.mark.parametrize("seed", range(6))
def test_the_mask_of_corrupted_labels_is_that_of_the_heavier_labels(seed: int) -> None:
    corrupted = torch.arange(16) % 3 == 0
    batch = [images(16)[0], with_notes(torch.arange(16), {"corrupted": corrupted})]
    Mixup(seed=seed).on_train_batch_start(batch=batch, **at())
    assert torch.equal(notes(batch[1])["corrupted"], corrupted[batch[1]])


@pytest.mark.parametrize("shape", [(8, 1), (8, 6, 6), (8, 3)])
def test_labels_of_other_shapes_are_mixed_as_labels(shape: tuple[int, ...]) -> None:
    x, permutation = images()[0], torch.arange(8).roll(1)
    y, logits = torch.randint(CLASSES, shape), torch.randn(8, CLASSES, *shape[1:], requires_grad=True)
    mixed = mixup(x, y, 0.3, permutation)[1]
    assert torch.equal(mixed, y[permutation])
    ours = F.cross_entropy(logits, mixed) + F.binary_cross_entropy_with_logits(logits[:, 0], mixed.bool().float())
    expected = sum(
        share
        * (F.cross_entropy(logits, labels) + F.binary_cross_entropy_with_logits(logits[:, 0], (labels > 0).float()))
        for share, labels in ((0.3, y), (0.7, y[permutation]))
    )
    torch.testing.assert_close(ours.detach(), expected.detach())  # type: ignore[attr-defined]


def test_a_batch_of_one_is_left_alone_and_named_once() -> None:
    method = Mixup()
    x, y = images(1)
    batch = [x, y]
    with pytest.warns(NoEffectWarning, match="Mixup left a batch of one sample"):
        method.on_train_batch_start(batch=batch, **at())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.on_train_batch_start(batch=batch, **at(1))
    assert batch[0] is x
    assert batch[1] is y


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.rand(4, 2), torch.arange(4)), r"a tuple of 2 \(Tensor, Tensor\).*return \[x, y\]"),
        ({"a": torch.rand(4, 2), "label": torch.arange(4)}, r"a dict with the keys \['a', 'label'\], .* not known"),
        ({"x": torch.rand(4, 2), "y": torch.arange(4), "mask": torch.arange(4)}, r"the keys \['mask', 'x', 'y'\]"),
        ({"x": torch.rand(4, 2), "y": ["a", "b"]}, r"'y' is a list of 2 \(str, str\) and no tensor"),
        ([torch.rand(4, 2), torch.arange(4), torch.arange(4)], r"a list of 3 .*Mixup\(batch=.* or \(0, 1\)"),
        ([torch.rand(4, 2)], r"a list of 1"),
        ([torch.zeros(4, 2, dtype=torch.uint8), torch.arange(4)], r"floating point, and these are torch.uint8"),
        ([torch.rand(4, 2), torch.arange(3)], r"4 samples with 3 as labels"),
    ],
)
def test_bad_batches_are_named(batch: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        Mixup().on_train_batch_start(batch=batch, **at())


def test_two_of_one_seed_are_refused_and_of_two_seeds_compose() -> None:
    with pytest.raises(MisconfigurationException, match=r"Mixup and Mixup .* give one of them another seed"):
        fit(Plain(), [Mixup(seed=1), Mixup(seed=1)])
    model = Plain()
    fit(model, [Mixup(seed=1), Mixup(seed=2)])
    assert len(model.batches[0][1].components) == 4  # type: ignore[attr-defined]
