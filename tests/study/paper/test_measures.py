"""Measures against direct computations on made-up rows."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from lightning_regs.study.paper.measures import (
    difference,
    either,
    jackknife,
    largest,
    mean_difference,
    peak_distance,
    per_seed,
    percent_lower,
    quotient,
    rank_correlation,
    ratio,
    share,
    smallest,
    smallest_step,
    value,
)
from lightning_regs.study.paper.rows import MissingRows, Rows

SEEDS = 6
A, B, C, D = (np.random.default_rng(seed).normal(50, 5, SEEDS) for seed in range(4))


def rows(**cells):
    return Rows({"cell": name, "seed": seed, "m": v} for name, of in cells.items() for seed, v in enumerate(of))


ROWS = rows(a=A, b=B, c=C, d=D, zero=np.zeros(SEEDS))


def jackknifed(above, below):
    """Pseudo-values of a quotient of means, by the textbook: n times the whole less n - 1 times without each."""
    without = [np.delete(above, i).mean() / np.delete(below, i).mean() for i in range(SEEDS)]
    return SEEDS * above.mean() / below.mean() - (SEEDS - 1) * np.array(without)


MEASURES = {
    "value": (value("a", "m"), A),
    "the mean over cells": (value(("a", "b"), "m"), (A + B) / 2),
    "a function": (per_seed(lambda x, y: x * y, ("a", "m"), ("b", "m")), A * B),
    "difference": (difference(("a", "b"), "c", "m"), (A + B) / 2 - C),
    "mean difference": (mean_difference([("a", "b"), ("c", "d")], "m"), (A - B + C - D) / 2),
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
    "quotient": (quotient("a", "b", "m"), jackknifed(A, B)),
    "quotient by nothing": (quotient("a", "zero", "m"), np.full(SEEDS, np.nan)),
    "percent lower": (percent_lower("a", "b", "m"), 100 * (1 - jackknifed(A, B))),
    "share": (share("c", "a", "b", "m"), jackknifed(C - A, B - A)),
    "share of another way": (share("c", "a", "b", "m", end_from="d"), jackknifed(C - A, B - D)),
    "the first of two": (either(value("a", "m"), value("b", "m")), A),
    "the second of two": (either(value("none", "m"), value("b", "m")), B),
    "the third of three": (either(either(value("none", "m"), value("a", "n")), value("b", "m")), B),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_what_it_says(name):
    measure, expected = MEASURES[name]
    assert measure(ROWS) == pytest.approx(list(expected), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_nan_is_never_passed_over(order):
    found = rows(a=[1.0, math.nan], b=[2.0, 3.0])
    for measure in (smallest("m", *order), largest("m", *order), smallest_step("m", 1, *order, "b")):
        assert [math.isnan(number) for number in measure(found)] == [False, True]
    never_last = rows(a=[1.0], b=[2.0], c=[math.nan])
    assert rank_correlation("m", "a", "b", "c")(never_last) == pytest.approx([1.0])


@pytest.mark.parametrize("numbers", [(3.0, 1.0, 2.0, 5.0), (1.0, 1.0, 2.0, 0.0), (7.0, 7.0, 7.0, 8.0)])
def test_the_rank_correlation_is_that_of_scipy(numbers):
    rows = Rows({"cell": cell, "seed": 0, "m": number} for cell, number in zip("abcd", numbers, strict=True))
    assert rank_correlation("m", *"abcd")(rows) == pytest.approx([scipy.stats.spearmanr(range(4), numbers).statistic])


def test_a_jackknife_of_a_mean_is_its_values_and_one_seed_is_the_quotient():
    assert jackknife(list(A), [1.0] * SEEDS) == pytest.approx(list(A))
    assert jackknife([3.0], [4.0]) == [0.75]
    assert jackknife([], []) == []


def test_peaks_are_of_means_and_their_bootstrap_is_the_same_each_time():
    first = {-1: "a", 0: "b", 1: "c"}
    measure = peak_distance(first, {0: "d", 2: "e"}, "m")
    # Seed 0 alone has its peaks at -1 and 2, seed 1 at 1 and 0; together they are at 1 and 2.
    found = rows(a=[3, 0], b=[1, 1], c=[2, 4], d=[1, 2], e=[3, 1])
    estimate = measure(found)
    assert (estimate.ours, estimate.values) == (1.0, (3.0, -1.0))
    possible = {3.0, -1.0, 1.0}
    assert set(estimate.ends(0.95)) <= possible
    assert estimate.ends(0.95) == (-1.0, 3.0)  # a quarter of the samples each
    again = peak_distance(first, {0: "d", 2: "e"}, "m")(found)
    assert [again.ends(c) for c in (0.5, 0.95, 0.999)] == [estimate.ends(c) for c in (0.5, 0.95, 0.999)]
    equal = peak_distance(first, {0: "d"}, "m")(rows(a=[3] * 4, b=[1] * 4, c=[2] * 4, d=[1] * 4))
    assert (equal.ours, equal.ends(0.95), equal.values) == (1.0, (1.0, 1.0), (1.0,) * 4)


def test_a_measure_knows_its_cells_and_what_a_scale_lacks():
    both = either(difference("a", ("b", "c")), value("d"))
    assert both.cells == ("a", "b", "c", "d")
    assert [both.lacks(cells) for cells in ("abc", "d", "ab", "")] == [None, None, "c", "a"]
    assert value("a", "m").single == ("a", "m")
    for measure in (value(("a", "b")), difference("a", "b"), either(value("a"), value("b"))):
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
    assert (len(table), table.cells()) == (5, ["a", "b", "c"])
    assert list(table.metric("a", "acc").items()) == [(0, 1.0), (2, 3.0)]
    assert table.metric("a", "epochs") == {2: 7.0}
    assert table.metric(("a", "b"), "acc") == {2: 2.0}
    assert table.paired(("a", "acc"), ("b", "acc"), ("a", "epochs")) == [(3.0, 1.0, 7.0)]
    assert table.row("b", 5)["acc"] == 9.0
    for look, says in [
        (lambda: table.metric("d", "acc"), "cell 'd' has no rows"),
        (lambda: table.metric("c", "device"), "the rows of cell 'c' have no metric 'device'"),
        (lambda: table.metric("c", "fits"), "no metric 'fits'"),
        (lambda: table.paired(("a", "acc"), ("c", "acc")), "'a' and 'c' have no seed in common"),
        (lambda: table.row("a", 1), "cell 'a' has no row for seed 1"),
    ]:
        with pytest.raises(MissingRows, match=says):
            look()


def test_every_seed_counts_once_whatever_the_order_of_cells():
    for cells in product("abc", repeat=2):
        assert value(cells, "m")(ROWS) == pytest.approx(value(cells[::-1], "m")(ROWS))
