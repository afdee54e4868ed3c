"""A scale's tables, kept up to date while its runs finish: cheap, whole, and with the rows of other commands."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest
from made_up import make_paper, table

from lightning_regs.core.runs import RunContext, Store
from lightning_regs.study import Cell, Paper, Scale
from lightning_regs.study import curves as drawn_curves
from lightning_regs.study.store import ledger
from lightning_regs.study.store.curves import parse_curves
from lightning_regs.study.store.ledger import Ledger
from lightning_regs.study.store.tables import read_table

CELLS = tuple(f"net/{number:02}" for number in range(4))
PAPER = make_paper(cells=CELLS, figures=())
SCALE = PAPER.scale("quick")


def row(cell, seed, **metrics):
    return {"config_hash": cell.hash(seed), "seed": seed, "epochs": 3, "wall_s": 0.25, "device": "cpu"} | metrics


def finish(book, cell, seed, **metrics):
    made = row(cell, seed, **metrics)
    book.store.run(made["config_hash"]).finish(made)
    book.measured([seed])
    book.finished(made["config_hash"], made)


def on_disk(book):
    text = book.csv.read_text()
    assert text == table(PAPER.id, "quick", book.rows())
    return [(row.cell, row.seed) for row in read_table(book.csv, PAPER.id, "quick")]


@pytest.fixture
def book(tmp_path):
    return Ledger(PAPER, SCALE, Store(tmp_path / "runs"), tmp_path / "results")


def test_the_table_has_every_run_as_it_finishes_in_the_order_of_the_scale(book):
    done = []
    for at, seed, metrics in [(2, 0, {"b": 1}), (0, 1, {"b": 2}), (0, 0, {"a": 0.5}), (2, 0, {"c": 1.0}), (3, 2, {})]:
        finish(book, SCALE.cells[at], seed, **metrics)
        done = sorted({*done, (CELLS[at], seed)})
        assert on_disk(book) == done
    assert book.csv.read_text().startswith("paper,scale,cell,seed,a,b,c,epochs,")


def test_rows_of_two_commands_are_both_kept_whoever_writes_last(tmp_path):
    one, two = (Ledger(PAPER, SCALE, Store(tmp_path / name), tmp_path / "results") for name in ("a", "b"))
    finish(one, SCALE.cells[0], 0, x=1)
    finish(two, SCALE.cells[1], 0, y=1)
    finish(one, SCALE.cells[2], 5, x=2)
    assert on_disk(one) == [(CELLS[0], 0), (CELLS[1], 0), (CELLS[2], 5)]
    two.write(finish=True)
    assert two.rows() == one.rows()
    assert len(json.loads(two.claims_json.read_text())) == len(PAPER.claims)


def test_a_run_that_another_scale_has_is_measured_once(tmp_path):
    cells = (SCALE.cells[0], replace(SCALE.cells[1], name="renamed"), Cell("own", "m:f", {"x": 1}))
    paper = replace(PAPER, scales=(SCALE, Scale("large", "", cells)), claims=())
    quick, store = Ledger(paper, SCALE, Store(tmp_path / "a"), tmp_path / "results"), Store(tmp_path / "b")
    for at, seed in [(0, 0), (1, 2), (2, 0)]:
        finish(quick, SCALE.cells[at], seed, x=at)
    quick.write()
    large = Ledger(paper, paper.scale("large"), store, tmp_path / "results")
    finish(large, cells[2], 0, x=9)
    large.write()
    places = [(row.cell, row.seed, row.metrics["x"]) for row in read_table(large.csv, paper.id, "large")]
    assert places == [(CELLS[0], 0, 0), ("renamed", 2, 1), ("own", 0, 9)]
    assert on_disk(quick) == [(CELLS[0], 0), (CELLS[1], 2), (CELLS[2], 0)]
    finish(large, cells[0], 0, x=7)  # measured anew
    assert read_table(large.csv, paper.id, "large")[0].metrics == {"x": 7}
    quick.csv.write_text("damaged")
    assert len(Ledger(paper, paper.scale("large"), store, tmp_path / "results").rows()) == 3


def test_of_several_tables_with_a_run_the_papers_first_counts(tmp_path):
    scales = tuple(Scale(name, "", SCALE.cells[:1]) for name in ("first", "second", "third", "last"))
    paper = Paper("p", "T", "A", 2020, "", scales)
    for number, scale in reversed(list(enumerate(scales[:3]))):
        # Each from a folder of its own, as what is shared would be one row otherwise.
        book = Ledger(paper, scale, Store(tmp_path / scale.name), tmp_path / f"results-{scale.name}")
        finish(book, scale.cells[0], 0, x=number)
        book.write()
        (tmp_path / "results").mkdir(exist_ok=True)
        book.csv.rename(tmp_path / "results" / book.csv.name)
    last = Ledger(paper, scales[3], Store(tmp_path / "none"), tmp_path / "results")
    assert [row.metrics["x"] for row in last.rows()] == [0]


def test_what_the_store_has_replaces_what_the_table_says(tmp_path):
    one, two = (Ledger(PAPER, SCALE, Store(tmp_path / name), tmp_path / "results") for name in ("a", "b"))
    finish(one, SCALE.cells[0], 0, x=1)
    finish(two, SCALE.cells[0], 0, x=2)
    assert two.rows()[0].metrics == {"x": 2}
    one.write()
    assert on_disk(one) == [(CELLS[0], 0)]
    assert one.rows()[0].metrics == {"x": 1}


def test_the_table_is_read_again_only_when_another_command_has_written_it(book, monkeypatch):
    finish(book, SCALE.cells[0], 0, x=1)
    monkeypatch.setattr(ledger, "read_table", lambda *arguments: pytest.fail("the table was read"))
    finish(book, SCALE.cells[1], 0, x=1)
    monkeypatch.undo()
    Ledger(PAPER, SCALE, book.store, book.folder).write(finish=True)
    finish(book, SCALE.cells[2], 0, x=1)
    assert len(on_disk(book)) == 3


@pytest.mark.parametrize("runs", [200, 1000])
def test_all_that_is_written_while_runs_finish_grows_with_the_rows(tmp_path, monkeypatch, runs):
    book = Ledger(PAPER, SCALE, Store(tmp_path / "runs"), tmp_path / "results")
    book.measured(range(runs // len(CELLS)))
    written, now = [], [0.0]
    monkeypatch.setattr(ledger, "table", lambda rows, *about: written.append(len(rows)) or "")
    monkeypatch.setattr(ledger.time, "monotonic", lambda: now[0])
    for number in range(runs):
        seed, at = divmod(number, len(CELLS))
        book.finished(SCALE.cells[at].hash(seed), row(SCALE.cells[at], seed, x=1))
        assert number + 1 - written[-1] <= number // 100
    assert sum(written) < 101 * runs
    now[0] += 61
    book.finished(SCALE.cells[0].hash(0), row(SCALE.cells[0], 0, x=2))
    assert written[-1] == runs


def test_claims_are_judged_at_the_end_only(book, monkeypatch):
    judged = []
    monkeypatch.setattr(ledger, "check_claims", lambda paper, scale, rows: judged.append(len(rows)) or [])
    for seed in range(3):
        book.measured([seed])
        book.finished(SCALE.cells[0].hash(seed), row(SCALE.cells[0], seed, x=1))
    assert not book.claims_json.exists()
    book.write(finish=True)
    assert (judged, book.claims(), book.claims_json.read_text()) == ([3], [], "[]\n")


def test_curves_are_those_of_the_runs_and_of_rows_whose_folder_is_elsewhere(tmp_path):
    one, two = (Ledger(PAPER, SCALE, Store(tmp_path / name), tmp_path / "results") for name in ("a", "b"))
    for book, cell in ((one, SCALE.cells[1]), (two, SCALE.cells[0])):
        run = RunContext(book.store.run(cell.hash(0)).folder)
        for epoch in (1, 2):
            run.log_curve(
                {"step": 24 * epoch, "epoch": epoch, "train_loss": 2.0 / epoch, "lr": 0.1, "val_acc": math.nan}
            )
        finish(book, cell, 0, x=1)
        finish(book, SCALE.cells[2], 0, x=1)  # which trains nothing
        book.write(finish=True)
    curves = parse_curves(two.curves_csv.read_text())
    expected = [{"step": 24 * epoch, "epoch": epoch, "train_loss": 2.0 / epoch, "lr": 0.1} for epoch in (1, 2)]
    assert curves.data == {CELLS[0]: {0: expected}, CELLS[1]: {0: expected}}


def test_what_a_figure_draws_is_kept_of_curves_whatever_it_is_called_and_nothing_else(tmp_path):
    paper = make_paper(cells=CELLS, figures=(drawn_curves("gap", "Gap", "my_gap", {"a": CELLS[0]}),))
    book = Ledger(paper, SCALE, Store(tmp_path / "runs"), tmp_path / "results")
    for cell in SCALE.cells[:2]:
        run = RunContext(book.store.run(cell.hash(0)).folder)
        run.log_curve({"step": 24, "epoch": 1, "train_loss": 2.0, "my_gap": 3.0})
        finish(book, cell, 0, x=1)
    book.write(finish=True)
    assert parse_curves(book.curves_csv.read_text()).data == {CELLS[0]: {0: [{"step": 24, "epoch": 1, "my_gap": 3.0}]}}


def test_rows_of_an_older_configuration_stay_and_are_marked_until_their_cell_is_measured_anew(tmp_path):
    older = replace(SCALE, cells=tuple(replace(cell, config={"old": cell.name}) for cell in SCALE.cells))
    before = Ledger(PAPER, older, Store(tmp_path / "a"), tmp_path / "results")
    for cell in older.cells[:2]:
        finish(before, cell, 0, x=1)
    book = Ledger(PAPER, SCALE, Store(tmp_path / "b"), tmp_path / "results")
    finish(book, SCALE.cells[1], 0, x=2)
    book.write(finish=True)
    assert [(row.cell, row.metrics, row.current) for row in book.rows()] == [
        (CELLS[0], {"x": 1}, False),
        (CELLS[1], {"x": 2}, True),
    ]
    assert on_disk(book) == [(CELLS[0], 0), (CELLS[1], 0)]
    finish(book, SCALE.cells[0], 0, x=3)
    assert [row.current for row in book.rows()] == [True, True]


def test_a_file_that_is_up_to_date_is_left_alone(book):
    finish(book, SCALE.cells[0], 0, x=1)
    book.write(finish=True)
    before = [path.stat().st_mtime_ns for path in (book.csv, book.claims_json)]
    time.sleep(0.01)
    again = Ledger(PAPER, SCALE, book.store, book.folder)
    again.write(finish=True)
    assert [path.stat().st_mtime_ns for path in (book.csv, book.claims_json)] == before


def test_what_a_killed_command_left_is_swept_away(book):
    book.folder.mkdir()
    (book.folder / ".quick.csv.0123456789abcdef.part").write_text("half")
    finish(book, SCALE.cells[0], 0, x=1)
    assert sorted(path.name for path in book.folder.iterdir()) == ["quick.csv"]


def test_a_damaged_row_of_a_run_is_no_number(book):
    finish(book, SCALE.cells[0], 0, x="many", y=1)
    assert book.rows()[0].metrics == {"y": 1}
    assert on_disk(book) == [(CELLS[0], 0)]
