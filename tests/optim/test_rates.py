"""Replicas at learning rates of their own, against nets that are trained alone at theirs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.runs import RunContext
from lightning_regs.optim.build import check_optimization, make_optimizer, make_schedules
from lightning_regs.optim.rates import _PROPORTIONAL
from lightning_regs.study import grid
from lightning_regs.training.fit import train

RATES = [0.03, 0.1, 0.001]
OPTIMIZERS: list[dict[str, Any]] = [{"name": name, "weight_decay": 0.1} for name in _PROPORTIONAL]
OPTIMIZERS += [{"name": "SGD", "momentum": 0.9, "nesterov": True}, {"name": "RMSprop", "momentum": 0.9}]


@pytest.mark.parametrize("config", OPTIMIZERS, ids=str)
def test_each_replica_steps_at_its_own_rate(config: dict[str, Any]) -> None:
    """On a quadratic with a rate that falls, in float64; a third parameter without a gradient stays where it is."""
    start, target = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)

    def descend(rates: Any, rows: slice) -> list[torch.Tensor]:
        weights = [torch.nn.Parameter(start[rows].clone()) for _ in range(2)]
        optimizer = make_optimizer(weights, config | {"lr": rates})
        (schedule,) = make_schedules(optimizer, {"name": "StepLR", "step_size": 8}, epochs=20, steps=20)
        for _ in range(20):

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = ((weights[0] - target[rows]) ** 2).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
            schedule["scheduler"].step()
        return [w.detach() for w in weights]

    moved, still = descend(RATES, slice(0, 3))
    alone = torch.cat([descend(rate, slice(i, i + 1))[0] for i, rate in enumerate(RATES)])
    torch.testing.assert_close(moved, alone, rtol=1e-10, atol=1e-12)
    assert torch.equal(still, start)
    assert not torch.allclose(moved[2], start[2], rtol=1e-6, atol=0.0)


def cells(stack: Any) -> Any:
    rates = {rate: {"model.optimizer.lr": rate} for rate in RATES}
    overrides: dict[str, Any] = {
        "data.source": "digits", "data.train_size": 64, "data.test_size": 50, "data.batch_size": 16,
        "trainer.max_epochs": 2, "trainer.accelerator": "cpu", "model.architecture_args": {"hidden": [8]},
    }  # fmt: skip
    return grid("lr-{rate}", "configs/smith2018_batch/mnist1d-mlp.yaml", overrides, rate=rates, stack=stack)


def test_a_grid_of_rates_trains_as_one_stack(tmp_path: Path) -> None:
    made = cells("all")
    assert {cell.stack for cell in made} == {"all"}
    configs = [cell.config for cell in made for _ in range(2)]
    runs = [RunContext(tmp_path / str(i), seed=i % 2) for i in range(6)]
    together = train.stacked(configs, runs)
    for i in (0, 3, 5):
        alone = train(configs[i], RunContext(tmp_path / f"alone-{i}", seed=i % 2))
        assert together[i]["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
        assert together[i]["test_acc"] == pytest.approx(alone["test_acc"], abs=2.1)
    assert together[0]["train_loss"] != pytest.approx(together[2]["train_loss"], rel=1e-3)


def test_a_stack_is_named_by_axes_of_the_grid() -> None:
    with pytest.raises(ValueError, match=r"has \{net\} in its name, which does not vary"):
        cells("{net}")


def test_what_one_rate_a_replica_does_not_go_with_is_said() -> None:
    rates = {"name": "SGD", "lr": [0.1, 0.2]}
    with pytest.raises(ValueError, match=r"lr is a list, \[0\.1, 0\.2\], which is for replicas"):
        Classifier("mlp", optimizer=rates)
    with pytest.raises(ValueError, match=r"lr has 2 learning rates for 3 replicas"):
        Classifier("mlp", optimizer=rates, replicas=3)
    with pytest.raises(ValueError, match=r"a step of Rprop is not proportional to its rate"):
        check_optimization({"name": "Rprop", "lr": [0.1, 0.2]}, None)
    with pytest.raises(ValueError, match=r"OneCycleLR has a rate of its own"):
        check_optimization(rates, {"name": "OneCycleLR", "max_lr": 1.0})
    with pytest.raises(ValueError, match=r"lr.*-0\.1"):
        check_optimization({"name": "SGD", "lr": [-0.1, 0.2]}, None)


def test_a_checkpoint_goes_on_at_the_rates_that_it_had(tmp_path: Path) -> None:
    def fit(epochs: int, ckpt: Any = None) -> pl.Trainer:
        trainer = pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                             enable_model_summary=False, default_root_dir=tmp_path)  # fmt: skip
        module = Classifier("mlp", {"hidden": [5]}, {"name": "Adam", "lr": [0.01, 0.001]}, replicas=2, seed=1)
        data = ImageDataModule("digits", train_size=64, batch_size=16, replicas=2, seed=1)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt)
        return trainer

    fit(1).save_checkpoint(tmp_path / "half.ckpt")
    resumed, whole = (t.lightning_module.state_dict() for t in (fit(2, tmp_path / "half.ckpt"), fit(2)))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    "passed_on", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copied", "pickled"]
)
@pytest.mark.parametrize("lookahead", [False, True])
def test_a_copy_steps_at_the_same_rates(passed_on: Callable[[Any], Any], lookahead: bool) -> None:
    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        weight.grad = torch.ones(2, 1)
        optimizer.step()
        return weight.detach().clone()

    config: dict[str, Any] = {"name": "SGD", "lr": [0.1, 0.02], "momentum": 0.9}
    weight = torch.nn.Parameter(torch.zeros(2, 1))
    optimizer = make_optimizer([weight], {"name": "Lookahead", "base": config} if lookahead else config)
    step(weight, optimizer)
    other, again = passed_on(passed_on((weight, optimizer)))
    expected = step(weight, optimizer)
    assert torch.equal(step(other, again), expected)
    assert expected.flatten().tolist() == pytest.approx([-0.29, -0.058])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": {"name": "Lookahead", "base": {"name": "SGD", "lr": RATES}}}, "3 learning rates for 2 replicas"),
        ({"optimizer": {"name": "SGD", "lr": RATES[:2]}, "schedule": {"name": "CosineAnnealing", "eta_min": 0.01}},
         "eta_min=0.01 has a rate of its own, which is for all"),
        ({"optimizer": {"name": "Lookahead", "base": {"name": "SGD", "lr": RATES}}, "replicas": None},
         "is for replicas"),
    ],
)  # fmt: skip
def test_what_would_be_another_rate_for_some_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier("mlp", **{"replicas": 2, **options})


def test_what_is_not_stacked_has_one_rate() -> None:
    with pytest.raises(ValueError, match=r"3 learning rates, one a replica, and a parameter has the shape \(4, 3\)"):
        make_optimizer(torch.nn.Linear(3, 4).parameters(), {"name": "SGD", "lr": RATES})
