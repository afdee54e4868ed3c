"""`lightning-regs report` on results that are empty, half finished or damaged: a page or one sentence, no traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import make_curves, make_paper, make_rows, write_results
from parsed import Page

from lightning_regs.cli.parser import main
from lightning_regs.study.report.legible import plain
from lightning_regs.study.report.report import render
from lightning_regs.study.report.specification import specify
from lightning_regs.study.store.ledger import table
from lightning_regs.study.store.results import load

CELLS = ("net/true-labels", "net/zufällige-labels")
FILES = ("quick.csv", "quick.claims.json", "quick.curves.csv")
PAPER = f"from made_up import make_paper\n\nPAPER = make_paper(cells={CELLS!r}, figures=())\n"


class Site:
    """A checkout with one paper, its results, and what the command made of them."""

    def __init__(self, root, capsys):
        self.paper = make_paper(cells=CELLS, figures=())
        self.results, self.out, self.runs = root / "results", root / "site", root / "runs"
        self._capsys = capsys
        write_results(self.paper, self.results)

    def report(self, *words):
        arguments = ["report", "smith2020", "--results", self.results, "--runs", self.runs, "--page", self.out, *words]
        self._capsys.readouterr()
        self.status = main([str(argument) for argument in arguments])
        self.said = self._capsys.readouterr()
        assert "Traceback" not in self.said.out + self.said.err
        assert self.status in (0, 2)
        return self.status

    @property
    def page(self):
        return Page((self.out / "smith2020.html").read_text(encoding="utf-8")).text

    @property
    def index(self):
        return Page((self.out / "index.html").read_text(encoding="utf-8")).text

    def section(self):
        return specify(self.paper, self.results, draw=False, scales=["quick"]).sections[0]

    def change(self, name, change):
        path = self.results / name
        path.write_bytes(change(path.read_bytes()))

    def rows(self, change):
        rows = make_rows(self.paper)
        change(rows)
        (self.results / "quick.csv").write_text(table(rows), encoding="utf-8")

    def claims(self, change):
        path = self.results / "quick.claims.json"
        entries = json.loads(path.read_text(encoding="utf-8"))
        changed = change(entries)
        path.write_text(json.dumps(entries if changed is None else changed), encoding="utf-8")


@pytest.fixture
def site(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "reproductions" / "smith2020"
    folder.mkdir(parents=True)
    (folder / "paper.py").write_text(PAPER, encoding="utf-8")
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Site(tmp_path, capsys)
    for name in [name for name in sys.modules if name.split(".")[0] == "smith2020"]:
        del sys.modules[name]


def test_whole_results_have_no_problem(site):
    assert site.report() == 0
    assert "Damaged" not in site.page
    assert site.section().state == "complete"
    assert site.said.err == ""


def test_a_folder_that_is_not_there_is_refused(site):
    site.results = site.results.parent / "elsewhere"
    assert site.report() == 2
    assert "elsewhere: there is no such folder" in site.said.err


def test_a_folder_without_results_gives_a_page_and_an_index_with_the_command(site):
    site.results = site.results.parent / "elsewhere"
    site.results.mkdir()
    assert site.report() == 0
    for text in (site.page, site.index):
        assert "lightning-regs reproduce smith2020 --scale quick" in text
    assert "no results yet" in site.index


def test_half_finished_results_say_so_on_page_and_index(site):
    write_results(site.paper, site.results, rows=make_rows(site.paper)[:4])
    assert site.report() == 0
    assert site.section().state == "half finished"
    assert "Damaged" not in site.page
    for text in (site.page, site.index):
        assert "4 of 6 runs" in text


def test_seeds_beyond_the_scale_are_shown_and_count_as_no_run_that_it_lacks(site):
    rows = [row for row in make_rows(site.paper, seeds=5) if row["cell"] == CELLS[0]]
    write_results(site.paper, site.results, rows=rows)
    section = site.section()
    assert (section.state, section.runs, section.expected) == ("half finished", 3, 6)
    assert len(section.groups[0].cells[0].runs) == 5
    assert not section.problems


def test_results_of_another_paper_are_not_shown_under_this_one(site):
    other = make_paper(cells=CELLS, paper_id="doe2021")
    (site.results / "quick.csv").write_text(table(make_rows(other)), encoding="utf-8")
    assert site.report() == 0
    assert "of another paper or scale" in site.page
    assert not site.section().groups


def test_claims_of_another_paper_are_not_shown_under_this_one(site):
    site.claims(lambda entries: [entry | {"id": f"x{entry['id']}", "sentence": "Foreign."} for entry in entries])
    assert site.report() == 0
    assert "not claims of this paper" in site.page
    assert "Foreign." not in site.page
    assert not site.section().claims


def test_claims_that_do_not_follow_from_the_rows_are_named(site):
    rows = make_rows(site.paper)
    for row in rows:
        row["test_acc"] -= 30
    write_results(site.paper, site.results.parent / "other", rows=rows)
    (site.results.parent / "other" / "quick.claims.json").replace(site.results / "quick.claims.json")
    assert site.report() == 0
    assert "quick.claims.json these claims were judged on other rows than those of quick.csv: 2, 3." in site.page


def test_rows_of_another_configuration_are_called_so(site):
    site.rows(lambda rows: rows[1].update(config_hash="0123456789abcdef"))
    assert site.report() == 0
    assert "other configurations than the scale has now, for 1 of 6 runs" in site.page
    assert site.page.count("(another configuration)") == 1


def test_files_of_no_scale_are_named(site):
    (site.results / "quik.csv").write_bytes((site.results / "quick.csv").read_bytes())
    assert site.report() == 0
    assert "quik.csv belongs to no scale of this paper" in site.page


def _twice(entries):
    return [*entries, entries[0] | {"verdict": "not decided"}]


def _nested(_content):
    return b"[" * 100_000


CHANGES = {
    "empty": (lambda text: b"", "it is empty"),
    "blank": (lambda text: b" \n\n", "it is empty"),
    "binary": (lambda text: bytes(range(1, 256)) * 20, "not text in UTF-8"),
    "cut in a character": (lambda text: text[: text.rindex("ä".encode()) + 1], "which may be cut"),
    "zero bytes": (lambda text: text[:200] + bytes(300) + text[500:], "zero bytes"),
    "another table": (lambda text: b"a,b\n1,2\n", "no column 'cell'"),
    "a page": (lambda text: b"<!doctype html>\n<title>404</title>\n", "no column 'cell'"),
    "header only": (lambda text: text[: text.index(b"\n") + 1], "no line below its header"),
    "a column twice": (lambda text: text.replace(b"cell,seed", b"cell,seed,seed", 1), "has the column 'seed' twice"),
    "another seed": (lambda text: text.replace(b"labels,1,", b"labels,one,"), "have no cell and seed (line"),
    "a strange seed": (lambda text: text.replace(b"labels,1,", b"labels,--1,"), "have no cell and seed (line"),
    "a long seed": (lambda text: text.replace(b"labels,1,", b"labels," + b"9" * 5000 + b","), "no cell and seed (line"),
    "an entry more": (lambda text: text.replace(b"labels,1,", b"labels,1,1,"), "are cut"),
    "words": (lambda text: text.replace(b"labels,1,", b"labels,1,much,", 1).replace(b"much,", b"much", 1), "line"),
    "an open quote": (lambda text: text.replace(b"labels,1,", b'labels,"1,', 1), "ends within line"),
    "an endless field": (lambda text: text + b"x" * 200_000, "ends within line"),
    "no last newline": (lambda text: text[:-1], "which may be cut"),
}


@pytest.mark.parametrize("name", ["quick.csv", "quick.curves.csv"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_damaged_table_is_named_with_its_damage(site, name, kind):
    change, says = CHANGES[kind]
    if name == "quick.curves.csv":
        assert "ä".encode() in (site.results / name).read_bytes()
    site.change(name, change)
    assert site.report() == 0
    problems = site.section().problems
    assert any(name in problem and says in problem for problem in problems), problems
    assert "Damaged results" in site.page
    assert name in site.page
    assert "Nets fit random labels." in site.page
    assert "damaged" in site.index


CLAIMS = {
    "empty": (lambda text: b"", "it is not JSON"),
    "cut": (lambda text: text[: len(text) // 2], "it is not JSON"),
    "binary": (lambda text: b"\xff\xfe" + text, "not text in UTF-8"),
    "zero bytes": (lambda text: text + bytes(10), "it is not JSON"),
    "an object": (lambda text: b'{"claims": []}', "not a list of claims"),
    "a number": (lambda text: b"7", "not a list of claims"),
    "no claim": (lambda text: b"[]", "it has no claim"),
    "nested": (_nested, "nested too deeply"),
    "a long number": (lambda text: text.replace(b'"n": 3', b'"n": ' + b"3" * 5000), "could not be read"),
    "conflict": (lambda text: b"<<<<<<< HEAD\n" + text, "it is not JSON (line 1)"),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_damaged_claims_file_is_named_with_its_damage(site, kind):
    change, says = CLAIMS[kind]
    site.change("quick.claims.json", change)
    assert site.report() == 0
    assert "Damaged results" in site.page
    assert any("quick.claims.json" in problem and says in problem for problem in site.section().problems)
    assert "Training runs" in site.page


ENTRIES = {
    "not objects": (lambda entries: [*entries, 7, None, "x", []], "without the id and sentence of a claim: 4"),
    "no sentence": (lambda entries: entries[0].pop("sentence"), "do not judge|id and sentence of a claim: 1"),
    "a sentence of another type": (
        lambda entries: entries[0].update(sentence=["<b>"]),
        "id and sentence of a claim: 1",
    ),
    "an id of another type": (lambda entries: entries[0].update(id={"a": 1}), "id and sentence of a claim: 1"),
    "an unknown id": (lambda entries: entries[0].update(id="99"), "not claims of this paper and were left out: 99"),
    "a claim twice": (_twice, "are there twice, and the first counts: 1"),
    "a claim less": (lambda entries: entries[:-1], "claims of this paper that it does not judge: 5"),
    "another sentence": (
        lambda entries: entries[1].update(sentence="B."),
        "say something else in the paper's module: 2",
    ),
    "an unknown verdict": (lambda entries: entries[0].update(verdict="proven"), "unknown verdict 'proven'"),
    "no verdict": (lambda entries: entries[0].pop("verdict"), "unknown verdict 'None'"),
    "a verdict of another type": (lambda entries: entries[0].update(verdict=[1]), "unknown verdict '[1]'"),
    "NaN": (lambda entries: entries[0].update(ours=float("nan")), "wrong type, which were left out: 1 (ours)"),
    "infinity": (lambda entries: entries[0].update(high=float("inf")), "wrong type, which were left out: 1 (high)"),
    "a huge number": (lambda entries: entries[0].update(low=-(10**400)), "wrong type, which were left out: 1 (low)"),
    "a text": (lambda entries: entries[0].update(ours="99"), "wrong type, which were left out: 1 (ours)"),
    "true": (lambda entries: entries[0].update(ours=True), "wrong type, which were left out: 1 (ours)"),
    "a list": (lambda entries: entries[0].update(low=[]), "wrong type, which were left out: 1 (low)"),
    "seeds below none": (lambda entries: entries[0].update(n=-3), "wrong type, which were left out: 1 (n)"),
    "half a seed": (lambda entries: entries[0].update(n=2.5), "wrong type, which were left out: 1 (n)"),
    "seeds without end": (lambda entries: entries[0].update(n=1e300), "wrong type, which were left out: 1 (n)"),
    "a reason of another type": (lambda entries: entries[0].update(reason={}), "were left out: 1 (reason)"),
    "a unit of another type": (lambda entries: entries[0].update(unit=5), "were left out: 1 (unit)"),
    "a paper's value of another type": (lambda entries: entries[0].update(paper_value=[]), "left out: 1 (paper_value)"),
    "other numbers": (lambda entries: entries[0].update(ours=99.5), "judged on other rows than those of quick.csv: 1"),
    "a better verdict": (lambda entries: entries[2].update(verdict="reproduced"), "judged on other rows"),
    "more seeds": (lambda entries: entries[0].update(n=30), "judged on other rows than those of quick.csv: 1"),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_damaged_claim_is_named_with_its_damage(site, kind):
    change, says = ENTRIES[kind]
    site.claims(lambda entries: changed if isinstance(changed := change(entries), list) else None)
    assert site.report() == 0
    problems = site.section().problems
    assert any("quick.claims.json" in text and any(part in text for part in says.split("|")) for text in problems), (
        problems
    )
    assert "True labels test at 80 %." in site.page or kind == "another sentence"


ROWS = {
    "unknown cells": (lambda rows: rows[0].update(cell="net/gone"), "of cells that this scale does not have"),
    "another scale": (lambda rows: rows[0].update(scale="full"), "of another paper or scale"),
    "a run twice": (lambda rows: rows.append(rows[0] | {"test_acc": 20.0}), "repeat a cell and a seed"),
    "words": (lambda rows: rows[0].update(test_acc="eighty"), "entries that are not numbers"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_damaged_row_is_named_with_its_damage(site, kind):
    change, says = ROWS[kind]
    site.rows(change)
    assert site.report() == 0
    assert any("quick.csv" in problem and says in problem for problem in site.section().problems)
    assert "net/gone" not in site.page


def test_a_run_that_is_there_twice_is_one_seed(site):
    before = plain(site.section().groups)
    site.rows(lambda rows: rows.extend(rows[:3]))
    assert plain(site.section().groups) == before


@pytest.mark.parametrize("value", ["1e308", "-1e308", "inf", "nan", "1e-320", "123456789" * 20])
def test_numbers_without_measure_do_not_stop_the_page(site, value):
    def change(rows):
        for row in rows:
            row |= {"test_acc": value, "wall_s": value, "epochs": value, "p_m": value, "new": value}

    site.rows(change)
    assert site.report() == 0
    json.dumps(specify(site.paper, site.results, draw=False).as_dict(), allow_nan=False)
    assert len(site.page) < 100_000


def test_huge_numbers_in_figures_and_claims_do_not_stop_the_page(site):
    site.paper = make_paper(cells=CELLS)
    site.rows(lambda rows: [row.update(test_acc=1e308 if row["seed"] else -1e308) for row in rows])
    site.claims(lambda entries: [entry.update(ours=1e308, low=-1e308, high=1e308) for entry in entries])
    render(specify(site.paper, site.results))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link", "circular link"])
def test_what_is_no_file_is_named(site, name, kind):
    path = site.results / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if kind == "circular link" else "nowhere")
    assert site.report() == 0
    assert f"{name} could not be read and was left out: " in site.page


def test_a_link_to_results_is_followed(site):
    target = site.results.rename(site.results.parent / "stored")
    site.results.symlink_to(target)
    assert site.report() == 0
    assert "Damaged" not in site.page
    assert "net/true-labels" in site.page


def test_results_that_are_a_file_are_refused_in_one_sentence(site):
    site.results = site.results / "quick.csv"
    assert site.report() == 2
    assert site.said.err.count("\n") == 1
    assert "give the folder that holds SCALE.csv" in site.said.err


@pytest.mark.parametrize(
    "taken", ["", "smith2020.html", "smith2020.json", "index.html", "smith2020-quick.csv", "smith2020.summary.json"]
)
def test_pages_that_cannot_be_written_are_refused_in_one_sentence(site, taken):
    if taken:
        (site.out / taken).mkdir(parents=True)
    else:
        site.out.write_text("in the way", encoding="utf-8")
    assert site.report() == 2
    assert site.said.err.count("\n") == 1
    assert str(site.out) in site.said.err
    assert "choose another folder" in site.said.err


def test_pages_below_a_file_are_refused_in_one_sentence(site):
    site.out = site.results / "quick.csv" / "site"
    assert site.report() == 2
    assert site.said.err.count("\n") == 1


def test_a_link_in_the_folder_of_pages_is_replaced_and_not_written_through(site):
    committed = {name: (site.results / name).read_bytes() for name in FILES}
    other = site.results.parent / "other.csv"
    other.write_text("mine", encoding="utf-8")
    site.out.mkdir()
    (site.out / "smith2020-quick.csv").symlink_to(other)
    (site.out / "smith2020-quick.claims.json").symlink_to(site.results / "quick.claims.json")
    assert site.report() == 0
    assert other.read_text(encoding="utf-8") == "mine"
    assert {name: (site.results / name).read_bytes() for name in FILES} == committed
    assert (site.out / "smith2020-quick.csv").read_bytes() == committed["quick.csv"]


STALE = [
    b"",
    b"[1",
    b"null",
    b"\xff",
    b"[" * 100_000,
    b'{"title": "T", "authors": "A", "year": 1, "scales": 5}',
    b'{"title": "T", "authors": "A", "year": 1, "scales": {"a": 1}}',
    b'{"title": "T", "authors": "A", "year": 1, "scales": [{"name": "quick", "counts": {"proven": 3}}]}',
    b'{"title": "T", "authors": "A", "year": 1, "scales": [{"name": "quick", "counts": {"reproduced": 1e400}}]}',
]


@pytest.mark.parametrize("content", STALE)
@pytest.mark.parametrize("page", [True, False])
def test_a_stale_summary_does_not_stop_the_index(site, content, page):
    site.out.mkdir()
    (site.out / "old.summary.json").write_bytes(content)
    if page:
        (site.out / "old.html").write_text("old", encoding="utf-8")
    assert site.report() == 0
    assert "Nets & labels" in site.index
    assert "old.html" not in site.index


def test_a_summary_without_its_page_is_not_in_the_index(site):
    site.report()
    (site.out / "smith2020.summary.json").rename(site.out / "gone.summary.json")
    assert site.report() == 0
    assert "gone.html" not in site.index


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\x1b[31mred\x1b[0m", b"x" * 100_000])
def test_a_damaged_error_of_a_run_does_not_stop_the_page(site, content):
    folder = site.runs / site.paper.scales[0].cells[0].hash(0)
    folder.mkdir(parents=True)
    (folder / "error.txt").write_bytes(content)
    (folder / "row.json").write_bytes(b"{")
    assert site.report() == 0
    assert "1 failed" in site.page
    assert "\x1b" not in site.page
    assert len(site.page) < 100_000


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_byte_is_named_or_ends_with_a_whole_line(site, name):
    whole = (site.results / name).read_bytes()
    # Few curves, so that each byte can be tried.
    if name == "quick.curves.csv":
        whole = b"".join(whole.splitlines(keepends=True)[:12])
    else:
        (site.results / "quick.curves.csv").unlink()
    (rows,) = (len(found.rows) for found in load(site.paper, site.results, ["quick"]))
    for end in range(0, len(whole), 4 if name == "quick.claims.json" else 1):
        (site.results / name).write_bytes(whole[:end])
        (found,) = load(site.paper, site.results, ["quick"])
        named = any(name in problem for problem in found.problems)
        at_line = name != "quick.claims.json" and end > whole.index(b"\n") and whole[end - 1 : end] == b"\n"
        assert named or at_line, whole[max(0, end - 40) : end]
        if name == "quick.csv":
            lines = whole[:end].count(b"\n") - 1
            assert len(found.rows) in (max(lines, 0), lines + 1)
        else:
            assert len(found.rows) == rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_no_change_of_a_few_bytes_stops_the_page(site, data, name):
    write_results(site.paper, site.results)
    whole = (site.results / name).read_bytes()
    at = data.draw(st.integers(0, len(whole)), label="at")
    length = data.draw(st.integers(0, 40), label="length")
    junk = st.one_of(
        st.binary(max_size=8), st.sampled_from([b'"', b",", b"\n", b"\r", b"NaN", b"1e999", b"null", b"]"])
    )
    (site.results / name).write_bytes(whole[:at] + data.draw(junk, label="junk") + whole[at + length :])
    specification = specify(site.paper, site.results, draw=False)
    json.dumps(specification.as_dict(), allow_nan=False)
    assert "Nets &amp; labels" in render(specification)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
keys = ("id", "sentence", "paper_value", "provenance", "ours", "low", "high", "n", "verdict", "unit", "reason")
entry = st.fixed_dictionaries({}, optional=dict.fromkeys(keys, anything) | {"id": st.sampled_from(["1", "2", 1])})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(anything, st.lists(st.one_of(entry, entry.map(lambda e: e | {"sentence": "A."})), max_size=4)))
def test_no_json_in_the_place_of_claims_stops_the_page(site, content):
    (site.results / "quick.claims.json").write_text(json.dumps(content), encoding="utf-8")
    specification = specify(site.paper, site.results, draw=False, scales=["quick"])
    json.dumps(specification.as_dict(), allow_nan=False)
    assert "Nets &amp; labels" in render(specification)
    # Whatever is in the file, it is not what these rows give.
    assert any("quick.claims.json" in problem for problem in specification.sections[0].problems)


field = st.one_of(st.floats().map(str), st.integers().map(str), st.text(max_size=6), st.sampled_from(CELLS))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.sampled_from([*CELLS, "x"]), field, field, field, field), max_size=5))
def test_no_entry_of_the_table_of_runs_stops_the_page(site, rows):
    out = io.StringIO()
    csv.writer(out).writerows([("cell", "seed", "test_acc", "wall_s", "versions"), *rows])
    (site.results / "quick.csv").write_text(out.getvalue(), encoding="utf-8", errors="replace", newline="")
    (site.results / "quick.curves.csv").write_text(make_curves(site.paper).to_csv(), encoding="utf-8")
    specification = specify(site.paper, site.results, draw=False)
    json.dumps(specification.as_dict(), allow_nan=False)
    assert "Nets &amp; labels" in render(specification)
