"""Turns of a sweep: how much a metric rises again and falls, and where its peak is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from lightning_regs.study import Rows, fall, peak_over_fit, peak_position, per_seed, rise, second_descent, value
from lightning_regs.study.paper.estimates import UnfitError

LINE = {2**at: f"w{2**at}" for at in range(6)}
CURVE = np.array([60.0, 30, 20, 35, 25, 15])  # its valley is at 4, its peak at 8


def rows(curves, metric="test_error", **more):
    """Make rows of curves ``(positions, seeds)``; of further metrics too."""
    every = {metric: curves, **more}
    return Rows(
        {"cell": cell, "seed": seed, **{name: float(each[at][seed]) for name, each in every.items()}}
        for at, cell in enumerate(LINE.values()) for seed in range(len(curves[0]))
    )  # fmt: skip


def test_a_clear_curve_has_its_turns_at_each_seed():
    shifts = np.array([-1.0, 0, 2, 3])
    found = rows(CURVE[:, None] + shifts)
    for measure, expected in ((rise(LINE), 15), (fall(LINE), 20), (second_descent(LINE), 5)):
        assert measure(found).ours == pytest.approx(expected)
        assert measure(found).ends(0.95) == pytest.approx((expected, expected))
    spread = rows(CURVE[:, None] + shifts * np.array([[1], [1], [1], [2], [1], [1]]))
    low, high = scipy.stats.t.interval(0.95, 3, 16, 1.4 * scipy.stats.sem(shifts))
    assert rise(LINE)(spread).ends(0.95) == pytest.approx((low, high))


def test_noise_alone_makes_no_rise():
    """Of the largest of many differences the mean is far above 0; at turns of other seeds it is not."""
    rng = np.random.default_rng(0)
    means = np.array([rise(LINE)(rows(rng.normal(0, 1, (6, 5)))).ours for _ in range(300)])
    assert abs(means.mean()) < 4 * scipy.stats.sem(means)
    falling = [rise(LINE)(rows(rng.normal(-np.arange(6)[:, None], 1, (6, 5)))).ours for _ in range(100)]
    assert np.mean(falling) < -0.5


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("peak", [0.0, 2.0])
def test_intervals_hold_what_turns_have_without_noise_at_least_as_often_as_is_said(n, peak):
    """The truth is what the mean over many seeds has, at turns that are drawn as those of a few are."""
    rng = np.random.default_rng(n)
    curve = np.array([2.0, 1, 0, peak, 0, -1]) * bool(peak)
    draws = rng.normal(curve[:, None], 1, (200, 6, n))
    for measure in (rise, fall, second_descent):
        found = [measure(LINE)(rows(draw)) for draw in draws]
        truth = np.mean([one.ours for one in found]) if peak else 0.0
        missed = sum(not low <= truth <= high for low, high in (one.ends(0.95) for one in found))
        assert missed <= scipy.stats.binom.ppf(0.999, len(draws), 0.05)


def test_the_rise_of_a_second_sweep_is_taken_off_between_the_turns_of_the_first():
    other = {at: f"o{at}" for at in LINE}
    flat = [{"cell": cell, "seed": seed, "test_error": 9.0 + at} for at, cell in other.items() for seed in range(3)]
    both = Rows([*flat, *({"cell": cell, "seed": seed, "test_error": number} for cell, number in
                          zip(LINE.values(), CURVE, strict=True) for seed in range(3))])  # fmt: skip
    assert rise(LINE, less=other)(both).ours == pytest.approx(15 - 4)
    with pytest.raises(ValueError, match="less has the positions"):
        rise(LINE, less={1: "a", 2: "b"})


def test_a_peak_may_be_where_no_other_position_is_significantly_above():
    rng = np.random.default_rng(1)
    curves = CURVE[:, None] + rng.normal(0, 4, (6, 6))
    found = peak_position(LINE)(rows(curves))
    assert found.ours == 8
    for confidence in (0.5, 0.95):
        error, behind = (1 - confidence) / 2 / 2, (3, 4, 5)  # of two tests
        left = [
            2**at for at in behind
            if all(scipy.stats.ttest_rel(curves[other], curves[at], alternative="greater").pvalue > error
                   for other in behind if other != at)
        ]  # fmt: skip
        assert found.ends(confidence) == (left[0], left[-1])
    flat = peak_position(LINE)(rows(rng.normal(0, 1, (6, 3))))
    assert flat.ends(0.95)[1] == 32


def test_a_peak_is_told_in_multiples_of_where_nets_fit():
    wrong = np.array([50.0, 20, 6, 0.4, 0, 0])[:, None] + np.array([0.0, 0.1, 0.2])
    found = peak_over_fit(LINE)(rows(CURVE[:, None] + np.zeros(3), train_error=wrong))
    assert (found.ours, found.ends(0.95), found.values) == (1.0, (1.0, 1.0), (1.0,) * 3)
    open_ends = np.array([[50.0] * 3, [20] * 3, [0, 1, 2.5], [0, 0.5, 1.5], [0] * 3, [0] * 3])
    found = peak_over_fit(LINE)(rows(CURVE[:, None] + np.zeros(3), train_error=open_ends))
    assert (found.ours, found.ends(0.95)) == (1.0, (0.5, 2.0))
    with pytest.raises(UnfitError, match="no position has a mean train_error of at most 1"):
        peak_over_fit(LINE)(rows(CURVE[:, None] + np.zeros(3), train_error=wrong + 9))


def test_positions_may_be_columns_of_one_cell():
    epochs = {at: value("long", f"test_error_{at}") for at in LINE}
    found = Rows([{"cell": "long", "seed": seed, **{f"test_error_{at}": float(number)
                   for at, number in zip(LINE, CURVE + seed, strict=True)}} for seed in range(2)])  # fmt: skip
    assert rise(epochs)(found).ours == 15
    assert peak_position(epochs)(found).ours == 8


def test_what_has_no_turns_is_refused():
    with pytest.raises(ValueError, match="1 position, and where"):
        rise({1: "a"})
    with pytest.raises(ValueError, match="give a cell, or one cell's value"):
        peak_position({1: "a", 2: per_seed(math.hypot, ("a", "m"), ("b", "m"))})
    with pytest.raises(ValueError, match="begin above 0"):
        peak_over_fit({0: "a", 2: "b"})
    with pytest.raises(TypeError, match="give a cell at each"):
        peak_over_fit({1: "a", 2: value("b")})
    with pytest.raises(UnfitError, match="there is one seed"):
        rise(LINE)(rows(CURVE[:, None]))
