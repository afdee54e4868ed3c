from __future__ import annotations

import cProfile
import csv
import json
import math
import shutil
from pathlib import Path

import pytest

from lightning_regs.study import load_paper, reproduce
from lightning_regs.study.paper.tasks import AGREEMENT
from lightning_regs.study.run.executors.queue import Queue
from lightning_regs.study.run.planning import plan
from lightning_regs.study.run.provenance import commit, versions
from lightning_regs.study.store.results import default_results
from lightning_regs.study.store.tables import DamagedTable, read_table


def test_rows_claims_and_curves_are_written(toy):
    toy.write(toy.cell("one", steps=2, value=1 / 3), toy.cell("two"))
    outcome = reproduce("toy", jobs=0)
    assert (outcome.exit_code, outcome.finished, outcome.skipped) == (0, 4, 0)
    with outcome.csv.open() as file:
        rows = list(csv.DictReader(file))
    columns = "paper,scale,cell,seed,threads,value,epochs,wall_s,device,precision,commit,versions,config_hash"
    assert ",".join(rows[0]) == columns
    assert [(r["cell"], r["seed"]) for r in rows] == [("one", "0"), ("one", "1"), ("two", "0"), ("two", "1")]
    assert float(rows[0]["value"]) == 1 / 3
    assert rows[0]["device"].startswith("cpu (")
    assert rows[0]["epochs"] == "2"
    [claim] = json.loads(outcome.claims_json.read_text())
    assert ",".join(claim).startswith("id,sentence,paper_value,provenance,ours,low,high,n,verdict,unit,reason")
    assert claim["verdict"] == "reproduced"
    assert claim["n"] == 2
    assert outcome.curves_csv.read_text().count("one,0,") == 2


def test_complete_runs_are_skipped_and_files_left_alone(toy):
    toy.write(toy.cell("one"), toy.cell("two"))
    first = reproduce("toy", jobs=0)
    before = first.csv.stat().st_mtime_ns
    ran = toy.ran()
    again = reproduce("toy", jobs=0)
    assert toy.ran() == ran
    assert (again.finished, again.skipped) == (0, 4)
    assert first.csv.stat().st_mtime_ns == before
    assert again.rows == first.rows


def test_seeds_and_cells_choose_runs(toy):
    toy.write(toy.cell("a/x"), toy.cell("a/y"), toy.cell("b", seeds=1), seeds=3)
    paper = load_paper("toy")

    def chosen(**arguments):
        return [(p.cell.name, p.seed) for p in plan(paper, "quick", **arguments)]

    assert chosen() == [("a/x", 0), ("a/y", 0), ("b", 0), ("a/x", 1), ("a/y", 1), ("a/x", 2), ("a/y", 2)]
    assert chosen(cells="a/*", seeds=1) == [("a/x", 0), ("a/y", 0)]
    assert chosen(cells=["b", "a/x"], seeds=[7, 3]) == [("a/x", 7), ("b", 7), ("a/x", 3)]
    with pytest.raises(ValueError, match=r"unknown cell 'a/z'. Did you mean 'a/[xy]'"):
        chosen(cells="a/z")
    for bad in (0, -1, [], [1, 1], [-1], True):
        with pytest.raises(ValueError, match="seeds"):
            chosen(seeds=bad)
    with pytest.raises(ValueError, match="jobs is -1"):
        reproduce(paper, jobs=-1)


def test_runs_that_measure_agreement_lead_as_they_are_the_longest(toy):
    toy.write(toy.cell("a"), toy.cell(AGREEMENT, seeds=1, data={"source": "digits"}), toy.cell("b"), seeds=2)
    order = [(p.cell.name, p.seed) for p in plan(load_paper("toy"), "quick")]
    assert order == [(AGREEMENT, 0), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_a_task_that_does_not_exist_is_refused_before_anything_runs(toy):
    toy.write(toy.cell("one"), "Cell('two', 'toy.nothing:count')")
    with pytest.raises(ValueError, match=r"cell 'two' has the task 'toy.nothing:count', but there is no module"):
        reproduce("toy", jobs=0)
    assert toy.ran() == []


def test_a_failing_cell_does_not_stop_the_others(toy):
    toy.write(toy.cell("one", fail=True), toy.cell("two"), toy.cell("out", exit=True), seeds=1)
    events = []
    outcome = reproduce("toy", jobs=0, on_event=events.append)
    assert outcome.exit_code == 1
    assert outcome.finished == 1
    assert [(f.cell, f.text) for f in outcome.failed] == [
        ("one", "RuntimeError: it broke in two lines"),
        ("out", "SystemExit: 3"),
    ]
    text = Path(outcome.failed[0].folder, "error.txt").read_text()
    assert "Traceback" in text
    assert "in count" in text
    assert [r.cell for r in outcome.rows] == ["two"]
    assert outcome.claims[0].verdict == "not decided"
    assert "'one' has no rows" in outcome.claims[0].reason
    assert [e.kind for e in events].count("failed") == 2


class Instant:
    """Finishes every run at once, without a folder."""

    jobs = 1

    def ahead(self, look, stack):
        pass

    def run(self, stacks, emit):
        queue = Queue(stacks, emit)
        while (stack := queue.pop()) is not None:
            for job in stack:
                row = {"value": 1.0, "wall_s": 1.0, "seed": job.seed, "config_hash": job.run}
                queue.emit(job.event("finished", row=row))


@pytest.mark.slow
def test_what_a_run_costs_the_command_does_not_grow_with_the_runs(toy):
    toy.write(*(toy.cell(f"c{number}") for number in range(10)))
    paper = load_paper("toy")

    def calls(seeds):
        """Count the calls, of Python and of C, that each run costs."""
        profile = cProfile.Profile()
        results = toy.runs / f"results{seeds}"
        outcome = profile.runcall(reproduce, paper, seeds=seeds, executor=Instant(), results_dir=results)
        assert outcome.finished == 10 * seeds
        return sum(entry.callcount for entry in profile.getstats()) / outcome.finished

    assert calls(40) < 2 * calls(5)


def test_a_repaired_run_forgets_its_error(toy):
    toy.write(toy.cell("one", fail=True), seeds=1)
    failed = Path(reproduce("toy", jobs=0).failed[0].folder)
    (toy.folder / "tasks.py").write_text((toy.folder / "tasks.py").read_text().replace('config.get("fail")', "False"))
    (toy.folder / "paper.py").touch()
    import sys

    del sys.modules["toy.tasks"]
    assert reproduce("toy", jobs=0).exit_code == 0
    assert not (failed / "error.txt").exists()


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ({"seed": 1}, "a column of its own"),
        ({"a": "x"}, "not a number"),
        ({}, "return a mapping"),
        (3, "return a map"),
        ({"a\ud800": 1}, "which no table can hold"),
        ({"": 1}, "no table"),
        ({"a": 10**309}, "too large"),
    ],
)
def test_what_a_task_may_return(toy, returns, message):
    toy.write(toy.cell("one", task="bad", returns=returns), seeds=1)
    assert message in reproduce("toy", jobs=0).failed[0].text


@pytest.mark.parametrize("value", [True, 10**309, [1], {"y": 1}, "\0", "\ud800"])
def test_a_row_of_a_run_that_no_table_can_hold_is_measured_anew(toy, value):
    toy.write(toy.cell("one"), seeds=2)
    outcome = reproduce("toy", jobs=0)
    before = outcome.csv.read_text().splitlines()
    file = next(toy.runs.glob("*/row.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"value": value}))
    outcome = reproduce("toy", jobs=0)
    assert (outcome.finished, outcome.exit_code) == (1, 0)
    assert len(outcome.csv.read_text().splitlines()) == len(before)
    assert reproduce("toy", jobs=0).skipped == 2


@pytest.mark.parametrize("largest", [1e200, 1.7e308, -1.7e308, math.inf, math.nan, 10**300])
def test_numbers_without_measure_end_in_a_table_that_is_read_again(toy, largest):
    toy.write(toy.cell("one", task="huge"))
    task = f"def huge(config, run):\n    return {{'value': float('{largest}') * (1 - run.seed / 8)}}\n"
    (toy.folder / "tasks.py").write_text(task)
    for _ in range(2):
        outcome = reproduce("toy", jobs=0)
        assert (outcome.exit_code, len(outcome.rows), len(outcome.claims)) == (0, 2, 1)


def test_the_largest_seed_is_in_a_table_that_is_read_again(toy):
    toy.write(toy.cell("one"))
    for _ in range(2):
        outcome = reproduce("toy", jobs=0, seeds=[2**32 - 1])
        assert [row.seed for row in outcome.rows] == [2**32 - 1]
    for bad in (2**32, [2**32], [10**30]):
        with pytest.raises(ValueError, match="seeds"):
            reproduce("toy", jobs=0, seeds=bad)


def test_cells_with_equal_configurations_share_a_run(toy):
    same = "Cell({!r}, 'toy.tasks:count', {{'name': 'same'}})"
    toy.write(same.format("one"), same.format("two"), seeds=1)
    events = []
    outcome = reproduce("toy", jobs=0, on_event=events.append)
    assert toy.ran() == [("same", 0)]
    assert [r.cell for r in outcome.rows] == ["one", "two"]
    assert outcome.finished == 2
    assert sorted(e.cell for e in events if e.kind == "finished") == ["one", "two"]


def test_rows_that_only_the_table_has_are_kept_and_marked_once_their_configuration_has_changed(toy, tmp_path):
    toy.write(toy.cell("one", steps=2), toy.cell("two", steps=2))
    first = reproduce("toy", jobs=0, seeds=3)
    elsewhere, events = tmp_path / "other", []
    part = reproduce("toy", jobs=0, cells="one", seeds=1, runs_dir=elsewhere, results_dir=toy.results)
    assert len(part.rows) == 6
    old = {(r.cell, r.seed): r.origin["wall_s"] for r in first.rows}
    kept = {(r.cell, r.seed): r.origin["wall_s"] for r in part.rows}
    assert part.finished == 1
    assert {key: kept[key] for key in old if key != ("one", 0)} == {key: old[key] for key in old if key != ("one", 0)}
    assert part.claims[0].n == 3
    assert part.curves_csv.read_text().count("two,2,") == 2

    toy.write(toy.cell("one", steps=2), toy.cell("two", steps=3))
    about = {"jobs": 0, "seeds": 1, "runs_dir": elsewhere, "results_dir": toy.results, "on_event": events.append}
    changed = reproduce("toy", cells="one", **about)
    assert [r.current for r in changed.rows] == [True] * 3 + [False] * 3
    noted = next(e.text for e in events if e.kind == "noted")
    assert noted.startswith("3 of 6 rows are of other configurations")
    anew = reproduce("toy", cells="two", **about)
    assert [(r.cell, r.seed, r.current) for r in anew.rows] == [*(("one", n, True) for n in range(3)), ("two", 0, True)]


def test_the_table_is_up_to_date_after_every_run(toy):
    toy.write(toy.cell("one"), toy.cell("two"), seeds=2)
    seen = []

    def look(event):
        if event.kind == "started":
            seen.append(len(read_table(toy.results / "quick.csv", "toy", "quick")))

    reproduce("toy", jobs=0, on_event=look)
    assert seen == [0, 1, 2, 3]


def test_a_damaged_table_is_named_and_left_alone(toy):
    toy.write(toy.cell("one"), seeds=1)
    path = reproduce("toy", jobs=0).csv
    path.write_text(path.read_text() + "<<<<<<< HEAD\n")
    with pytest.raises(DamagedTable, match=r"quick.csv has lines that are cut or have no cell and seed \(line 3\); "):
        reproduce("toy", jobs=0)
    assert "<<<<<<<" in path.read_text()


def test_a_table_damaged_meanwhile_stops_in_one_sentence(toy):
    toy.write(toy.cell("one"), toy.cell("two"), toy.cell("three"), seeds=1)

    def spoil(event):
        if event.kind == "started" and event.cell == "two":
            (toy.results / "quick.csv").write_text("nothing\n")

    outcome = reproduce("toy", jobs=0, on_event=spoil)
    assert outcome.exit_code == 1
    assert "quick.csv could not be read: it has no column 'cell'; restore it" in outcome.stopped
    assert toy.ran() == [("one", 0), ("two", 0)]


def test_results_folder_that_cannot_be_written(toy, tmp_path):
    toy.write(toy.cell("one"), seeds=1)
    (tmp_path / "file").write_text("")
    reproduce("toy", jobs=0)
    with pytest.raises(ValueError, match="cannot be used for runs and results"):
        reproduce("toy", jobs=0, results_dir=tmp_path / "file" / "results")
    with pytest.raises(ValueError, match="cannot be used for runs and results"):
        reproduce("toy", jobs=0, runs_dir=tmp_path / "file" / "runs")


def test_provenance_names_commit_and_versions():
    import torch

    assert f"torch {torch.__version__.split('+')[0]}" in versions()
    assert len(commit()) >= 6


def test_commit_is_dirty_for_code_only(tmp_path, monkeypatch):
    import subprocess

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    results = tmp_path / "reproductions" / "p" / "results" / "quick.csv"
    results.parent.mkdir(parents=True)
    results.write_text("1")
    (tmp_path / "lightning_regs").mkdir()
    code = tmp_path / "lightning_regs" / "a.py"
    code.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    monkeypatch.setattr("lightning_regs.study.run.provenance.checkout", lambda: tmp_path)
    head = git("rev-parse", "--short", "HEAD")
    assert commit() == head
    results.write_text("2")
    (tmp_path / "notes.txt").write_text("2")
    assert commit() == head
    code.write_text("2")
    assert commit() == f"{head}+dirty"
    monkeypatch.setenv("LIGHTNING_REGS_COMMIT", "1234abc")
    assert commit() == f"{head}+dirty"  # git knows better
    shutil.rmtree(tmp_path / ".git")
    assert commit() == "1234abc"  # a copy without its history
    monkeypatch.delenv("LIGHTNING_REGS_COMMIT")
    assert commit() == "unknown"


def test_a_run_leaves_the_committed_results_alone(toy):
    toy.write(toy.cell("one"))
    paper = load_paper("toy")
    assert default_results(paper) == toy.committed
    assert reproduce(paper, jobs=0).csv == toy.results / "quick.csv"
    assert not toy.committed.exists()
