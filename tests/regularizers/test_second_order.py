"""What torch cannot differentiate twice is named, with what to use instead; sparse gradients, which it can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign import CLASSES, Plain, fit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, GradientPenalty
from lightning_regs.core.lightning import MisconfigurationException

WORDS = 10


def words() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(WORDS, (12, 3), generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(CLASSES, (12,), generator=generator)), batch_size=4)


class Checkpointed(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return checkpoint(super().forward, input, use_reentrant=True)  # type: ignore[no-any-return]


class Gate(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.hardsigmoid(super().forward(input))


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Once(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Once.apply(x)  # type: ignore[no-any-return]


class CompiledFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.function = torch.compile(lambda x: x.sin(), backend="aot_eager")

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class LikeCuDNN(nn.GRU):
    """Says what cuDNN says, which is on a GPU alone."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        output, _ = super().forward(x)
        output.register_hook(self.fails)
        return output.flatten(1)

    def fails(self, gradient: Tensor) -> None:
        raise RuntimeError("Double backwards is not supported for CuDNN RNNs due to limitations in the CuDNN API.")


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 8), nn.Flatten(), nn.Linear(24, 8), *layers, nn.Linear(8, CLASSES))


NETWORKS = {
    "EmbeddingBag": (nn.Sequential(nn.EmbeddingBag(WORDS, 8), nn.Linear(8, CLASSES)), "nn.Embedding and the mean"),
    "Hardsigmoid": (network(nn.Hardsigmoid()), r"F.relu6\(x \+ 3\) / 6"),
    "hardsigmoid, an operation of": (network(Gate(8, 8)), r"F.relu6\(x \+ 3\) / 6"),
    "Checkpointed": (network(Checkpointed(8, 8)), r"use_reentrant=False\)\.$"),
    "once_differentiable, an operation of": (network(Once()), "estimator='forward_difference'"),
    "torch.compile, an operation of": (network(CompiledFunction()), "estimator='forward_difference'"),
    "LikeCuDNN": (
        nn.Sequential(nn.Embedding(WORDS, 8), LikeCuDNN(8, 8, batch_first=True), nn.Linear(24, CLASSES)),
        r"cudnn.flags\(enabled=False\)",
    ),
}


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("layer", NETWORKS)
def test_a_layer_without_a_second_derivative_is_named_with_the_way_out(layer: str, ours: bool) -> None:
    net, instead = NETWORKS[layer]
    named = (
        rf"those of '[\w.]+' \({layer}\)" if "," not in layer else rf"those of {layer} {'Class' if ours else 'Plain'}"
    )
    sentence = rf"^GradientPenalty differentiates gradients, and torch cannot .* {named}.*; use .*{instead}"
    if ours:
        module = Classifier(net, regularizers=[GradientPenalty(0.1)], input_shape=(3,), num_classes=CLASSES)
    with pytest.raises(MisconfigurationException, match=sentence):
        fit(module, [], words()) if ours else fit(Plain(net), [GradientPenalty(0.1)], words())


@pytest.mark.parametrize("layer", ["EmbeddingBag", "Hardsigmoid", "once_differentiable, an operation of"])
def test_the_way_out_is_one(layer: str) -> None:
    method = GradientPenalty(0.1, "forward_difference")
    module = Classifier(NETWORKS[layer][0], regularizers=[method], input_shape=(3,), num_classes=CLASSES)
    before = [w.detach().clone() for w in module.parameters()]
    fit(module, [], words())
    assert not any(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_parameters_that_a_checkpoint_hides_are_told() -> None:
    class Hides(Plain):
        def forward(self, x: Tensor) -> Tensor:
            hidden = checkpoint(self.network[0], x.requires_grad_(), use_reentrant=True)
            return self.network[1](hidden)  # type: ignore[no-any-return]

    net = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, CLASSES))
    data = DataLoader(TensorDataset(torch.rand(4, 5), torch.arange(4) % CLASSES), batch_size=4)
    with pytest.raises(MisconfigurationException, match="use_reentrant=False"):
        fit(Hides(net), [GradientPenalty(0.1)], data)


def test_an_error_of_the_users_stays_what_it_is() -> None:
    class Frees(Plain):
        def backward(self, loss: Tensor, *args: Any, **options: Any) -> None:
            loss.backward()
            loss.backward()

    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        fit(Frees(network()), [GradientPenalty(0.1)], words())


def test_sparse_gradients_are_penalised_as_dense_ones_and_stay_sparse() -> None:
    ends, layouts = [], []

    class Words(Plain):
        def __init__(self, sparse: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            layers = nn.Embedding(WORDS, 8, sparse=sparse), nn.Flatten(), nn.Tanh(), nn.Linear(24, CLASSES)
            self.network = nn.Sequential(*layers).double()
            self.sparse = sparse

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.3)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            layouts.append(self.network[0].weight.grad.layout)

    for sparse in (False, True):
        model = Words(sparse)
        fit(model, [GradientPenalty(2.0)], words(), max_epochs=3)
        ends.append(list(model.network.parameters()))
    torch.testing.assert_close(*ends)
    assert set(layouts[-3:]) == {torch.sparse_coo}


@pytest.mark.parametrize("estimator", ["exact", "forward_difference", "central_difference"])
def test_sparse_gradients_in_the_classifier(estimator: Any) -> None:
    ends = []
    for sparse in (False, True):
        torch.manual_seed(0)
        layers = nn.Embedding(WORDS, 8, sparse=sparse), nn.Flatten(), nn.Tanh(), nn.Linear(24, CLASSES)
        method = GradientPenalty(2.0, estimator, step_size=1e-3)
        options: dict[str, Any] = {"input_shape": (3,), "num_classes": CLASSES}
        sgd = {"name": "SGD", "lr": 0.3}
        model = Classifier(nn.Sequential(*layers).double(), optimizer=sgd, regularizers=[method], **options)
        fit(model, [], words(), max_epochs=3)
        ends.append(list(model.parameters()))
    torch.testing.assert_close(*ends)
