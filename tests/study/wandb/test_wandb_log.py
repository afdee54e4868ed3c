from __future__ import annotations

import json
import math
import os
import signal
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from wandb_made import NASTY, Made, forget_login, inspect, logs, make_paper, nothing, read_csv

from lightning_regs.core.runs import FIXED
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.wandb import check as wandb_check
from lightning_regs.study.wandb import log as wandb_log


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    forget_login(monkeypatch, tmp_path)


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The paper reproduced and logged offline, once for all tests that only read."""
    root = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as monkeypatch:
        forget_login(monkeypatch, root)
        # Of a run that is not ours.
        for name, value in {"RUN_ID": "theirs", "NAME": "theirs", "RESUME": "must", "PROJECT": "of-mine"}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        made = Made(root)
        before, imported = dict(os.environ), "wandb" in sys.modules
        outcome = made.reproduce(on_event=lambda event: None)
        assert dict(os.environ) == before
        assert ("wandb" in sys.modules) == imported
        assert outcome.exit_code == 0
        assert made.said == []
        made.reproduce(paper=make_paper("other", [make_paper().scale("quick").cells[0]], seeds=1))
    folders = logs(made.store)
    return SimpleNamespace(made=made, outcome=outcome, folders=folders, read={f: inspect(f) for f in folders})


def _of(logged, paper, cell, seed):
    [found] = [
        (folder, *read)
        for folder, read in logged.read.items()
        if (read[1]["config"]["paper"], read[1]["config"]["cell"], read[1]["config"]["seed"]) == (paper, cell, seed)
    ]
    return found


def test_one_folder_for_each_cell_and_seed(logged):
    cells = ["net/plain", NASTY, "twin/a", "twin/b"]
    expected = [("made", cell, seed) for cell in cells for seed in (0, 1)] + [("other", "net/plain", 0)]
    configs = [read[1]["config"] for read in logged.read.values()]
    assert sorted((config["paper"], config["cell"], config["seed"]) for config in configs) == sorted(expected)
    ids = {read[1]["run_id"] for read in logged.read.values()}
    assert len(ids) == 9
    assert all(name.isalnum() for name in ids)
    assert {read[1]["state"] for read in logged.read.values()} == {"finished"}
    assert {read[1]["exit_code"] for read in logged.read.values()} == {0}
    for folder in logged.folders:
        assert folder.parent.parent.name == logged.read[folder][1]["config"]["config_hash"]
        assert {path.name for path in folder.iterdir()} == {"files", next(folder.glob("*.wandb")).name}
    # Cells with equal configurations, and papers with equal cells, share a run folder, but no W&B run.
    assert _of(logged, "made", "twin/a", 0)[0].parent == _of(logged, "made", "twin/b", 0)[0].parent
    assert _of(logged, "made", "net/plain", 0)[0].parent == _of(logged, "other", "net/plain", 0)[0].parent


def test_history_and_summary_equal_our_records(logged):
    for row in read_csv(logged.outcome.csv):
        _, records, read = _of(logged, "made", row["cell"], int(row["seed"]))
        expected = {f"metric{n}" if n.startswith("_") else n: v for n, v in row.items() if n not in FIXED and v}
        expected |= {name: row[name] for name in ("epochs", "wall_s") if row[name]}
        found = {name: value for name, value in read["summary"].items() if not name.startswith("_")}
        assert found.keys() == expected.keys()
        for name, text in expected.items():
            assert float(found[name]) == float(text) or (found[name] == "NaN" and math.isnan(float(text)))
        curves = logged.made.store / row["config_hash"] / "curves.csv"
        points = read_csv(curves) if curves.exists() else []
        history = [entry["item"] for entry in records.get("history", [])]
        assert len(history) == len(points) == {"net/plain": 3, NASTY: 2}.get(row["cell"], 0)
        for number, (item, point) in enumerate(zip(history, points, strict=True)):
            assert item["_step"] == number
            assert item["trainer/global_step"] == float(point.pop("step"))
            ours = {f"metric{n}" if n.startswith("_") else n: v for n, v in point.items() if v}
            internal = {"_step", "_runtime", "_timestamp", "trainer/global_step"}
            assert item.keys() - internal == ours.keys()
            for name, text in ours.items():
                assert float(item[name]) == float(text) or (item[name] == "NaN" and math.isnan(float(text)))


def test_the_configuration_is_the_cells_and_where_the_row_comes_from(logged):
    _, records, read = _of(logged, "made", "net/plain", 1)
    row = next(r for r in read_csv(logged.outcome.csv) if (r["cell"], r["seed"]) == ("net/plain", "1"))
    origin = {name: row[name] for name in ("commit", "versions", "device", "precision", "config_hash")}
    own = {"rows": 3, "cell_seed": "its own", "options": {"source": "digits", "p": 0.1}}
    assert read["config"] == own | origin | {"paper": "made", "scale": "quick", "cell": "net/plain", "seed": 1}
    [run] = records["run"]
    assert run["display_name"] == "net/plain seed 1"
    assert run["run_group"] == "made/quick/net/plain"
    assert run["job_type"] == "quick"
    assert sorted(run["tags"]) == ["made", "quick"]
    assert run["project"] == "of-mine"
    assert _of(logged, "made", NASTY, 0)[2]["config"]["text"] == "\0" + NASTY
    nasty = _of(logged, "made", NASTY, 0)[1]["run"][0]
    assert len(nasty["run_group"]) <= 128 >= len(nasty["display_name"])
    assert nasty["display_name"] != _of(logged, "made", NASTY, 1)[1]["run"][0]["display_name"]


def test_curves_are_drawn_over_the_training_step(logged):
    _, records, _ = _of(logged, "made", NASTY, 0)
    metrics = {metric.get("glob_name") or metric["name"]: metric for metric in records["metric"]}
    assert metrics["*"]["step_metric"] == metrics["val\\.acc"]["step_metric"] == "trainer/global_step"


def test_results_are_a_run_of_their_own(logged):
    every = (logged.made.store / "wandb").glob("offline-run-*")
    [folder] = [folder for folder in every if inspect(folder)[1]["config"]["paper"] == "made"]
    records, read = inspect(folder)
    assert records["run"][0]["display_name"] == "made quick results"
    assert records["run"][0]["job_type"] == "results"
    [table] = folder.glob("files/media/table/claims*.table.json")
    claims = json.loads(table.read_text())
    assert claims["columns"] == ["id", "sentence", "paper", "ours", "low", "high", "seeds", "verdict", "reason"]
    ours = logged.outcome.claims[0]
    assert claims["data"][0][:7] == ["1", "It is 33 %.", "33 (recalled)", ours.ours, ours.low, ours.high, 2]
    assert claims["data"][1] == ["2", "It is something.", "some", None, None, None, 0, "out of reach", NASTY]
    verdicts = {"reproduced": 0, "not_reproduced": 0, "not_decided": 1, "out_of_reach": 1, "runs": 8}
    assert verdicts.items() <= read["summary"].items()
    [image] = folder.glob("files/media/images/figure/*.png")
    width, height = struct.unpack(">II", image.read_bytes()[16:24])
    assert image.name.startswith("loss_")
    assert width > height > 300
    assert image.stat().st_size < 300_000
    files = {
        entry["path"]: Path(entry["local_path"])
        for artifact in records["artifact"]
        if artifact["name"] == "made-quick-results"
        for entry in artifact["manifest"]["contents"]
    }
    assert set(files) == {"quick.csv", "quick.claims.json", "quick.curves.csv"}
    assert files["quick.csv"].read_text() == logged.outcome.csv.read_text()
    assert all(path.is_relative_to(logged.made.store) for path in files.values())


def test_a_repeated_command_adds_nothing_and_a_damaged_log_is_written_anew(logged, monkeypatch):
    made = logged.made
    monkeypatch.setenv("WANDB_PROJECT", "of-mine")

    def state():
        every = [*logs(made.store), *(made.store / "wandb").glob("offline-run-*")]
        return {folder: next(folder.glob("*.wandb")).read_bytes() for folder in every if any(folder.glob("*.wandb"))}

    before = state()
    monkeypatch.setattr(wandb_log.Child, "send", lambda self, message: pytest.fail("there is nothing to write"))
    made.reproduce()
    assert state() == before
    monkeypatch.undo()
    forget_login(monkeypatch, made.root)
    monkeypatch.setenv("WANDB_PROJECT", "of-mine")
    # One that a kill left without its mark, one that is cut, one that a power cut left with zeros, one that is gone.
    cut, unmarked, gone = (_of(logged, "made", cell, 1)[0] for cell in ("net/plain", "twin/a", NASTY))
    zeros = _of(logged, "made", "net/plain", 0)[0]
    (log,) = cut.glob("*.wandb")
    log.write_bytes(log.read_bytes()[:-10])
    (log,) = zeros.glob("*.wandb")
    log.write_bytes(bytes(log.stat().st_size))
    (unmarked.parent / f"{unmarked.name.split('-')[-1]}.json").write_text('{"digest": "')
    for path in sorted(gone.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    gone.rmdir()
    made.reproduce()
    after = state()
    assert len(after) == len(before)
    touched = {cut, zeros, unmarked, gone}
    assert {f: content for f, content in after.items() if f in before and f not in touched} == {
        f: content for f, content in before.items() if f not in touched
    }
    ids = {folder.name.split("-")[-1] for folder in touched}
    for folder in after:
        if folder.name.split("-")[-1] in ids:
            assert inspect(folder)[1]["state"] == "finished"


def test_an_interrupted_run_is_one_w_and_b_run_and_a_killed_writer_costs_one_warning(made, eventually):
    cells = [Cell("one", "wandb_made:measure", {"rows": 4, "trouble": "interrupt"}), Cell("two", "wandb_made:nothing")]
    paper = make_paper(cells=cells, seeds=1)
    made.trouble("interrupt")
    outcome = made.reproduce(paper=paper)
    assert outcome.interrupted
    assert not list(made.store.rglob("*run-*"))
    made.trouble("interrupt", there=False)

    def kill(event):
        if event.kind == "finished" and event.cell == "one":
            eventually(made.writers, "the writer starts")
            for pid in made.writers():
                os.kill(pid, signal.SIGKILL)

    outcome = made.reproduce(paper=paper, on_event=kill)
    assert outcome.exit_code == 0
    assert len(outcome.rows) == 2
    warning, lost = made.said
    assert "SIGKILL" in warning
    assert warning.endswith("the results are not affected; --wandb off leaves it out.")
    assert lost == "W&B: 3 runs were not logged; a repeated command logs what is missing."
    made.said.clear()
    made.reproduce(paper=paper)
    assert made.said == []
    one, two = sorted((inspect(folder) for folder in logs(made.store)), key=lambda read: read[1]["config"]["cell"])
    assert [entry["item"]["epoch"] for entry in one[0]["history"]] == [1, 2, 3, 4]
    assert two[1]["summary"]["norm"] == nothing({}, None)["norm"]


def test_off_does_nothing(made, monkeypatch):
    monkeypatch.setattr(wandb_log.Child, "send", lambda self, message: pytest.fail("it is off"))
    outcome = made.reproduce("off")
    assert len(outcome.rows) == 8
    assert not list(made.store.rglob("*wandb*"))


def test_a_log_is_whole_only_with_every_row_and_the_end(logged, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_check, "_TIMEOUT", 0.0)
    folder, _, _ = _of(logged, "other", "net/plain", 0)
    [log] = folder.glob("*.wandb")
    content = log.read_bytes()
    copy = tmp_path / "copy.wandb"
    copy.write_bytes(content)
    wandb_check.check(copy, 3)
    with pytest.raises(OSError, match="disk may be full"):
        wandb_check.check(copy, 4)
    for length in (0, 5, 7, 100, len(content) // 2, len(content) - 1):
        copy.write_bytes(content[:length])
        with pytest.raises(OSError, match="disk may be full"):
            wandb_check.check(copy, 3)
