from __future__ import annotations

import json
import math

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.study.paper.claims import Claim
from lightning_regs.study.paper.measures import Estimate
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.verdicts import decide, evaluate, interval
from lightning_regs.study.report.tables import limits

quick = settings(max_examples=60, deadline=None)
numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))
edges = st.one_of(numbers, st.sampled_from([-math.inf, math.inf]))


def ordered(values):
    return st.tuples(values, values).map(sorted).map(tuple)


def rows(**cells):
    return Rows(
        {"cell": cell, "seed": seed, "acc": v} for cell, values in cells.items() for seed, v in enumerate(values)
    )


def claim(holds=(0.0, 1.0), measure=lambda r: r.metric("a", "acc"), **about):
    return Claim("c", "It holds.", 0.5, "seen", measure=measure, holds=holds, **about)


def check(values, holds=(0.0, 1.0), **about):
    return evaluate([claim(holds, lambda r: values, **about)], Rows([]), "quick")[0]


@quick
@given(st.lists(numbers, min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_interval_is_scipys(values, confidence):
    low, high = interval(values, confidence)
    if len(set(values)) == 1:
        assert low == high == values[0]
        return
    expected = scipy.stats.t.interval(
        confidence, len(values) - 1, loc=sum(values) / len(values), scale=scipy.stats.sem(values)
    )
    scale = max(map(abs, values))
    assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


def test_equal_values_give_exactly_that_value():
    assert interval([0.1] * 3) == (0.1, 0.1)
    assert check([0.1] * 3, (0.1, 0.1)).verdict == "reproduced"
    with pytest.raises(ValueError, match="at least two"):
        interval([1.0])


@quick
@given(ordered(numbers), ordered(edges))
def test_decide_agrees_with_sets(ours, holds):
    inside = all(holds[0] <= v <= holds[1] for v in ours)
    overlap = max(ours[0], holds[0]) <= min(ours[1], holds[1])
    expected = "reproduced" if inside else "not decided" if overlap else "not reproduced"
    assert decide(*ours, holds) == expected


@quick
@given(ordered(numbers), ordered(edges), st.floats(0, 1e6), st.floats(0, 1e6))
def test_widening_what_holds_only_helps(ours, holds, down, up):
    order = ["not reproduced", "not decided", "reproduced"]
    wider = (holds[0] - down, holds[1] + up)
    assert order.index(decide(*ours, wider)) >= order.index(decide(*ours, holds))


@quick
@given(ordered(numbers), ordered(edges), st.floats(0, 1), st.floats(0, 1))
def test_a_narrower_interval_never_undoes_a_verdict(ours, holds, a, b):
    low, high = ours
    at = sorted((low + a * (high - low), low + b * (high - low)))
    inner = (max(low, at[0]), min(high, at[1]))
    if decide(low, high, holds) != "not decided":
        assert decide(*inner, holds) == decide(low, high, holds)


@quick
@given(st.lists(numbers, min_size=2, max_size=6), ordered(edges), numbers)
def test_ours_lies_in_its_interval_and_order_does_not_matter(values, holds, shift):
    result, other = check(values, holds), check(values[::-1], holds)
    assert result.low <= result.ours <= result.high
    assert result.n == len(values)
    assert (result.low, result.verdict) == pytest.approx((other.low, 0), abs=1e-6) or result.verdict == other.verdict


@pytest.mark.parametrize(
    ("values", "holds", "verdict"),
    [
        ([0.4, 0.5, 0.6], (0, 1), "reproduced"),
        ([5.0, 5.1, 5.2], (0, 1), "not reproduced"),
        ([0.9, 1.0, 1.1], (0, 1), "not decided"),
        ([1.0, 1.0], (1, 1), "reproduced"),
        ([1.0, 1.0], (1, math.inf), "reproduced"),
        ([0.0, 0.0], (1, math.inf), "not reproduced"),
    ],
)
def test_verdicts(values, holds, verdict):
    assert check(values, holds).verdict == verdict


def test_one_seed_decides_only_an_exact_claim():
    single = check([0.5])
    assert (single.verdict, single.ours, single.low, single.n) == ("not decided", 0.5, None, 1)
    assert "at least 2 seeds" in single.reason
    exact = check([0.5], exact=True)
    assert (exact.verdict, exact.low, exact.high) == ("reproduced", 0.5, 0.5)
    assert check([2.0], exact=True).verdict == "not reproduced"


def test_undecided_says_why():
    assert check([0.9, 1.1]).reason == "the interval crosses an edge of '0 to 1'"
    assert check([0.9, 1.1], (1, math.inf)).reason.endswith("'at least 1'")
    assert check([0.9, 1.1], (-math.inf, 1)).reason.endswith("'at most 1'")
    assert check([]).reason == "its measure gave no value"
    broken = check([0.5, math.nan, math.inf])
    assert (broken.verdict, broken.reason) == ("not decided", "2 of 3 values are not finite")
    json.dumps(broken.as_dict(), allow_nan=False)


def test_missing_rows_and_faulty_measures_are_told_apart():
    results = evaluate(
        [
            claim(measure=lambda r: r.metric("b", "acc")),
            claim(measure=lambda r: r.metric("a", "los")),
            claim(measure=lambda r: 1 / 0),
            claim(measure=lambda r: r.values("a", "acc")),
        ],
        rows(a=[0.5, 0.6]),
        "quick",
    )
    assert [r.verdict for r in results] == ["not decided"] * 4
    assert results[0].reason == "cell 'b' has no rows"
    assert results[1].reason == "the rows of cell 'a' have no metric 'los'"
    assert results[2].reason == "its measure failed: ZeroDivisionError: division by zero"
    assert results[3].ours == pytest.approx(0.55)


def test_out_of_reach():
    never = Claim("c", "It holds.", "words", "seen", out_of_reach="needs ImageNet")
    other = claim(scales=("standard", "paper"))
    results = evaluate([never, other], rows(a=[0.5, 0.5]), "quick")
    assert [r.verdict for r in results] == ["out of reach"] * 2
    assert [r.reason for r in results] == ["needs ImageNet", "measured at scale standard and paper only"]
    assert evaluate([other], rows(a=[0.5, 0.5]), "paper")[0].verdict == "reproduced"
    with_reason = claim(scales=("paper",), out_of_reach="needs a GPU")
    assert evaluate([with_reason], rows(a=[0.5, 0.5]), "quick")[0].reason == "needs a GPU"
    assert evaluate([with_reason], rows(a=[0.5, 0.5]), "paper")[0].verdict == "reproduced"


def test_a_cell_that_the_scale_does_not_have_is_out_of_reach_and_one_not_run_yet_is_not():
    plain, with_reason = claim(), claim(out_of_reach="needs a GPU")
    elsewhere = evaluate([plain, with_reason], Rows([]), "quick", {"b"})
    assert [(r.verdict, r.reason) for r in elsewhere] == [
        ("out of reach", "scale quick has no cell 'a'"),
        ("out of reach", "needs a GPU"),
    ]
    assert [r.verdict for r in evaluate([plain, with_reason], Rows([]), "quick", {"a"})] == ["not decided"] * 2


def test_bad_claims_are_refused():
    for holds in [(1, 0), (math.nan, 1)]:
        with pytest.raises(ValueError, match="which is no range"):
            claim(holds)
    with pytest.raises(ValueError, match="needs a measure, or the reason"):
        Claim("c", "It holds.", None, "seen")


def test_rows_pair_by_seed():
    table = Rows(
        [
            {"cell": "a", "seed": 2, "acc": 3.0, "epochs": 7},
            {"cell": "a", "seed": 0, "acc": 1.0, "epochs": None},
            {"cell": "b", "seed": 2, "acc": 1.0},
            {"cell": "b", "seed": 5, "acc": 9.0},
            {"cell": "c", "seed": 1, "acc": 0.0, "device": "cpu"},
        ]
    )
    assert len(table) == 5
    assert table.cells() == ["a", "b", "c"]
    assert list(table.metric("a", "acc").items()) == [(0, 1.0), (2, 3.0)]
    assert table.metric("a", "epochs") == {2: 7.0}
    assert table.diff("a", "b", "acc") == {2: 2.0}
    assert table.ratio("a", "b", "acc") == {2: 3.0}
    assert table.row("b", 5)["acc"] == 9.0
    for missing in [
        lambda: table.metric("d", "acc"),
        lambda: table.metric("c", "device"),
        lambda: table.diff("a", "c", "acc"),
        lambda: table.row("a", 1),
    ]:
        with pytest.raises(MissingRows):
            missing()
    zero = Rows([{"cell": "a", "seed": 0, "x": 1}, {"cell": "b", "seed": 0, "x": 0}])
    assert math.isnan(zero.ratio("a", "b", "x")[0])


def test_an_estimate_brings_its_own_interval():
    rows = Rows([{"cell": "a", "seed": 0, "x": 1.0}])
    estimate = Estimate(0.5, 0.25, 0.75, (0.0, 1.0, 0.5))
    claim = Claim("1", "It is about a half.", 0.5, "seen", measure=lambda _: estimate, holds=(0.2, 0.8))
    (result,) = evaluate([claim], rows, "quick")
    assert (result.ours, result.low, result.high, result.n, result.verdict) == (0.5, 0.25, 0.75, 3, "reproduced")


@pytest.mark.parametrize(
    ("holds", "words"),
    [((1e-9, math.inf), "above 0"), ((1 + 1e-9, math.inf), "above 1"), ((-math.inf, -1e-9), "below 0")],
)
def test_a_range_without_its_edge_is_put_into_words(holds, words):
    claim = Claim("c", "s", None, "seen", measure=lambda rows: rows.values("a", "x"), holds=holds)
    rows = Rows([{"cell": "a", "seed": seed, "x": x} for seed, x in enumerate([-3.0, 0.5, 4.0])])
    (result,) = evaluate([claim], rows, "quick", {"a"})
    assert result.reason == f"the interval crosses an edge of '{words}'"
    assert limits(holds) == f"any value {words}"
