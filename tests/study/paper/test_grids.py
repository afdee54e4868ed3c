"""Cells one by one, in grids, and at scales."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_regs.data import SOURCES, load
from lightning_regs.study.paper.cells import Cell, Cells, grid, regularized
from lightning_regs.study.paper.paper import TEST_SAMPLES, Scale
from lightning_regs.study.paper.tasks import AGREE, AGREEMENT, SNAPSHOTS, TRAIN, check_tasks

YAML = "model: {dropout: 0.0, width: 8}\ndata: {source: mnist}\ntrainer: {max_epochs: 9}\n"
METHODS = {"none": {}, "dropout": {"model.dropout": 0.5}}
WIDTHS = {8: {}, 16: {"model.width": 16, "model.dropout": 0.1}}


@pytest.fixture(autouse=True)
def _config(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mlp.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)


def test_a_grid_makes_a_cell_of_each_combination_and_later_axes_win():
    cells = grid("{width}/{method}", "mlp.yaml", {"trainer.max_epochs": 2}, width=WIDTHS, method=METHODS, seeds=4)
    assert [cell.name for cell in cells] == ["8/none", "8/dropout", "16/none", "16/dropout"]
    assert [cell.config["model"] for cell in cells] == [
        {"dropout": 0.0, "width": 8},
        {"dropout": 0.5, "width": 8},
        {"dropout": 0.1, "width": 16},
        {"dropout": 0.5, "width": 16},
    ]
    assert {(cell.task, cell.seeds, cell.config["trainer"]["max_epochs"]) for cell in cells} == {(TRAIN, 4, 2)}
    (swapped,) = grid("{method}", "mlp.yaml", {"model.dropout": 0.3}, method={"dropout": {"model.dropout": 0.5}})
    assert swapped.config["model"]["dropout"] == 0.5
    assert [cell.name for cell in grid("mlp", "mlp.yaml", task="m:f")] == ["mlp"]
    after = grid("after/{width}", "mlp.yaml", task="m:f", needs=("{width}/none", "one"), width=WIDTHS)
    assert [cell.needs for cell in after] == [("8/none", "one"), ("16/none", "one")]


@pytest.mark.parametrize(
    ("name", "axes", "error", "message"),
    [
        ("{method}", {"method": METHODS, "width": WIDTHS}, ValueError, "varies 'width', which its name does not say"),
        ("{method}/{net}", {"method": METHODS}, ValueError, "has {net} in its name, which does not vary; add it."),
        (
            "{method}",
            {"method": ["none"]},
            TypeError,
            "grid '{method}': method must be a mapping, got ['none'].",
        ),
        ("{m}{w}", {"m": {"a": {}, "ab": {}}, "w": {"bc": {}, "c": {}}}, ValueError, "more than one cell named 'abc'"),
    ],
)
def test_a_grid_whose_names_do_not_say_what_varies_is_refused(name, axes, error, message):
    with pytest.raises(error) as refused:
        grid(name, "mlp.yaml", **axes)
    assert f"grid {name!r}" in str(refused.value)
    assert message in str(refused.value)


def test_cells_are_chosen_by_name_or_glob_in_their_own_order():
    cells = Cells(Cell(name, "m:f") for name in ("b/1", "a[1]", "b/2", "c"))
    assert [cell.name for cell in cells.only("b/*")] == ["b/1", "b/2"]
    assert [cell.name for cell in cells.only("c", "a[1]", "b/1")] == ["b/1", "a[1]", "c"]
    assert [cell.name for cell in cells.only("c") + cells.only("b/2")] == ["c", "b/2"]
    scale = Scale("quick", "", cells)
    assert scale.select(["c", "b/2"]) == scale.select("b/2") + scale.select("c")
    assert scale.select(None) == cells
    with pytest.raises(ValueError, match=r"unknown cell 'b/3'. Did you mean"):
        scale.select(["c", "b/3"])


def test_a_scale_changes_the_cells_that_train_and_no_other():
    theory = Cell("theory", "m:f", {"n": 3})
    cells = Cells((*grid("{method}", "mlp.yaml", method=METHODS), theory))
    small = Scale("quick", "", cells, overrides={"data.source": "digits", "trainer.max_epochs": 1})
    assert [cell.config.get("data") for cell in small.cells] == [{"source": "digits"}, {"source": "digits"}, None]
    assert small.cells == cells.at({"data.source": "digits", "trainer.max_epochs": 1})
    assert cells[0].config["data"]["source"] == "mnist"  # what scales share is not changed
    with pytest.raises(ValueError, match=r"unknown config section 'date'. Did you mean 'data'"):
        Scale("quick", "", cells, overrides={"date.source": "digits"})


@pytest.mark.parametrize(
    ("about", "error", "message"),
    [
        (
            {"task": "module.function"},
            ValueError,
            "cell 'a' has the task 'module.function'; write it as 'module:function'",
        ),
        ({"seeds": 0}, ValueError, "cell 'a': seeds must be at least 1, got 0"),
        ({"name": " "}, ValueError, "a cell needs a name; give it one that says what it varies"),
        ({"name": "a\ud800"}, ValueError, "cell 'a\\ud800' has a name that no file can hold; give it another"),
        ({"config": {"x": Path("/")}}, TypeError, "config of cell 'a'.x is a PosixPath"),
        (
            {"config": {"trainer": {}, "data": {"source": "digits", "seeds": {"order": 0}}, "seeds": {"weights": 0}}},
            ValueError,
            "cell 'a': data.seeds is set by the run; leave it out, and give what has another seed as seeds beside the",
        ),
        ({"config": {"trainer": {}, "model": {"seed": 3}}}, ValueError, "cell 'a': model.seed is set by the run;"),
        ({"needs": "b"}, TypeError, "cell 'a': needs must be a tuple, got 'b'; write ('b',)."),
    ],
)
def test_a_bad_cell_is_refused(about, error, message):
    with pytest.raises(error) as refused:
        Cell(**({"name": "a", "task": "m:f"} | about))
    assert str(refused.value).startswith(message)


def test_a_cells_hash_is_of_what_it_computes():
    assert Cell("a", "m:f", {"x": (1, 2)}).config == {"x": [1, 2]}
    assert Cell("a", "m:f", {"x": (1, 2)}).hash(1) == Cell("b", "m:f", {"x": [1, 2]}, seeds=4).hash(1)


def test_a_task_without_a_module_is_refused():
    check_tasks({"json:dumps": "a", TRAIN: "b"})
    for task, module in (("json.nothing:f", "json.nothing"), ("nothing.at.all:f", "nothing.at.all")):
        with pytest.raises(ValueError, match=f"^cell 'a' has the task '{task}', but there is no module '{module}'"):
            check_tasks({task: "a"})


def test_a_setting_that_training_does_not_read_is_refused():
    config = "configs/zhang2017/digits-mlp-1x512.yaml"
    with pytest.raises(ValueError, match=r"^the grid 'g' overrides 'max_epochs', .* such as 'trainer.max_epochs', or"):
        grid("g", config, {"max_epochs": 10})
    assert grid("g", config, {"fitted": 0.9})[0].config["fitted"] == 0.9
    assert grid("g", config, {"levels": {"most": 3}}, task="m:f")[0].config["levels"] == {"most": 3}


def test_a_grid_takes_the_sections_that_its_task_reads():
    runs = {n: {"snapshots": {"cycles": n}, "model.width": 4} for n in (2, 3)}
    cells = grid("{n}", "mlp.yaml", task=SNAPSHOTS, stack=True, n=runs)
    assert [(cell.config["snapshots"], cell.config["model"]["width"], cell.stack) for cell in cells] == [
        ({"cycles": 2}, 4, "2"), ({"cycles": 3}, 4, "3"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"^unknown config section 'snapshot'. Did you mean 'snapshots'"):
        grid("g", "mlp.yaml", {"snapshot.cycles": 2}, task=SNAPSHOTS)
    with pytest.raises(ValueError, match=r"^unknown config section 'snapshots'"):
        grid("g", "mlp.yaml", {"snapshots.cycles": 2})
    with pytest.raises(ValueError, match=r"^the grid 'g' overrides 'cycles', which its task does not read"):
        grid("g", "mlp.yaml", {"cycles": 2}, task=SNAPSHOTS)


def test_a_sample_of_test_items_asks_for_the_agreement_of_nets_on_it():
    cells = grid("mlp", "mlp.yaml")
    with pytest.raises(ValueError, match=r"^scale 'quick' has test_items=100 and no cell 'study/agreement', .*; add "):
        Scale("quick", "", cells, test_items=100)
    cells += grid(AGREEMENT, "mlp.yaml", {"other": regularized("Mixup", alpha=1)})
    assert cells[1].task == AGREE
    assert Scale("quick", "", cells, test_items=100).cells[1].config["other"] == {
        "model.regularizers": [{"class_path": "lightning_regs.Mixup", "init_args": {"alpha": 1}}]
    }


def test_how_many_test_items_there_are_follows_from_the_data():
    cells = grid("mlp", "mlp.yaml") + grid(AGREEMENT, "mlp.yaml", {"other": {}})
    own = cells.at({"data.source": "own.npz"})
    assert [Scale("quick", "", some).test_samples for some in (cells, cells[:1], own[:1])] == [10_000, 0, 0]
    assert [Scale("quick", "", cells, test_items=items).test_samples for items in (0, 100)] == [0, 100]
    with pytest.raises(ValueError, match=r"^scale 'quick' measures agreement on 'own.npz', of which .*; say"):
        Scale("quick", "", own)
    assert Scale("quick", "", own, test_items=7).test_samples == 7


@pytest.mark.parametrize("source", ["digits", "mnist1d"])
def test_the_numbers_of_test_samples_are_those_of_the_data(source):
    assert TEST_SAMPLES[source] == len(load(source).y_test)
    assert set(TEST_SAMPLES) == set(SOURCES)
