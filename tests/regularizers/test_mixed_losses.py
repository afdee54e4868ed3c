"""Losses as people write them, of mixed labels: the mixture of the losses of each component's labels, in float64."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassHingeLoss,
)

from lightning_regs.functional import MixedTarget, label_smoothing, mix_targets

N, K = 16, 5
Loss = Callable[[Tensor, Tensor], Any]


def gathered(z: Tensor, y: Tensor) -> Tensor:
    return -z.log_softmax(1).gather(1, y[:, None]).mean()


def focal(z: Tensor, y: Tensor) -> Tensor:
    log_p = z.log_softmax(1)
    p = log_p.gather(1, y.unsqueeze(1)).squeeze(1).exp()
    return ((1 - p) ** 2 * F.nll_loss(log_p, y, reduction="none")).mean()


def focal_of_the_mean(z: Tensor, y: Tensor) -> Tensor:
    ce = F.cross_entropy(z, y)
    return (1 - torch.exp(-ce)) ** 2 * ce


def focal_weights_without_gradient(z: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        p = z.softmax(1).gather(1, y[:, None]).squeeze(1)
    return ((1 - p) ** 2 * F.cross_entropy(z, y, reduction="none")).mean()


def coarse_label_too(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z, y) + F.cross_entropy(z[:, :2], y % 2)


def margin(z: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(z, y)
    loss += F.multi_margin_loss(z, y)
    return loss


def arc_face(z: Tensor, y: Tensor) -> Tensor:
    one_hot = torch.zeros(z.size(), dtype=z.dtype)
    one_hot.scatter_(1, y.view(-1, 1).long(), 1)
    return F.cross_entropy(one_hot * (z - 0.3) + (1 - one_hot) * z, y)


def ldam(z: Tensor, y: Tensor) -> Tensor:
    index = torch.zeros_like(z, dtype=torch.uint8)
    index.scatter_(1, y.data.view(-1, 1), 1)
    margins = torch.linspace(0.1, 0.5, K, dtype=z.dtype)[None] @ index.to(z.dtype).T
    return F.cross_entropy(torch.where(index.bool(), z - margins.view(-1, 1), z), y)


def margin_written_into_logits(z: Tensor, y: Tensor) -> Tensor:
    shifted = z.clone()
    shifted[torch.arange(N), y] -= 0.3
    return F.cross_entropy(2 * shifted, y)


def smoothing_of_its_own(z: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        rows = torch.zeros_like(z)
        rows.fill_(0.1 / (K - 1))
        rows.scatter_(1, y.data.unsqueeze(1), 0.9)
    return (-rows * z.log_softmax(1)).sum(1).mean()


def contrastive_too(z: Tensor, y: Tensor) -> Tensor:
    unit = F.normalize(z, dim=1)
    similar = unit @ unit.T / 0.5
    same = (y[:, None] == y[None]).to(z.dtype)
    log_p = similar - similar.logsumexp(1, keepdim=True)
    return F.cross_entropy(z, y) - ((same * log_p).sum(1) / same.sum(1)).mean()


def class_weights(z: Tensor, y: Tensor) -> Tensor:
    weights = torch.linspace(1, 3, K, dtype=z.dtype)[y]
    return (weights * F.cross_entropy(z, y, reduction="none")).sum() / weights.sum()


def centers(z: Tensor, y: Tensor) -> Tensor:
    return (z - torch.arange(K * K, dtype=z.dtype).view(K, K)[y]).square().sum(1).mean()


def dice(z: Tensor, y: Tensor) -> Tensor:
    p, one_hot = z.softmax(1), F.one_hot(y, K)
    return 1 - (2 * (p * one_hot).sum(0) / (p + one_hot).sum(0)).mean()


def hard_examples(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z, y, reduction="none").topk(4).values.mean()


def sample_by_sample(z: Tensor, y: Tensor) -> Any:
    return sum(F.cross_entropy(one[None], label[None]) for one, label in zip(z, y, strict=True)) / N


def class_by_class(z: Tensor, y: Tensor) -> Any:
    return sum(F.cross_entropy(z[y == k], y[y == k], reduction="sum") for k in range(K)) / N


def triplets(z: Tensor, y: Tensor) -> Tensor:
    distances, same = torch.cdist(z, z), y[:, None] == y[None]
    positive, negative = distances.masked_fill(~same, -1).amax(1), distances.masked_fill(same, 1e9).amin(1)
    return F.relu(positive - negative + 0.5).mean()


LOSSES: tuple[Loss, ...] = (
    gathered, focal, focal_of_the_mean, focal_weights_without_gradient, coarse_label_too, margin, arc_face, ldam,
    margin_written_into_logits, smoothing_of_its_own, contrastive_too, class_weights, centers, dice, hard_examples,
    sample_by_sample, class_by_class, triplets,
)  # fmt: skip
KNOWING = (dice, hard_examples, sample_by_sample, focal_of_the_mean)  # which use labels by nothing but what smooths


def drawn() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return samples, weights of a linear model, labels and partners."""
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((N, 8), (8, K)))
    return x, w.requires_grad_(), torch.randint(K, (N,), generator=g), torch.randperm(N, generator=g)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("lam", [0.37, 0.8])
def test_value_and_gradient_are_those_of_the_mixture_of_losses(loss: Loss, lam: float) -> None:
    x, w, y, permutation = drawn()
    expected = lam * loss(x @ w, y) + (1 - lam) * loss(x @ w, y[permutation])
    target = mix_targets(y, lam, permutation)
    ours = loss(x @ w, target)
    torch.testing.assert_close(ours.detach(), expected.detach())
    (gradient,) = torch.autograd.grad(expected, w)
    ours.backward()
    torch.testing.assert_close(w.grad, gradient)
    assert isinstance(target, MixedTarget)
    assert target.was_seen_whole


@pytest.mark.parametrize("loss", [focal, focal_of_the_mean, coarse_label_too, contrastive_too])
def test_of_four_components_too(loss: Loss) -> None:
    x, w, y, permutation = drawn()
    target: Any = mix_targets(mix_targets(y, 0.3, permutation), 0.6, permutation)
    expected = sum(weight * loss(x @ w, labels) for labels, weight in target.components)
    torch.testing.assert_close(loss(x @ w, target).detach(), expected.detach())
    assert len(target.components) == 4


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_loss_that_lacks_the_smoothing_is_known(loss: Loss) -> None:
    x, w, y, _ = drawn()
    target: Any = label_smoothing(y, 0.1)
    ours = loss(x @ w, target)
    ours.backward()
    assert target.was_seen
    assert target.was_seen_whole == (loss in KNOWING)


def test_squared_errors_of_one_hot_labels_are_smoothed() -> None:
    x, w, y, _ = drawn()
    rows = 0.9 * F.one_hot(y, K) + 0.1 / K
    expected = (x @ w - rows).square().mean()
    torch.testing.assert_close(
        (x @ w - F.one_hot(label_smoothing(y, 0.1), K)).square().mean().detach(), expected.detach()
    )


METRICS: tuple[Callable[[], Any], ...] = (
    lambda: MulticlassAUROC(K, thresholds=10),
    lambda: MulticlassAUROC(K),
    lambda: MulticlassF1Score(K, average="micro"),
    lambda: MulticlassHingeLoss(K),
    lambda: MulticlassCalibrationError(K),
    lambda: MetricCollection({"two": MulticlassAccuracy(K, top_k=2), "one": MulticlassAccuracy(K)}),
)


@pytest.mark.parametrize("make", METRICS)
@pytest.mark.parametrize("how", ["update", "forward"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_metrics_see_plain_tensors_of_the_heavier_labels(make: Callable[[], Any], how: str, smoothing: float) -> None:
    x, w, y, permutation = drawn()
    ours, expected, predictions = make(), make(), (x @ w).softmax(1).float()
    for lam in (0.3, 0.8):
        target = label_smoothing(mix_targets(y, lam, permutation), smoothing)
        for metric, labels in ((ours, target), (expected, y if lam > 0.5 else y[permutation])):
            (metric.update if how == "update" else metric)(predictions, labels)
    assert str(ours.compute()) == str(expected.compute())
    for metric in ours.values() if isinstance(ours, MetricCollection) else [ours]:
        assert isinstance(metric, Metric)
        states = [s for state in metric.metric_state.values() for s in (state if isinstance(state, list) else [state])]
        assert all(type(state) is Tensor for state in states)


class OwnCrossEntropy(torch.autograd.Function):
    """Reads the labels where autograd does not look."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(z, y)
        return gathered(z, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, y = ctx.saved_tensors
        return gradients[0] * (z.softmax(1) - F.one_hot(y, K)) / N, None


def test_what_an_autograd_function_reads_is_known_to_be_the_heavier_labels() -> None:
    x, w, y, permutation = drawn()
    target: Any = mix_targets(y, 0.3, permutation)
    loss: Tensor = OwnCrossEntropy.apply(x @ w, target) + F.cross_entropy(x @ w, target)
    (loss / 2).backward()
    assert target.was_seen
    assert not target.was_seen_whole
    target = mix_targets(y, 0.3, permutation)
    OwnCrossEntropy.apply(x @ w, target).backward()
    assert not target.was_seen


def test_checkpointed_losses_are_those_of_the_mixture() -> None:
    x, w, y, permutation = drawn()
    target: Any = mix_targets(y, 0.3, permutation)
    loss: Any = torch.utils.checkpoint.checkpoint(focal, x @ w, target, use_reentrant=False)
    (loss / 2).backward()
    expected = 0.3 * focal(x @ w, y) + 0.7 * focal(x @ w, y[permutation])
    torch.testing.assert_close(w.grad, torch.autograd.grad(expected / 2, w)[0])
    assert target.was_seen


@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:Dynamo does not know how to trace")
@pytest.mark.slow
def test_compiled_losses_are_those_of_the_mixture() -> None:
    x, w, y, permutation = drawn()
    target: Any = mix_targets(y, 0.3, permutation)
    for loss in (focal, coarse_label_too):
        compiled = torch.compile(loss, backend="eager")
        torch.testing.assert_close(compiled(x @ w, target).detach(), loss(x @ w, target).detach())
    whole = torch.compile(F.cross_entropy, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(x @ w, target).detach(), F.cross_entropy(x @ w, target).detach())


def test_what_is_logged_and_saved_is_plain() -> None:
    x, w, y, permutation = drawn()
    target, file = mix_targets(y, 0.3, permutation), io.BytesIO()
    loss = F.cross_entropy(x @ w, target)
    assert type(loss.detach()) is Tensor
    assert loss.item() == loss.detach().item()
    assert loss == loss.item()  # what is compared is what shows
    torch.save({"labels": target}, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)["labels"], y[permutation])


def test_labels_of_two_batches_are_the_heavier_ones_of_the_other() -> None:
    x, w, y, permutation = drawn()
    first, second = (mix_targets(y, lam, permutation) for lam in (0.3, 0.8))
    same = (first[:, None] == second[None]).double()
    ours = ((x @ w) @ (x @ w).T * same).mean()
    expected = sum(
        share * ((x @ w) @ (x @ w).T * (labels[:, None] == y[None]).double()).mean()
        for share, labels in ((0.3, y), (0.7, y[permutation]))
    )
    torch.testing.assert_close(ours.detach(), expected.detach())  # type: ignore[attr-defined]
