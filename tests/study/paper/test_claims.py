"""Claims as data: what they need, where they are from, and one claim for several scales."""

from __future__ import annotations

import pytest

from lightning_regs.core.metrics import Family, Metric
from lightning_regs.study import (
    Cell,
    Paper,
    Scale,
    difference,
    largest,
    margin,
    per_seed,
    percent_lower,
    rank_correlation,
    ratio,
    rise,
    share,
    smallest_step,
    value,
    weighted_sum,
)
from lightning_regs.study.paper.claims import Claim, Source, across, lower
from lightning_regs.study.paper.rows import Rows

SLIDES = Source("slides", "Slides of a course", "Roe", 2021)
TABLE = Source("table", "A transcription of Table 1")


def claim(name="c", **about):
    return Claim(name, "It holds.", **({"measure": value("a"), "above": 0, "source": SLIDES} | about))


@pytest.mark.parametrize(
    ("about", "error", "message"),
    [
        (
            {"source": ()},
            ValueError,
            "claim 'c' has no source; name what was read, or say kind='control' for a check",
        ),
        ({"name": " "}, ValueError, "claim ' ' has no id that fits into a line; give it a short name."),
        ({"name": "a\nb"}, ValueError, "claim 'a\\nb' has no id that fits into a line; give it a short name."),
        ({"measure": None}, ValueError, "claim 'c' needs either a measure, or out_of_reach= with the reason"),
        ({"out_of_reach": "ImageNet"}, ValueError, "claim 'c' needs either a measure, or out_of_reach="),
        ({"above": None}, ValueError, "claim 'c' is measured by no criterion; add above=, below=, at_least=, at_most="),
        ({"below": 0}, ValueError, "claim 'c' asks for a number above 0 and below 0, and there is none"),
        ({"origin": "red"}, ValueError, "claim 'c': unknown origin 'red'. Did you mean 'read'?"),
        (
            {"published": float("nan")},
            ValueError,
            "claim 'c': published must be finite, got nan.",
        ),
        ({"on": "quick"}, TypeError, "claim 'c': on must be a tuple, got 'quick'; write ('quick',)."),
    ],
)
def test_a_claim_that_cannot_be_judged_or_followed_is_refused(about, error, message):
    with pytest.raises(error) as refused:
        claim(**about)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"where": "Table 1"}, "Roe 2021, Table 1"),
        ({"source": (SLIDES, TABLE)}, "Roe 2021 and A transcription of Table 1"),
        ({"origin": "derived", "where": "page 3"}, "derived from Roe 2021, page 3"),
        ({"origin": "recalled"}, "recalled, not read again: Roe 2021"),
        ({"kind": "control", "source": ()}, "our control"),
        ({"kind": "control", "where": "page 3"}, "our control, Roe 2021, page 3"),
        ({"kind": "control", "source": (), "where": "by hand"}, "our control, by hand"),
    ],
)
def test_provenance_is_words(about, words):
    assert claim(**about).provenance == words
    assert [key for _, key in claim(**about).cited if key] == [source.key for source in claim(**about).sources]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"key": " "}, "a source has a key and a title, got ' ' and 'T'; give it both."),
        ({"title": ""}, "a source has a key and a title, got 'k' and ''; give it both."),
        ({"link": "https://a.org"}, "source 'k' has the link 'https://a.org'; write it as 'arxiv.org/abs/1611.03530'."),
        ({"link": "see the card"}, "source 'k' has the link 'see the card'; write it as"),
    ],
)
def test_a_source_that_nobody_finds_is_refused(about, message):
    with pytest.raises(ValueError, match=r"^a? ?source") as refused:
        Source(**({"key": "k", "title": "T"} | about))
    assert str(refused.value).startswith(message)


def test_claims_of_several_scales_are_one_claim_with_forms():
    digits, cifar, extra = claim(measure=value("digits")), claim(measure=value("cifar")), claim("d")
    one, alone = across(quick=[digits], standard=[cifar, extra])
    assert (one.id, one.on, alone.id, alone.on) == ("c", ("quick", "standard"), "d", ("standard",))
    assert [one.at(scale) for scale in ("quick", "standard", "paper")] == [digits, cifar, None]
    assert alone.at("standard").measure is extra.measure
    assert alone.at("quick") is None
    assert digits.at("anything") is digits
    with pytest.raises(ValueError, match="scale 'quick' has more than one claim 'c'; give one of them another id"):
        across(quick=[digits, cifar])


def test_a_lower_metric_is_a_claim_on_a_difference_above_zero():
    made = lower("c", "It is lower.", "a", "b", 1.4, "error_m5", "error_m1", source=SLIDES, headline=True)
    rows = Rows(
        {"cell": cell, "seed": seed, "error_m5": 3.0 + seed, "error_m1": 7.0} for cell in "ab" for seed in (0, 1)
    )
    assert made.measure.values(rows) == difference("b", "a", "error_m1", "error_m5").values(rows) == [4.0, 3.0]
    assert made.in_units(()).unit == "points"
    assert (made.criterion.text(), made.published, made.headline) == ("above 0", 1.4, True)
    assert lower("c", "It is lower.", "a", "b", kind="control").measure.parts == (
        ("b", "test_error"), ("a", "test_error"),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"^claim 'c' has no source"):
        lower("c", "It is lower.", "a", "b")


LENGTHS = Family("Lengths", (Metric("norm", "Norm"), Metric("long", "Length", "mm"), Metric("moved_acc", "Moved", "x")))


@pytest.mark.parametrize(
    ("measure", "unit"),
    [
        (value("a"), "%"),
        (value("a", "test_error_12"), "%"),
        (value("a", "norm"), ""),
        (value("a", "nobody_said"), ""),
        (value("a", "moved_acc"), "x"),
        (largest("long", "a", "b"), "mm"),
        (difference("a", "b"), "points"),
        (difference("a", "b", "long"), "mm"),
        (smallest_step("test_acc", 1, "a", "b"), "points"),
        (margin("a", ["b"]), "points"),
        (weighted_sum((1, "a", "train_acc"), (-1, "b", "test_error")), "points"),
        (rise({1: "a", 2: "b"}), "points"),
        (rise({1: value("a", "test_loss"), 2: value("b", "test_loss")}), ""),
        (ratio("a", "b", "long", "norm"), "x"),
        (percent_lower("a", "b", "long"), "%"),
        (share("a", "b", "c"), ""),
        (rank_correlation("test_acc", "a", "b", "c"), ""),
        (per_seed(max, ("a", "test_acc"), ("b", "test_acc")), ""),
    ],
)
def test_a_claims_unit_follows_from_its_measure_and_its_metrics(measure, unit):
    cells = (Cell("a", "t:f"), Cell("b", "t:f"), Cell("c", "t:f"))
    scales = (Scale("quick", "", cells), Scale("large", "", cells))
    other = claim(measure=difference("a", "b", "long"))
    claims = (*across(quick=[claim(measure=measure)], large=[other]), claim("d", measure=measure, unit="mine"))
    paper = Paper("p", "T", "A", 2020, "", scales, claims, metrics=(LENGTHS,))
    assert [made.unit for made in paper.claims] == [unit, "mine"]
    assert [paper.claims[0].at(scale).unit for scale in ("quick", "large")] == [unit, "mm"]


def test_a_measure_of_several_units_has_none_of_its_own():
    mixed = claim(measure=difference("a", "b", "norm", "test_acc"))
    with pytest.raises(ValueError, match=r"^claim 'c': difference is made of \['norm', 'test_acc'\], in units"):
        mixed.in_units([LENGTHS])
    assert claim(measure=mixed.measure, unit="").in_units([LENGTHS]).unit == ""
