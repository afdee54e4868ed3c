"""A run of one's own beside the committed one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lightning_regs.core.metrics import Metric
from lightning_regs.study import load_paper, reproduce
from lightning_regs.study.report.comparison import compare, compare_numbers

METRIC = Metric("value", "Value")
NAN = math.nan


def seeds(*numbers, start=0):
    return dict(enumerate(numbers, start))


@pytest.mark.parametrize("own", [(1.0, 2.0, 4.0), (3.0, 3.1), (9.0,)])
def test_the_interval_is_that_of_the_pooled_t_test(own):
    committed = (1.0, 1.5, 2.5, 2.0)
    found = compare_numbers("a", METRIC, seeds(*own, start=50), seeds(*committed))
    pooled = stats.ttest_ind(own, committed).confidence_interval(0.95) if len(own) > 1 else None
    if pooled is None:  # one more number of a normal distribution: its prediction interval
        half = stats.t.ppf(0.975, 3) * np.std(committed, ddof=1) * math.sqrt(1 + 1 / 4)
        pooled = (own[0] - np.mean(committed) - half, own[0] - np.mean(committed) + half)
    assert (found.difference - found.half, found.difference + found.half) == pytest.approx(tuple(pooled))
    assert found.agreement == ("beyond" if pooled[0] > 0 or pooled[1] < 0 else "within")


@pytest.mark.parametrize(
    ("own", "committed", "agreement"),
    [
        (seeds(1.0, 2.0), seeds(1.0, 2.0, 9.0), "equal"),
        (seeds(NAN, NAN), seeds(NAN, NAN), "equal"),
        (seeds(1.0), seeds(2.0), "unknown"),
        (seeds(NAN, NAN), seeds(2.0, 3.0), "beyond"),
        (seeds(NAN, 2.0), seeds(2.0, 3.0), "unknown"),
        (seeds(), seeds(2.0, 3.0), "unknown"),
        (seeds(5.0 + 1e-9), seeds(5.0, 5.0, 5.0), "within"),
        (seeds(5.1), seeds(5.0, 5.0, 5.0), "beyond"),
        (seeds(3e-10), seeds(1e-10, 1e-10, 1e-10), "within"),
    ],
    ids=["same", "never", "one-each", "never-here", "sometimes", "missing", "rounding", "no-spread", "residual"],
)
def test_what_has_no_interval_is_told_apart(own, committed, agreement):
    assert compare_numbers("a", METRIC, own, committed).agreement == agreement


def test_cells_and_verdicts_stand_side_by_side(toy):
    toy.write(toy.cell("one"), toy.cell("two"), seeds=3)
    paper = load_paper("toy")
    reproduce(paper, jobs=0, runs_dir=toy.root / "other", results_dir=toy.committed)
    reproduce(paper, jobs=0, cells="one")
    table = toy.results / "quick.csv"
    table.write_text(table.read_text().replace(",0.1,", ",30.0,"))
    [found] = compare(paper, toy.results)
    numbers = {(number.cell, number.metric.name): number for number in found.numbers}
    assert numbers["one", "threads"].agreement == "equal"
    assert numbers["one", "value"].own == (0.0, 30.0, 0.2)
    [claim] = found.claims
    assert (claim.agrees, claim.committed.verdict) == (False, "reproduced")
    assert found.differing == 1
    assert (found.own_runs, found.committed_runs) == (3, 6)
    assert "2 numbers" in found.summary
    assert compare(paper, toy.committed) == []
