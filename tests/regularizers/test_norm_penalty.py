"""Norm penalties against torch's own weight decay, closed forms and autograd."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from foreign import Plain, fit, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import NormPenalty
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.functional import norm_penalty
from lightning_regs.regularizers import NoEffectWarning
from lightning_regs.regularizers.parts.selection import select
from lightning_regs.testing.runs import half


class Optimized(Plain):
    """Trains with the optimizer that a function of its parameters returns."""

    def __init__(self, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], network: Any = None) -> None:
        super().__init__(network)
        self.make = make

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make(list(self.parameters()))


def end(make: Callable[[Any], torch.optim.Optimizer], methods: list[Any], **options: Any) -> list[Tensor]:
    model = Optimized(make)
    fit(model, methods, max_epochs=3, **options)
    return [w.detach() for w in model.parameters()]


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def sgd(decay: float = 0.0, **options: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=decay, **options)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_values_are_the_formulas(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (4,), (1, 2, 2))]
    parameters[0][0, 0] = 0.0
    every = torch.cat([w.flatten() for w in parameters])
    torch.testing.assert_close(norm_penalty(parameters, 1), every.abs().sum())
    torch.testing.assert_close(norm_penalty(parameters, 2), every.dot(every) / 2)
    for w in parameters:
        w.requires_grad_()
    assert torch.autograd.gradcheck(lambda *ws: norm_penalty(ws, 2), parameters)


def test_l2_equals_the_weight_decay_of_sgd_bit_for_bit() -> None:
    theirs = end(sgd(0.05), [])
    assert equal(end(sgd(), [NormPenalty(0.05, parameters="all")]), theirs)
    assert not equal(end(sgd(), []), theirs)


def test_l2_of_weights_equals_a_group_without_biases() -> None:
    def groups(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        weights, biases = [w for w in parameters if w.ndim > 1], [w for w in parameters if w.ndim < 2]
        return torch.optim.SGD([{"params": weights, "weight_decay": 0.05}, {"params": biases}], lr=0.1, momentum=0.9)

    assert equal(end(sgd(), [NormPenalty(0.05)]), end(groups, []))


def test_decoupled_l2_equals_adamw() -> None:
    theirs = end(lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.3), [])
    adam: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.Adam(parameters, lr=0.01)  # noqa: E731
    assert equal(end(adam, [NormPenalty(0.3, decoupled=True, parameters="all")]), theirs)
    assert not equal(end(adam, [NormPenalty(0.3, parameters="all")]), theirs)
    tensor = end(lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(0.01)), [])
    decayed = end(
        lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(0.01)),
        [NormPenalty(0.3, decoupled=True, parameters="all")],
    )
    assert not equal(tensor, decayed)
    for a, b in zip(decayed, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_decoupled_follows_the_learning_rate_of_each_group_at_each_step() -> None:
    class Scheduled(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return 0 * super().training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            weights = [w for w in self.parameters() if w.ndim > 1]
            optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 0.4}, {"params": weights[1:]}], lr=0.2)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    model = Scheduled()
    start = {name: w.detach().clone() for name, w in model.named_parameters()}
    fit(model, [NormPenalty(0.5, decoupled=True)])  # two steps
    for name, lr in (("network.1", 0.4), ("network.3", 0.2)):
        factor = (1 - lr * 0.5) * (1 - lr / 2 * 0.5)
        torch.testing.assert_close(model.get_parameter(f"{name}.weight"), factor * start[f"{name}.weight"])
        assert torch.equal(model.get_parameter(f"{name}.bias"), start[f"{name}.bias"])


def test_optimizers_are_left_without_hooks() -> None:
    class Breaks(Plain):
        def on_train_batch_end(self, *_: Any) -> None:
            raise KeyError

    method = NormPenalty(0.05, p=1, decoupled=True)
    hooks = optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks
    before = [dict(each) for each in hooks]
    fit(Plain(), [method])
    assert [dict(each) for each in hooks] == before
    with pytest.raises(KeyError):
        fit(Breaks(), [method])
    assert [dict(each) for each in hooks] == before


def test_two_of_different_p_are_the_elastic_net() -> None:
    l1, l2 = 0.02, 0.05

    class ElasticNet(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            weights = [w for w in self.parameters() if w.ndim > 1]
            penalty = sum(l1 * w.abs().sum() + l2 / 2 * w.square().sum() for w in weights)
            return super().training_step(batch, batch_idx) + penalty

    ours, theirs = Plain(), ElasticNet()
    fit(ours, [NormPenalty(l1, p=1), NormPenalty(l2)], max_epochs=3)
    fit(theirs, [], max_epochs=3)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


class Overflows(Plain):
    """Has a gradient that is not finite in its first step; in the others its gradient is zero."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (float("inf") if batch_idx == 0 else 0.0)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_does_not_decay(p: int, fused: bool) -> None:
    class Model(Overflows):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1, fused=fused)

    class Weights(pl.Callback):
        def __init__(self) -> None:
            self.after: list[Tensor] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.after.append(pl_module.network[1].weight.detach().clone().cpu())

    model, weights = Model(), Weights()
    start = model.network[1].weight.detach().clone()
    fit(model, [NormPenalty(0.2, p=p, decoupled=True), weights], plugins=[half(2.0**10)])
    assert torch.equal(weights.after[0], start)
    expected = start * (1 - 0.02) if p == 2 else torch.nn.functional.softshrink(start, 0.02)
    torch.testing.assert_close(weights.after[1], expected)


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_scaler_it_equals_the_weight_decay_of_sgd(fused: bool) -> None:
    ours = end(sgd(fused=fused), [NormPenalty(0.05, parameters="all")], plugins=[half(2.0**10)])
    theirs = end(sgd(0.05, fused=fused), [], plugins=[half(2.0**10)])
    without = end(sgd(fused=fused), [], plugins=[half(2.0**10)])
    for a, b, c in zip(ours, theirs, without, strict=True):
        torch.testing.assert_close(a, b)
        assert not torch.allclose(a, c)


# -- selection -------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.layer_norm = nn.LayerNorm((4, 2, 2))  # its scale has three dimensions
        self.head = nn.Linear(16, 5, bias=False)
        self.tied = nn.Linear(16, 5)
        self.tied.weight = self.head.weight


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (None, ["conv.weight", "head.weight"]),
        ("conv.*", ["conv.weight", "conv.bias"]),
        ("tied.weight", ["tied.weight"]),
        (["*norm.weight", "*.bias"], ["conv.bias", "norm.weight", "norm.bias", "layer_norm.weight", "layer_norm.bias"]),
        (lambda name, w: "norm" in name and w.ndim == 3, ["layer_norm.weight", "layer_norm.bias"]),
    ],
    ids=["default", "glob", "tied", "globs", "function"],
)
def test_selections(parameters: Any, names: list[str]) -> None:
    found = [name for name, _ in select(Tied(), parameters)]
    assert found[: len(names)] == names
    assert set(found) - set(names) <= {"tied.bias"}


def test_all_takes_each_parameter_once_and_compiled_names_are_the_written_ones() -> None:
    module = Tied()
    assert {id(w) for _, w in select(module, "all")} == {id(w) for w in module.parameters()}
    assert len(select(module, "all")) == len(list(module.parameters()))
    module.conv = torch.compile(module.conv, backend="eager")  # type: ignore[assignment]
    assert [name for name, _ in select(module, "conv.weight")] == ["conv.weight"]


def test_a_glob_that_matches_nothing_names_near_ones() -> None:
    with pytest.raises(MisconfigurationException, match=r"'netwrk.1.weight' matches none of the 4 .* network.1.weight"):
        fit(Plain(), [NormPenalty(parameters="netwrk.1.weight")])


def test_frozen_parameters_stay_as_they_are() -> None:
    model = Plain()
    model.network[1].weight.requires_grad_(False)
    before = copy.deepcopy(model.network)
    fit(model, [NormPenalty(0.5, decoupled=True)])
    assert torch.equal(model.network[1].weight, before[1].weight)
    assert not torch.equal(model.network[3].weight, before[3].weight)


def test_a_module_without_weights_is_named_once() -> None:
    class OnlyScale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(108))

        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1) * self.scale).unflatten(1, (4, 27)).sum(2)

    method = NormPenalty()
    with pytest.warns(NoEffectWarning, match=r"NormPenalty found no parameter to act on in Plain: .* two dimensions"):
        fit(Plain(OnlyScale()), [method])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffectWarning)
        fit(Plain(OnlyScale()), [method])
        fit(Plain(OnlyScale()), [NormPenalty(parameters="*scale")])


def test_two_of_the_same_p_on_the_same_parameters_are_refused() -> None:
    first = "both penalise the L2 norm of the same parameters"
    with pytest.raises(MisconfigurationException, match=first):
        fit(Plain(), [NormPenalty(0.1), NormPenalty(0.2)])
    with pytest.raises(MisconfigurationException, match=first):
        fit(Plain(), [NormPenalty(0.1, decoupled=True), NormPenalty(0.2, parameters="all")])
    with pytest.raises(MisconfigurationException, match=r"act on 'network.1.weight'; let their `parameters` not"):
        fit(Plain(), [NormPenalty(0.1), NormPenalty(0.2, parameters="network.1.*")])
    fit(Plain(), [NormPenalty(0.1, parameters="*.weight"), NormPenalty(0.2, parameters="*.bias")])


def test_sparse_gradients_are_named_where_they_cannot_be_added_to() -> None:
    def model() -> Plain:
        class Words(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words = nn.Embedding(9, 4, sparse=True)

            def forward(self, x: Tensor) -> Tensor:
                return self.words(x).sum(1)

        return Plain(Words())

    data = DataLoader(TensorDataset(torch.randint(9, (4, 3)), images(4)[1]), batch_size=4)
    with pytest.raises(
        MisconfigurationException, match=r"sparse gradient of 'network.words.weight'; .* decoupled=True"
    ):
        fit(model(), [NormPenalty()], data)
    fit(model(), [NormPenalty(decoupled=True)], data)


def test_a_decay_beyond_zero_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"coefficient=11, decoupled=True\) at the learning rate 0.1"):
        fit(Plain(), [NormPenalty(11, decoupled=True)])


def test_no_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        norm_penalty([])
    with pytest.raises(ValueError, match="selects nothing"):
        NormPenalty(parameters=[])


@pytest.mark.parametrize("options", [{}, {"decoupled": True}])
def test_lbfgs_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationException, match=r"functional\.norm_penalty"):
        fit(Optimized(lambda w: torch.optim.LBFGS(w, lr=0.1)), [NormPenalty(**options)])


def test_parameters_of_a_training_are_forgotten() -> None:
    method = NormPenalty()
    fit(Plain(), [method])
    assert not method._selected
