from __future__ import annotations

import itertools
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import NASTY, broken, make_paper, make_rows, write_results
from parsed import Page

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.report import plots, tables
from lightning_regs.study.report.report import write_index, write_report
from lightning_regs.study.report.strip import strip


def build(tmp_path, paper=None, store=None, **options):
    page = write_report(paper or make_paper(), tmp_path / "results", tmp_path / "site", store, **options)
    return Page(page.read_text(encoding="utf-8"))


@pytest.fixture
def paper(tmp_path):
    made = make_paper()
    write_results(made, tmp_path / "results")
    return made


def test_a_claim_is_a_row_with_paper_ours_interval_seeds_and_the_verdict_as_a_word(tmp_path, paper):
    page = build(tmp_path)
    assert page.table("Claims that were checked")[0][:3] == ["Claim", "Paper", "Ours"]
    rows = page.rows("Claims that were checked")
    by_sentence = {row[0].split(".")[0]: row for row in rows}
    fits = by_sentence["Nets fit random labels"]
    assert "100.00" in fits[1]
    assert "99.91" in fits[2]
    assert "99.89 to 99.93" in fits[2]
    assert fits[4] == "3"
    assert fits[5] == "reproduced"
    assert by_sentence["Random labels test at 50 %"][5] == "not reproduced"


def test_what_cannot_be_measured_is_listed_with_its_reason(tmp_path, paper):
    page = build(tmp_path)
    reason, claim = page.rows("Claims are out of reach")
    assert "ImageNet is not here" in reason[0]
    assert "It also holds on ImageNet." in claim[0]
    assert claim[1].startswith("95.20 %")
    assert "no metric 'slow'" in page.rows("Claims could not be measured")[0][0]


def test_a_recalled_figure_is_marked_and_only_that(tmp_path, paper):
    rows = build(tmp_path).rows("Claims that were checked")
    marked = [row[0] for row in rows if "recalled, not re-read" in row[1]]
    assert len(marked) == 1
    assert "80 %" in marked[0]


def test_cells_show_mean_and_half_interval_over_seeds(tmp_path, paper):
    from scipy.stats import t

    rows = build(tmp_path).table("Training runs")
    half = t.interval(0.95, 2, loc=80.1, scale=0.1 / math.sqrt(3))[1] - 80.1
    true = next(row for row in rows if row[0] == "net/true-labels")
    assert f"80.10 ± {half:.2f}" in true
    assert next(row for row in rows if row[0] == "net/random-labels")[4] == "never"


def test_every_run_is_there_with_its_origin(tmp_path, paper):
    runs = build(tmp_path).table("Every run")
    assert len(runs) == 1 + 6
    expected = make_rows(paper)
    for row, run in zip(expected, runs[1:], strict=True):
        assert [row["cell"], str(row["seed"])] == run[:2]
        assert {row["commit"], row["device"], row["config_hash"]} <= set(run)


def test_figures_are_inline_and_described(tmp_path, paper):
    page = build(tmp_path)
    images = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert len(images) == 2
    assert images[0]["aria-label"] == "Figure 1: loss. Loss over 290 steps."
    assert "Means over seeds." in page.text


def test_a_page_is_accessible_by_its_markup(tmp_path, paper):
    page = build(tmp_path)
    assert all(table["caption"].strip() for table in page.tables)
    assert all("scope" in attrs for attrs in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")}
    named |= {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert named <= set(ids)


def test_nothing_is_loaded_from_outside(tmp_path, paper):
    build(tmp_path)
    for file in (tmp_path / "site").glob("*.html"):
        page, text = Page(file.read_text(encoding="utf-8")), file.read_text(encoding="utf-8")
        assert not page.all("script")
        assert not page.all("img")
        assert all(attrs["href"].startswith("data:") for attrs in page.all("link"))
        assert not re.search(r"url\((?!#)|@import|src=", text)
        outside = [attrs["href"] for attrs in page.all("a") if "//" in attrs["href"]]
        assert set(outside) <= {"https://arxiv.org/abs/2001.00001"}


def test_links_resolve_and_downloads_are_the_committed_files(tmp_path, paper):
    page = build(tmp_path)
    files = [attrs["href"] for attrs in page.all("a") if not attrs["href"].startswith(("#", "https:"))]
    assert all((tmp_path / "site" / name).is_file() for name in files)
    copy = (tmp_path / "site" / "smith2020-quick.csv").read_bytes()
    assert copy == (tmp_path / "results" / "quick.csv").read_bytes()


def test_text_from_runs_is_escaped_everywhere(tmp_path):
    paper = make_paper(cells=("net/true-labels", NASTY), title=f"On {NASTY}", authors=NASTY)
    rows = write_results(paper, tmp_path / "results", rows=make_rows(paper)[:5])
    claims = tmp_path / "results" / "quick.claims.json"
    entries = json.loads(claims.read_text(encoding="utf-8"))
    claims.write_text(json.dumps([e | {"reason": NASTY, "provenance": NASTY} for e in entries]), encoding="utf-8")
    (tmp_path / "results" / "quick.csv").write_text(
        (tmp_path / "results" / "quick.csv").read_text(encoding="utf-8").replace("cpu (1 thread)", NASTY),
        encoding="utf-8",
    )
    store = Store(tmp_path / "runs")
    run = store.run(paper.scales[0].cells[1].hash(2))
    run.folder.mkdir(parents=True)
    run.fail(f"Traceback ...\nValueError: {NASTY}")
    page = build(tmp_path, paper, store)
    for file in (tmp_path / "site").glob("*.html"):
        assert "<script" not in file.read_text(encoding="utf-8")
    assert not page.all("script")
    assert page.table("Training runs")[2][0] == NASTY
    assert f"ValueError: {NASTY}" in page.text
    assert len(rows) == 5


def test_a_failed_run_is_shown_until_it_has_succeeded(tmp_path, paper):
    store = Store(tmp_path / "runs")
    run = store.run(paper.scales[0].cells[0].hash(0))
    run.folder.mkdir(parents=True)
    run.fail("Traceback ...\nValueError: the disk is full")
    assert "seed 0: ValueError: the disk is full" in build(tmp_path, store=store).text
    run.finish({"config_hash": run.hash})
    assert "the disk is full" not in build(tmp_path, store=store).text


@pytest.mark.parametrize(("column", "says"), [("commit", "2 commits"), ("versions", "2 sets of package versions")])
def test_rows_of_different_origin_are_called_so(tmp_path, paper, column, says):
    assert "Mixed origin" not in build(tmp_path).text
    rows = make_rows(paper)
    rows[3][column] = "other"
    write_results(paper, tmp_path / "results", rows=rows)
    text = build(tmp_path).text
    assert "Mixed origin" in text
    assert says in text


def test_a_half_finished_scale_says_how_far_it_is(tmp_path, paper):
    write_results(paper, tmp_path / "results", rows=make_rows(paper)[:2])
    text = build(tmp_path).text
    assert "Half finished" in text
    assert "2 of 6 runs" in text


@pytest.mark.parametrize("exists", [True, False])
def test_no_results_give_a_page_with_the_command(tmp_path, exists):
    if exists:
        (tmp_path / "results").mkdir()
    page = build(tmp_path)
    assert "lightning-regs reproduce smith2020 --scale quick" in page.text
    assert not page.tables


DAMAGE = [
    ("quick.csv", b"", "it is empty"),
    ("quick.csv", b"\x89PNG\xff\xfe", "not text in UTF-8"),
    ("quick.csv", b"paper,scale,seed\nsmith2020,quick,0\n", "no column 'cell'"),
    ("quick.csv", b"cell,seed,test_acc\nnet/true-labels,0,80\nnet/true-la", "line 3"),
    ("quick.csv", b"cell,seed,test_acc\nnet/true-labels,0,eighty\n", "line 2"),
    ("quick.csv", b"cell,seed,test_acc\nnet/true-labels,zero,80\n", "line 2"),
    ("quick.claims.json", b'[{"id": "1", "sent', "it is not JSON (line 1)"),
    ("quick.claims.json", b'{"id": 1}', "not a list of claims"),
    ("quick.claims.json", b'[7, {"id": "1", "sentence": "A.", "verdict": "perhaps"}]', "unknown verdict 'perhaps'"),
    ("quick.curves.csv", b"step,train_loss\n1,2\n", "no column 'cell'"),
]


@pytest.mark.parametrize(("name", "content", "says"), DAMAGE)
def test_a_damaged_file_is_named_and_the_rest_is_shown(tmp_path, paper, name, content, says):
    (tmp_path / "results" / name).write_bytes(content)
    text = build(tmp_path).text
    assert "Damaged results" in text
    assert says in text
    if name != "quick.csv":
        assert "Training runs" in text
    if name != "quick.claims.json":
        assert "Nets fit random labels." in text


def test_a_figure_that_cannot_be_drawn_gives_its_reason(tmp_path):
    figures = (*make_paper().figures, Figure("bad", "Figure 9", "", broken))
    paper = make_paper(figures=figures)
    write_results(paper, tmp_path / "results")
    (tmp_path / "results" / "quick.curves.csv").unlink()
    text = build(tmp_path, paper).text
    assert "Figure 1: loss is not drawn: cell 'net/true-labels' has no curve." in text
    assert "Figure 9 is not drawn: drawing it failed with ZeroDivisionError: the axis has no length." in text


def test_the_index_counts_the_verdicts_of_each_paper_and_scale(tmp_path, paper):
    build(tmp_path)
    other = make_paper(paper_id="doe2021", title="Other nets")
    write_report(other, tmp_path / "nowhere", tmp_path / "site")
    (tmp_path / "site" / "bad.summary.json").write_text("[1", encoding="utf-8")
    page = Page(write_index(tmp_path / "site").read_text(encoding="utf-8"))
    without, measured = page.rows("Verdicts")
    assert without[0].startswith("Other nets")
    assert "no results yet" in without[1]
    assert "lightning-regs reproduce doe2021 --scale quick" in without[1]
    assert measured[1:] == ["quick", "2", "1", "1", "1"]


def test_an_index_without_pages_says_so(tmp_path):
    assert "no page of a paper" in Page(write_index(tmp_path / "site").read_text(encoding="utf-8")).text


def test_scales_are_shown_nearest_to_the_paper_first_or_as_asked(tmp_path, paper):
    write_results(paper, tmp_path / "results", "full")
    headings = re.compile(r"(Quick|Full) scale (?:Two)")
    assert headings.findall(build(tmp_path).text) == ["Full", "Quick"]
    assert headings.findall(build(tmp_path, scales=["quick"]).text) == ["Quick"]
    with pytest.raises(ValueError, match="Did you mean 'quick'"):
        build(tmp_path, scales=["quik"])


def test_the_same_results_give_the_same_bytes(tmp_path, paper):
    first = write_report(paper, tmp_path / "results", tmp_path / "a")
    second = write_report(paper, tmp_path / "results", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, paper):
    (tmp_path / "site").write_text("in the way", encoding="utf-8")
    with pytest.raises(ValueError, match="choose another folder"):
        build(tmp_path)


def test_a_large_page_stays_under_two_megabytes(tmp_path):
    paper = make_paper(cells=tuple(f"net-{n % 8}/mode-{n}" for n in range(60)))
    write_results(paper, tmp_path / "results", "quick", make_rows(paper, "quick", 5))
    write_results(paper, tmp_path / "results", "full", make_rows(paper, "full", 5))
    page = write_report(paper, tmp_path / "results", tmp_path / "site")
    assert page.stat().st_size < 2_000_000


finite = st.floats(-1e3, 1e3)


@settings(max_examples=50, deadline=None)
@given(ends=st.tuples(finite, finite, finite).map(sorted), holds=st.tuples(finite, finite).map(sorted), paper=finite)
def test_the_picture_of_an_interval_keeps_its_order(ends, holds, paper):
    low, ours, high = ends
    numbers = {"ours": ours, "low": low, "high": high, "holds_low": holds[0], "holds_high": holds[1], "paper": paper}
    picture = strip(numbers)
    assert picture is not None
    assert 0 <= picture.low <= picture.ours <= picture.high <= 100
    assert 0 <= picture.holds_from <= picture.holds_to <= 100
    # Rounding to hundredths of a percent may join what lies close, never swap it.
    assert (picture.low >= picture.holds_from) or low < holds[0]
    assert (picture.high <= picture.holds_to) or high > holds[1]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (100.0, "%", "100.00\u202f%"),
        (-0.125, "points", "\u22120.12 points"),
        (3.9, "x", "3.90\u202f\u00d7"),
        (1209866, "", "1,209,866"),
        (3.14159, "", "3.142"),
        (2e-8, "", "2.00e\u22128"),
        (math.nan, "%", "\u2013"),
        (None, "", "\u2013"),
        (math.inf, "", "∞"),
    ],
)
def test_numbers_are_written_for_people(value, unit, text):
    assert tables.number(value, unit) == text


@settings(max_examples=50, deadline=None)
@given(positions=st.lists(st.floats(0, 10), max_size=8), gap=st.floats(0.01, 3))
def test_labels_are_moved_apart_and_keep_their_order(positions, gap):
    moved = plots.spread(positions, gap)
    order = sorted(range(len(positions)), key=positions.__getitem__)
    assert all(moved[b] - moved[a] >= gap * (1 - 1e-9) for a, b in itertools.pairwise(order))
    assert sum(moved) == pytest.approx(sum(positions), abs=1e-6)


def _contrast(a, b):
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_colours_of_figures_can_be_read_on_both_grounds():
    assert all(_contrast(color, "#ffffff") >= 4.5 for color in (*plots.SERIES, plots.INK, plots.MUTED))
    dark = {name: color for name, color in plots.DARK.items() if name != "--fig-faint"}
    assert all(_contrast(color, "#15181b") >= 4.5 for color in dark.values())


def test_an_inline_figure_takes_its_colours_from_the_page_and_a_file_has_its_own_ground():
    with plots.style():
        figure, axes = plots.canvas()
        axes.plot([0, 1], [0, 1], color=plots.SERIES[0], label="0.12345 #0b62a4 $x$")
        axes.legend()
        inline = plots.to_svg(figure, "a", inline=True, title="T")
        alone = plots.to_svg(figure, "a", inline=False, title="T")
    assert "var(--fig-1, #0b62a4)" in inline
    assert "0.12345 #0b62a4 $x$" in inline
    assert "var(" not in alone
    assert 'fill="#ffffff"' in alone
    for color in re.findall(r"(?:fill|stroke): (#\w+)", inline):
        assert color == "never: every colour of an inline figure follows the theme"
