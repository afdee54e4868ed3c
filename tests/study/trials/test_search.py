from __future__ import annotations

import importlib.util
import math
from typing import Any

import optuna
import pytest

from lightning_regs.cli.parser import main
from lightning_regs.core.runs import RunContext, Store
from lightning_regs.study import override, resolve, search
from lightning_regs.study.report.report import write_report
from lightning_regs.study.trials.space import Space, read_space
from lightning_regs.study.trials.trial import MedianStop, medians, trial
from lightning_regs.training.fit import evaluate, train

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [4]}, "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}},
    "data": {"source": "digits", "train_size": 100, "batch_size": 20, "val_split": 0.3},
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
}
RATE = {"model.optimizer.lr": {"low": 0.001, "high": 1.0, "log": True}}
SPACE = RATE | {"model.architecture_args.hidden": [[4], [8, 4]]}


def told(found):
    return [(one.cell, one.settings, one.value, one.stopped) for one in found.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, search(CONFIG, SPACE, trials=13, together=3, jobs=0, runs_dir=folder)


@pytest.mark.slow
def test_a_search_that_was_killed_ends_as_the_uninterrupted_one_and_repeats_nothing(whole, tmp_path):
    started = []

    def stop(event):
        started.extend([event.run] if event.kind == "started" else [])
        if len(started) == 8 and event.kind == "finished":
            raise KeyboardInterrupt

    options: dict[str, Any] = {"trials": 13, "together": 3, "jobs": 0, "runs_dir": tmp_path}
    first = search(CONFIG, SPACE, on_event=stop, **options)
    assert first.outcome.interrupted
    assert len(first.trials) == 6
    again = search(CONFIG, SPACE, on_event=lambda e: started.extend([e.run] if e.kind == "started" else []), **options)
    assert told(again) == told(whole[1])
    assert again.config.read_text() == whole[1].config.read_text()
    assert len(started) == len(set(started)) == 13


def test_the_trials_are_those_that_optuna_alone_would_try(whole):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    values = [one.value for one in whole[1].trials]
    for at in range(0, 13, 3):
        group = [study.ask() for _ in values[at : at + 3]]
        rates = []
        for one in group:  # each draws its numbers before the next one draws
            rates.append(one.suggest_float("rate", 0.001, 1, log=True))
            one.suggest_categorical("hidden", [4, 8])
        assert rates == [one.settings["model.optimizer.lr"] for one in whole[1].trials[at : at + 3]]
        for one, value in zip(group, values[at : at + 3], strict=True):
            study.tell(one, value)


def test_the_winner_is_a_configuration_whose_value_is_the_trials(whole, tmp_path):
    found = whole[1]
    assert found.best.value == min(one.value for one in found.trials)
    config = resolve(found.config)
    assert config == override(CONFIG, found.best.settings)
    assert 100 - train(config, RunContext(tmp_path, 0))["val_acc"] == found.best.value
    assert main(["validate", "--config", str(found.config), "--trainer.logger", "false"]) == 0


def test_a_search_with_fewer_seeds_counts_none_of_the_others(tmp_path):
    options: dict[str, Any] = {"sampler": "grid", "jobs": 0, "runs_dir": tmp_path}
    space = {"model.optimizer.lr": [0.1, 0.2]}
    both = search(CONFIG, space, seeds=2, **options)
    one = search(CONFIG, space, **options)
    assert one.trials[0].value == 100 - next(row.metrics["val_acc"] for row in both.outcome.rows if not row.seed)
    assert one.trials[0].value != both.trials[0].value
    assert one.paper.command == "lightning_regs.study.search(...)"


@pytest.mark.slow
def test_the_page_has_the_pictures(whole, tmp_path):
    folder, found = whole
    page = write_report(found.paper, found.outcome.csv.parent, tmp_path, Store(folder)).read_text()
    for title in ("The course of the search", "What was tried", "What mattered"):
        assert title in page
    assert "not drawn" not in page
    assert page.count("<svg") >= 3


def test_test_data_are_not_looked_at(monkeypatch, tmp_path):
    asked = []

    def looked(trainer, module, data, split):
        asked.append(split)
        return evaluate(trainer, module, data, split)

    monkeypatch.setattr("lightning_regs.training.fit.evaluate", looked)
    found = search(CONFIG, RATE, trials=2, sampler="random", jobs=0, runs_dir=tmp_path)
    assert not [name for row in found.outcome.rows for name in row.metrics if "test" in name]
    assert set(asked) == {"train", "val"}
    assert math.isfinite(found.best.value)


@pytest.mark.slow
def test_a_grid_tries_all_combinations_and_stacks_of_them_give_the_same(tmp_path):
    space = {"model.optimizer.lr": {"low": 0.1, "high": 0.3, "step": 0.1}, "data.batch_size": [20, 35]}
    alone, stacked = (
        search(CONFIG, space, sampler="grid", together=6, stack=stack, jobs=0, runs_dir=tmp_path / f"{stack}")
        for stack in (False, True)
    )
    tried = [(one.settings["model.optimizer.lr"], one.settings["data.batch_size"]) for one in alone.trials]
    assert tried == [(pytest.approx(rate), batch) for rate in (0.1, 0.2, 0.3) for batch in (20, 35)]
    assert [one.value for one in stacked.trials] == pytest.approx([one.value for one in alone.trials])
    assert len({row.origin["config_hash"] for row in stacked.outcome.rows}) == 6


def test_a_trial_that_breaks_has_no_value_and_the_search_goes_on(tmp_path):
    space = {"data.train_size": [100, 10**6]}  # more than there are, which shows when they are loaded
    found = search(CONFIG, space, sampler="grid", jobs=0, runs_dir=tmp_path)
    assert [math.isnan(one.value) for one in found.trials] == [False, True]
    assert found.best is found.trials[0]
    assert found.outcome.exit_code == 1


@pytest.mark.slow
def test_trainings_behind_the_median_are_stopped_and_are_never_the_best(tmp_path):
    rates = [0.1, 0.2, 0.3, 0.15, 0.25, 1e-5, 0.2]
    config = override(CONFIG, {"trainer.max_epochs": 6})
    found = search(config, {"model.optimizer.lr": rates}, sampler="grid", together=1, prune=True, jobs=0,
                   runs_dir=tmp_path)  # fmt: skip
    assert [one.stopped for one in found.trials[:6]] == [False] * 5 + [True]
    assert found.outcome.rows[5].origin["epochs"] == "2"  # a quarter of six is left alone
    assert not found.best.stopped


@pytest.mark.parametrize(("largest", "value", "stops"), [(False, 3.0, True), (False, 1.0, False), (True, 1.0, True)])
def test_the_median_is_that_of_golovin(largest, value, stops, tmp_path):
    curves = [[1.0, 1.0], [2.0, 2.0, 2.0], [math.nan, 2.5], [4.0, 4.0], [0.0, 0.5]]
    found = medians(curves, largest)
    assert found == [2.0, 2.0] if not largest else [1.0, 2.0]
    assert medians(curves[:4], largest) == []
    callback = MedianStop("val_loss", found, largest)

    class Fake:
        sanity_checking = False
        should_stop = False
        callback_metrics = {"val/loss": value}  # noqa: RUF012

    for _ in range(2):
        callback.on_validation_end(Fake(), None)  # type: ignore[arg-type]
    assert callback.stopped == stops
    other = MedianStop("val_loss", found, largest)
    other.load_state_dict(callback.state_dict())
    assert (other.values, other.stopped) == (callback.values, stops)


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({}, {}, "varies nothing"),
        (
            {"model.optimizer.lrr": [1, 2]},
            {},
            r"unknown path of the space: 'model.optimizer.lrr'.*'model.optimizer.lr'",
        ),
        ({"modle.optimizer.lr": [1]}, {}, "unknown path of the space"),
        ({"data.batch_sise": [1, 2]}, {}, "batch_size"),
        ({"model.optimizer.lr": 0.1}, {}, r"varies over 0.1; give \{low"),
        ({"model.optimizer.lr": []}, {}, "varies over"),
        ({"model.optimizer.lr": {"low": 1, "hihg": 2}}, {}, "varies over"),
        ({"model.optimizer.lr": {"low": 1, "high": 2, "lgo": True}}, {}, "unknown key.*'lgo'"),
        ({"model.optimizer.lr": {"low": 2.0, "high": 1.0}}, {}, "is none"),
        ({"model.optimizer.lr": {"low": 0.0, "high": 1.0, "log": True}}, {}, "is none"),
        ({"model.optimizer.lr": {"low": "a", "high": 1.0}}, {}, "low of the range"),
        (
            {"model.optimizer.lr": [0.1, 0.2], "model.optimizer": [{"lr": 0.5}, {"lr": 1}]},
            {},
            "model.optimizer and its part model.optimizer.lr, and one would undo",
        ),
        ({"data.val_split": [0, 0.1]}, {}, "data.val_split says what a search chooses by"),
        ({"model.optimizer.lr": [math.nan, 0.1]}, {}, r"space.model.optimizer.lr\[0\] is nan"),
        (
            {"model.optimizer.lr": [0.1, "fast"]},
            {},
            "model.optimizer.lr of the space is 'fast': optimizer SGD does not",
        ),
        ({"model.optimizer.lr": {"low": -1.0, "high": 1.0}}, {}, "lr of the space is -1.0: .*Invalid learning rate"),
        (RATE | {"data.batch_size": [20, 0]}, {}, "data.batch_size of the space is 0: batch_size must be at least 1"),
        ({"trainer.max_epochs": {"low": 1, "high": 2.5}}, {}, "trainer.max_epochs of the space is 1.0"),
        (RATE, {"sampler": "grid"}, "list them, or give the range a step"),
        (RATE, {"metric": "test_error"}, "not of held-out training data"),
        (RATE | {"data.val_split": [0]}, {}, "set data.val_split"),
        (RATE | {"data.monitor_test": [True]}, {}, "data.monitor_test"),
        (RATE, {"prune": True, "seeds": 2}, "one seed"),
        (RATE, {"prune": True, "stack": True}, "no stack"),
        (RATE, {"trials": 0}, "trials"),
        (RATE, {"sampler": "tpee"}, "tpe"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(space, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        search(CONFIG, space, jobs=0, runs_dir=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_a_value_that_goes_with_some_values_of_the_others_is_let_through():
    config = override(CONFIG, {"model.optimizer.momentum": 0.0, "model.optimizer.nesterov": False})
    nesterov = {"model.optimizer.nesterov": [False, True]}
    Space(nesterov | {"model.optimizer.momentum": [0.0, 0.9]}, config).check_values(config)
    with pytest.raises(ValueError, match=r"nesterov of the space is True: .*requires a momentum"):
        Space(nesterov, config).check_values(config)


@pytest.mark.parametrize("section", ["model", "data"])
def test_a_class_of_ones_own_is_refused_by_its_name_and_not_by_what_it_lacks(section, tmp_path):
    config = CONFIG | {section: {"class_path": "mine.Own", "init_args": {"lr": 0.1}}}
    with pytest.raises(ValueError, match=rf"trains the package's Classifier .* {section} is mine.Own; write"):
        search(config, RATE | {"data.val_split": [0.3]}, jobs=0, runs_dir=tmp_path / "runs")


def test_an_unknown_option_of_the_configuration_is_refused_before_the_first_trial(tmp_path):
    config = CONFIG | {"data": {"dataset": "digits", "val_split": 0.3}}
    with pytest.raises(ValueError, match=r"unknown option of data 'dataset'"):
        search(config, RATE, jobs=0, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_no_trial_measures_is_refused_and_not_searched_by(tmp_path):
    with pytest.raises(ValueError, match=r"unknown metric 'val_eror'. Did you mean 'val_error'"):
        search(CONFIG, {"model.optimizer.lr": [0.1, 0.2]}, metric="val_eror", jobs=0, runs_dir=tmp_path)


def test_what_diverges_has_no_value_and_is_no_unknown_metric(tmp_path):
    options: dict[str, Any] = {"metric": "val_loss", "sampler": "grid", "jobs": 0, "runs_dir": tmp_path}
    found = search(CONFIG, {"model.optimizer.lr": [1e30, 2e30]}, **options)
    assert [math.isnan(one.value) for one in found.trials] == [True, True]
    assert found.best is None


def test_the_order_of_a_space_is_a_part_of_its_name_as_it_is_of_its_trials(tmp_path):
    options: dict[str, Any] = {"trials": 1, "sampler": "random", "jobs": 0, "runs_dir": tmp_path}
    space = RATE | {"data.batch_size": [10, 20]}
    first, other = (search(CONFIG, dict(items), **options) for items in (space.items(), reversed(space.items())))
    assert first.trials[0].settings != other.trials[0].settings
    assert first.paper.id != other.paper.id


def test_a_part_of_what_is_set_may_vary(tmp_path):
    space = {"model.optimizer": [{"name": "Adam", "lr": 0.5}], "model.optimizer.lr": [0.01, 0.02]}
    found = search(CONFIG, space, sampler="grid", jobs=0, runs_dir=tmp_path)
    assert resolve(found.config)["model"]["optimizer"] == {
        "name": "Adam",
        "lr": found.best.settings["model.optimizer.lr"],
    }


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"lightning-regs\[search\]"):
        search(CONFIG, {"data.batch_size": [1, 2]})


def test_spaces_come_from_files_and_texts(tmp_path):
    (tmp_path / "space.yaml").write_text("data.batch_size: [1, 2]\nmodel.optimizer.lr: [1]\n")
    assert read_space([str(tmp_path / "space.yaml"), "model.optimizer.lr: [2]"]) == {
        "data.batch_size": [1, 2], "model.optimizer.lr": [2],
    }  # fmt: skip
    assert read_space(["model.optimizer.lr: [1e-3, 5E-1]"]) == {"model.optimizer.lr": [0.001, 0.5]}
    for bad, message in (("nowhere.yaml", "neither a file nor a mapping"), ("a: [", "no YAML")):
        with pytest.raises(ValueError, match=message):
            read_space([bad])
    rates = {"model.optimizer.lr": {"low": 0.1, "high": 0.3, "step": 0.1}}
    assert Space(rates, CONFIG).combinations() == [{"model.optimizer.lr": rate} for rate in (0.1, 0.2, 0.3)]
    both = Space({"data.batch_size": {"low": 1, "high": 9, "step": 4}, "model.optimizer.lr": [0.1]}, CONFIG)
    assert [list(one.values()) for one in both.combinations()] == [[1, "0.1"], [5, "0.1"], [9, "0.1"]]
    halves = Space({"model.optimizer.momentum": {"low": 0, "high": 1, "step": 0.5}}, CONFIG)
    assert halves.distributions["model.optimizer.momentum"].step == 0.5  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_command_prints_the_best_trials_and_goes_on(tmp_path, capsys):
    import yaml

    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    command = ["search", str(tmp_path / "mine.yaml"), "--space", "model.optimizer.lr: [0.1, 0.2]", "--sampler", "grid",
               "--jobs", "1", "--runs", str(tmp_path / "runs")]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "The best of 2 trials, on held-out training data" in said
    assert "lightning-regs fit --config" in said
    assert main([*command, "--page", str(tmp_path / "page")]) == 0
    assert "started" not in capsys.readouterr().out
    [page] = (tmp_path / "page").glob("search-*.html")
    assert "lightning-regs search" in page.read_text()


def test_the_task_takes_replicas_as_single_runs(tmp_path):
    contexts = [RunContext(tmp_path / f"{seed}", seed) for seed in range(2)]
    rows = trial.stacked([CONFIG, override(CONFIG, {"model.optimizer.lr": 0.2})], contexts)
    assert [set(row) & {"val_acc", "test_acc"} for row in rows] == [{"val_acc"}] * 2
