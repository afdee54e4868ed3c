"""A small module that writes down what it sees, and the same training as a plain loop."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.tickets import Tickets, find_ticket

State = dict[str, Any]
Optimizer = Callable[[Any], torch.optim.Optimizer]
WEIGHTS = ("net.0.weight", "net.3.weight", "net.6.weight")


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


class LitNet(pl.LightningModule):
    """Two hidden layers with batch norm; draws its weights from its seed."""

    def __init__(self, seed: int = 0, optimizer: Optimizer = sgd, dropout: float = 0.0, halve_every: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            *(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU()),
            *(nn.Linear(16, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 4)),
        )
        self.optimizer = optimizer
        self.halve_every = halve_every
        self.seen: list[tuple[int, int, float, float]] = []
        self.states: list[dict[str, Tensor]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch_idx, float(batch[0].sum()), float(torch.rand(()))))
        self.states.append(copy.deepcopy(dict(self.state_dict())))
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.halve_every, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 8, generator=generator)
    return TensorDataset(x, x[:, :4].argmax(1))


def by_epoch() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Loaders whose order is torch's own function of the epoch."""
    data = dataset()
    return DataLoader(data, batch_size=16, sampler=DistributedSampler(data, 1, 0, seed=3)), DataLoader(data, 32)


def shuffled() -> tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]:
    """Loaders that shuffle with the global stream."""
    data = dataset()
    return DataLoader(data, batch_size=10, shuffle=True), DataLoader(data, 32), DataLoader(data, 64)


class Made:
    """A factory that keeps what it made; the first is made to be looked at."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.modules: list[LitNet] = []

    def __call__(self, seed: int = 0) -> LitNet:
        self.modules.append(LitNet(seed, **self.options))
        return self.modules[-1]

    @property
    def trained(self) -> list[LitNet]:
        return [module for module in self.modules if module.states]


class Killed(Exception):
    pass


class Kill(pl.Callback):
    """Ends the program at one iteration of one level."""

    at: tuple[str, int] | None = None
    hook = "on_train_batch_start"
    signal = False

    def __init__(self, level: str) -> None:
        self.level = level

    def end(self, trainer: pl.Trainer, hook: str) -> None:
        if (self.level, trainer.global_step) == self.at and hook == self.hook:
            if self.signal:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.end(trainer, "on_train_batch_start")

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.end(trainer, "on_validation_start")

    def on_fit_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.end(trainer, "on_fit_end")


def search(folder: Path, module: Any = LitNet, data: Any = by_epoch, **options: Any) -> Tickets:
    options = {"levels": 2, "trainer": {"max_epochs": 3}, "test": False, "checkpoint_every": 0.0, **options}
    return find_ticket(module, data, folder=folder, **options)


def all_weights(tickets: Tickets) -> dict[str, Tensor]:
    """Everything that a search left, by level, file and name."""
    return {
        f"{level.name} {which} {name}": value
        for level in tickets
        for which, state in [
            ("mask", dict(level.mask)),
            ("final", level.weights()),
            ("rewind", level.weights("rewind")),
        ]
        for name, value in state.items()
    }


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


# -- the reference: nothing of the package below ----------------------------------------------------------------------


def reference(
    levels: int, optimizer: Optimizer, k: int = 0, method: str = "weight_rewinding", extra: int = 0, epochs: int = 3
) -> list[tuple[dict[str, Tensor], State]]:
    """Masks and final weights of each level, by a plain loop: 20 % of each layer, 10 % of the last."""
    train, _ = by_epoch()
    batches = []
    for epoch in range(epochs):
        train.sampler.set_epoch(epoch)
        batches += list(train)
    module = LitNet(0, optimizer)
    mask = {name: torch.ones_like(module.state_dict()[name]) for name in WEIGHTS}
    saved: State = {}
    last: State = {}
    found: list[tuple[dict[str, Tensor], State]] = []
    for level in range(levels + 1):
        old = module
        module = LitNet(0, optimizer)
        opt = optimizer(module.parameters())
        schedule: Any = torch.optim.lr_scheduler.StepLR(opt, 5, 0.5)
        first, steps = 0, batches
        if level:
            first = 0 if method == "fine_tuning" else k
            module.load_state_dict(saved["net"] if method == "weight_rewinding" else old.state_dict())
            state = saved["opt"]
            if method != "weight_rewinding":
                state = {**(saved["opt"] if method == "lr_rewinding" else last["opt"]), "state": last["opt"]["state"]}
            opt.load_state_dict(copy.deepcopy(state))  # it keeps the tensors that it is given
            schedule.load_state_dict(copy.deepcopy(saved["schedule"]))
            if method == "fine_tuning":
                steps, schedule = batches[:extra], None
                for group in opt.param_groups:
                    group["lr"] = last["lr"]
            for name, weight in module.named_parameters():
                if name in mask:
                    weight.data *= mask[name]
                    for value in opt.state[weight].values() if opt.state else ():
                        if torch.is_tensor(value) and value.shape == weight.shape:
                            value *= mask[name]
        for step, (x, y) in enumerate(steps[first:], first):
            if not level and step == k:
                parts = {"net": module.state_dict(), "opt": opt.state_dict(), "schedule": schedule.state_dict()}
                saved = copy.deepcopy(parts)
            opt.zero_grad()
            F.cross_entropy(module.net(x), y).backward()
            for name, weight in module.named_parameters():
                if name in mask:
                    assert weight.grad is not None
                    weight.grad *= mask[name]
            lr = opt.param_groups[0]["lr"]
            opt.step()
            for name, weight in module.named_parameters():
                if name in mask:
                    weight.data *= mask[name]
            if schedule is not None:
                schedule.step()
        last = copy.deepcopy({"opt": opt.state_dict(), "lr": lr})
        final = copy.deepcopy(module.state_dict())
        found.append(({name: m.bool() for name, m in mask.items()}, final))
        for name in WEIGHTS:
            survivors = mask[name].flatten().nonzero().flatten()
            order = final[name].flatten()[survivors].abs().argsort(stable=True)
            share = 0.1 if name == WEIGHTS[-1] else 0.2
            mask[name] = mask[name].clone()
            mask[name].view(-1)[survivors[order[: round(share * len(survivors))]]] = 0
    return found
