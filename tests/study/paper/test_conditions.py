"""What has to hold before a claim is judged: conditions on runs, other claims, kinds that are counted apart."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import scipy.stats

from lightning_regs.study import Cell, Claim, Deviation, Paper, Rows, Scale, Source, difference, share, trained, value
from lightning_regs.study.paper.verdicts import Frozen, evaluate

READ = Source("k", "Read")
CELLS = ("net/plain", "net/method", "other")


def rows(plain=(90, 91, 92), method=(93, 94, 96), train=(100, 100, 100)):
    made = []
    for seed, (a, b, fit) in enumerate(zip(plain, method, train, strict=True)):
        made.append({"cell": "net/plain", "seed": seed, "test_acc": a, "train_acc": 100.0})
        made.append({"cell": "net/method", "seed": seed, "test_acc": b, "train_acc": fit})
    return Rows(made)


def claim(id="1", measure=None, **about):
    measure = measure or difference("net/method", "net/plain")
    return Claim(id, "S.", measure, **({"above": 0, "source": READ} | about))


def paper(*claims):
    scale = Scale("quick", "", tuple(Cell(name, "m:f") for name in CELLS))
    return Paper("p", "T", "A", 2017, "1", scales=(scale,), claims=claims)


def judged(*claims, found=None, **about):
    return {result.id: result for result in evaluate(claims, found or rows(), "quick", CELLS, **about)}


@pytest.mark.parametrize(
    ("train", "verdict", "reason"),
    [
        ((100, 99.9, 100), "reproduced", ""),
        ((100, 10, 100), "invalid", "train_acc is 10 in 1 of 3 runs of net/method; asked of every run is at least 99"),
        ((98, 10, 100), "invalid", "train_acc is 10 to 98 in 2 of 3 runs of net/method"),
        ((math.nan, 100, 100), "invalid", "train_acc is nan in 1 of 3 runs of net/method"),
    ],
)
def test_a_run_that_was_not_trained_makes_a_verdict_invalid_and_keeps_the_number(train, verdict, reason):
    for condition in (trained("net/*", at_least=99), trained(("net/plain", "net/method"), "train_acc", at_least=99)):
        result = judged(claim(valid_if=condition), found=rows(train=train))["1"]
        assert (result.verdict, result.ours, result.n) == (verdict, pytest.approx(10 / 3), 3)
        assert result.reason.startswith(reason)
        assert (result.p is None) == (verdict == "invalid")
        assert result.conditions == (f"every run of {', '.join(condition.cells)} has train_acc at least 99",)


def test_a_condition_that_cannot_be_measured_leaves_the_claim_open():
    result = judged(claim(valid_if=trained("net/*", "tain_acc", at_least=99)))["1"]
    assert (result.verdict, result.reason) == ("not decided", "the rows of cell 'net/plain' have no metric 'tain_acc'")
    result = judged(claim(valid_if=trained("other", at_least=99)))["1"]
    assert (result.verdict, result.reason) == ("not decided", "cell 'other' has no rows")


def test_a_claim_rests_on_another_that_is_reproduced():
    control = claim("control", value("net/plain"), above=80, kind="control")
    resting = claim(valid_if=("control", trained("net/*", at_least=99)))
    found = judged(resting, control)
    assert [found[id].verdict for id in ("1", "control")] == ["reproduced", "reproduced"]
    found = judged(resting, replace(control, above=95))
    assert (found["1"].verdict, found["control"].verdict) == ("invalid", "not reproduced")
    assert found["1"].reason == "claim control, on which it rests, is not reproduced"
    assert judged(resting, replace(control, above=91))["1"].reason.endswith("is not decided")


def test_a_claim_that_rests_on_what_was_not_tested_yet_stays_open():
    control = claim("control", value("other"), above=80, kind="control")
    resting = claim(valid_if="control")
    found = judged(resting, control)["1"]
    assert (found.verdict, found.p, found.ours) == ("not decided", None, pytest.approx(10 / 3))
    assert found.reason == "claim control, on which it rests, is not decided"
    found = judged(replace(resting, measure=value("other")), control)["1"]
    assert (found.verdict, found.reason) == ("not decided", "cell 'other' has no rows")
    waits = judged(
        resting, replace(control, measure=value("net/plain")), frozen=dict.fromkeys(("1", "control"), Frozen((5,)))
    )
    assert (waits["1"].verdict, waits["1"].reason) == ("not decided", "3 of 5 planned seeds so far")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([claim(valid_if=trained("nett/*", at_least=1))], "unknown cell of a condition of claim '1' 'nett/*'"),
        ([claim(valid_if="contol"), claim("control")], "unknown claim that claim '1' rests on: 'contol'. Did you mean"),
        ([claim(valid_if="2"), claim("2", valid_if="3"), claim("3")], "which rests on others itself; name those"),
        ([claim(valid_if="1")], "claim '1' rests on claim '1' at scale 'quick', which rests on others itself"),
        (
            [claim(valid_if="2"), Claim("2", "S.", out_of_reach="too large", source=READ)],
            "claim '1' rests on claim '2' at scale 'quick', which is not measured there",
        ),
        (
            [claim(settings={"batch 64": value("othr")})],
            "unknown cell of setting 'batch 64' of claim '1' 'othr'. Did you mean 'other'?",
        ),
        ([claim(str(i)) for i in range(6)], "paper 'p' has 6 claims, of which none are headlines; mark one to 5"),
        ([claim(str(i), headline=True) for i in range(6)], "of which 6 are headlines; mark one to 5"),
    ],
)
def test_what_could_never_be_judged_or_shown_is_refused_when_the_paper_loads(claims, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        paper(*claims)


def test_bad_conditions_kinds_and_deviations_are_refused():
    for make, message in [
        (lambda: trained("a"), "the condition on ('a',) has no limit or no cell; add at_least= or the like"),
        (lambda: trained((), at_least=1), "cells is empty; give at least one."),
        (lambda: trained("a", above=1, at_least=1), "gives both above= and at_least="),
        (lambda: claim(kind="theorem"), "unknown kind 'theorem'"),
        (lambda: Deviation("", "not stated", " "), "a deviation says theirs and ours, got 'not stated' and ' '"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            make()


def test_a_paper_is_known_for_the_claims_that_are_marked_or_for_all_of_few():
    assert [c.id for c in paper(claim("1"), claim("2")).headlines] == ["1", "2"]
    assert [c.id for c in paper(claim("1"), claim("2", headline=True)).headlines] == ["2"]
    assert paper().headlines == ()


def test_measurements_without_spread_all_have_to_hold_and_equal_ones_count_once():
    exact = {"measure": value("net/plain"), "exact": True, "kind": "theory"}
    result = judged(claim(**exact, above=89))["1"]
    assert (result.verdict, result.low, result.high, result.n, result.p) == ("reproduced", 90, 92, 3, None)
    assert judged(claim(**exact, above=91))["1"].verdict == "not decided"
    once = judged(claim(**exact, above=89), found=rows(plain=(90, 90, 90)))["1"]
    assert (once.verdict, once.ours, once.low, once.high, once.n) == ("reproduced", 90, 90, 90, 1)


def test_adjusted_p_values_are_of_the_papers_tested_claims_alone():
    claims = [
        claim("a"),
        claim("b", value("net/plain"), above=89),
        claim("c", value("net/plain"), above=90.9),
        claim("d", value("net/method"), above=80, kind="control"),
        claim("e", value("net/plain", "train_acc"), at_least=99, above=None),  # all equal: nothing to test
    ]
    found = judged(*claims)
    three = [found[id].p for id in "abc"]
    # The p-value of a two-sided t-test against the edge.
    assert three[1] == pytest.approx(scipy.stats.ttest_1samp((90, 91, 92), 89).pvalue, rel=1e-6)
    assert [found[id].q for id in "abc"] == pytest.approx(list(scipy.stats.false_discovery_control(three)))
    assert (found["d"].q, found["e"].p, found["e"].q) == (None, None, None)
    assert found["d"].p is not None


def test_looks_at_growing_data_share_the_error():
    frozen = {"1": Frozen((2, 3), "2026-01-02", "abc1234", "seeds were added after a look")}
    result = judged(claim(), frozen=frozen)["1"]
    values = (3, 3, 4)
    expected = scipy.stats.t.interval(0.975, 2, loc=10 / 3, scale=scipy.stats.sem(values))
    assert (result.low, result.high) == pytest.approx(expected)
    assert (result.confidence, result.exploratory) == (pytest.approx(0.975), "seeds were added after a look")
    assert result.frozen == "2026-01-02, on top of abc1234"


def test_no_verdict_before_the_planned_seeds_are_there():
    result = judged(claim(), frozen={"1": Frozen((5,))})["1"]
    assert (result.verdict, result.reason, result.p) == ("not decided", "3 of 5 planned seeds so far", None)
    assert (result.low, result.n) == (pytest.approx(judged(claim())["1"].low), 3)
    assert judged(claim(), frozen={"1": Frozen((3,))})["1"].verdict == "reproduced"


def test_other_settings_are_judged_by_the_same_criterion():
    settings = {"with train_acc": difference("net/plain", "net/method"), "elsewhere": value("other")}
    result = judged(claim(settings=settings | {"at another scale": value("net/another")}))["1"]
    assert [(s.name, s.verdict) for s in result.settings] == [
        ("with train_acc", "not reproduced"),
        ("elsewhere", "not decided"),
    ]
    assert result.settings[0].ours == pytest.approx(-10 / 3)
    planned = judged(claim(settings={"fewer": claim().measure}), frozen={"1": Frozen((3, 3))})["1"]
    assert (planned.settings[0].verdict, planned.settings[0].low) == (planned.verdict, planned.low)
    assert result.as_dict()["settings"][1]["n"] == 0


def test_a_share_of_nothing_is_no_number():
    """What 16-grown of frankle2019 was: 25 [4, 46] of a way that is not known to exist."""
    result = judged(claim(measure=share("net/method", "net/plain", "net/plain"), at_most=0.5, above=None))["1"]
    assert result.verdict != "reproduced"


def test_a_pattern_asks_for_all_cells_of_the_scale_and_not_only_for_those_that_were_measured():
    asked = claim(measure=value("net/plain"), at_least=80, above=None, valid_if=trained("net/*", at_least=99))
    half = Rows([{"cell": "net/plain", "seed": seed, "test_acc": 90.0 + seed, "train_acc": 100.0} for seed in range(3)])
    result = judged(asked, found=half)["1"]
    assert (result.verdict, result.reason) == ("not decided", "cell 'net/method' has no rows")
    assert judged(asked)["1"].verdict == "reproduced"
