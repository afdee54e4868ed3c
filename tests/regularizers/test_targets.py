"""Mixed targets against the dense probabilities that they stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.functional import MixedTarget, label_smoothing, mix_targets

K, N = 4, 7


def drawn(seed: int, lam: float = 0.3) -> tuple[Tensor, Tensor, Tensor, MixedTarget]:
    """Return logits, labels, a permutation and their mixture."""
    generator = torch.Generator().manual_seed(seed)
    y, permutation = torch.randint(K, (N,), generator=generator), torch.randperm(N, generator=generator)
    target = mix_targets(y, lam, permutation)
    assert isinstance(target, MixedTarget)
    return torch.randn(N, K, generator=generator), y, permutation, target


def dense(y: Tensor, permutation: Tensor, lam: float) -> Tensor:
    return lam * F.one_hot(y, K).float() + (1 - lam) * F.one_hot(y[permutation], K).float()


@settings(max_examples=40, deadline=None)
@given(
    lam=st.floats(0, 1),
    smoothing=st.sampled_from([0.0, 0.1, 0.6]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    seed=st.integers(0, 999),
)
def test_losses_are_those_of_dense_probabilities(lam: float, smoothing: float, reduction: str, seed: int) -> None:
    logits, y, permutation, target = drawn(seed, lam)
    rows = (1 - smoothing) * dense(y, permutation, lam) + smoothing / K
    expected = F.cross_entropy(logits, rows, reduction=reduction)
    ours = label_smoothing(target, smoothing)
    torch.testing.assert_close(F.cross_entropy(logits, ours, reduction=reduction), expected)
    torch.testing.assert_close(nn.CrossEntropyLoss(reduction=reduction)(logits, ours), expected)
    torch.testing.assert_close(nn.NLLLoss(reduction=reduction)(logits.log_softmax(1), ours), expected)
    one_hot = F.one_hot(ours, K)
    assert torch.equal(one_hot, F.one_hot(torch.tensor(ours.tolist()), K))  # the heavier labels, to whatever reads it
    own = -(one_hot.float() * logits.requires_grad_().log_softmax(1)).sum(1)
    torch.testing.assert_close(own, F.cross_entropy(logits, rows, reduction="none"))
    torch.testing.assert_close(ours.probabilities(K), rows)  # type: ignore[attr-defined]


@pytest.mark.parametrize("class_weights", [None, [1.0, 0.5, 2.0, 0.1]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_labels_and_class_weights_are_those_of_each_components_loss(
    class_weights: list[float] | None, smoothing: float, reduction: str
) -> None:
    logits, y, permutation, _ = drawn(3)
    y = y.where(y != 2, -100)
    options: dict[str, Any] = {"reduction": reduction, "weight": class_weights and torch.tensor(class_weights)}
    expected = sum(
        share * F.cross_entropy(logits, labels, label_smoothing=smoothing, **options)
        for share, labels in ((0.3, y), (0.7, y[permutation]))
    )
    target = label_smoothing(mix_targets(y, 0.3, permutation), smoothing)
    torch.testing.assert_close(F.cross_entropy(logits, target, **options), expected)


@pytest.mark.parametrize("class_weights", [None, [1.0, 0.5, 2.0, 0.1]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_sample_weights_weigh_two_halves_of_a_batch(
    alpha: float, smoothing: float, class_weights: list[float] | None
) -> None:
    """With 2a and 2(1 - a) the mean over both halves is a J(first) + (1 - a) J(second), whatever J leaves out."""
    first, y, permutation, _ = drawn(5)
    second = drawn(6)[0]
    y = y.where(y != 2, -100)
    options: dict[str, Any] = {"weight": class_weights and torch.tensor(class_weights)}
    target = label_smoothing(mix_targets(y, 0.3, permutation), smoothing)
    assert isinstance(target, MixedTarget)
    both = torch.cat([target, target])
    assert isinstance(both, MixedTarget)
    weights = torch.tensor([2 * alpha, 2 * (1 - alpha)]).repeat_interleave(N)
    both = MixedTarget(both.components, both.smoothing, weights)
    ours = F.cross_entropy(torch.cat([first, second]), both, **options)
    expected = alpha * F.cross_entropy(first, target, **options)
    expected = expected + (1 - alpha) * F.cross_entropy(second, target, **options)
    torch.testing.assert_close(ours, expected)
    total = F.cross_entropy(torch.cat([first, second]), both, reduction="sum", **options)
    each = F.cross_entropy(torch.cat([first, second]), both, reduction="none", **options)
    torch.testing.assert_close(total, each.sum())
    assert each.shape == (2 * N,)


SLICES: list[Callable[[Tensor], Tensor]] = [
    lambda t: t[2:5],
    lambda t: t[torch.tensor([4, 0])],
    lambda t: t[torch.arange(N) % 2 == 0],
    lambda t: t.split(3)[1],
    lambda t: torch.chunk(t, 2)[0],
    lambda t: t.view(-1),
    lambda t: t.index_select(0, torch.tensor([1, 1])),
    lambda t: t.narrow(0, 1, 3),
    lambda t: t.repeat_interleave(2),
    lambda t: t.repeat(3),
    lambda t: t.roll(1),
    lambda t: torch.cat([t, t]),
    lambda t: t.clone(),
    lambda t: t.detach(),
    lambda t: t.to("cpu", torch.long),
    lambda t: t.contiguous(),
    lambda t: t.long(),
    copy.deepcopy,
    copy.copy,
    lambda t: t.data,
    lambda t: torch.stack(list(t)),
]


@pytest.mark.parametrize("change", SLICES)
def test_slices_repetitions_and_copies_stay_mixed(change: Callable[[Tensor], Tensor]) -> None:
    _, _, _, target = drawn(1)
    target = MixedTarget(target.components, 0.1, torch.arange(N).float())
    changed = change(target)
    assert isinstance(changed, MixedTarget)
    assert changed.is_mixed
    order = change(torch.arange(N))
    torch.testing.assert_close(changed.probabilities(K), target.probabilities(K)[order])
    assert torch.equal(changed, torch.tensor(target.tolist())[order])
    assert changed.sample_weights is not None
    assert torch.equal(changed.sample_weights, order.float())


def test_a_batch_in_parts_has_the_loss_of_the_whole() -> None:
    logits, _, _, target = drawn(2)
    parts = [F.cross_entropy(logits[i : i + 2], target[i : i + 2], reduction="sum") for i in range(0, N, 2)]
    torch.testing.assert_close(torch.stack(parts).sum(), F.cross_entropy(logits, target, reduction="sum"))
    assert not target.was_seen


def test_an_empty_part_has_the_loss_that_torch_gives_it() -> None:
    logits, y, _, target = drawn(2)
    assert F.cross_entropy(logits[:0], target[:0], reduction="sum") == 0
    assert F.cross_entropy(logits[:0], target[:0]).isnan() == F.cross_entropy(logits[:0], y[:0]).isnan()


@pytest.mark.parametrize("lam", [0.2, 0.5, 0.8])
def test_everything_else_sees_the_heavier_labels(lam: float) -> None:
    logits, y, permutation, target = drawn(4, lam)
    heavier = y if lam >= 0.5 else y[permutation]
    assert target.tolist() == heavier.tolist()
    assert target.dtype == torch.int64
    assert torch.equal(MulticlassAccuracy(K)(logits, target), MulticlassAccuracy(K)(logits, heavier))
    assert torch.equal(MulticlassConfusionMatrix(K)(logits, target), MulticlassConfusionMatrix(K)(logits, heavier))
    assert torch.equal(logits.argmax(1) == target, logits.argmax(1) == heavier)
    assert torch.equal(F.one_hot(target, K), F.one_hot(heavier, K))
    assert torch.equal(target % 2 == 1, heavier % 2 == 1)
    assert [int(y) for y in target] == heavier.tolist() == np.asarray(target).tolist()
    assert not target.was_seen


def test_compiled_losses_see_the_mixture() -> None:
    logits, y, permutation, target = drawn(5)
    compiled = torch.compile(lambda x, t: F.cross_entropy(x, t), backend="eager")
    logits.requires_grad_()
    loss = compiled(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, dense(y, permutation, 0.3)))
    loss.backward()
    assert target.was_seen_whole


def test_mixing_twice_multiplies_the_weights() -> None:
    logits, y, permutation, target = drawn(6)
    again = mix_targets(target, 0.6, permutation)
    once = dense(y, permutation, 0.3)
    expected = 0.6 * once + 0.4 * once[permutation]
    torch.testing.assert_close(again.probabilities(K), expected)  # type: ignore[attr-defined]
    torch.testing.assert_close(F.cross_entropy(logits, again), F.cross_entropy(logits, expected))


def test_bool_labels_are_two_classes() -> None:
    found: Any = mix_targets(torch.tensor([True, False]), 0.75, torch.tensor([1, 0]))
    torch.testing.assert_close(found.probabilities(2), torch.tensor([[0.25, 0.75], [0.75, 0.25]]))


@pytest.mark.parametrize("shape", [(N,), (N, K), (N, 2, 3)])
def test_float_targets_are_mixed_in_place_of_labels(shape: tuple[int, ...]) -> None:
    y, permutation = torch.rand(shape), torch.randperm(N)
    torch.testing.assert_close(mix_targets(y, 0.3, permutation), 0.3 * y + 0.7 * y[permutation])


def test_gradients_are_those_of_dense_probabilities() -> None:
    logits, y, permutation, target = drawn(7)
    logits.requires_grad_()
    (ours,) = torch.autograd.grad(F.cross_entropy(logits, target), logits)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, dense(y, permutation, 0.3)), logits)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_(1),
        lambda t: t.__setitem__(0, 1),
        lambda t: t.__setitem__(t == 1, 0),
        lambda t: t.masked_fill_(t == 1, 0),
        lambda t: t.__isub__(1),
        lambda t: t.clamp_(0, 1),
    ],
)
def test_changes_in_place_are_made_in_each_component(change: Callable[[Tensor], Any]) -> None:
    _, y, permutation, target = drawn(8)
    own, partners = y.clone(), y[permutation]
    change(target)
    change(own)
    change(partners)
    assert [labels.tolist() for labels, _ in target.components] == [own.tolist(), partners.tolist()]
    assert target.tolist() == partners.tolist()


def test_bad_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MixedTarget([])
    with pytest.raises(TypeError, match=r"class indices, got torch.float32 of shape \(3,\)"):
        MixedTarget([(torch.rand(3), 1.0)])
    weighted = MixedTarget([(torch.arange(3), 1.0)], 0.0, torch.ones(3))
    with pytest.raises(MisconfigurationException, match="different weights in the loss cannot be mixed"):
        mix_targets(weighted, 0.5, torch.arange(3))
