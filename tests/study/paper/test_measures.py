"""Measures against direct computations on made-up rows."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from lightning_regs.study import (
    difference,
    largest,
    margin,
    peak_distance,
    per_seed,
    percent_lower,
    rank_correlation,
    ratio,
    share,
    smallest,
    smallest_step,
    value,
    weighted_sum,
)
from lightning_regs.study.paper.estimates import UnfitError
from lightning_regs.study.paper.rows import MissingRows, Rows

SEEDS = 6
A, B, C, D = (np.random.default_rng(seed).normal(50, 5, SEEDS) for seed in range(4))


def rows(**cells):
    return Rows({"cell": name, "seed": seed, "m": v} for name, of in cells.items() for seed, v in enumerate(of))


ROWS = rows(a=A, b=B, c=C, d=D, zero=np.zeros(SEEDS))


SHARES = ("share", "share of another way")
MEASURES = {
    "value": (value("a", "m"), A),
    "the mean over cells": (value(("a", "b"), "m"), (A + B) / 2),
    "a function": (per_seed(lambda x, y: x * y, ("a", "m"), ("b", "m")), A * B),
    "difference": (difference(("a", "b"), "c", "m"), (A + B) / 2 - C),
    "ratio": (ratio("a", "b", "m"), A / B),
    "ratio to nothing": (ratio("a", "zero", "m"), np.full(SEEDS, np.nan)),
    "smallest": (smallest("m", "a", "b", "c"), np.min([A, B, C], axis=0)),
    "largest": (largest("m", "a", "b", "c"), np.max([A, B, C], axis=0)),
    "smallest rise": (smallest_step("m", 1, "a", "b", "c"), np.diff([A, B, C], axis=0).min(axis=0)),
    "smallest fall": (smallest_step("m", -1, "a", "b", "c"), -np.diff([A, B, C], axis=0).max(axis=0)),
    "rank correlation": (
        rank_correlation("m", "a", "b", "c", "d"),
        [scipy.stats.spearmanr([1, 2, 3, 4], column).statistic for column in zip(A, B, C, D, strict=True)],
    ),
    "margin": (margin("a", ("b", "c"), "m"), A - np.maximum(B, C)),
    "weighted sum": (weighted_sum((2, "a", "m"), (-1, "b", "m"), (1, "a", "m")), 3 * A - B),
    "percent lower": (percent_lower("a", "b", "m"), 100 * (1 - A / B)),
    "share": (share("c", "a", "b", "m"), (C - A) / (B - A)),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_what_it_says_seed_by_seed(name):
    measure, expected = MEASURES[name]
    assert measure.values(ROWS) == pytest.approx(list(expected), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", sorted(MEASURES.keys() - {"ratio", "ratio to nothing", "percent lower", *SHARES}))
def test_a_mean_over_seeds_has_the_interval_of_student(name):
    measure, values = MEASURES[name]
    estimate = measure(ROWS)
    assert estimate.ours == pytest.approx(np.mean(values))
    expected = scipy.stats.t.interval(0.9, SEEDS - 1, np.mean(values), scipy.stats.sem(values))
    assert estimate.ends(0.9) == pytest.approx(expected)
    assert (estimate.bound, estimate.invalid, estimate.alone) == ("", "", None)


def test_a_ratio_of_positive_things_is_that_of_logarithms():
    logs = np.log(A / B)
    ends = np.exp(scipy.stats.t.interval(0.95, SEEDS - 1, logs.mean(), scipy.stats.sem(logs)))
    estimate, lower = ratio("a", "b", "m")(ROWS), percent_lower("a", "b", "m")(ROWS)
    assert (estimate.ours, *estimate.ends(0.95)) == pytest.approx([scipy.stats.gmean(A / B), *ends])
    assert (lower.ours, *lower.ends(0.95)) == pytest.approx([100 - 100 * estimate.ours, *(100 - 100 * ends[::-1])])
    won = np.mean([a > b for a in A for b in B])
    assert (estimate.won, lower.won) == pytest.approx((won, 1 - won))


def test_a_quotient_of_what_may_be_negative_is_fieller_s():
    mixed = rows(a=A - 50, b=B)
    above, below = A - 50, B
    for measure, n, d in [(ratio("a", "b", "m"), above, below), (share("c", "a", "b", "m"), C - A, B - A)]:
        estimate = measure(mixed if n is above else ROWS)
        assert estimate.ours == pytest.approx(n.mean() / d.mean())
        for end in estimate.ends(0.95):  # where the numerator less so much of the denominator is just significant
            if math.isfinite(end):
                assert scipy.stats.ttest_1samp(n - end * d, 0).pvalue == pytest.approx(0.05)
        assert (
            bool(estimate.invalid)
            == (scipy.stats.ttest_1samp(d, 0).pvalue >= 0.05)
            == math.isinf(estimate.ends(0.95)[0])
        )


def test_a_quotient_by_what_may_be_nothing_is_invalid_and_says_which_cells():
    found = rows(a=[1.0, 2.0, 3.0], b=[1.0, -1.0, 0.5], c=[0.0, 0.0, 0.0])
    for measure, says in [
        (ratio("a", "b", "m"), "its denominator, b, may be 0: its interval is \u22122.42 to 2.75"),
        (ratio("a", "c", "m"), "its denominator, c, may be 0: its interval is 0 to 0"),
        (share("a", "c", ("b", "c"), "m"), "the whole way, the mean of b, c less c, may be 0: its interval is"),
    ]:
        estimate = measure(found)
        assert estimate.invalid.startswith(says)
        assert estimate.ends(0.95) == (-math.inf, math.inf)


def test_percentages_stay_percentages():
    near = Rows({"cell": name, "seed": seed, "test_acc": v, "gap": v} for name, of in
                {"a": (99.9, 99.0, 99.5), "b": (0.1, 0.9, 0.2)}.items() for seed, v in enumerate(of))  # fmt: skip
    for measure, bound in [
        (value("a"), 100), (value(("a", "a")), 100), (largest("test_acc", "a", "b"), 100), (difference("a", "b"), 100),
        (smallest_step("test_acc", -1, "a", "b"), 100), (value("a", "test_error"), 0), (difference("b", "a"), -100),
    ]:  # fmt: skip
        assert bound in measure(near).ends(0.9999)
    assert value("a", "gap")(near).ends(0.9999)[1] > 100


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_nan_is_never_passed_over(order):
    found = rows(a=[1.0, math.nan], b=[2.0, 3.0])
    for measure in (smallest("m", *order), largest("m", *order), smallest_step("m", 1, *order, "b"),
                    difference(*order, "m"), rank_correlation("m", *order), ratio(*order, "m")):  # fmt: skip
        assert [math.isnan(number) for number in measure.values(found)] == [False, True]
        with pytest.raises(UnfitError, match="1 of 2 values are not finite"):
            measure(found)


@pytest.mark.parametrize("numbers", [(3.0, 1.0, 2.0, 5.0), (1.0, 1.0, 2.0, 0.0), (7.0, 7.0, 7.0, 8.0)])
def test_the_rank_correlation_is_that_of_scipy(numbers):
    rows = Rows({"cell": cell, "seed": 0, "m": number} for cell, number in zip("abcd", numbers, strict=True))
    assert rank_correlation("m", *"abcd").values(rows) == pytest.approx(
        [scipy.stats.spearmanr(range(4), numbers).statistic]
    )


def times(**cells):
    """Times in runs of 10, some of which never came."""
    return Rows(
        {"cell": name, "seed": seed, "m": v, "last": 10} for name, of in cells.items() for seed, v in enumerate(of)
    )


NEVER = math.nan


@pytest.mark.parametrize(
    ("measure", "a", "b", "ours", "low", "high", "bound"),
    [
        (ratio("a", "b", "m", until="last"), [NEVER] * 2, [5, 5], 2.2, 2.2, math.inf, "above"),
        (ratio("a", "b", "m", until="last"), [5, 5], [NEVER, NEVER], 5 / 11, 0, 5 / 11, "below"),
        (difference("a", "b", "m", until="last"), [NEVER] * 2, [5, 5], 6, 6, math.inf, "above"),
        (difference("a", "b", "m", until="last"), [5, 5], [NEVER] * 2, -6, -math.inf, -6, "below"),
        (margin("a", ("b", "b"), "m", until="last"), [NEVER] * 2, [5, 5], 6, 6, math.inf, "above"),
        (ratio("a", "b", "m", until="last"), [8, 8], [4, 4], 2, 2, 2, ""),
    ],
)
def test_a_time_that_never_came_is_a_bound(measure, a, b, ours, low, high, bound):
    estimate = measure(times(a=a, b=b))
    assert (estimate.ours, *estimate.ends(0.95)) == pytest.approx((ours, low, high))
    assert estimate.bound == bound
    assert all(map(math.isnan, measure.values(times(a=a, b=b)))) == bool(bound)  # figures draw no bound as a number


def test_one_run_that_never_came_opens_the_interval_of_all():
    estimate = ratio("a", "b", "m", until="last")(times(a=[9, 8, NEVER], b=[4, 4, 4]))
    logs = np.log([9 / 4, 8 / 4, 11 / 4])
    low, _ = scipy.stats.t.interval(0.95, 2, logs.mean(), scipy.stats.sem(logs))
    assert (estimate.ours, *estimate.ends(0.95)) == pytest.approx((np.exp(logs.mean()), np.exp(low), math.inf))
    with pytest.raises(UnfitError, match="nothing is known: of both things compared"):
        ratio("a", "b", "m", until="last")(times(a=[NEVER, 3], b=[4, NEVER]))
    with pytest.raises(ValueError, match="times until 'last' have no mean over cells; name the cells one by one"):
        ratio(("a", "b"), "c", "m", until="last")


def test_ranks_of_what_never_came_are_last_and_their_order_is_not_known():
    correlation = rank_correlation("m", *"abcd", until="last")
    assert correlation(times(a=[1, 1], b=[2, 2], c=[3, 3], d=[NEVER] * 2)).ours == 1
    estimate = correlation(times(a=[1, 1], b=[2, 2], c=[NEVER] * 2, d=[NEVER] * 2))
    assert estimate.ends(0.95) == pytest.approx((0.8, 1))  # the last two may be swapped
    shorter = [{"cell": "a", "seed": 0, "m": NEVER, "last": 3}, {"cell": "b", "seed": 0, "m": 9, "last": 10}]
    assert rank_correlation("m", "a", "b", until="last")(Rows(shorter)).ours == 0  # from -1 to 1


def test_peaks_that_are_clear_have_a_clear_distance_and_others_a_wide_one():
    first, second = {-1: "a", 0: "b", 1: "c"}, {0: "d", 2: "e"}
    measure = peak_distance(first, second, "m")
    clear = measure(rows(a=[3] * 4, b=[1] * 4, c=[2] * 4, d=[1] * 4, e=[0] * 4))
    assert (clear.ours, clear.values, clear.ends(0.95)) == (1.0, (1.0,) * 4, (1.0, 1.0))
    # Seed 0 alone has its peaks at -1 and 2, seed 1 at 1 and 0; together they are at 1 and 2.
    estimate = measure(rows(a=[3, 0], b=[1, 1], c=[2, 4], d=[1, 2], e=[3, 1]))
    assert (estimate.ours, estimate.values) == (1.0, (3.0, -1.0))
    assert estimate.ends(0.95) == (-1.0, 3.0)


def test_a_position_is_left_out_by_student_s_test_with_bonferroni_s_correction():
    rng = np.random.default_rng(3)
    curve = {at: rng.normal(-3 * abs(at), 1.0, 5) for at in (-2, -1, 0, 1)}
    measure = peak_distance({at: f"at{at}" for at in curve}, {0: "flat"}, "m")
    found = rows(flat=[0] * 5, **{f"at{at}": numbers for at, numbers in curve.items()})
    for confidence in (0.5, 0.95):
        error = (1 - confidence) / 2 / 3  # of one of two curves, by one of three tests
        left = [
            at for at, own in curve.items()
            if all(scipy.stats.ttest_rel(numbers, own, alternative="greater").pvalue > error
                   for other, numbers in curve.items() if other != at)
        ]  # fmt: skip
        assert measure(found).ends(confidence) == (-max(left), -min(left))
        assert len(left) < 4


def test_a_measure_knows_its_cells_and_what_a_scale_lacks():
    both = difference("a", ("b", "c"))
    assert both.cells == ("a", "b", "c")
    assert [both.lacks(cells) for cells in ("abc", "ab", "")] == [None, "c", "a"]
    assert value("a", "m").single == ("a", "m")
    for measure in (value(("a", "b")), difference("a", "b")):
        assert measure.single is None  # no number of the paper belongs at one cell


def test_rows_pair_by_seed():
    table = Rows(
        [
            {"cell": "a", "seed": 2, "acc": 3.0, "epochs": 7},
            {"cell": "a", "seed": 0, "acc": 1.0, "epochs": None},
            {"cell": "b", "seed": 2, "acc": 1.0},
            {"cell": "b", "seed": 5, "acc": 9.0},
            {"cell": "c", "seed": 1, "acc": 0.0, "device": "cpu", "fits": True},
        ]
    )
    assert table.cells() == ["a", "b", "c"]
    assert list(table.metric("a", "acc").items()) == [(0, 1.0), (2, 3.0)]
    assert table.metric("a", "epochs") == {2: 7.0}
    assert table.metric(("a", "b"), "acc") == {2: 2.0}
    assert table.paired(("a", "acc"), ("b", "acc"), ("a", "epochs")) == [(3.0, 1.0, 7.0)]
    for look, says in [
        (lambda: table.metric("d", "acc"), "cell 'd' has no rows"),
        (lambda: table.metric("c", "device"), "the rows of cell 'c' have no metric 'device'"),
        (lambda: table.metric("c", "fits"), "no metric 'fits'"),
        (lambda: table.paired(("a", "acc"), ("c", "acc")), "'a' and 'c' have no seed in common"),
    ]:
        with pytest.raises(MissingRows, match=says):
            look()


def test_every_seed_counts_once_whatever_the_order_of_cells():
    for cells in product("abc", repeat=2):
        assert value(cells, "m").values(ROWS) == pytest.approx(value(cells[::-1], "m").values(ROWS))
