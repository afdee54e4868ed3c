"""Label smoothing against torch's own, alone and together with mixtures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import CLASSES, Plain, at, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_regs import CutMix, LabelSmoothing, Mixup
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.functional import label_smoothing, mix_targets


@settings(max_examples=30, deadline=None)
@given(smoothing=st.floats(0, 0.99), reduction=st.sampled_from(["mean", "sum", "none"]), seed=st.integers(0, 99))
def test_equals_torchs_label_smoothing(smoothing: float, reduction: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, CLASSES, generator=generator)
    y = torch.randint(CLASSES, (6,), generator=generator)
    expected = F.cross_entropy(logits, y, label_smoothing=smoothing, reduction=reduction)
    smoothed = label_smoothing(y, smoothing)
    torch.testing.assert_close(F.cross_entropy(logits, smoothed, reduction=reduction), expected)
    torch.testing.assert_close(F.nll_loss(logits.log_softmax(1), smoothed, reduction=reduction), expected)
    dense = label_smoothing(F.one_hot(y, CLASSES).float(), smoothing)
    torch.testing.assert_close(F.cross_entropy(logits, dense, reduction=reduction), expected)
    torch.testing.assert_close(dense.sum(1), torch.ones(6))


@pytest.mark.parametrize("mixer", [Mixup, CutMix])
def test_the_order_with_mixtures_does_not_matter(mixer: type[Mixup]) -> None:
    first, second = Plain(), Plain()
    fit(first, [LabelSmoothing(0.2), mixer(seed=1)])
    fit(second, [mixer(seed=1), LabelSmoothing(0.2)])
    assert first.losses
    for ours, theirs in zip(first.losses, second.losses, strict=True):
        assert torch.equal(ours, theirs)


def test_of_a_mixture_it_is_the_smoothed_mixture() -> None:
    y, permutation = torch.tensor([0, 1, 2, 3]), torch.tensor([3, 2, 0, 1])
    dense = 0.7 * F.one_hot(y, CLASSES) + 0.3 * F.one_hot(y[permutation], CLASSES)
    expected = 0.9 * dense + 0.1 / CLASSES
    torch.testing.assert_close(
        label_smoothing(mix_targets(y, 0.7, permutation), 0.1).probabilities(CLASSES),  # type: ignore[attr-defined]
        expected,
    )


def test_no_smoothing_leaves_the_labels_as_they_are() -> None:
    batch = list(images())
    y = batch[1]
    LabelSmoothing(0.0).on_train_batch_start(batch=batch, **at())
    assert batch[1] is y


class Smoothed(Plain):
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return nn.CrossEntropyLoss(label_smoothing=0.05)(logits, y)


def test_smoothing_twice_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"labels are smoothed once; use one LabelSmoothing\(0.28\)"):
        fit(Plain(), [LabelSmoothing(0.1), LabelSmoothing(0.2)])
    with pytest.raises(MisconfigurationException, match=r"the loss's own label_smoothing=0.05 would smooth twice"):
        fit(Smoothed(), [LabelSmoothing(0.1)])
    with pytest.raises(ValueError, match=r"smoothed by 0.1 already"):
        label_smoothing(label_smoothing(torch.arange(3), 0.1), 0.2)


def test_one_smoothing_stands_for_two_after_each_other() -> None:
    y = F.one_hot(torch.tensor([0, 2]), CLASSES).float()
    torch.testing.assert_close(label_smoothing(label_smoothing(y, 0.1), 0.2), label_smoothing(y, 0.28))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.rand(4), r"torch.float32 labels of shape \(4,\)"),
        (torch.rand(4, 1), r"K of at least 2"),
        (torch.zeros(4, 2, dtype=torch.long), r"torch.int64 of shape \(4, 2\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(y: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        LabelSmoothing().on_train_batch_start(batch=[torch.rand(4, 2), y], **at())
    with pytest.raises((TypeError, ValueError)):
        label_smoothing(y, 0.1)


def test_a_regression_of_several_values_is_refused() -> None:
    x, _ = images()
    targets = 40 * torch.randn(len(x), 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(MisconfigurationException, match="negative or do not sum to 1"):
        LabelSmoothing().on_train_batch_start(batch=[x, targets], **at())


@pytest.mark.cpu("a label out of range stops CUDA for the rest of the process")
def test_labels_are_read_in_each_batch() -> None:
    method, (x, y) = LabelSmoothing(), images()
    rows = F.one_hot(y, CLASSES).float()
    method.on_train_batch_start(batch=[x, rows], **at())
    odd = rows * torch.tensor([1.0, 1, 1, 2, 1, 1, 1, 1])[:, None]
    with pytest.raises(MisconfigurationException, match=r"1 rows of these \(8, 4\) are negative or do not sum to 1"):
        method.on_train_batch_start(batch=[x, odd], **at(1))


@pytest.mark.parametrize("shape", [(8, 1), (8, 6, 6)])
def test_classes_of_other_shapes_are_smoothed(shape: tuple[int, ...]) -> None:
    y, logits = torch.randint(CLASSES, shape), torch.randn(8, CLASSES, *shape[1:])
    expected = F.cross_entropy(logits, y, label_smoothing=0.2)
    torch.testing.assert_close(F.cross_entropy(logits, label_smoothing(y, 0.2)), expected)
