"""From measures to verdicts."""

from __future__ import annotations

import json
import math

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.study import Measure, difference, ratio, value
from lightning_regs.study.paper.claims import Claim, across
from lightning_regs.study.paper.criteria import Criterion
from lightning_regs.study.paper.estimates import Estimate, mean
from lightning_regs.study.paper.power import smallest_effect
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import evaluate, judge

quick = settings(max_examples=60, deadline=None)
numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))
A = Rows([{"cell": "a", "seed": seed, "acc": 0.5 + seed / 1000} for seed in range(2)])


def claim(measure, **about):
    return Claim("c", "It holds.", measure, **({"at_least": 0, "at_most": 1, "kind": "control"} | about))


def check(measure, rows=A, cells=None, scale="quick", **about):
    if isinstance(measure, list):
        measure, rows = value("a", "m"), Rows({"cell": "a", "seed": seed, "m": v} for seed, v in enumerate(measure))
    (result,) = evaluate([claim(measure, **about)], rows, scale, cells)
    return result


def gives(make):
    """A measure that is what a function makes of two seeds."""
    return Measure("made", (("a", "acc"),), None, lambda sample: make())


@quick
@given(st.lists(numbers, min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_interval_is_scipys(values, confidence):
    low, high = mean(values).ends(confidence)
    if len(set(values)) == 1:
        assert low == high == values[0]
        return
    middle, error = sum(values) / len(values), scipy.stats.sem(values)
    expected = scipy.stats.t.interval(confidence, len(values) - 1, loc=middle, scale=error)
    assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9 * max(map(abs, values)))


def test_equal_values_give_exactly_that_value():
    assert mean([0.1] * 3).ends(0.95) == (0.1, 0.1)
    assert check([0.1] * 3, at_least=0.1, at_most=0.1).verdict == "reproduced"


@quick
@given(st.lists(numbers, min_size=4, max_size=4).map(sorted), st.lists(numbers, min_size=2, max_size=2).map(sorted))
def test_a_narrower_interval_never_undoes_a_verdict(ends, holds):
    low, inner_low, inner_high, high = ends
    asked = Criterion(*holds)
    if judge(asked, low, high) != "not decided":
        assert judge(asked, inner_low, inner_high) == judge(asked, low, high)


@quick
@given(st.lists(numbers, min_size=2, max_size=6))
def test_ours_lies_in_its_interval_and_the_order_of_seeds_does_not_matter(values):
    result, other = check(values), check(values[::-1])
    assert result.low <= result.ours <= result.high
    assert (result.n, result.ours) == (len(values), pytest.approx(other.ours, abs=1e-6))


@pytest.mark.parametrize(
    ("values", "verdict", "reason"),
    [
        ([0.4, 0.5, 0.6], "reproduced", ""),
        ([5.0, 5.1, 5.2], "not reproduced", ""),
        ([0.9, 1.0, 1.1], "not decided", "the interval crosses an edge of '0 to 1'"),
        ([], "not decided", "cell 'a' has no rows"),
        ([0.5, math.nan, math.inf], "not decided", "2 of 3 values are not finite"),
        ([1e308, -1e308], "not decided", "its values are too large for an interval"),
        ([0.5], "not decided", "one seed gives no interval; run it with at least 2 seeds"),
        (gives(lambda: 1 / 0), "not decided", "its measure failed: ZeroDivisionError: division by zero"),
        (value("b", "acc"), "not decided", "cell 'b' has no rows"),
        (value("a", "los"), "not decided", "the rows of cell 'a' have no metric 'los'"),
    ],
)
def test_a_verdict_and_why_there_is_none(values, verdict, reason):
    result = check(values)
    assert (result.verdict, result.reason) == (verdict, reason)
    json.dumps(result.as_dict(), allow_nan=False)


def test_numbers_that_no_run_should_have_are_told_in_words():
    made = Rows(
        [{"cell": c, "seed": s, "m": v, "test_acc": 130.0} for c in "ab" for s, v in enumerate((math.inf, -math.inf))],
        100,
    )
    assert check(difference("a", "b", "m"), made).reason == "2 of 2 values are not finite"
    assert check(value("a"), made).reason == "a mean test_acc of 130 is no percentage of test samples"


def test_one_measurement_decides_only_an_exact_claim():
    single, exact = check([0.5]), check([0.5], exact=True)
    assert (single.ours, single.low, single.n) == (0.5, None, 1)
    assert (exact.verdict, exact.low, exact.high) == ("reproduced", 0.5, 0.5)
    assert check([2.0], exact=True).verdict == "not reproduced"


def test_an_estimate_brings_its_own_interval():
    result = check(gives(lambda: Estimate(0.5, lambda _: (0.25, 0.75), (0.0, 1.0, 0.5))))
    assert (result.ours, result.low, result.high, result.n, result.verdict) == (0.5, 0.25, 0.75, 3, "reproduced")
    assert check(gives(lambda: Estimate(0.5, lambda _: (-math.inf, 0.75), (0.5, 0.5)))).verdict == "not decided"
    for ours, *ends in [(math.nan, 0, 1), (0.5, math.nan, 1), (0.5, 1, 0)]:
        result = check(gives(lambda ours=ours, ends=ends: Estimate(ours, lambda _: tuple(ends), (0.5, 0.5))))
        assert "its measure failed: ValueError: an estimate of" in result.reason


def test_what_is_not_decided_says_what_so_many_seeds_see():
    result = check([0.9, 1.0, 1.1], at_least=None, at_most=1)
    assert result.smallest == pytest.approx(0.1 * smallest_effect(3))
    assert (check([0.4, 0.5, 0.6]).smallest, check([9.0, 9.1]).smallest) == (None, None)


def test_two_compared_cells_say_how_often_the_difference_is_as_asked():
    rows = Rows(
        {"cell": c, "seed": s, "m": v} for c, of in (("a", (3, 4, 5)), ("b", (1, 3, 4))) for s, v in enumerate(of)
    )
    larger, between = pytest.approx((1 + 0.5 + 1 + 1 + 0.5 + 3) / 9), difference("a", "b", "m")
    assert check(between, rows, at_least=0, at_most=None).won == larger
    assert 1 - check(between, rows, at_least=None, at_most=9).won == larger  # the sign that is asked for
    assert check(between, rows, at_least=0, at_most=9).won is None
    assert check(value("a", "m"), rows).won is None


def test_a_time_that_never_came_is_a_lower_bound_that_may_decide():
    never = Rows(
        {"cell": c, "seed": s, "m": v, "epochs": 64} for c, v in (("a", math.nan), ("b", 13)) for s in range(3)
    )
    result = check(ratio("a", "b", "m", until="epochs"), never, at_least=None, at_most=4)
    assert (result.verdict, result.bound) == ("not reproduced", "above")
    assert (result.ours, result.low, result.high) == pytest.approx((5, 5, math.inf))
    assert result.as_dict()["high"] is None
    json.dumps(result.as_dict(), allow_nan=False)
    open_still = check(ratio("a", "b", "m", until="epochs"), never, at_least=None, at_most=6)
    assert (open_still.verdict, open_still.smallest) == ("not decided", None)


def test_a_quotient_by_what_may_be_nothing_is_invalid():
    rows = Rows({"cell": c, "seed": s, "m": v} for c, of in (("a", (1, 2)), ("b", (1, -1))) for s, v in enumerate(of))
    result = check(ratio("a", "b", "m"), rows)
    assert (result.verdict, result.p) == ("invalid", None)
    assert result.reason == "its denominator, b, may be 0: its interval is \u221212.7 to 12.7"
    json.dumps(result.as_dict(), allow_nan=False)


def test_seeds_that_agree_on_few_test_items_are_told_from_seeds_that_do_not():
    made = [{"cell": "a", "seed": s, "test_acc": 50.0 + s} for s in range(3)]
    asked = {"at_least": 46, "at_most": 54}
    assert check(value("a"), Rows(made), **asked).verdict == "reproduced"
    few = check(value("a"), Rows(made, test_items=100), **asked)
    assert (few.verdict, few.reason) == (
        "not decided",
        "the interval crosses an edge of '46 to 54'; by the seeds alone (48.52 to 53.48) it would be reproduced",
    )
    neither = check(value("a"), Rows(made, test_items=100), at_least=50, at_most=99)
    assert neither.reason == "the interval crosses an edge of '50 to 99'"


def test_what_a_scale_does_not_measure_is_told_from_what_has_not_run_and_from_what_nobody_can():
    never = Claim("n", "S.", published="words", out_of_reach="needs ImageNet", kind="control")
    assert [(r.verdict, r.reason) for r in evaluate([never], A, "quick")] == [("out of reach", "needs ImageNet")]

    other = {"on": ("standard", "paper")}
    result = check(value("a", "acc"), **other)
    assert (result.verdict, result.reason) == ("not at this scale", "asked at scale standard and paper only")
    assert check(value("a", "acc"), scale="paper", **other).verdict == "reproduced"

    result = check(value("a", "acc"), Rows([]), cells={"b"})
    assert (result.verdict, result.reason) == ("not at this scale", "scale quick has no cell 'a'")
    assert check(value("a", "acc"), Rows([]), cells={"a"}).verdict == "not decided"


def test_one_of_two_cells_is_not_at_this_scale_whatever_has_run_so_far():
    assert check(value(("a", "b"), "acc"), Rows([]), cells={"a"}).reason == "scale quick has no cell 'b'"


def test_a_claim_is_judged_in_the_form_that_it_has_at_the_scale():
    forms = across(quick=[claim(value("a", "acc"))], standard=[claim(value("a", "acc"), at_most=0.2, unit="%")])
    results = [evaluate(forms, A, scale)[0] for scale in ("quick", "standard", "paper")]
    assert [r.verdict for r in results] == ["reproduced", "not reproduced", "not at this scale"]
    assert [r.criterion for r in results] == ["0 to 1", "0 to 0.2 %", "0 to 1"]
