"""Every verdict, kind and mark, wherever claims are told: page, card, terminal, report; and counts in plain words."""

from __future__ import annotations

import io
import math

import pytest
from made_up import MARK, make_every, marks, write_results
from parsed import Page, spaced
from rich.console import Console

from lightning_regs.core.metrics import Metric
from lightning_regs.study.paper.verdicts import ClaimResult, Setting
from lightning_regs.study.report import tables
from lightning_regs.study.report.card import update
from lightning_regs.study.report.drawing import name_figure
from lightning_regs.study.report.headline import headlines, picture, span, strip
from lightning_regs.study.report.report import write_report
from lightning_regs.study.report.specification import specify
from lightning_regs.study.report.tables import TIMES
from lightning_regs.study.report.telling import legend, say, tallies, tell, why
from lightning_regs.study.report.terminal import print_claims
from lightning_regs.study.store.results import load
from lightning_regs.study.wandb.blocks import blocks

COUNTS = (
    "Of 4 claims of the paper measured here 1 held, 1 did not hold, 1 is undecided and 1 is invalid; 1 of these "
    "verdicts is exploratory. 1 more waits for runs; 1 is not at this scale; 1 is out of reach."
)
WHY = "The invalid claim looks at runs that did not reach the test accuracy asked for, in net/random-labels (1 claim)."
SIGNS = f"✓†\u00a0?\u00a0!\u00a0·\u00a0{tables.DASH}"
APART = "Of 1 claim of theory measured here 1 held. Of 1 control of ours measured here 1 held."


@pytest.fixture
def paper(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_regs.study.store.results.marks", marks)
    made = make_every(folder=tmp_path / "smith2020")
    write_results(made, tmp_path / "smith2020" / "results")
    return made


@pytest.fixture
def results(paper, tmp_path):
    return load(paper, tmp_path / "smith2020" / "results", ["quick"])[0].claims


def result(**about):
    base = {"id": "c", "sentence": "It is so.", "paper_value": 2.0, "provenance": "slides", "unit": "x", "reason": ""}
    return ClaimResult(**(base | {"ours": 3.0, "low": 2.5, "high": 3.5, "n": 5, "verdict": "reproduced"} | about))


def test_kinds_are_counted_apart_in_plain_words(results):
    assert say(tallies(results)) == f"{COUNTS} {APART}"
    briefs = [tally.brief for tally in tallies(results)]
    assert briefs == ["1 of 4 held, 1 undecided, 1 invalid", "1 of 1 held", "1 of 1 held"]
    assert say(tallies([])) == "No claim of the paper is measured here."


@pytest.mark.slow
def test_the_page_opens_with_what_held_and_has_every_mark(tmp_path, paper):
    page = Page(write_report(paper, tmp_path / "smith2020" / "results", tmp_path / "site").read_text(encoding="utf-8"))
    start = page.text.index("What held Quick scale .")  # the contents have a link to it, before
    assert page.text[start:].startswith(f"What held Quick scale . {COUNTS} {APART} {WHY}")
    places = [start, *map(page.text.index, ("Quick scale Two small", "What is done otherwise than in the paper"))]
    assert places == sorted(places)
    known_for = page.rows("What the paper is known for")
    assert [row[0].partition("claim ")[0] for row in known_for] == [
        claim.sentence for claim in paper.claims if claim.headline
    ]
    assert [row[-1] for row in known_for] == [
        "reproduced† exploratoryquick scale", "not decidedquick scale", "invalidquick scale", "not at this scale",
        "out of reach",
    ]  # fmt: skip
    rows = {row[0].partition("claim ")[2].partition("·")[0].strip(): row for row in page.rows("Claims of the paper")}
    assert list(rows) == [claim.id for claim in paper.claims if claim.kind == "paper"]
    held, broken = rows["held"], rows["broken"]
    assert f"† {MARK}" in held[0]
    assert "holds in 1 of 2 other settings: noise; not reproduced with tests (10.10 %)" in held[0]
    assert held[2].endswith("(at 97.5 % confidence)")
    assert "Cells: net/true-labels" in held[0]
    assert held[0].endswith("Frozen 2026-01-02, on top of abc1234.")
    assert "test_acc is 10" in broken[0]
    assert "Judged only if every run of net/random-labels has test_acc at least 50Not frozen." in spaced(broken[0])
    assert [len(page.rows(title)) for title in ("Theory", "Our controls")] == [1, 1]
    known = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")}
    assert {"quick_claim_held", "quick_cell_net-true-labels"} <= links <= known


@pytest.mark.slow
def test_the_index_keeps_kinds_apart(tmp_path, paper):
    write_report(paper, tmp_path / "smith2020" / "results", tmp_path / "site")
    [line] = Page((tmp_path / "site" / "index.html").read_text(encoding="utf-8")).rows("Verdicts")
    signs = SIGNS.replace("\u00a0", " ")
    assert line[1] == f"quickHeadlines: {signs}Theory: 1 of 1 heldOur controls: 1 of 1 held1 waiting for runs"
    assert line[2:] == ["11 †", "1", "1", "1", "1", "1"]


def test_a_card_opens_with_what_held_and_has_every_mark(tmp_path, paper):
    path = tmp_path / "smith2020" / "README.md"
    parts = ("smith2020/headline", "smith2020/headline/quick", "smith2020/claims", "gallery")
    path.write_text("".join(f"<!-- begin:{part} -->\n<!-- end:{part} -->\n" for part in parts), encoding="utf-8")
    update([path], [paper])
    text = path.read_text(encoding="utf-8")
    headline, again, claims, gallery = text.split("<!-- begin:")[1:]
    assert f"- `quick`: {COUNTS} {APART} {WHY}" in headline
    assert '<img src="figures/headline.svg" width="640" alt="Ours beside the paper&#x27;s. Nets fit true' in headline
    assert 'src="figures/quick-headline.svg"' in again
    svg = (tmp_path / "smith2020" / "figures" / "headline.svg").read_text(encoding="utf-8")
    for words in (
        "! invalid",
        "✓ reproduced †",
        "not measured yet: full scale",
        "ImageNet is not here",
        "3 seeds, quick",
        "test_acc is 10 to 10.2 in 3 of 3 runs of",
    ):
        assert words in svg
    for title in ("Claims of the paper", "Theory", "Our controls"):
        assert f"**{title}.** Of" in claims
    assert "| ✓\u00a0reproduced\u00a0† | `held`" in claims
    assert f"† {MARK}" in claims
    assert "| `held` |  | frozen 2026-01-02, on top of abc1234 |" in claims
    assert "- Not at this scale: asked at scale full only (`far`)." in claims
    assert "Intervals are of 95 % where no other level is given." in claims
    assert f"| quick (1 waiting) | {SIGNS} | 1 (1†) | 1 | 1 | 1 | 1 | 1 | 1 of 1 held | 1 of 1 held |" in gallery


def test_a_terminal_ends_with_the_headlines_and_the_counts(results):
    to = Console(file=io.StringIO(), width=140)
    print_claims(results, to)
    text = to.file.getvalue()
    lines = text.splitlines()
    assert lines[-3:] == [
        "controls: 1 reproduced",
        "theory: 1 reproduced",
        "1 reproduced (1 exploratory), 1 not reproduced, 2 not decided, 1 invalid, 1 not at this scale, 1 out of reach",
    ]
    places = [text.index(words) for words in ("controls, reproduced: 1", "\n  reproduced: 1", "\n  invalid: 1",
                                              "not reproduced: 1", "what the paper is known for")]  # fmt: skip
    assert places == sorted(places)
    assert f"exploratory: {MARK}" in text
    assert "99.87 to 99.95 (at 97.5 % confidence)" in text
    assert "claim broken, holds if below 20 %" in " ".join(text.split())


def test_the_report_for_weights_and_biases_has_every_mark(paper, tmp_path):
    made = blocks(specify(paper, tmp_path / "smith2020" / "results", show=name_figure), None)["blocks"]
    texts = [block["text"] for block in made if block["type"] == "MarkdownBlock"]
    assert [block["text"] for block in made if block["type"] == "H1"][:3] == [
        "What held", "How to read it", "Deviations",
    ]  # fmt: skip
    for mark in (
        "✓ reproduced †", "| ! invalid | `broken` |",
        "| D1 | `quick` | CIFAR-10 | Digits in place of CIFAR-10. |  |",
    ):  # fmt: skip
        assert any(mark in text for text in texts), mark
    assert {"Claims of the paper", "Theory", "Our controls"} <= {
        block["text"] for block in made if block["type"] == "H3"
    }


def test_a_headline_stands_at_the_scale_that_says_most(paper, tmp_path):
    folder = tmp_path / "smith2020" / "results"
    rows = [row | {"scale": "full"} for row in write_results(paper, folder)]
    for row in rows:
        del row["train_acc"]
    write_results(paper, folder, "full", rows)
    found = {entry.id: (entry.scale, entry.verdict) for entry in headlines(paper, load(paper, folder))}
    assert found["open"] == ("full", "not decided")  # nearest to the paper
    assert found["held"] == ("quick", "reproduced")  # the one that has a number
    assert found["far"] == ("full", "not decided")  # waits for its runs
    assert found["broken"] == ("full", "invalid")


def test_a_paper_without_claims_has_no_picture(tmp_path):
    assert headlines(make_every(), []) == ()
    with pytest.raises(LookupError, match="no claims"):
        picture(()).render(None, None)


@pytest.mark.parametrize(
    ("about", "ours", "interval"),
    [
        ({"low": 2.24, "high": math.inf, "ours": 2.24, "bound": "above"}, f"above 2.24\u202f{TIMES}", "above 2.24"),
        ({"low": -math.inf, "high": 4.0}, f"3.00\u202f{TIMES}", "below 4.00"),
        ({"low": -math.inf, "high": math.inf}, f"3.00\u202f{TIMES}", "no bound"),
        ({"low": 2.0, "high": 4.0, "confidence": 0.975}, f"3.00\u202f{TIMES}", "2.00 to 4.00 (at 97.5 % confidence)"),
        ({"exact": True, "confidence": 0.975}, f"3.00\u202f{TIMES}", "2.50 to 3.50 (lowest to highest of 5 problems)"),
        ({"low": 3.0, "high": 3.0}, f"3.00\u202f{TIMES}", "all 5 equal"),
        ({"low": 3.0, "high": 3.0, "n": 1}, f"3.00\u202f{TIMES}", "exact"),
        ({"low": None, "high": None, "n": 1}, f"3.00\u202f{TIMES}", ""),
    ],
)
def test_bounds_and_intervals_read_well(about, ours, interval):
    told = tell(result(**about), "quick")
    assert (told.ours, told.interval) == (ours, interval)
    drawn = strip(told.numbers)
    assert drawn is not None
    assert drawn["low"] <= drawn["ours"] <= drawn["high"]
    assert span(told.numbers) is not None


def test_what_is_undecided_says_what_so_many_seeds_would_have_seen():
    reason = "the interval crosses an edge of 'above 1'; by the seeds alone (2 to 3) it would be reproduced"
    told = why(result(verdict="not decided", reason=reason, smallest=0.5, test_items=1000))
    assert told == (
        "the interval crosses an edge; by the seeds alone (2 to 3) it would be reproduced; 5 seeds and 1,000 test "
        f"samples see what lies 0.50\u202f{TIMES} beyond the edge 4 times in 5"
    )
    assert "5 seeds see " in why(result(verdict="not decided", smallest=0.5))
    assert why(result(verdict="invalid", reason="it diverged", smallest=0.5)) == "it diverged"


def test_what_no_run_reached_is_called_so():
    claim = result(verdict="not decided", reason="2 of 5 values are not finite", ours=None, low=None, high=None)
    assert tell(claim, "quick", never="never fitted").reason == "2 of 5 runs never fitted"


@pytest.mark.parametrize(
    ("verdict", "q", "marks"), [("reproduced", 0.2, "‡"), ("reproduced", 0.01, ""), ("invalid", 0.2, "")]
)
def test_a_verdict_that_may_be_chance_is_marked(verdict, q, marks):
    told = tell(result(verdict=verdict, q=q), "quick")
    assert "".join(told.marks) == marks
    assert told.signed.endswith(marks)
    assert ("chance" in " ".join(legend([told]).values())) == bool(marks)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([2.0, 2.0 + 4e-16], "2"),
        ([2.0, 2.0], "2"),
        ([0.0, 0.0], "0"),
        ([1 / 3, 1 / 3 + 1e-16], "0.3333"),
        ([1.5e-16, 2.5e-16], "2.00e\u221216 ± 6.35e\u221216"),
    ],
)
def test_a_number_is_no_wider_than_its_precision(values, text):
    assert tables.shown(values, Metric("x", "X")) == text


def test_other_numbers_of_a_claim_are_told():
    settings = (
        Setting("batch 64", 1.0, 0.5, 1.5, 3, "not reproduced"),
        Setting("float32", 2.0, None, None, 1, "not decided"),
        Setting("none", None, None, None, 0, "not decided"),
    )
    facts = tell(result(q=0.012, won=0.84, settings=settings), "quick").facts
    assert facts == (
        "q = 0.012", "ahead in 84 % of the pairs of seeds",
        f"holds in 0 of 2 other settings; not reproduced with batch 64 (1.00\u202f{TIMES}); "
        f"one seed, no interval, with float32 (2.00\u202f{TIMES})",
    )  # fmt: skip


NEVER = Metric("fit_epoch", "Epochs to fit", "epochs", never="never fitted")


@pytest.mark.parametrize(
    ("values", "metric", "text"),
    [
        ([10, 12, 14, math.nan, math.nan], NEVER, "median 14 (2 of 5 never fitted)"),
        ([10, 12, math.nan], NEVER, "median 12 (1 of 3 never fitted)"),
        ([10, 12, math.nan, math.nan], NEVER, "median above 12 (2 of 4 never fitted)"),
        ([10, math.nan, math.nan], NEVER, "median above 10 (2 of 3 never fitted)"),
        ([math.nan, math.nan], NEVER, "never fitted"),
        ([], NEVER, tables.DASH),
        ([10.0, 12.5, math.nan], Metric("test_acc", "Test accuracy", "%"), "10.00 to 12.50 (2 of 3)"),
        ([10.0, math.nan], Metric("test_acc", "Test accuracy", "%"), "10.00 (1 of 2)"),
    ],
)
def test_the_mean_of_those_that_got_there_is_never_shown_as_the_mean(values, metric, text):
    assert tables.shown(values, metric) == text
