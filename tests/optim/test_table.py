"""Every optimizer and every schedule, torch's and ours, in the same tests; one that is not in the tables fails."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_regs import WeightMask
from lightning_regs.optim import Lookahead, SlowWeights, build, make_optimizer, make_schedules
from lightning_regs.training.replicas import COUPLING_OPTIMIZERS

# Name -> options with which 200 steps go down the valleys below.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "ASGD": {"lr": 0.03},
    "Adadelta": {"lr": 5.0},
    "Adafactor": {"lr": 0.1},
    "Adagrad": {"lr": 0.5},
    "Adam": {"lr": 0.05},
    "AdamW": {"lr": 0.05, "weight_decay": 1e-4},
    "Adamax": {"lr": 0.1},
    "LBFGS": {"lr": 0.5, "max_iter": 2},
    "Lookahead": {"base": {"name": "SGD", "lr": 0.02, "momentum": 0.9}},
    "Muon": {"lr": 0.02},
    "NAdam": {"lr": 0.05},
    "RAdam": {"lr": 0.03},
    "RMSprop": {"lr": 0.01},
    "Ranger": {"lr": 0.1, "betas": (0.9, 0.99)},
    "Rprop": {"lr": 0.01},
    "SGD": {"lr": 0.015, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    "SparseAdam": {"lr": 0.05},
}
if not hasattr(torch.optim, "Muon"):  # which torch 2.7 has not
    del OPTIMIZERS["Muon"]
STEPS, LR = 12, 0.4


def triangle(t: int) -> float:
    """CyclicLR from 0.1 to 0.4 and back in 3 steps each."""
    return 0.1 + 0.3 * (1 - abs(t % 6 - 3) / 3)


def one_cycle(t: int, steps: int) -> float:
    """From 0.4 / 4 up to 0.4, down again in as many steps, and from there to a hundredth in the rest, in lines."""
    up, down = steps / 4 - 1, steps / 2 - 2
    if t <= up:
        return 0.1 + 0.3 * t / up
    return 0.4 - 0.3 * (t - up) / (down - up) if t <= down else 0.1 - 0.099 * (t - down) / (steps - 1 - down)


def in_cycles(t: int, steps: int) -> float:
    """What is done of a cycle, of two."""
    return t % math.ceil(steps / 2) / math.ceil(steps / 2)


def cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


# Name -> options, and the rate of step t of so many by the formula, from a rate of 0.4.
SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[int, int], float]]] = {
    "ConstantLR": ({"factor": 0.5, "total_iters": "4it"}, lambda t, n: LR * (0.5 if t < 4 else 1)),
    "CosineAnnealingLR": ({"interval": "step"}, lambda t, n: LR * cosine(t / n)),
    "CosineAnnealingWarmRestarts": (
        {"T_0": "3it", "T_mult": 2},
        lambda t, n: LR * cosine(t / 3 if t < 3 else (t - 3) / 6 if t < 9 else (t - 9) / 12),
    ),
    "CosineCyclesLR": ({"cycles": 2}, lambda t, n: LR * cosine(in_cycles(t, n))),
    "CyclicLR": ({"base_lr": 0.1, "max_lr": 0.4, "step_size_up": 3}, lambda t, n: triangle(t)),
    "ExponentialLR": ({"gamma": 0.9, "interval": "step"}, lambda t, n: LR * 0.9**t),
    "InverseTimeLR": ({"gamma": 0.3, "power": 0.5, "interval": "step"}, lambda t, n: LR / (1 + 0.3 * t) ** 0.5),
    "LinearLR": ({"start_factor": 0.25, "total_iters": "6it"}, lambda t, n: LR * (0.25 + 0.75 * min(t, 6) / 6)),
    "MultiStepLR": ({"milestones": [3, "5it"], "gamma": 0.1}, lambda t, n: LR * 0.1 ** ((t >= 3) + (t >= 5))),
    "OneCycleLR": (
        {"max_lr": 0.4, "three_phase": True, "anneal_strategy": "linear", "pct_start": 0.25, "div_factor": 4.0,
         "final_div_factor": 100.0},
        one_cycle,
    ),
    "PolynomialLR": ({"power": 2.0, "interval": "step"}, lambda t, n: LR * (1 - t / n) ** 2),
    "StepCyclesLR": (
        {"cycles": 2},
        lambda t, n: LR * (1.0 if in_cycles(t, n) < 0.5 else 0.1 if in_cycles(t, n) < 0.75 else 0.01),
    ),
    "StepLR": ({"step_size": "3it", "gamma": 0.5}, lambda t, n: LR * 0.5 ** (t // 3)),
}  # fmt: skip


def test_all_are_enrolled() -> None:
    assert set(OPTIMIZERS) == set(build.optimizers())
    assert set(SCHEDULES) == set(build.schedules())


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# -- optimizers --------------------------------------------------------------------------------------------------------


def quadratic(w: Tensor) -> Tensor:
    return (torch.linspace(0.5, 3, 4, dtype=w.dtype) * (w[..., :4] - 0.3) ** 2).sum()


def rosenbrock(w: Tensor) -> Tensor:
    x, y = w[..., :4].unbind(-2)
    return ((0.5 - x) ** 2 + 5 * (y - x**2) ** 2).sum()


def weights(*replicas: int) -> nn.Parameter:
    """Of 2 by 5 each: some optimizers want matrices, and the last column takes the mean that Ranger keeps as it is."""
    given = torch.linspace(-1.0, 1.2, 10, dtype=torch.float64).view(2, 5)
    return nn.Parameter(torch.stack([given * (1 - i / 3) for i in replicas]) if replicas else given)


def make(name: str, w: nn.Parameter) -> Any:
    return make_optimizer([w], {"name": name} | OPTIMIZERS[name])


def descend(
    optimizer: Any, w: nn.Parameter, loss_of: Callable[[Tensor], Tensor], steps: int, schedule: Any = None
) -> float:
    """Take some steps with closures; return the last loss."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(w)
        loss.backward()
        if isinstance(optimizer, torch.optim.SparseAdam) and w.grad is not None:
            w.grad = w.grad.to_sparse()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        if schedule is not None:
            schedule.step()
    return loss_of(w).item()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("loss_of", [quadratic, rosenbrock])
def test_it_goes_down_a_valley(name: str, loss_of: Callable[[Tensor], Tensor]) -> None:
    w = weights()
    start = loss_of(w).item()
    assert descend(make(name, w), w, loss_of, 200) < 0.02 * start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_it_goes_on_from_its_state_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    """But for NAdam in float64, where the fault is torch's: if it mends it, the last line fails and is one of all.

    ``Optimizer.load_state_dict`` casts all but ``step`` of a parameter's state to the parameter's dtype. The running
    product of NAdam, ``mu_product``, is float32 until then, and is rounded otherwise from there on.
    """
    parts = [{"warmup": "3it"}, {"name": "StepLR", "step_size": 4, "length": "6it"}, {}]

    def both(w: nn.Parameter) -> tuple[Any, Any]:
        optimizer = make(name, w)
        return optimizer, make_schedules(optimizer, parts, epochs=1, steps=14)[0]["scheduler"]

    w = nn.Parameter(weights().detach().to(dtype))
    optimizer, schedule = both(w)
    descend(optimizer, w, rosenbrock, 7, schedule)
    state = through_a_file([w.detach(), optimizer.state_dict(), schedule.state_dict()])
    descend(optimizer, w, rosenbrock, 7, schedule)
    again = nn.Parameter(state[0])
    optimizer, schedule = both(again)
    optimizer.load_state_dict(state[1])
    schedule.load_state_dict(state[2])
    descend(optimizer, again, rosenbrock, 7, schedule)
    assert torch.equal(again, w) == ((name, dtype) != ("NAdam", torch.float64))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_replicas_in_one_tensor_are_trained_apart_unless_refused(name: str) -> None:
    apart = []
    for i in (0, 1):
        w = nn.Parameter(weights(i)[0].detach())
        descend(make(name, w), w, rosenbrock, 8)
        apart.append(w.detach())
    stacked = weights(0, 1)
    try:
        descend(make(name, stacked), stacked, rosenbrock, 8)
        mixed = not torch.allclose(stacked, torch.stack(apart), rtol=1e-12, atol=0)
    except ValueError:
        mixed = True
    assert mixed == (name in COUPLING_OPTIMIZERS)


class Net(pl.LightningModule):
    """Two matrices and one that is frozen."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.name, self.losses = name, list[float]()
        self.first, self.last, self.frozen = nn.Linear(6, 8, False), nn.Linear(8, 2, False), nn.Linear(2, 2, False)
        self.frozen.requires_grad_(False)

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = (self.frozen(self.last(self.first(x).tanh())) - x[:, :2]).square().mean()
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.parameters(), {"name": self.name} | OPTIMIZERS[self.name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"SparseAdam"}))  # for embeddings, which have no mask
def test_what_is_pruned_or_frozen_stays_in_half_precision_too(name: str, tmp_path: Path) -> None:
    net = Net(name)
    frozen, first = net.frozen.weight.clone(), net.first.weight.clone()
    slow = [SlowWeights()] if issubclass(build.optimizers()[name], Lookahead) else []
    trainer: Any = pl.Trainer(
        max_epochs=3, precision="bf16-mixed", callbacks=[WeightMask(density=0.5), *slow],
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(net, torch.utils.data.DataLoader(torch.linspace(-9, 9, 96).sin().view(16, 6), batch_size=4))
    assert torch.equal(net.frozen.weight, frozen)
    kept = [w != 0 for w in (net.first.weight, net.last.weight)]
    assert sum(int(m.sum()) for m in kept) == 32
    assert (net.first.weight != first)[kept[0]].any()
    assert net.first.weight.dtype is torch.float32
    assert sum(net.losses[-4:]) < sum(net.losses[:4])


# -- schedules ---------------------------------------------------------------------------------------------------------


def rates(config: Any, steps: int = STEPS, stop: int | None = None) -> list[tuple[float, float]]:
    """Rate and momentum of each step; where it stops, everything is made anew and takes the old one's state."""

    def both() -> tuple[Any, list[dict[str, Any]]]:
        optimizer = make_optimizer([nn.Parameter(torch.ones(3))], {"name": "SGD", "lr": LR, "momentum": 0.5})
        return optimizer, make_schedules(optimizer, config, epochs=1, steps=steps)

    optimizer, schedules = both()
    found = []
    for step in range(steps):
        if step == stop:
            state = through_a_file([optimizer.state_dict(), *(s["scheduler"].state_dict() for s in schedules)])
            optimizer, schedules = both()
            optimizer.load_state_dict(state[0])
            for schedule, own in zip(schedules, state[1:], strict=True):
                schedule["scheduler"].load_state_dict(own)
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        for schedule in schedules:
            assert schedule["interval"] == "step"
            schedule["scheduler"].step()
            assert schedule["scheduler"].get_last_lr() == [optimizer.param_groups[0]["lr"]]
    return found


def lrs(config: Any, steps: int = STEPS) -> list[float]:
    return [lr for lr, _ in rates(config, steps)]


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_it_follows_its_formula_and_goes_on_from_its_state(name: str) -> None:
    options, formula = SCHEDULES[name]
    whole = rates({"name": name} | options)
    assert [lr for lr, _ in whole] == pytest.approx([formula(t, STEPS) for t in range(STEPS)], abs=1e-12)
    for stop in (1, 5):
        assert rates({"name": name} | options, stop=stop) == whole


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_warmup_multiplies_what_the_schedule_says_or_is_refused(name: str) -> None:
    config = {"name": name} | SCHEDULES[name][0]
    if "Cycl" in name or "Restarts" in name:
        with pytest.raises(ValueError, match=f"{name} sets the learning rate.*leave warmup"):
            rates(config | {"warmup": 6})
    else:
        expected = [lr * min(1, (t + 1) / 6) for t, lr in enumerate(lrs(config))]
        assert lrs(config | {"warmup": 6}) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_in_a_sequence_it_is_what_it_is_alone(name: str) -> None:
    config = {"name": name} | SCHEDULES[name][0]
    parts = [{"name": "CosineAnnealing", "length": "3it"}, config | {"length": 8}, {"length": "2it"}, config]
    whole, alone = rates(parts, 21), rates(config, 8)
    assert [lr for lr, _ in whole[:3]] == pytest.approx([LR * cosine(t / 3) for t in range(3)])
    assert whole[3:] == [*alone, (LR, 0.5), (LR, 0.5), *alone]
    for stop in (2, 3, 4, 11, 16):
        assert rates(parts, 21, stop=stop) == whole
