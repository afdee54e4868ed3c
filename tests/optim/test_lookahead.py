"""Lookahead and Ranger against their formulas, and evaluated in Lightning at the slow weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.optim import Lookahead, Ranger, SlowWeights, make_optimizer

SGD = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
ADAM = {"name": "Adam", "lr": 0.05}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def loss_of(network: nn.Module, step: int) -> Tensor:
    x = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3) * (step % 3 + 1)
    loss: Tensor = (network(x) - x.sum(1, keepdim=True)).square().mean()
    return loss


def descend(network: nn.Module, optimizer: Any, steps: range, closure: bool = False) -> list[Tensor]:
    for step in steps:
        optimizer.zero_grad()
        if closure:
            optimizer.step(lambda step=step: loss_of(network, step).backward())
        else:
            loss_of(network, step).backward()
            optimizer.step()
    return [p.detach().clone() for p in network.parameters()]


def by_hand(
    base: dict[str, Any], steps: int, k: int, alpha: float, centralized: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Algorithm 1 of the paper, fast and slow weights; of Ranger, the gradients of each output have a mean of 0."""
    network = net()
    optimizer = make_optimizer(network.parameters(), base)

    def centralize(*_: Any) -> None:
        for g in (p.grad for p in network.parameters() if p.grad is not None and p.grad.ndim > 1):
            g -= g.mean(1, keepdim=True)

    if centralized:
        optimizer.register_step_pre_hook(centralize)
    slow = [p.detach().clone() for p in network.parameters()]
    for step in range(steps):
        descend(network, optimizer, range(step, step + 1))
        if (step + 1) % k == 0:
            slow = [s + alpha * (p.detach() - s) for s, p in zip(slow, network.parameters(), strict=True)]
            for s, p in zip(slow, network.parameters(), strict=True):
                p.data.copy_(s)
    return [p.detach() for p in network.parameters()], slow


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(("steps", "closure"), [(3, False), (5, True), (13, False)])
@pytest.mark.parametrize("base", [SGD, ADAM])
def test_the_weights_are_those_of_algorithm_1(base: dict[str, Any], steps: int, closure: bool) -> None:
    network = net()
    optimizer = Lookahead(network.parameters(), base, k=5, alpha=0.3)
    fast, slow = by_hand(base, steps, 5, 0.3)
    assert close(descend(network, optimizer, range(steps), closure), fast)
    optimizer.eval()
    assert close([p.detach() for p in network.parameters()], slow)
    optimizer.train()
    assert close([p.detach() for p in network.parameters()], fast)


@pytest.mark.parametrize(
    ("options", "alone"),
    [
        ({"base": SGD, "alpha": 1}, SGD),
        ({"base": {"name": "SGD", "lr": 0.1}, "k": 1}, {"name": "SGD", "lr": 0.05}),
    ],
)
def test_alpha_1_is_the_base_and_k_1_half_of_each_step(options: dict[str, Any], alone: dict[str, Any]) -> None:
    network, other = net(), net()
    found = descend(network, Lookahead(network.parameters(), **options), range(7))
    assert close(found, descend(other, make_optimizer(other.parameters(), alone), range(7)))


def saved_and_loaded(network: nn.Module, optimizer: Lookahead) -> tuple[nn.Module, Lookahead]:
    other = net()
    other.load_state_dict(network.state_dict())
    again = Lookahead(other.parameters(), ADAM, k=5, alpha=0.3)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other, again


def copied(network: nn.Module, optimizer: Lookahead) -> tuple[nn.Module, Lookahead]:
    return copy.deepcopy((network, optimizer))


def pickled(network: nn.Module, optimizer: Lookahead) -> tuple[nn.Module, Lookahead]:
    found: tuple[nn.Module, Lookahead] = pickle.loads(pickle.dumps((network, optimizer)))
    return found


@pytest.mark.parametrize("passed_on", [saved_and_loaded, copied, pickled])
@pytest.mark.parametrize("evaluating", [False, True])
def test_it_goes_on_where_it_was(passed_on: Callable[..., Any], evaluating: bool) -> None:
    network = net()
    optimizer = Lookahead(network.parameters(), ADAM, k=5, alpha=0.3)
    descend(network, optimizer, range(7))
    if evaluating:
        optimizer.eval()
    other, again = passed_on(network, optimizer)
    for each in (optimizer, again):
        each.train()
    expected = descend(network, optimizer, range(7, 16))
    assert all(map(torch.equal, descend(other, again, range(7, 16)), expected))


def test_schedules_groups_and_late_gradients() -> None:
    network = net()
    first, last = network[0], network[2]  # type: ignore[index]
    optimizer = Lookahead([{"params": first.parameters(), "lr": 0.2}], ADAM, k=2)
    optimizer.add_param_group({"params": list(last.parameters())})
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for p in last.parameters():
        p.requires_grad_(False)
    before = last.weight.clone()
    descend(network, optimizer, range(3))
    assert torch.equal(last.weight, before)
    for p in last.parameters():
        p.requires_grad_(True)
    descend(network, optimizer, range(3))
    assert not torch.equal(last.weight, before)
    schedule.step()
    assert [group["lr"] for group in optimizer.base.param_groups] == [0.1, 0.025]


@pytest.mark.parametrize("passed_on", [None, copied])
def test_ranger_is_that_of_its_repository(passed_on: Callable[..., Any] | None) -> None:
    network: nn.Module = net()
    optimizer: Any = Ranger(network.parameters(), lr=0.1, weight_decay=0.01)
    if passed_on:
        network, optimizer = passed_on(network, optimizer)
    radam = {"name": "RAdam", "lr": 0.1, "betas": (0.95, 0.999), "eps": 1e-5, "weight_decay": 0.01}
    fast, _ = by_hand(radam | {"decoupled_weight_decay": True}, 20, k=6, alpha=0.5, centralized=True)
    assert close(descend(network, optimizer, range(20)), fast)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": {"name": "LBFGS"}}, "Lookahead cannot step LBFGS.*such as SGD or Adam"),
        ({"base": {"name": "Lookahead", "base": SGD}}, "cannot step Lookahead"),
        ({"base": SGD, "pullback": True}, "pullback.*It takes: base, k, alpha"),
        ({}, "base"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make_optimizer([nn.Parameter(torch.zeros(2))], {"name": "Lookahead", **options})


@pytest.mark.parametrize(
    ("saved", "of"),
    [
        (SGD, "an optimizer that is no Lookahead"),
        ({"name": "Lookahead", "base": ADAM}, "Lookahead around Adam"),
        ({"name": "Lookahead", "base": ADAM | {"name": "AdamW"}}, "Lookahead around AdamW"),  # with Adam's own names
        ({"name": "Ranger"}, "Ranger around RAdam"),
    ],
)
@pytest.mark.parametrize("base", [SGD, {"name": "RAdam"}, {"name": "SGD", "lr": [0.1, 0.2]}], ids=str)
def test_the_state_of_another_optimizer_is_refused(saved: dict[str, Any], of: str, base: dict[str, Any]) -> None:
    weights, own = [nn.Parameter(torch.ones(2))], f"Lookahead around {base['name']}"
    state = make_optimizer(weights, saved).state_dict()
    with pytest.raises(ValueError, match=f"is one of {of}, and this is {own}; go on with the optimizer"):
        Lookahead(weights, base).load_state_dict(state)


def test_a_state_that_does_not_say_whose_it_is_is_taken() -> None:
    optimizer = Lookahead([nn.Parameter(torch.ones(2))], SGD, k=7)
    optimizer.load_state_dict({name: part for name, part in optimizer.state_dict().items() if name != "optimizer"})
    assert optimizer.param_groups[0]["k"] == 7


def test_a_step_at_the_slow_weights_is_refused() -> None:
    network = net()
    optimizer = Lookahead(network.parameters(), SGD)
    descend(network, optimizer, range(2))
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"call its train\(\) before the gradient"):
        descend(network, optimizer, range(1))


# -- in Lightning ------------------------------------------------------------------------------------------------------


class Foreign(pl.LightningModule):
    """A module that knows nothing of ours."""

    def __init__(self, optimizer: Callable[[Any], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.make = optimizer
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = (self.layer(batch[0]) - batch[0].sum(1, keepdim=True)).square().mean()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(self.layer.weight.detach().cpu().clone())

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


def data() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.linspace(-1, 1, 42).view(14, 3)), batch_size=2)


def fit(folder: Path, callbacks: list[Any], make: Any, validate: bool = True, ckpt: Any = None, **options: Any) -> Any:
    torch.manual_seed(1)
    module = Foreign(make)
    options = {"max_epochs": 2, "enable_checkpointing": False} | options
    trainer = pl.Trainer(default_root_dir=folder, callbacks=callbacks, **options)
    trainer.fit(module, data(), data() if validate else None, ckpt_path=ckpt)
    return trainer, module


def sgd(parameters: Any) -> Lookahead:
    return Lookahead(parameters, SGD, k=3, alpha=0.25)


@pytest.mark.filterwarnings("ignore")
def test_validation_is_at_the_slow_weights_and_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    trainer, module = fit(tmp_path, [SlowWeights()], sgd)  # 7 batches an epoch
    _, plain = fit(tmp_path, [], sgd, validate=False)
    optimizer = trainer.optimizers[0]
    assert torch.equal(module.seen[-1], module.layer.weight)  # of 14 steps the slow weights made 12
    assert optimizer.evaluating
    optimizer.train()
    assert torch.equal(module.layer.weight, plain.layer.weight)
    assert not torch.equal(module.seen[-1], module.layer.weight)
    optimizer.eval()
    trainer.test(module, data(), verbose=False)
    assert torch.equal(module.seen[-1], module.layer.weight)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed", "accumulate_grad_batches": 2}])
def test_a_checkpoint_has_the_slow_weights_and_resumes_exactly(tmp_path: Path, options: dict[str, Any]) -> None:
    saves = pl.callbacks.ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1)
    options = options | {"enable_checkpointing": True}
    _, whole = fit(tmp_path, [SlowWeights(), saves], sgd, **options)
    (path,) = tmp_path.glob("epoch=0*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    states = checkpoint["optimizer_states"][0]["state"]
    assert all("fast" in own and "slow" not in own for own in states.values())
    assert not torch.equal(checkpoint["state_dict"]["layer.weight"], states[0]["fast"])
    _, resumed = fit(tmp_path, [SlowWeights()], sgd, ckpt=path, **options)
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    with pytest.raises(RuntimeError, match=r"give the Trainer the callback SlowWeights\(\)"):
        fit(tmp_path, [], sgd, ckpt=path, **options)


@pytest.mark.filterwarnings("ignore")
def test_the_callback_without_lookahead_is_refused_and_weights_alone_are_warned_of(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="no optimizer is one; leave the callback out"):
        fit(tmp_path, [SlowWeights()], lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    saves = pl.callbacks.ModelCheckpoint(tmp_path, save_weights_only=True)
    with pytest.warns(UserWarning, match="writes the fast weights of Lookahead"):
        fit(tmp_path, [SlowWeights(), saves], sgd, enable_checkpointing=True)


@pytest.mark.filterwarnings("ignore")
def test_the_classifier_evaluates_at_the_slow_weights_by_itself(tmp_path: Path) -> None:
    optimizer = {"name": "lookahead", "base": SGD, "k": 1000}  # whose slow weights never move
    module = Classifier("mlp", {"hidden": [8]}, optimizer, {"warmup": 3}, seed=0)
    trainer: Any = pl.Trainer(max_epochs=3, enable_checkpointing=False, default_root_dir=tmp_path)
    trainer.fit(module, datamodule=ImageDataModule("digits", val_split=0.2, seed=0))
    untrained = Classifier("mlp", {"hidden": [8]}, seed=0, input_shape=module.input_shape, num_classes=10)
    assert all(map(torch.equal, module.network.parameters(), untrained.network.parameters()))  # type: ignore[union-attr]
    assert module.results["val"]["acc"] < 50 < module.results["train"]["acc"]
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, datamodule=trainer.datamodule)
    assert sum(isinstance(callback, SlowWeights) for callback in trainer.callbacks) == 1


def test_an_optimizer_in_the_place_of_parameters_is_told_what_to_write() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    for given in ((torch.optim.SGD(weights, lr=0.1),), (weights,)):
        with pytest.raises(ValueError, match=r"Lookahead\(net\.parameters\(\), base=\{.*got (SGD|list)\."):
            Lookahead(*given)
