"""What an offline run holds, as wandb's own inspector shows it."""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from types import SimpleNamespace

import pytest
from wandb_lab import Lab, inspect, isolate, read_csv

from lightning_regs.core.runs import FIXED, Run
from lightning_regs.study.report.drawing import name_figure
from lightning_regs.study.report.specification import specify
from lightning_regs.study.wandb.export import _confirm, _inspect, label


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Both papers reproduced and exported, once for all tests that only read."""
    root = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, root)
        # Of a run that is not ours.
        for name, value in {"RUN_ID": "theirs", "NAME": "theirs", "RESUME": "must", "PROJECT": "of-mine"}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        lab = Lab(root)
        before, imported = dict(os.environ), "wandb" in sys.modules
        outcome = lab.reproduce("offline", "other", "made")
        assert dict(os.environ) == before
        assert ("wandb" in sys.modules) == imported
    assert outcome.exit_code == 0
    assert lab.said == []
    read = {folder: inspect(folder) for folder in lab.logs()}
    return SimpleNamespace(lab=lab, outcome=outcome, read=read, nasty=outcome.paper.scales[0].cells[1].name)


def _of(logged, paper, cell=None, seed=None):
    def key(config):
        return (config["paper"], config.get("cell"), config.get("seed"))

    specified = cell if cell is None else specify(logged.outcome.paper, logged.lab.results / "made", show=name_figure)
    if specified is not None:  # where a cell's name cannot be shown as it is, both write it alike
        names = [each.name for group in specified.sections[0].groups for each in group.cells]
        cell = names[[each.name for each in logged.outcome.paper.scales[0].cells].index(cell)]
    [found] = [folder for folder, (_, read) in logged.read.items() if key(read["config"]) == (paper, cell, seed)]
    return found, *logged.read[found]


def _same(found, text):
    return float(found) == float(text) or (found == "NaN" and math.isnan(float(text)))


@pytest.mark.slow
def test_one_folder_for_each_cell_and_seed(logged):
    runs = logged.lab.runs() + logged.lab.runs("other")
    summaries = [read for _, read in logged.read.values()]
    assert len(logged.read) == len(runs) + 2 == len({read["run_id"] for read in summaries})
    assert {run.id for run in runs} < {read["run_id"] for read in summaries}
    assert {(read["state"], read["exit_code"]) for read in summaries} == {("finished", 0)}
    for run in runs:  # cells with equal configurations, and papers with equal cells, share a folder, but no W&B run
        [folder] = (run.home / "wandb").glob(f"offline-run-*-{run.id}*")
        assert {path.name for path in folder.iterdir()} == {"files", f"run-{run.id}.wandb"}
    assert len(list(_of(logged, "made", "twin/a", 0)[0].parent.glob("offline-run-*"))) == 2
    assert not (logged.lab.root / "config").exists()


@pytest.mark.slow
def test_history_and_summary_equal_the_table(logged):
    for row in read_csv(logged.outcome.csv):
        _, records, read = _of(logged, "made", row["cell"], int(row["seed"]))
        expected = {f"metric{n}" if n.startswith("_") else n: v for n, v in row.items() if n not in FIXED and v}
        expected |= {name: row[name] for name in ("epochs", "wall_s") if row[name]}
        found = {name: value for name, value in read["summary"].items() if not name.startswith("_")}
        assert found.keys() == expected.keys()
        assert all(_same(found[name], text) for name, text in expected.items())
        curves = logged.lab.store.root / row["config_hash"] / "curves.csv"
        points = read_csv(curves) if curves.exists() else []
        history = [entry["item"] for entry in records.get("history", [])]
        assert len(history) == len(points) == {"net/plain": 3, logged.nasty: 2}.get(row["cell"], 0)
        for number, (item, point) in enumerate(zip(history, points, strict=True)):
            assert item["_step"] == number
            assert item["trainer/global_step"] == float(point.pop("step"))
            ours = {f"metric{n}" if n.startswith("_") else n: v for n, v in point.items() if v}
            assert item.keys() - {"_step", "_runtime", "_timestamp", "trainer/global_step"} == ours.keys()
            assert all(_same(item[name], text) for name, text in ours.items())


@pytest.mark.slow
def test_the_configuration_is_the_cells_and_where_the_row_comes_from(logged):
    _, records, read = _of(logged, "made", "net/plain", 1)
    row = next(r for r in read_csv(logged.outcome.csv) if (r["cell"], r["seed"]) == ("net/plain", "1"))
    origin = {name: row[name] for name in ("commit", "versions", "device", "precision", "config_hash")}
    own = {"rows": 3, "cell_seed": "its own", "options": {"p": 0.1}}
    assert read["config"] == own | origin | {"paper": "made", "scale": "quick", "cell": "net/plain", "seed": 1}
    [run] = records["run"]
    assert run["display_name"] == "net/plain seed 1"
    assert run["run_group"] == "made/quick/net/plain"
    assert run["job_type"] == "quick"
    assert sorted(run["tags"]) == ["made", "quick"]
    assert run["project"] == "of-mine"
    names = [_of(logged, "made", logged.nasty, seed)[1]["run"][0]["display_name"] for seed in (0, 1)]
    assert len(set(names)) == 2
    assert all(len(name) <= 128 for name in names)


@pytest.mark.slow
def test_curves_are_drawn_over_the_training_step(logged):
    metrics = {m.get("glob_name") or m["name"]: m for m in _of(logged, "made", logged.nasty, 0)[1]["metric"]}
    assert metrics["*"]["step_metric"] == metrics["val\\.acc"]["step_metric"] == "trainer/global_step"


@pytest.mark.slow
def test_results_are_a_run_of_their_own(logged):
    folder, records, read = _of(logged, "made")
    assert folder.parent.parent.parent == logged.lab.store.root / "wandb"
    assert records["run"][0]["display_name"] == "made quick results"
    assert records["run"][0]["job_type"] == "results"
    [table] = folder.glob("files/media/table/claims*.table.json")
    claims = json.loads(table.read_text())
    columns = ["id", "sentence", "kind", "paper", "ours", "low", "high", "seeds", "verdict", "exploratory", "reason"]
    assert claims["columns"] == columns
    ours = logged.outcome.claims[0]
    [section] = specify(logged.outcome.paper, logged.lab.results / "made", show=name_figure).sections
    assert claims["data"][0][3] == f"{section.claims[0].paper} (recalled)"
    assert claims["data"][0][:2] + claims["data"][0][4:8] == ["1", "It is 33 %.", ours.ours, ours.low, ours.high, 2]
    assert claims["data"][1][:2] == ["2", "It is something."]
    assert claims["data"][1][3:] == ["some", None, None, None, 0, "out of reach", "", "Far away."]
    verdicts = {"reproduced": 0, "not_reproduced": 0, "not_decided": 1, "out_of_reach": 1, "runs": 8}
    assert verdicts.items() <= read["summary"].items()
    headline, image = sorted(folder.glob("files/media/images/figure/*.png"))
    assert headline.name.startswith("headline_")
    width, height = struct.unpack(">II", image.read_bytes()[16:24])
    assert image.name.startswith("loss_")
    assert width > height > 300
    assert image.stat().st_size < 300_000
    artifact = next(each for each in records["artifact"] if each["name"] == "made-quick-results")
    files = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert set(files) == {"quick.csv", "quick.claims.json", "quick.curves.csv"}
    assert files["quick.csv"].startswith(str(logged.lab.store.root))


@pytest.mark.slow
def test_a_repeated_command_writes_what_is_missing_and_nothing_else(logged, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "of-mine")

    def state():
        return {folder: next(folder.glob("*.wandb")).stat().st_mtime_ns for folder in logged.lab.logs()}

    before = state()
    logged.lab.reproduce()
    assert state() == before
    # One that a kill left without its mark, one whose mark is cut, one that is gone, one whose numbers have changed.
    unmarked, cut, gone, changed = logged.lab.runs()[:4]
    (unmarked.home / "wandb" / f"{unmarked.id}.json").unlink()
    (cut.home / "wandb" / f"{cut.id}.json").write_text('{"digest": "')
    [log] = (gone.home / "wandb").glob(f"*-{gone.id}/*.wandb")
    log.unlink()
    run = Run(changed.home)
    run.finish((run.row() or {}) | {"count": 8})
    logged.lab.reproduce()
    after = state()
    touched = {run.id for run in (unmarked, cut, gone, changed)}
    results = _of(logged, "made")[0].name.split("-")[-1]
    renewed = {folder.name.split("-")[-1] for folder in after if before.get(folder) != after[folder]}
    assert renewed == touched | {results}
    assert len(after) == len(before)
    [folder] = (changed.home / "wandb").glob(f"offline-run-*-{changed.id}*")
    assert inspect(folder)[1]["summary"]["count"] == 8
    assert logged.lab.said == []


@pytest.mark.slow
def test_a_log_is_whole_only_with_its_end(logged, tmp_path, monkeypatch):
    from wandb.util import get_core_path

    monkeypatch.setattr("lightning_regs.study.wandb.export._ARRIVED", 0.0)
    [log] = _of(logged, "other", None, None)[0].glob("*.wandb")
    content = log.read_bytes()
    copy = tmp_path / "copy.wandb"
    copy.write_bytes(content)
    assert _inspect(copy, get_core_path()) == "finished"
    for damaged in (content[:5], content[: len(content) // 2], content[:-1], bytes(len(content))):
        copy.write_bytes(damaged)
        with pytest.raises(OSError, match="disk may be full"):
            _confirm(lambda: _inspect(copy, get_core_path()), str(copy))


def test_names_are_what_w_and_b_takes():
    assert label(" a\n\tb ") == "a b"
    assert label("") == "-"
    assert label("\udc80").isascii()
    assert label("x" * 128) == "x" * 128
    long = [label("x" * 300 + end) for end in "ab"]
    assert len(long[0]) == len(long[1]) == 128
    assert long[0] != long[1]


def test_ids_are_the_same_again_and_differ_between_runs(lab):
    ids = [run.id for run in lab.runs() + lab.runs("other")]
    assert len(set(ids)) == len(ids)
    assert ids == [run.id for run in lab.runs() + lab.runs("other")]
