"""`lightning-regs report` on results that are empty, half finished or damaged: a page or one sentence, no traceback."""

from __future__ import annotations

import json
import sys

import pytest
from made_up import make_paper, make_rows, write_results
from parsed import Page

from lightning_regs.cli.parser import main
from lightning_regs.study.report.drawing import name_figure
from lightning_regs.study.report.report import render, write_index
from lightning_regs.study.report.specification import specify

CELLS = ("net/true-labels", "net/zufällige-labels")
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
        return specify(self.paper, self.results, show=name_figure, scales=["quick"]).sections[0]

    def rows(self, change):
        rows = make_rows(self.paper)
        change(rows)
        write_results(self.paper, self.results, rows=rows)


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
    assert "elsewhere has no table of smith2020 (quick.csv" in site.said.err
    assert site.said.err.count("\n") == 1


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


def test_rows_of_another_configuration_are_called_so(site):
    site.rows(lambda rows: rows[1].update(config_hash="0123456789abcdef"))
    assert site.report() == 0
    assert "other configurations than the scale has now, for 1 of 6 runs" in site.page
    assert site.page.count("(another configuration)") == 1


def test_files_of_no_scale_are_named(site):
    (site.results / "quik.csv").write_bytes((site.results / "quick.csv").read_bytes())
    assert site.report() == 0
    assert "quik.csv belongs to no scale of this paper" in site.page


@pytest.mark.parametrize("name", ["quick.csv", "quick.curves.csv"])
def test_a_damaged_table_is_named_on_page_and_index(site, name):
    path = site.results / name
    path.write_bytes(path.read_bytes()[:-1])
    assert site.report() == 0
    assert f"{name} ends within line" in site.page
    assert "Damaged results" in site.page
    assert "Nets fit random labels." in site.page
    assert "damaged" in site.index


@pytest.mark.slow
def test_rows_that_do_not_belong_here_are_not_shown(site):
    site.rows(lambda rows: (rows[0].update(cell="net/gone"), rows[1].update(paper="doe2021", test_acc=12.34)))
    assert site.report() == 0
    assert "cells that this scale does not have" in site.page
    assert "of another paper or scale" in site.page
    assert "12.34" not in site.page
    assert "4 of 6 runs" in site.page


@pytest.mark.parametrize("value", ["1e308", "-inf", "nan", "123456789" * 20])
def test_numbers_without_measure_do_not_stop_the_page(site, value):
    def change(rows):
        for row in rows:
            row |= {"test_acc": value, "wall_s": value, "epochs": value, "p_m": value, "new": value}

    site.rows(change)
    assert site.report() == 0
    json.dumps(specify(site.paper, site.results, show=name_figure).as_dict(), allow_nan=False)
    assert len(site.page) < 100_000


@pytest.mark.slow
def test_huge_numbers_in_figures_and_claims_do_not_stop_the_page(site):
    site.paper = make_paper(cells=CELLS)
    site.rows(lambda rows: [row.update(test_acc=1e308 if row["seed"] else -1e308) for row in rows])
    render(specify(site.paper, site.results))


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
    "taken", ["", "smith2020.html", "smith2020.json", "index.html", "smith2020-quick.csv", "smith2020.entry"]
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
    committed = (site.results / "quick.csv").read_bytes()
    other = site.results.parent / "other.csv"
    other.write_text("mine", encoding="utf-8")
    site.out.mkdir()
    (site.out / "smith2020-quick.csv").symlink_to(other)
    (site.out / "smith2020-quick.claims.json").symlink_to(site.results / "quick.csv")
    assert site.report() == 0
    assert other.read_text(encoding="utf-8") == "mine"
    assert (site.results / "quick.csv").read_bytes() == committed
    assert (site.out / "smith2020-quick.csv").read_bytes() == committed
    assert json.loads((site.out / "smith2020-quick.claims.json").read_text())[0]["verdict"] == "reproduced"


def test_a_claims_file_is_written_for_others_and_not_read(site):
    (site.results / "quick.claims.json").write_text("[[[", encoding="utf-8")
    assert site.report() == 0
    assert "Damaged" not in site.page
    assert json.loads((site.out / "smith2020-quick.claims.json").read_text())[1]["paper_value"] == 80


def test_an_entry_of_the_index_that_cannot_be_read_does_not_stop_it(site):
    site.report()
    (site.out / "old.entry").write_bytes(b"\xff")
    (site.out / "old.html").write_text("old", encoding="utf-8")
    (site.out / "gone.entry").write_text("gone", encoding="utf-8")  # without its page
    write_index(site.out)
    assert "Nets & labels" in site.index
    assert "gone" not in site.index


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
