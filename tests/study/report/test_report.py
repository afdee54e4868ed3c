"""What a reader finds on a page and on the index."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_up import broken, make_paper, make_rows, write_results
from parsed import Page

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.figure import Figure, points
from lightning_regs.study.report import tables
from lightning_regs.study.report.headline import strip
from lightning_regs.study.report.report import write_index, write_report


def build(tmp_path, paper=None, store=None):
    page = write_report(paper or make_paper(), tmp_path / "results", tmp_path / "site", store)
    return Page(page.read_text(encoding="utf-8"))


@pytest.fixture
def paper(tmp_path):
    made = make_paper()
    write_results(made, tmp_path / "results")
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of the made-up paper, for all that look at it, and the folder in which it and its results are."""
    folder, made = tmp_path_factory.mktemp("whole"), make_paper()
    write_results(made, folder / "results")
    return folder, made, build(folder)


@pytest.mark.slow
def test_a_claim_is_a_row_with_paper_criterion_ours_interval_seeds_and_the_verdict_as_a_word(whole):
    _, _, page = whole
    assert page.table("Claims of the paper")[0][:3] == ["Claim", "Paper, and where the claim holds", "Ours"]
    fits, true, noisy, slow, imagenet = page.rows("Claims of the paper")
    assert fits[0].startswith("Nets fit random labels.claim 1 · Roe 2021, Table 1")
    assert fits[1] == "100.00 %holds if at least 99 %"
    assert fits[2] == "99.91 %95 % interval 99.89 to 99.93"
    assert fits[4:] == ["3", "reproduced"]
    assert noisy[1].endswith("holds if 49 to 51 %")
    assert noisy[5] == "not reproduced"
    assert true[1] == "80.00 %recalled, not re-readholds if 79 to 81 %"
    assert "no metric 'slow'" in slow[0]
    assert "ImageNet is not here" in imagenet[0]
    assert (imagenet[1], imagenet[5]) == ("95.20 %", "out of reach")


def test_what_can_be_shown_and_hidden_is_chosen_without_a_script(whole):
    _, _, page = whole
    boxes = {attrs["class"]: "checked" in attrs for attrs in page.all("input")}
    assert boxes == {
        "s-reproduced": True, "s-not-reproduced": True, "s-not-decided": True, "s-out-of-reach": False,
        "by-verdict": False,
    }  # fmt: skip
    shown = {attrs["class"] for attrs in page.all("tr") if attrs.get("id", "").startswith("quick_claim_")}
    assert shown == {"r-reproduced", "r-not-reproduced", "r-not-decided", "r-out-of-reach"}


def test_a_claim_leads_to_its_source_and_deviations_are_said(whole):
    _, paper, page = whole
    link = {"href": "#source_slides"}
    assert page.all("a").count(link) == 2 * len(paper.claims)  # these few are what the paper is known for, too
    assert {"id": "source_slides"} in page.all("div")
    assert "Roe 2021 Slides of a course. They copy Table 1. doi.org/10.1000/1" in page.text
    assert {"href": "https://doi.org/10.1000/1"} in page.all("a")
    deviations = [
        ["D1", "quick", "CIFAR-10", "Digits in place of CIFAR-10.", ""],
        ["D2", "all", "Not stated", "Seeds are 0, 1 and 2.", "None."],
    ]
    assert page.rows("What is done otherwise than in the paper") == deviations


def test_cells_show_mean_and_half_interval_over_seeds(whole):
    from scipy.stats import t

    rows = whole[2].table("Training runs")
    half = t.interval(0.95, 2, loc=80.1, scale=0.1 / math.sqrt(3))[1] - 80.1
    true = next(row for row in rows if row[0] == "net/true-labels")
    assert f"80.10 ± {half:.2f}" in true
    assert next(row for row in rows if row[0] == "net/random-labels")[4] == "never fitted"


def test_every_run_is_there_with_its_origin(whole):
    _, paper, page = whole
    runs = page.table("Every run")
    for row, run in zip(make_rows(paper), runs[1:], strict=True):
        assert [row["cell"], str(row["seed"])] == run[:2]
        assert {row["commit"], row["device"], row["config_hash"]} <= set(run)


@pytest.mark.slow
def test_figures_are_inline_and_described_with_the_papers_numbers(tmp_path):
    made = make_paper()
    figure = points("t", "Table 1", "test_acc", {"true labels": "net/true-labels"})
    made = make_paper(figures=(*made.figures, figure, Figure("bad", "Figure 9", "", broken)))
    write_results(made, tmp_path / "results")
    page = build(tmp_path, made)
    labels = [attrs["aria-label"] for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert labels[0].startswith("Ours beside the paper's. Nets fit random labels: reproduced; ours 99.91\u202f%, ")
    assert labels[1] == "Figure 1: loss. Loss over 290 steps."
    assert labels[3] == "Table 1. Test accuracy: true labels 80.1."
    assert "Means over seeds." in page.text
    (tmp_path / "results" / "quick.curves.csv").unlink()
    text = build(tmp_path, made).text
    assert "Figure 1: loss is not drawn: cell 'net/true-labels' has no curve." in text
    assert "Figure 9 is not drawn: drawing it failed with ZeroDivisionError: the axis has no length." in text


def test_a_page_is_accessible_by_its_markup(whole):
    _, _, page = whole
    assert all(table["caption"].strip() for table in page.tables)
    assert all("scope" in attrs for attrs in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")}
    named |= {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert named <= set(ids)


def test_nothing_is_loaded_from_outside_and_downloads_are_the_committed_files(whole):
    folder, _, _ = whole
    for file in (folder / "site").glob("*.html"):
        text = file.read_text(encoding="utf-8")
        page = Page(text)
        assert not page.all("script") + page.all("img")
        assert all(attrs["href"].startswith("data:") for attrs in page.all("link"))
        assert not re.search(r"url\((?!#)|@import|src=", text)
        links = {attrs["href"] for attrs in page.all("a")}
        outside = {link for link in links if "//" in link}
        assert outside <= {"https://arxiv.org/abs/2001.00001", "https://doi.org/10.1000/1"}
        files = {link.split("#")[0] for link in links - outside} - {""}
        assert all((folder / "site" / name).is_file() for name in files)
    copy = (folder / "site" / "smith2020-quick.csv").read_bytes()
    assert copy == (folder / "results" / "quick.csv").read_bytes()


@pytest.mark.slow
def test_the_prose_of_the_card_is_on_the_page(tmp_path):
    made = make_paper(folder=tmp_path / "card")
    (tmp_path / "card").mkdir()
    text = "# T\n\n## Protocol\n\n**Plain** <b>SGD</b>, see [docs](../docs/x.md) and [it](https://a.org/x).\n"
    text += "\n| Rate | Accuracy |\n| --- | ---: |\n| 0.1 | <i>90</i> |\n"
    part = "\n## Deviations\n\n<!-- begin:p/deviations -->\nbygone\n<!-- end:p/deviations -->\n"
    (tmp_path / "card" / "README.md").write_text(f"{text}{part}\n## What was hard\n\nThe misses.\n", encoding="utf-8")
    write_results(made, tmp_path / "results")
    page = build(tmp_path, made)
    order = [
        "What held Quick",
        "Protocol Plain <b>SGD</b>, see docs and it .",
        "Deviations What is",
        "hard The misses.",
    ]
    places = [page.text.index(words) for words in order]
    assert places == sorted(places)
    assert page.table("Protocol") == [["Rate", "Accuracy"], ["0.1", "<i>90</i>"]]
    assert "Protocol, table 1" in [region.get("aria-label") for region in page.all("div")]  # it scrolls by itself
    assert {"href": "https://a.org/x"} in page.all("a")
    assert "bygone" not in page.text


def test_a_paper_without_claims_has_a_page_of_its_runs(tmp_path):
    paper = make_paper(claims=())
    write_results(paper, tmp_path / "results")
    page = Page(write_report(paper, tmp_path / "results", tmp_path / "site").read_text(encoding="utf-8"))
    assert "net/true-labels" in page.text
    assert not list((tmp_path / "site").glob("*.claims.json"))
    assert not [attrs for attrs in page.all("a") if attrs["href"].endswith(".claims.json")]


@pytest.mark.slow
def test_a_failed_run_is_shown_until_it_has_succeeded(tmp_path, paper):
    store = Store(tmp_path / "runs")
    run = store.run(paper.scales[0].cells[0].hash(0))
    run.folder.mkdir(parents=True)
    run.fail("Traceback ...\nValueError: the disk is full")
    assert "seed 0: ValueError: the disk is full" in build(tmp_path, store=store).text
    run.finish({"config_hash": run.hash})
    assert "the disk is full" not in build(tmp_path, store=store).text


@pytest.mark.slow
def test_a_failed_run_of_a_seed_beyond_the_scale_is_shown(tmp_path, paper):
    store = Store(tmp_path / "runs")
    run = store.run(paper.scales[0].cells[0].hash(7))
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text('{"seed": 7}')
    run.fail("ValueError: too late")
    assert "seed 7: ValueError: too late" in build(tmp_path, store=store).text


@pytest.mark.parametrize(("column", "says"), [("commit", "2 commits"), ("versions", "2 sets of package versions")])
@pytest.mark.slow
def test_rows_of_different_origin_are_called_so(tmp_path, paper, column, says):
    assert "Mixed origin" not in build(tmp_path).text
    rows = make_rows(paper)
    rows[3][column] = "other"
    write_results(paper, tmp_path / "results", rows=rows)
    assert re.search(f"Mixed origin.*{says}", build(tmp_path).text)


def test_a_run_of_ones_own_stands_beside_the_committed_one(tmp_path):
    paper = make_paper(folder=tmp_path / "paper")
    rows = write_results(paper, tmp_path / "paper" / "results")
    store = Store(tmp_path / "runs")
    assert "Your run" not in build(tmp_path, paper, store).text
    for row in rows[:3]:
        row["test_acc"] += 5
    write_results(paper, store.results(paper.id), rows=rows)
    page = build(tmp_path, paper, store)
    assert "Quick scale , 6 runs of yours beside 6." in page.text
    [claim] = page.rows("Claims with another verdict")
    assert claim[0] == "2"
    assert claim[2::2] == ["not reproduced", "reproduced"]
    [number] = page.rows("Numbers beyond")
    assert number[:2] == ["net/true-labels", "Test accuracy"]
    assert number[4].startswith("5.00 ±")


@pytest.mark.slow
def test_the_index_counts_the_verdicts_of_each_paper_and_scale(tmp_path, paper):
    assert "no page of a paper" in Page(write_index(tmp_path / "site").read_text(encoding="utf-8")).text
    build(tmp_path)
    write_report(make_paper(paper_id="doe2021", title="Other nets"), tmp_path / "nowhere", tmp_path / "site")
    (tmp_path / "site" / "bad.entry").write_bytes(b"\xff")
    page = Page(write_index(tmp_path / "site").read_text(encoding="utf-8"))
    without, measured = page.rows("Verdicts")
    assert without[0].startswith("Other nets")
    assert "no results yet: lightning-regs reproduce doe2021 --scale quick" in without[1]
    assert measured[1] == f"quickHeadlines: ✓ ✓ ✗ ? {tables.DASH}1 waiting for runs"
    assert measured[2:] == ["2", "1", "0", "0", "0", "1"]
    known = [attrs["href"] for attrs in page.all("a") if attrs.get("class", "").startswith("nowrap")]
    ids = {attrs["id"] for attrs in Page((tmp_path / "site" / "smith2020.html").read_text(encoding="utf-8")).all("tr")
           if "id" in attrs}  # fmt: skip
    assert len(known) == len(paper.claims)
    assert {link.removeprefix("smith2020.html#") for link in known} <= ids


@pytest.mark.slow
def test_scales_are_shown_nearest_to_the_paper_first_but_unfinished_ones_last(tmp_path, paper):
    write_results(paper, tmp_path / "results", "full", make_rows(paper, "full")[:4])
    assert re.findall(r"(Quick|Full) scale (?:Two)", build(tmp_path).text) == ["Quick", "Full"]
    write_results(paper, tmp_path / "results", "full")
    headings = re.compile(r"(Quick|Full) scale (?:Two)")
    assert headings.findall(build(tmp_path).text) == ["Full", "Quick"]


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path, paper):
    pages = [write_report(paper, tmp_path / "results", tmp_path / name).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, paper):
    (tmp_path / "site").write_text("in the way", encoding="utf-8")
    with pytest.raises(ValueError, match="choose another folder"):
        build(tmp_path)


finite = st.floats(-1e3, 1e3)


@settings(max_examples=50, deadline=None)
@example(ends=[5e-324] * 3, holds=[5e-324] * 2, paper=5e-324)
@given(ends=st.tuples(finite, finite, finite).map(sorted), holds=st.tuples(finite, finite).map(sorted), paper=finite)
def test_the_picture_of_an_interval_keeps_its_order(ends, holds, paper):
    low, ours, high = ends
    numbers = {"ours": ours, "low": low, "high": high, "holds_low": holds[0], "holds_high": holds[1], "paper": paper}
    picture = strip(numbers)
    assert picture is not None
    assert 0 <= picture["low"] <= picture["ours"] <= picture["high"] <= 100
    assert 0 <= picture["holds_low"] <= picture["holds_high"] <= 100
    # Rounding to hundredths of a percent may join what lies close, never swap it.
    assert (picture["low"] >= picture["holds_low"]) or low < holds[0]
    assert (picture["high"] <= picture["holds_high"]) or high > holds[1]


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
