"""Every way to take a step: SAM's two closures, manual optimization, raw and hidden optimizers, cleared gradients.

Each is compared with the same training written by hand in float64.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from foreign import CLASSES, Plain, fit, images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import GradientPenalty, NormPenalty, Regularizer, WeightMask
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.functional import gradient_penalty
from lightning_regs.regularizers import NoEffectWarning
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.testing.table import outcome
from lightning_regs.testing.variants import Variant, variants

LR, STRENGTH = 0.2, 0.5
WAYS = (
    "an ordinary step",
    "a closure called twice",
    "a closure called twice, by an optimizer without a base",
    "loss.backward()",
    "the optimizer's own step",
    "the optimizer's own step, with a closure",
    "the step of an optimizer that Lightning does not know",
    "batches fetched in the step",
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()


class Manual(Plain):
    """Steps past Lightning."""

    def __init__(self) -> None:
        super().__init__(network(), LR)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        self.manual_backward(self.loss(self(batch[0]), batch[1]))
        optimizer.optimizer.step()
        self.zero_grad()


def data() -> DataLoader[Any]:
    x, y = images(12)
    return DataLoader(TensorDataset(x.double(), y), batch_size=4)


@pytest.mark.parametrize("variant", variants(NormPenalty), ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_training_by_hand(way: str, variant: Variant) -> None:
    assert outcome(way, variant).outcome == "W"


def test_a_step_that_breaks_off_is_no_step_and_the_next_one_is() -> None:
    class Breaks(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            def closure() -> float:
                raise FloatingPointError

            with pytest.raises(FloatingPointError):
                self.optimizers().optimizer.step(closure)  # type: ignore[union-attr]
            super().training_step(batch, batch_idx)

    ends = []
    for model in (Breaks(), Manual()):
        fit(model, [NormPenalty(STRENGTH, decoupled=True)], data(), max_epochs=2)
        ends.append(list(model.parameters()))
    torch.testing.assert_close(*ends)


def test_two_optimizers_of_as_many_parameters_have_a_mask_each() -> None:
    class Two(Plain):
        """Both add to all weights, whatever the gradient."""

        def __init__(self) -> None:
            super().__init__(network())
            self.other, self.automatic_optimization = network(), False

        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            for optimizer, net in zip(self.optimizers(), (self.network, self.other), strict=True):  # type: ignore[arg-type]
                self.manual_backward(self.loss(net(batch[0]), batch[1]))
                optimizer.step()
                optimizer.zero_grad()

        def configure_optimizers(self) -> Any:
            return [Adds(net.parameters(), lr=LR) for net in (self.network, self.other)]

    class Adds(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            if closure is not None:
                closure()
            for w in self.param_groups[0]["params"]:
                w.data.add_(1.0)

    model, method = Two(), WeightMask(density=0.3)
    fit(model, [method], data())
    assert method.mask is not None
    for name, kept in method.mask.items():
        assert (model.get_parameter(name)[~kept] == 0).all(), name


# -- what did nothing says so ----------------------------------------------------------------------------------------


def said(model: pl.LightningModule, *methods: Regularizer, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, methods, data(), **options)
    return [str(w.message) for w in caught if issubclass(w.category, NoEffectWarning)]


def test_parameters_that_the_loss_does_not_depend_on_are_told() -> None:
    class Unused(Plain):
        def __init__(self) -> None:
            super().__init__(network(), LR)
            self.head = nn.Linear(3, 3).double()

    (told,) = said(Unused(), NormPenalty(parameters="head.*"), max_epochs=2)
    assert told.startswith("NormPenalty did nothing in a whole epoch")
    assert not said(Unused(), NormPenalty())


class GAN(Manual):
    """Gives Lightning one of its two losses, and calls backward() of the other."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        for past in (self.how == "backward", self.how != "manual"):
            loss = self.loss(self(batch[0]), batch[1])
            loss.backward() if past else self.manual_backward(loss)
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize(("how", "number"), [("manual", 0), ("both", 1), ("backward", 1)])
def test_backward_passes_that_lightning_does_not_make_are_told_once(how: str, number: int) -> None:
    told = said(GAN(how), GradientPenalty(0.1), max_epochs=3)
    expected = "GradientPenalty is not in the gradients of GAN.training_step that come from loss.backward(); use self."
    assert [line[: len(expected)] for line in told] == [expected] * number


def test_a_penalty_without_any_backward_pass_is_told() -> None:
    class ByGrad(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            torch.autograd.grad(self.loss(self(batch[0]), batch[1]), list(self.parameters()))

    (told,) = said(ByGrad(), GradientPenalty(0.1), max_epochs=2)
    assert "Lightning made no backward pass" in told


# -- what is the user's stays as it is -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_in_manual_optimization_is_not_written_to(shape: tuple[int, ...]) -> None:
    gradients: list[list[Tensor]] = []

    class Twice(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            # The result of an operation that needs it unchanged.
            loss = self.loss(self(batch[0]), batch[1]).sqrt().view(shape)
            value = loss.detach().clone()
            for retain in (True, False):
                self.zero_grad()
                self.manual_backward(loss, retain_graph=retain)
                gradients.append([w.grad.cpu().clone() for w in self.parameters() if w.grad is not None])
            assert torch.equal(loss, value)

    model = Twice()
    reference = copy.deepcopy(model)
    trainer = fit(model, [GradientPenalty(STRENGTH)], data(), limit_train_batches=1)
    x, y = next(iter(data()))
    parameters = list(reference.network.parameters())
    loss = reference.loss(reference(x), y).sqrt()
    penalty, norm = gradient_penalty(loss, parameters, STRENGTH)
    expected = torch.autograd.grad(loss + penalty, parameters)
    for found in gradients:
        torch.testing.assert_close(found, list(expected))
    assert float(trainer.callback_metrics["train/gradient_norm"]) == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_losses_of_one_entry_are_penalised_in_automatic_optimization(accumulate: int) -> None:
    class OneEntry(Plain):
        def loss(self, logits: Tensor, y: Tensor) -> Tensor:
            return super().loss(logits, y).view(1)

    ends = []
    for model in (OneEntry(network()), Plain(network())):
        fit(model, [GradientPenalty(STRENGTH)], data(), accumulate_grad_batches=accumulate)
        ends.append(list(model.parameters()))
    torch.testing.assert_close(*ends)


def test_losses_of_several_entries_are_refused() -> None:
    class Many(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.manual_backward(self(batch[0]).sum(1), gradient=torch.ones(4).double())

    with pytest.raises(MisconfigurationException, match=r"Many differentiates 4, of shape \(4,\); pass their mean"):
        fit(Many(), [GradientPenalty(0.1)], data())


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_lightning_differentiates_plain_losses_again_afterwards(how: str) -> None:
    class Fails(Manual):
        def on_train_batch_end(self, *_: Any) -> None:
            if how == "fails":
                raise KeyError

    model = Fails()
    try:
        fit(model, [GradientPenalty(0.1)], data())
    except KeyError:
        assert how == "fails"
    assert "backward" not in vars(model.trainer.precision_plugin)
    assert not any(w._post_accumulate_grad_hooks for w in model.parameters())


# -- ways to write a module ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["setup", "configure_model", "on_fit_start", "on_train_start", "on_train_epoch_start"])
def test_a_module_that_compiles_itself_is_refused(hook: str) -> None:
    model = Plain(network())
    setattr(model, hook, lambda *_, **__: model.network[1].compile(backend="eager"))
    with pytest.raises(MisconfigurationException, match=r"'network\.1' is compiled; leave it eager"):
        fit(model, [GradientPenalty(0.1)], data())


def test_only_what_is_trained_is_penalised() -> None:
    """A network that wants gradients, and whose parameters no optimizer has, is none of the model's."""

    class Distils(Plain):
        def __init__(self) -> None:
            super().__init__(network())
            self.teacher = network()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.network.parameters(), lr=LR)

        def loss(self, logits: Tensor, y: Tensor) -> Tensor:
            return super().loss(logits + self.teacher(self.batches[-1][0].to(logits.device)), y)

    model = Distils()
    reference = copy.deepcopy(model)
    fit(model, [GradientPenalty(STRENGTH)], data(), limit_train_batches=1)
    x, y = next(iter(data()))
    parameters = list(reference.network.parameters())
    loss = nn.functional.cross_entropy(reference(x) + reference.teacher(x), y)
    total = loss + gradient_penalty(loss, parameters, STRENGTH)[0]
    for w, g, ours in zip(parameters, torch.autograd.grad(total, parameters), model.network.parameters(), strict=True):
        torch.testing.assert_close(ours, w - LR * g)


def test_gradients_of_another_net_that_a_callback_trains_are_left_alone() -> None:
    class Zero(Regularizer, acts=Acts.GRADIENTS):
        def on_gradients(self, gradients: list[Tensor], at: Moment) -> None:
            for gradient in gradients:
                gradient.zero_()

    class Probe(pl.Callback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.net = network()
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=LR)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            with torch.enable_grad():
                self.net(batch[0]).square().sum().backward()
            self.optimizer.step()

    model, probe = Plain(network(), LR), Probe()
    start = copy.deepcopy(model.network.state_dict())
    fit(model, [Zero(), probe], data(), limit_train_batches=1)
    assert all(torch.equal(w, start[name]) for name, w in model.network.state_dict().items())
    assert all(not torch.equal(w, start[name]) for name, w in probe.net.state_dict().items())
