"""Replicas with numbers of their own, against nets that are trained alone with theirs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_regs import Classifier, ImageDataModule, NormPenalty
from lightning_regs.core.runs import RunContext
from lightning_regs.optim.build import check_optimization, make_optimizer, make_schedules
from lightning_regs.optim.per_replica import _PROPORTIONAL
from lightning_regs.study import grid, regularized
from lightning_regs.training.fit import shared, train

RATES, DECAYS, MOMENTA = [0.03, 0.1, 0.001], [0.3, 0.0, 2.0], [0.0, 0.9, 0.5]
OPTIMIZERS: list[dict[str, Any]] = [{"name": name, "lr": RATES, "weight_decay": DECAYS} for name in _PROPORTIONAL]
OPTIMIZERS += [
    {"name": "AdamW", "lr": 0.1, "weight_decay": DECAYS},
    {"name": "NAdam", "lr": RATES, "weight_decay": DECAYS, "decoupled_weight_decay": True},
    {"name": "Adam", "lr": RATES, "weight_decay": 0.1, "amsgrad": True},
    {"name": "SGD", "lr": RATES, "momentum": 0.9, "nesterov": True, "weight_decay": DECAYS},
    {"name": "SGD", "lr": RATES, "momentum": MOMENTA, "weight_decay": DECAYS, "foreach": True},
    {"name": "SGD", "lr": 0.1, "momentum": MOMENTA},
    {"name": "RMSprop", "lr": RATES, "momentum": MOMENTA, "centered": True},
    {"name": "Adamax", "lr": RATES, "weight_decay": DECAYS, "maximize": True},
    {"name": "Lookahead", "k": 3, "base": {"name": "AdamW", "lr": RATES, "weight_decay": DECAYS}},
]


def of(replica: int, config: dict[str, Any]) -> dict[str, Any]:
    """Return what a configuration is for one replica."""
    own = {name: value[replica] if isinstance(value, list) else value for name, value in config.items()}
    return own | ({"base": of(replica, config["base"])} if "base" in config else {})


@pytest.mark.parametrize("config", OPTIMIZERS, ids=str)
def test_each_replica_takes_its_own_steps(config: dict[str, Any]) -> None:
    """On a quadratic with a rate that falls, in float64; a third parameter without a gradient stays where it is."""
    start, target = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    sign = -1 if config.get("maximize") else 1

    def descend(config: dict[str, Any], rows: slice) -> list[torch.Tensor]:
        weights = [torch.nn.Parameter(start[rows].clone()) for _ in range(2)]
        optimizer = make_optimizer(weights, config)
        (schedule,) = make_schedules(optimizer, {"name": "StepLR", "step_size": 8}, epochs=20, steps=20)
        for _ in range(20):

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = sign * ((weights[0] - target[rows]) ** 2).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
            schedule["scheduler"].step()
        return [w.detach() for w in weights]

    moved, still = descend(config, slice(0, 3))
    alone = torch.cat([descend(of(i, config), slice(i, i + 1))[0] for i in range(3)])
    torch.testing.assert_close(moved, alone, rtol=1e-10, atol=1e-12)
    assert torch.equal(still, start)
    assert not torch.allclose(moved[2], start[2], rtol=1e-6, atol=0.0)


def cells(stack: Any, *, lookahead: bool = False, **more: Any) -> Any:
    where = "model.optimizer.base" if lookahead else "model.optimizer"
    runs = {f"{lr}": {f"{where}.lr": lr, f"{where}.weight_decay": decay}
            for lr, decay in zip(RATES, DECAYS, strict=True)}  # fmt: skip
    optimizer = {"name": "AdamW", "lr": 0.1, "weight_decay": 0.1}
    overrides: dict[str, Any] = {
        "data.source": "digits", "data.train_size": 64, "data.test_size": 50, "data.batch_size": 16,
        "trainer.max_epochs": 2, "trainer.accelerator": "cpu", "model.architecture_args": {"hidden": [8]},
        "model.optimizer": {"name": "Lookahead", "base": optimizer} if lookahead else optimizer,
        "model.schedule": None, "data.val_split": 0,
    }  # fmt: skip
    return grid("{run}", "configs/radam_lookahead/mnist1d-mlp.yaml", overrides | more, run=runs, stack=stack)


@pytest.mark.parametrize("lookahead", [False, True])
def test_a_grid_of_numbers_trains_as_one_stack(tmp_path: Path, lookahead: bool) -> None:
    more: dict[str, Any] = {"trainer.gradient_clip_val": 0.5}
    more |= {"trainer.precision": "bf16-mixed"} if lookahead else regularized("MaxNorm", value=0.5)
    made = cells("all", lookahead=lookahead, **more)
    assert {cell.stack for cell in made} == {"all"}
    configs = [cell.config for cell in made for _ in range(2)]
    runs = [RunContext(tmp_path / str(i), seed=i % 2) for i in range(6)]
    together = train.stacked(configs, runs)
    for i in (0, 5):
        alone = train(configs[i], RunContext(tmp_path / f"alone-{i}", seed=i % 2))
        assert together[i]["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-2 if lookahead else 1e-4)
        assert together[i]["test_acc"] == pytest.approx(alone["test_acc"], abs=2.1)
    assert together[0]["train_loss"] != pytest.approx(together[2]["train_loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("lookahead", "path"),
    [(False, "model.optimizer.eps"), (True, "model.optimizer.base.eps"), (False, "data.batch_size")],
)
def test_what_else_differs_in_a_stack_is_named(lookahead: bool, path: str) -> None:
    one, other = cells("all", lookahead=lookahead)[0].config, cells("all", lookahead=lookahead, **{path: 1})[1].config
    with pytest.raises(
        ValueError, match=f"equal .* but for lr, weight_decay, momentum, and two differ in {path}; give"
    ):
        shared([one, other])
    assert shared([one, one]) == one


def test_a_stack_is_named_by_axes_of_the_grid() -> None:
    with pytest.raises(ValueError, match=r"has \{net\} in its name, which does not vary"):
        cells("{net}")


def test_a_checkpoint_goes_on_with_the_numbers_that_it_had(tmp_path: Path) -> None:
    optimizer = {"name": "SGD", "lr": [0.01, 0.001], "weight_decay": [0.1, 0.0], "momentum": [0.9, 0.5]}

    def fit(epochs: int, ckpt: Any = None, **other: Any) -> pl.Trainer:
        trainer = pl.Trainer(max_epochs=epochs, enable_checkpointing=False, default_root_dir=tmp_path)
        module = Classifier("mlp", {"hidden": [5]}, optimizer | other, replicas=2, seed=1)
        data = ImageDataModule("digits", train_size=64, batch_size=16, replicas=2, seed=1)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt)
        return trainer

    fit(1).save_checkpoint(tmp_path / "half.ckpt")
    again = fit(2, tmp_path / "half.ckpt", lr=[0.04, 0.02], momentum=[0.1, 0.2])
    resumed, whole = (t.lightning_module.state_dict() for t in (again, fit(2)))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    "passed_on", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copied", "pickled"]
)
@pytest.mark.parametrize("lookahead", [False, True])
def test_a_copy_takes_the_same_steps(passed_on: Callable[[Any], Any], lookahead: bool) -> None:
    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        weight.grad = gradient = torch.ones(2, 1)
        optimizer.step()
        assert weight.grad is gradient
        assert torch.equal(gradient, torch.ones(2, 1))
        return weight.detach().clone()

    config: dict[str, Any] = {"name": "SGD", "lr": [0.1, 0.02], "momentum": [0.9, 0.4], "weight_decay": [0.0, 0.5]}
    weight = torch.nn.Parameter(torch.zeros(2, 1))
    optimizer = make_optimizer([weight], {"name": "Lookahead", "base": config} if lookahead else config)
    step(weight, optimizer)
    other, again = passed_on(passed_on((weight, optimizer)))
    expected = step(weight, optimizer)
    assert torch.equal(step(other, again), expected)
    assert expected.flatten().tolist() == pytest.approx([-0.29, -0.0478])


TWO = [0.1, 0.2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": TWO, "replicas": None}, r"lr has 2 numbers, one a replica, .* shape \(\)"),
        ({"name": "Lookahead", "base": {"name": "SGD", "lr": TWO}, "replicas": None}, "lr has 2 numbers"),
        ({"lr": RATES}, r"lr has 3 numbers, .* shape \(2,\); train nets with Classifier\(replicas=3\), or give one"),
        ({"name": "Lookahead", "base": {"name": "SGD", "lr": 0.1, "weight_decay": RATES}},
         "weight_decay has 3 numbers"),
        ({"name": "Rprop", "lr": TWO}, "lr has 2 numbers, .* a step of Rprop is not proportional to its rate"),
        ({"momentum": TWO, "nesterov": True}, "momentum has 2 numbers, .* nesterov takes one momentum for all"),
        ({"lr": TWO, "regularizers": [NormPenalty(0.1, decoupled=True)]}, "moves weights by one rate, and lr is"),
        ({"momentum": TWO, "dampening": 0.5}, "momentum has 2 numbers, .* dampening takes one momentum for all"),
        ({"name": "Adam", "momentum": TWO}, "Adam does not take"),
        ({"name": "Adam", "eps": TWO}, "Adam does not take .*: eps must be"),
        ({"lr": [-0.1, 0.2]}, r"lr.*-0\.1"),
        ({"weight_decay": [-0.1, 0.2]}, r"weight_decay.*-0\.1"),
        ({"lr": TWO, "schedule": {"name": "OneCycleLR", "max_lr": 1.0}}, "lr is a list, and OneCycleLR has its own"),
        ({"momentum": TWO, "schedule": {"name": "CyclicLR", "base_lr": 0.1, "max_lr": 1.0}},
         "momentum is a list, and CyclicLR has its own"),
        ({"lr": TWO, "schedule": {"name": "CosineAnnealing", "eta_min": 0.01}}, "lr is a list, and eta_min=0.01 has"),
    ],
)  # fmt: skip
def test_what_numbers_of_replicas_do_not_go_with_is_said(options: dict[str, Any], message: str) -> None:
    others = {name: options[name] for name in ("replicas", "schedule", "regularizers") if name in options}
    optimizer = {"name": "SGD"} | {name: value for name, value in options.items() if name not in others}
    with pytest.raises(ValueError, match=message):
        Classifier("mlp", optimizer=optimizer, **{"replicas": 2, **others})


def test_a_decay_of_each_replica_goes_with_one_cycle_of_all() -> None:
    check_optimization({"name": "SGD", "weight_decay": TWO}, {"name": "OneCycleLR", "max_lr": 1.0}, 2)


def test_what_is_not_stacked_or_a_group_of_its_own_has_one_number() -> None:
    with pytest.raises(ValueError, match=r"lr has 3 numbers, .* a parameter has the shape \(4, 3\)"):
        make_optimizer(torch.nn.Linear(3, 4).parameters(), {"name": "SGD", "lr": RATES})
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "weight_decay": 0.0}]
    with pytest.raises(ValueError, match=r"weight_decay has 2 numbers, .* a group of parameters has 0\.0"):
        make_optimizer(groups, {"name": "SGD", "weight_decay": TWO})
    optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(2))], {"name": "SGD", "weight_decay": TWO})
    optimizer.add_param_group({"params": torch.nn.Parameter(torch.zeros(2, 3))})
    with pytest.raises(ValueError, match=r"weight_decay has 2 numbers, .* shape \(3, 2\)"):
        optimizer.add_param_group({"params": iter([torch.nn.Parameter(torch.zeros(3, 2))])})
