"""Every way to take a step: SAM's two closures, manual optimization, raw and hidden optimizers, cleared gradients.

Each is compared with the same training written by hand in float64.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from foreign import CLASSES, Plain, fit, images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import GradientPenalty, MaxNorm, Mixup, NormPenalty, Regularizer, WeightMask
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.functional import gradient_penalty, max_norm
from lightning_regs.regularizers import NoEffectWarning
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment

LR, RHO, STRENGTH = 0.2, 0.05, 0.5
Methods = Callable[[], Regularizer]


class SAM(torch.optim.Optimizer):
    """Foret et al. 2021 (2010.01412): the gradient at the worst of a small ball; clears its gradients.

    Args:
        parameters: What to train.
        base: Whether a base optimizer takes the step, as in most implementations, else it does by itself.
    """

    def __init__(self, parameters: Any, base: bool) -> None:
        super().__init__(parameters, {"lr": LR})
        self.base = torch.optim.SGD(self.param_groups, lr=LR) if base else None

    def step(self, closure: Any) -> Any:  # type: ignore[override]
        loss = closure()
        trained = [w for group in self.param_groups for w in group["params"]]
        norm = torch.stack([w.grad.norm() for w in trained]).norm()
        before = [w.data.clone() for w in trained]
        for w in trained:
            w.data.add_(RHO * w.grad / norm)
        closure()
        for w, old in zip(trained, before, strict=True):
            w.data = old
        if self.base is None:
            for w in trained:
                w.data.sub_(LR * w.grad)
        else:
            self.base.step()
        self.zero_grad()
        return loss


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()


class Automatic(Plain):
    """Lightning steps an optimizer of any kind."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer]) -> None:
        super().__init__(network())
        self.make = make

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make(self.parameters())


class Manual(Plain):
    """Steps in one of the ways that manual optimization leaves open."""

    def __init__(self, how: str) -> None:
        super().__init__(network())
        self.how, self.automatic_optimization = how, False
        self.own = torch.optim.SGD(self.parameters(), lr=LR)

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        raw = self.own if self.how == "own" else optimizer.optimizer

        def closure() -> Tensor:
            raw.zero_grad()
            loss = self.loss(self(batch[0]), batch[1])
            self.manual_backward(loss)
            return loss

        if self.how == "raw closure":
            raw.step(closure)
            return
        closure()
        if self.how in ("raw", "own"):
            raw.step()
        elif self.how == "by hand":
            with torch.no_grad():
                for w in self.parameters():
                    w -= LR * w.grad
        else:
            optimizer.step()
        raw.zero_grad()

    def configure_optimizers(self) -> Any:
        return None if self.how == "own" else torch.optim.SGD(self.parameters(), lr=LR)


def data() -> DataLoader[Any]:
    x, y = images(12)
    return DataLoader(TensorDataset(x.double(), y), batch_size=4)


MODULES: dict[str, Callable[[], Plain]] = {
    "SGD": lambda: Automatic(lambda p: torch.optim.SGD(p, lr=LR)),
    "SAM of a base": lambda: Automatic(lambda p: SAM(p, base=True)),
    "SAM by itself": lambda: Automatic(lambda p: SAM(p, base=False)),
    **{how: lambda how=how: Manual(how) for how in ("lightning", "raw", "raw closure", "own")},  # type: ignore[misc]
}
METHODS: dict[str, Methods] = {
    "L2": lambda: NormPenalty(STRENGTH),
    "L1": lambda: NormPenalty(STRENGTH, p=1),
    "decoupled L2": lambda: NormPenalty(STRENGTH, decoupled=True),
    "decoupled L1": lambda: NormPenalty(0.05, p=1, decoupled=True),
    "max-norm": lambda: MaxNorm(0.5),
    "gradient penalty": lambda: GradientPenalty(STRENGTH),
}


def by_hand(method: str, sam: bool) -> Iterator[Tensor]:
    """Train in plain torch, and yield the parameters."""
    model = Plain(network())
    parameters = list(model.network.parameters())
    weights = [w for w in parameters if w.ndim > 1]

    def gradients(x: Tensor, y: Tensor) -> list[Tensor]:
        loss = model.loss(model(x), y)
        if method == "L2":
            loss = loss + STRENGTH / 2 * sum(w.square().sum() for w in weights)
        elif method == "L1":
            loss = loss + STRENGTH * sum(w.abs().sum() for w in weights)
        elif method == "gradient penalty":
            loss = loss + gradient_penalty(loss, parameters, STRENGTH)[0]
        return list(torch.autograd.grad(loss, parameters))

    for _ in range(2):
        for x, y in data():
            before = [w.detach().clone() for w in parameters]
            found = gradients(x, y)
            with torch.no_grad():
                if sam:
                    norm = torch.stack([g.norm() for g in found]).norm()
                    for w, g in zip(parameters, found, strict=True):
                        w += RHO * g / norm
                    with torch.enable_grad():
                        found = gradients(x, y)
                for w, old, g in zip(parameters, before, found, strict=True):
                    w.copy_(old - LR * g)
                    if w.ndim < 2:
                        continue
                    if method == "decoupled L2":
                        w -= LR * STRENGTH * old
                    elif method == "decoupled L1":
                        w.copy_(nn.functional.softshrink(w, LR * 0.05))
                    elif method == "max-norm":
                        w.copy_(max_norm(w, 0.5))
    yield from parameters


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("module", MODULES)
def test_each_way_is_the_training_by_hand(module: str, method: str) -> None:
    model = MODULES[module]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffectWarning)
        fit(model, [METHODS[method]()], data(), max_epochs=2)
    for ours, theirs in zip(model.parameters(), by_hand(method, module.startswith("SAM")), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("module", [*MODULES, "LBFGS"])
def test_each_way_leaves_pruned_weights_at_zero(module: str) -> None:
    newton = partial(Automatic, partial(torch.optim.LBFGS, max_iter=4, history_size=3))
    model, method = MODULES.get(module, newton)(), WeightMask(density=0.3)
    fit(model, [method], data(), max_epochs=2)
    assert method.mask is not None
    for name, kept in method.mask.items():
        assert torch.equal(model.get_parameter(name) != 0, kept)


class Noise(Regularizer, acts=Acts.GRADIENTS):
    """Adds one to each gradient."""

    def on_gradients(self, gradients: list[Tensor], at: Moment) -> None:
        for gradient in gradients:
            gradient += 1


@pytest.mark.parametrize("how", ["lightning", "raw", "raw closure", "own"])
def test_gradients_are_changed_once_where_each_is_computed(how: str) -> None:
    model, without = Manual(how), Manual(how)
    one = DataLoader(data().dataset, batch_size=12)
    fit(model, [Noise()], one)
    fit(without, [], one)
    for ours, theirs in zip(model.parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - LR)


def test_a_step_that_breaks_off_is_no_step_and_the_next_one_is() -> None:
    class Breaks(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            def closure() -> float:
                raise FloatingPointError

            with pytest.raises(FloatingPointError):
                self.optimizers().optimizer.step(closure)  # type: ignore[union-attr]
            super().training_step(batch, batch_idx)

    model = Breaks("raw")
    fit(model, [NormPenalty(STRENGTH, decoupled=True)], data(), max_epochs=2)
    for ours, theirs in zip(model.parameters(), by_hand("decoupled L2", sam=False), strict=True):
        torch.testing.assert_close(ours, theirs)


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


@pytest.mark.parametrize("method", [name for name in METHODS if name != "gradient penalty"])
def test_weights_that_no_optimizer_steps_are_told_once(method: str) -> None:
    (told,) = said(Manual("by hand"), METHODS[method](), max_epochs=2)
    assert "did nothing in a whole epoch: no optimizer stepped with a gradient" in told


def test_parameters_that_the_loss_does_not_depend_on_are_told() -> None:
    class Unused(Automatic):
        def __init__(self) -> None:
            super().__init__(lambda p: torch.optim.SGD(p, lr=LR))
            self.head = nn.Linear(3, 3).double()

    (told,) = said(Unused(), NormPenalty(parameters="head.*"), max_epochs=2)
    assert told.startswith("NormPenalty did nothing in a whole epoch")
    assert not said(Unused(), NormPenalty())


class GAN(Manual):
    """Gives Lightning one of its two losses, and calls backward() of the other."""

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

    (told,) = said(ByGrad("manual"), GradientPenalty(0.1), max_epochs=2)
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

    model = Twice("manual")
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
    class OneEntry(Automatic):
        def loss(self, logits: Tensor, y: Tensor) -> Tensor:
            return super().loss(logits, y).view(1)

    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=LR)

    ends = []
    for model in (OneEntry(make), Automatic(make)):
        fit(model, [GradientPenalty(STRENGTH)], data(), accumulate_grad_batches=accumulate)
        ends.append(list(model.parameters()))
    torch.testing.assert_close(*ends)


def test_losses_of_several_entries_are_refused() -> None:
    class Many(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.manual_backward(self(batch[0]).sum(1), gradient=torch.ones(4).double())

    with pytest.raises(MisconfigurationException, match=r"Many differentiates 4, of shape \(4,\); pass their mean"):
        fit(Many("manual"), [GradientPenalty(0.1)], data())


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_lightning_differentiates_plain_losses_again_afterwards(how: str) -> None:
    class Fails(Manual):
        def on_train_batch_end(self, *_: Any) -> None:
            if how == "fails":
                raise KeyError

    model = Fails("lightning")
    try:
        fit(model, [GradientPenalty(0.1)], data())
    except KeyError:
        assert how == "fails"
    assert "backward" not in vars(model.trainer.precision_plugin)
    assert not any(w._post_accumulate_grad_hooks for w in model.parameters())


# -- ways to write a module ------------------------------------------------------------------------------------------


class TakesItsBatches(Automatic):
    """Fetches its batches within the training step."""

    def __init__(self) -> None:
        super().__init__(lambda p: torch.optim.SGD(p, lr=LR))

    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        batch, batch_idx, _ = next(dataloader_iter)
        return super().training_step([part.to(self.device) for part in batch], batch_idx)


@pytest.mark.parametrize("method", METHODS)
def test_a_module_that_fetches_its_batches(method: str) -> None:
    model = TakesItsBatches()
    fit(model, [METHODS[method]()], data(), max_epochs=2)
    for ours, theirs in zip(model.parameters(), by_hand(method, sam=False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_batches_that_no_hook_sees_are_refused() -> None:
    with pytest.raises(
        MisconfigurationException,
        match=r"^Mixup .* TakesItsBatches.training_step\(self, dataloader_iter\) .*; use training_step\(self, batch, b",
    ):
        fit(TakesItsBatches(), [Mixup()], data())


@pytest.mark.parametrize("hook", ["setup", "configure_model", "on_fit_start", "on_train_start", "on_train_epoch_start"])
def test_a_module_that_compiles_itself_is_refused(hook: str) -> None:
    model = Automatic(lambda p: torch.optim.SGD(p, lr=LR))
    setattr(model, hook, lambda *_, **__: model.network[1].compile(backend="eager"))
    with pytest.raises(MisconfigurationException, match=r"'network\.1' is compiled; leave it eager"):
        fit(model, [GradientPenalty(0.1)], data())


def test_only_what_is_trained_is_penalised() -> None:
    """A network that wants gradients, and whose parameters no optimizer has, is none of the model's."""

    class Distils(Automatic):
        def __init__(self) -> None:
            super().__init__(lambda _: torch.optim.SGD(self.network.parameters(), lr=LR))
            self.teacher = network()

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

    model, probe = Automatic(lambda parameters: torch.optim.SGD(parameters, lr=LR)), Probe()
    start = copy.deepcopy(model.network.state_dict())
    fit(model, [Zero(), probe], data(), limit_train_batches=1)
    assert all(torch.equal(w, start[name]) for name, w in model.network.state_dict().items())
    assert all(not torch.equal(w, start[name]) for name, w in probe.net.state_dict().items())
