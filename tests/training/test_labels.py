"""Labels of every type that names classes: integers of any width, bools, probabilities; refused by shape and value."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric.utilities.exceptions import MisconfigurationException
from test_classifier import trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import AdversarialTraining, Classifier, GradientPenalty, LabelSmoothing, Mixup
from lightning_regs.training.losses import losses_of_samples
from lightning_regs.training.replicas import Replicated

N, FEATURES, CLASSES, BATCH = 24, 5, 3, 8
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.bool]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 7), nn.Tanh(), nn.Linear(7, CLASSES)).double()


def data(y: Tensor, x: Tensor | None = None) -> DataLoader[Any]:
    x = torch.randn(N, FEATURES, generator=torch.Generator().manual_seed(1)).double() if x is None else x
    return DataLoader(TensorDataset(x, y), batch_size=BATCH)


def indices(number: int = CLASSES) -> Tensor:
    return torch.randint(number, (N,), generator=torch.Generator().manual_seed(2))


def probabilities(*shape: int) -> Tensor:
    return torch.randn(*shape, CLASSES, generator=torch.Generator().manual_seed(3)).double().softmax(-1)


def fit(y: Tensor, tmp_path: Any, loss: str = "cross_entropy", methods: Any = (), **options: Any) -> Any:
    sgd = {"name": "SGD", "lr": 0.2}
    shapes: dict[str, Any] = {"input_shape": (FEATURES,), "num_classes": CLASSES}
    model = Classifier(network(), optimizer=sgd, loss=loss, regularizers=list(methods), seed=0, **shapes).double()
    t = trainer(tmp_path, **options)
    t.fit(model, data(y), data(y))
    return model, t


def by_hand(y: Tensor, loss: Any, epochs: int = 2) -> tuple[nn.Module, list[float]]:
    model, right = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(epochs):
        right = []
        for x, t in data(y):
            optimizer.zero_grad()
            logits = model(x)
            right += (logits.argmax(1) == (t.argmax(1) if t.ndim > 1 else t)).tolist()
            loss(logits, t).backward()
            optimizer.step()
    return model, right


@pytest.mark.parametrize(
    "methods",
    [(), (Mixup(seed=1),), (LabelSmoothing(),), (AdversarialTraining(0.1),)],
    ids=["none", "mixup", "smoothing", "adversarial"],
)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_of_any_type_are_class_indices(dtype: torch.dtype, methods: Any, tmp_path: Any) -> None:
    y = indices(2)
    (ours, t), (theirs, u) = (fit(labels, tmp_path, methods=methods) for labels in (y.to(dtype), y))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert t.callback_metrics == u.callback_metrics


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_probabilities_are_trained_on_as_by_hand(loss: str, tmp_path: Any) -> None:
    y = probabilities(N)
    model, t = fit(y, tmp_path, loss)

    def half_squares(logits: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (logits - y).square().sum(1).mean()

    expected, right = by_hand(y, F.cross_entropy if loss == "cross_entropy" else half_squares)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert float(t.callback_metrics["train/acc"]) == pytest.approx(100 * sum(right) / N)


@pytest.mark.slow
def test_one_hot_probabilities_give_what_indices_give(tmp_path: Any) -> None:
    y = indices()
    for methods in ((), (GradientPenalty(0.1, micro_batch_size=3),)):
        for loss in ("cross_entropy", "squared_error"):
            (ours, t), (theirs, u) = (
                fit(labels, tmp_path, loss, methods) for labels in (F.one_hot(y, CLASSES).double(), y)
            )
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a, b)
            found, expected = ({k: float(v) for k, v in each.callback_metrics.items()} for each in (t, u))
            assert found == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_double_precision_labels_go_with_any_network(precision: Any, tmp_path: Any) -> None:
    x = torch.randn(N, FEATURES)
    model = Classifier(network().float(), input_shape=(FEATURES,), num_classes=CLASSES)
    trainer(tmp_path, precision=precision).fit(model, data(probabilities(N), x))
    assert all(torch.isfinite(w).all() for w in model.parameters())


@pytest.mark.parametrize("shared", [False, True])
def test_replicas_take_probabilities_of_their_own_or_for_all(shared: bool) -> None:
    nets = [network(), network()]
    options: dict[str, Any] = {"input_shape": (FEATURES,), "num_classes": CLASSES, "replicas": 2}
    model = Classifier(Replicated(nets), **options)
    x, y = torch.randn(2, N, FEATURES).double(), probabilities(2, N)
    loss = model._loss("val", [x, y[0] if shared else y])
    each = [F.cross_entropy(net(x[i]), y[0 if shared else i]) for i, net in enumerate(nets)]
    torch.testing.assert_close(loss, each[0] + each[1])
    metrics: Any = model.stages["val"]
    metrics.compute()
    for i, net in enumerate(nets):
        right = net(x[i]).argmax(1) == y[0 if shared else i].argmax(1)
        assert metrics.each[i]["acc"] == pytest.approx(100 * right.double().mean().item())


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (torch.rand(N), r"torch.float32 of shape \(8,\); use .long\(\) on class indices"),
        (torch.zeros(N, 1, dtype=torch.int64), r"torch.int64 of shape \(8, 1\); reshape them"),
        (torch.rand(N, 2), r"probabilities as floats, of shape \(8, 3\), and these are .* \(8, 2\)"),
        (torch.ones(N, CLASSES), r"8 rows of \(8, 3\) are negative or do not sum to 1; normalise them"),
        (torch.full((N,), 3), "class index 3 is outside 0 to 2"),
        (torch.full((N,), -1, dtype=torch.int8), "class index -1 is outside 0 to 2"),
    ],
)
@pytest.mark.cpu("a label out of range stops CUDA for the rest of the process")
def test_what_are_no_labels_of_these_classes_is_refused(y: Tensor, sentence: str, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit(y, tmp_path)


def test_methods_refuse_probabilities_as_they_say(tmp_path: Any) -> None:
    weighs = AdversarialTraining(0.1, mode="mixed", clean_weight=0.3)
    with pytest.raises(MisconfigurationException, match=r"use clean_weight=0\.5"):
        fit(probabilities(N), tmp_path, methods=[weighs])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|torch)\.")
        for methods in ([Mixup()], [LabelSmoothing()], [AdversarialTraining(0.1)]):
            fit(probabilities(N), tmp_path, methods=methods)


@pytest.mark.parametrize("classes", [10, 20])
@pytest.mark.parametrize("samples", [3, 600])
def test_losses_of_samples_are_logarithms_of_probabilities_with_their_gradients(samples: int, classes: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(samples, classes, dtype=torch.float64, requires_grad=True)
    y, weight = torch.randint(classes, (samples,)), torch.rand(samples, dtype=torch.float64)
    losses = losses_of_samples(F.cross_entropy, logits, y)
    torch.testing.assert_close(losses, -logits.softmax(1).log()[range(samples), y])
    (gradient,) = torch.autograd.grad(losses, logits, weight)
    torch.testing.assert_close(gradient, weight[:, None] * (logits.detach().softmax(1) - F.one_hot(y, classes)))
