from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_regs.study import Cell, Paper, Scale, reproduce
from lightning_regs.study.paper.config import override
from lightning_regs.study.paper.tasks import (
    AGREE,
    ATTACKED,
    COURSE,
    FEATURES,
    GROWN,
    INITIALIZED,
    PADDED,
    SHARPNESS,
    SNAPSHOTS,
    STOPPING,
    TRAIN,
)
from lightning_regs.study.run.events import Event, Job
from lightning_regs.study.run.executors.local import InProcess
from lightning_regs.study.run.executors.ray import Ray
from lightning_regs.study.run.preflight import preflight

CONFIG: dict[str, Any] = {
    "model": {"architecture": "mlp", "architecture_args": {"hidden": [8]}, "optimizer": {"name": "SGD", "lr": 0.1}},
    "data": {"source": "digits", "train_size": 40, "test_size": 20},
    "trainer": {"max_epochs": 1},
}


def look(*configs: dict[str, Any], task: str = "toy.tasks:count") -> None:
    found = preflight(Job(f"cell {at}", 0, task, config, f"/r/{at}") for at, config in enumerate(configs))
    assert found is not None
    found()


def test_a_data_set_that_is_nowhere_is_named_once_before_any_run(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_REGS_DOWNLOAD", "0")
    training = {"data": {"source": "cifar10", "root": str(tmp_path)}}
    with pytest.raises(FileNotFoundError, match=r"'cifar10' not found. Looked for .*cifar10\.npz"):
        look({"steps": 3}, {"data": {"source": "digits"}}, training)
    monkeypatch.setenv("LIGHTNING_REGS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="'mnist' not found"):
        look({"source": "mnist", "n_train": 10})


def test_an_unknown_data_set_is_named():
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        look({"data": {"source": "cifr10"}})


def test_configurations_without_data_are_let_through(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_regs.data.sources", None)  # importing it would fail
    assert preflight(Job("c", 0, "toy:count", config, "/r") for config in ({"steps": 3}, {"data": 7}, {})) is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model.architecture": "mpl"}, "unknown model 'mpl'. Did you mean 'mlp'"),
    ({"model.architecture_args.hiden": [3]}, "unknown option of model 'mlp': 'hiden'. Did you mean 'hidden'"),
    ({"model.architecture_args.dropout": 1.5}, "dropout must be at least 0 and below 1, got 1.5"),
    ({"model.optimizer.momentun": 0.9}, "optimizer SGD does not take .*momentun"),
    ({"model.optimizer.lr": -1}, "Invalid learning rate: -1"),
    ({"model.schedule": {"name": "StepRL"}}, "unknown schedule 'StepRL'"),
    ({"model.regularizers": [{"class_path": "lightning_regs.Mixup", "init_args": {"beta": 1}}]}, "Mixup does not take"),
    ({"callbacks": [{"class_path": "lightning_regs.WeightMsk"}]}, "there is no callback 'lightning_regs.WeightMsk'"),
    ({"data.sauce": "digits"}, "unknown option of data 'sauce'. Did you mean 'source'"),
    ({"data.batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"data.source": "digit"}, "unknown data set 'digit'. Did you mean 'digits'"),
    ({"trainer.max_epoch": 2}, "unknown option of trainer 'max_epoch'. Did you mean 'max_epochs'"),
    ({"trainer.max_epochs": "two"}, "trainer.max_epochs must be .*'two'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_option_of_any_cell_is_refused_with_its_name(change, message):
    look(CONFIG, task=TRAIN)
    wrong = override(CONFIG, change)
    with pytest.raises(ValueError, match=f"^cell 'cell 1': .*{message}"):
        look(CONFIG, wrong, task=TRAIN)


SECTIONS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (AGREE, {"other": {"model.architecture": "lenet"}}, {}, "give as 'other' what the other changes"),
    (AGREE, {"other": {}}, {"other": {"model.optimizer.nestrov": True}}, "optimizer SGD does not take .*nestrov"),
    (ATTACKED, {"crafted_on": {}}, {"crafted_on": {"data.sauce": "digits"}}, "unknown option of data 'sauce'"),
    (ATTACKED, {"attack": {"epsilon": 0.1, "clip": None}}, {"attack": {"eps": 0.1}}, "does not take .*'eps'"),
    (COURSE, {"course": {"epochs": [1]}}, {"course": {"epochs": [1, 2]}}, "measures after epoch 2"),
    (GROWN, {"grown": {"sizes": [2, 4]}}, {"grown": {"sizes": [4, 2]}}, "sizes ascend"),
    (INITIALIZED, {"initial": {"rule": "lsuv"}}, {"initial": {"rule": "lsv"}}, "Did you mean 'lsuv'"),
    (
        INITIALIZED,
        {"initial": {"rule": "lsuv"}},
        {"initial": {"rule": "lsuv", "samples": 0}},
        "samples must be at least 1",
    ),
    (PADDED, {"padded": {"hidden": [4]}}, {"padded": {"hiden": [4]}}, "unknown option of model 'mlp': 'hiden'"),
    (SHARPNESS, {}, {"sharpness": {"samples": "all"}}, "samples must be an integer, got 'all'"),
    (SNAPSHOTS, {"snapshots": {"cycles": 2, "fresh": True}}, {"snapshots": {"cycels": 2}}, "does not take .*'cycels'"),
    (STOPPING, {}, {"stopping": {"criteria": ["GL"]}}, "'GL'"),
]


@pytest.mark.parametrize(("task", "right", "wrong", "message"), SECTIONS)
def test_a_wrong_option_of_a_study_and_of_its_other_nets_is_refused_before_any_run(task, right, wrong, message):
    look(CONFIG | right, task=task)
    with pytest.raises(ValueError, match=f"^cell 'cell 1': .*{message}"):
        look(CONFIG | right, CONFIG | wrong, task=task)


def test_a_study_without_a_training_has_its_options_looked_at_too():
    waves = {"data": CONFIG["data"], "features": {"count": 3, "scale": 0.5}}
    look(waves, task=FEATURES)
    with pytest.raises(ValueError, match=r"features does not take .*scale"):
        look(waves | {"features": {"count": 3}}, task=FEATURES)


def test_a_papers_own_task_has_its_own_options():
    look(override(CONFIG, {"trainer.max_epoch": 2, "model.architecture_args.hiden": [3]}))


@pytest.mark.parametrize("jobs", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_nothing_is_trained_where_the_last_cell_is_wrong(tmp_path: Path, jobs: int) -> None:
    wrong = override(CONFIG, {"model.optimizer.nestrov": True})
    cells = Cell("right", TRAIN, CONFIG), Cell("wrong", TRAIN, wrong)
    paper = Paper("p", "A paper", "Nobody", 2017, "", (Scale("quick", "small", cells, seeds=1),), ())
    told: list[Event] = []
    with pytest.raises(
        ValueError, match=r"^cell 'wrong': optimizer SGD does not take .*nestrov.* It takes: .*nesterov"
    ):
        reproduce(paper, jobs=jobs, runs_dir=tmp_path, on_event=told.append)
    assert [event.kind for event in told] == ["plan"]
    assert not list(tmp_path.glob("*/config.json"))
    assert reproduce(paper, cells="right", jobs=jobs, runs_dir=tmp_path).finished == 1


def test_an_executor_says_itself_where_a_look_ahead_is_taken_and_may_take_none(tmp_path):
    asked: list[str] = []

    class Own(InProcess):
        def ahead(self, look, stack):
            asked.append(stack[0].cell)

    wrong = Cell("wrong", TRAIN, override(CONFIG, {"trainer.max_epochs": "two"}))
    paper = Paper("p", "A paper", "Nobody", 2017, "", (Scale("quick", "small", (wrong,), seeds=1),), ())
    outcome = reproduce(paper, executor=Own(), runs_dir=tmp_path)
    assert asked == ["wrong"]
    assert [failed.cell for failed in outcome.failed] == ["wrong"]
    half = SimpleNamespace(jobs=1, run=print)
    with pytest.raises(TypeError, match=r"^executor must be an object with jobs, ahead and run, or a name, got names"):
        reproduce(paper, executor=half, runs_dir=tmp_path)


def test_on_a_cluster_options_are_looked_at_here_and_data_sets_where_the_runs_are():
    def look(error):
        raise error

    ray = object.__new__(Ray)  # which needs no cluster for it
    ray.ahead(partial(look, FileNotFoundError("no cifar10 here")), ())
    with pytest.raises(ValueError, match="no such option"):
        ray.ahead(partial(look, ValueError("no such option")), ())
