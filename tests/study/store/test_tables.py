"""Tables, whole or damaged in any way: what is whole is read for a report; where rows are added, damage is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import as_csv, make_paper, make_rows, table, write_results

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.store.ledger import Ledger
from lightning_regs.study.store.results import default_results, load
from lightning_regs.study.store.tables import DamagedTable, Row, read_table
from lightning_regs.study.store.tables import lines as read_lines

CELLS = ("net/true-labels", "net/zufällige-labels")
PAPER = make_paper(cells=CELLS, figures=())
FILES = ("quick.csv", "quick.curves.csv")


@pytest.fixture
def results(tmp_path):
    write_results(PAPER, tmp_path)
    return tmp_path


def found(results):
    return load(PAPER, results, ["quick"])[0]


def read(results):
    return read_table(results / "quick.csv", PAPER.id, "quick")


def test_whole_results_have_no_problem(results):
    whole = found(results)
    assert (whole.problems, len(whole.rows), len(whole.claims)) == ([], 6, 5)
    assert table(PAPER.id, "quick", read(results)) == table(PAPER.id, "quick", whole.rows)


def test_a_table_reads_back_as_it_was_written(tmp_path):
    origin = {
        "device": "cpu",
        "precision": "32-true",
        "commit": "12e4567",
        "versions": "a 1, b 2",
        "config_hash": "0e12",
    }
    rows = [
        {"cell": 'a, "b"', "seed": 0, "x": 0.1 + 0.2, "n": 3, "nan": float("nan"), "epochs": None, "wall_s": 1e-9}
        | origin,
        {"cell": "c", "seed": -1, "y": 5e-324, "n": 10**20, "epochs": 2, "wall_s": 1.0} | origin,
    ]
    path = tmp_path / "t.csv"
    path.write_text(table("p", "s", list(map(Row.of, rows))))
    again = read_table(path, "p", "s")
    assert table("p", "s", again) == path.read_text()
    assert again[1].as_dict() == rows[1]
    assert again[0].as_dict()["epochs"] == ""
    assert type(again[0].metrics["n"]) is int


@pytest.mark.parametrize("paper_id", find_papers())
def test_committed_tables_are_written_as_they_are(paper_id, tmp_path):
    paper = load_paper(paper_id)
    for scale in paper.scales:
        committed = default_results(paper) / f"{scale.name}.csv"
        if committed.exists():
            (tmp_path / committed.name).write_bytes(committed.read_bytes())
            ledger = Ledger(paper, scale, Store(tmp_path / "runs"), tmp_path)
            ledger.write()
            assert ledger.csv.read_text() == committed.read_text(), scale.name
            assert len(ledger.rows()) == len(committed.read_text().splitlines()) - 1


CHANGES = {
    "empty": (lambda text: b"", "it is empty"),
    "blank": (lambda text: b" \n\n", "it is empty"),
    "binary": (lambda text: bytes(range(1, 256)) * 20, "not text in UTF-8"),
    "cut in a character": (lambda text: text[: text.rindex("ä".encode()) + 1], "which may be cut"),
    "another table": (lambda text: b"a,b\n1,2\n", "no column"),
    "a page": (lambda text: b"<!doctype html>\n<title>404</title>\n", "no column"),
    "header only": (lambda text: text[: text.index(b"\n") + 1], "no line below its header"),
    "a column twice": (lambda text: text.replace(b"cell,seed", b"cell,seed,seed", 1), "has the column 'seed' twice"),
    "another seed": (lambda text: text.replace(b"labels,1,", b"labels,one,"), "have no cell and seed (line"),
    "no seed": (lambda text: text.replace(b"labels,1,", b"labels,,"), "have no cell and seed (line"),
    "no cell": (lambda text: text.replace(CELLS[0].encode(), b""), "have no cell and seed (line"),
    "a strange seed": (lambda text: text.replace(b"labels,1,", b"labels,--1,"), "have no cell and seed (line"),
    "a long seed": (lambda text: text.replace(b"labels,1,", b"labels," + b"9" * 5000 + b","), "no cell and seed (line"),
    "an entry more": (lambda text: text.replace(b"labels,1,", b"labels,1,1,"), "are cut"),
    "words": (lambda text: text.replace(b"labels,1,", b"labels,1,much", 1), "not numbers (line"),
    "an open quote": (lambda text: text.replace(b"labels,1,", b'labels,"1,', 1), "ends within line"),
    "an endless field": (lambda text: text + b"x" * 200_000, "ends within line"),
    "no last newline": (lambda text: text[:-1], "which may be cut"),
    "a conflict": (lambda text: text + b"<<<<<<< HEAD\n", "(line"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", CHANGES)
def test_a_damaged_table_is_named_with_its_damage(results, name, kind):
    change, says = CHANGES[kind]
    path = results / name
    path.write_bytes(change(path.read_bytes()))
    problems = found(results).problems
    assert any(problem.startswith(name) and says in problem for problem in problems), problems
    if name == "quick.csv":
        with pytest.raises(DamagedTable, match=r"quick\.csv") as refused:
            read(results)
        assert says in str(refused.value)
        assert str(refused.value).endswith("restore it from git, or delete it to have it made.")


ROWS = {
    "unknown cells": (
        lambda rows: rows[0].update(cell="net/gone"),
        "this scale does not have, which were left out: net/gone",
    ),
    "another scale": (lambda rows: rows[0].update(scale="full"), "of another paper or scale (line 2)"),
    "another paper": (lambda rows: rows[1].update(paper="doe2021"), "of another paper or scale (line 3)"),
    "a run twice": (lambda rows: rows.append(rows[0] | {"test_acc": 20.0}), f"the last one counts: {CELLS[0]} seed 0"),
    "words": (lambda rows: rows[0].update(test_acc="eighty"), "entries that are not numbers (line 2)"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_that_does_not_fit_is_named(results, kind):
    change, says = ROWS[kind]
    rows = make_rows(PAPER)
    change(rows)
    write_results(PAPER, results, rows=rows)
    whole = found(results)
    assert len(whole.problems) == 1
    assert says in whole.problems[0]
    assert len(whole.rows) == (6 if kind in ("a run twice", "words") else 5)
    assert kind != "a run twice" or whole.rows[0].metrics["test_acc"] == 20


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link", "circular link"])
def test_what_is_no_file_is_named(results, name, kind):
    path = results / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if kind == "circular link" else "nowhere")
    [problem] = found(results).problems
    assert problem.startswith(f"{name} could not be read: ")


def test_a_table_saved_by_a_spreadsheet_is_whole(results):
    path = results / "quick.csv"
    before = read(results)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert found(results).problems == []
    assert table(PAPER.id, "quick", read(results)) == table(PAPER.id, "quick", before)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_byte_is_named_or_ends_with_a_whole_line(results, name):
    # Few lines, so that each byte can be tried.
    whole = b"".join((results / name).read_bytes().splitlines(keepends=True)[:4])
    for end in range(len(whole)):
        told, lines = [], []
        try:
            lines += read_lines(whole[:end].decode(errors="ignore"), told.append)
        except ValueError as error:
            told.append(error)
        assert told or whole[end - 1 : end] == b"\n", whole[max(0, end - 40) : end]
        expected = max(whole[:end].count(b"\n") - 1, 0)
        assert len(lines) in (expected, expected + 1)


entry = st.one_of(st.floats().map(str), st.integers().map(str), st.text(max_size=6), st.sampled_from(CELLS))
junk = st.one_of(st.binary(max_size=8), st.sampled_from([b'"', b",", b"\n", b"\r", b"NaN", b"1e999", b"null", b"]"]))
quietly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quietly
@given(data=st.data(), name=st.sampled_from(FILES))
def test_no_change_of_a_few_bytes_stops_the_reading(results, data, name):
    write_results(PAPER, results)
    whole = (results / name).read_bytes()
    at = data.draw(st.integers(0, len(whole)), label="at")
    length = data.draw(st.integers(0, 40), label="length")
    (results / name).write_bytes(whole[:at] + data.draw(junk, label="junk") + whole[at + length :])
    found(results)


@quietly
@given(rows=st.lists(st.tuples(st.sampled_from([*CELLS, "x"]), entry, entry, entry, entry), max_size=5))
def test_no_entry_of_a_table_stops_the_reading(results, rows):
    named = [dict(zip(("cell", "seed", "test_acc", "wall_s", "versions"), row, strict=True)) for row in rows]
    (results / "quick.csv").write_text(as_csv(named), encoding="utf-8", errors="replace", newline="")
    found(results)
