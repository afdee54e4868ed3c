"""Every judged claim again, from the committed tables: numbers, intervals and verdicts; see :mod:`scipy_alone`."""

from __future__ import annotations

import fnmatch
import functools
import re

import pytest
from scipy_alone import KINDS, Table, chosen, recomputed

from lightning_regs.study import find_papers, load_paper
from lightning_regs.study.store.results import default_results, load

JUDGED = ("reproduced", "not reproduced", "not decided", "invalid")


def satisfies(number, criterion):
    above = number > criterion.low if criterion.open_low else number >= criterion.low
    below = number < criterion.high if criterion.open_high else number <= criterion.high
    return above and below


def judged(low, high, criterion):
    """Judge an interval by its ends, and by what of the criterion's range lies in it."""
    if satisfies(low, criterion) and satisfies(high, criterion):
        return "reproduced"
    under = high < criterion.low or (criterion.open_low and high == criterion.low)
    over = low > criterion.high or (criterion.open_high and low == criterion.high)
    return "not reproduced" if under or over else "not decided"


def broken(form, table):
    """Say whether a run does not keep a condition of a claim."""
    for condition in form.conditions:
        for pattern in chosen(condition.cells, table):
            for cell in fnmatch.filter(set(table.cells), pattern):
                values = table.column(cell, condition.metric).values()
                if not all(satisfies(value, condition.criterion) for value in values):
                    return True
    return False


each_table = pytest.mark.parametrize(
    ("paper", "scale"),
    [
        (paper, path.stem)
        for paper, folder in find_papers().items()
        for path in sorted(folder.glob("results/*.csv"))
        if "." not in path.stem
    ],
)


@functools.cache
def verdicts(paper_id, scale):
    """Return the claims' forms, results and table, and what is recomputed by id."""
    paper = load_paper(paper_id)
    folder = default_results(paper)
    (found,) = load(paper, folder, [scale], curves=False)
    table = Table(folder / f"{scale}.csv", paper.scale(scale).test_samples)
    forms = {claim.id: claim.at(scale) for claim in paper.claims}
    again = {}
    for result in found.claims:
        form = forms[result.id]
        if result.verdict in JUDGED and result.ours is not None:
            assert form.measure.name in KINDS, (
                f"claim {result.id!r} has a measure of the kind {form.measure.name!r}, which nothing here recomputes; "
                "add it to KINDS of scipy_alone.py."
            )
            again[result.id] = recomputed(form.measure, table, result.confidence, form.exact)
    return forms, found.claims, table, again


@each_table
def test_numbers_and_intervals_are_those_of_scipy(paper, scale):
    forms, results, table, again = verdicts(paper, scale)
    assert again
    for result in results:
        if result.id not in again:
            if result.verdict in JUDGED:  # it has no number
                form = forms[result.id]
                assert recomputed(form.measure, table, result.confidence, form.exact) is None, result
            continue
        n, ours, low, high, _ = again[result.id]
        assert (result.n, result.ours) == (n, pytest.approx(ours, rel=1e-9, abs=1e-9)), result
        if result.low is None:
            assert (result.verdict, n) == ("not decided", 1), result
        else:
            assert (result.low, result.high) == pytest.approx((low, high), rel=1e-7, abs=1e-9), result


@each_table
def test_verdicts_are_what_intervals_and_conditions_say(paper, scale):
    forms, results, table, again = verdicts(paper, scale)
    other = {result.id: result for result in results}
    for result in results:
        if result.id not in again:
            continue
        form, (n, _, low, high, invalid) = forms[result.id], again[result.id]
        planned = re.fullmatch(r"(\d+) of (\d+) planned seeds so far", result.reason)
        if n == 1 and not form.exact:
            expected = "not decided"
        elif invalid or broken(form, table):
            expected = "invalid"
        elif planned:
            assert int(planned[1]) == n < int(planned[2])
            expected = "not decided"
        elif failed := [other[id] for id in form.rests_on if other[id].verdict != "reproduced"]:
            waits = all(one.verdict == "not decided" and one.p is None for one in failed)
            expected = "not decided" if waits else "invalid"
        else:
            expected = judged(low, high, form.criterion)
        assert result.verdict == expected, result


@each_table
def test_settings_are_judged_alike(paper, scale):
    forms, results, table, _ = verdicts(paper, scale)
    for result in results:
        for setting in result.settings:
            measure = forms[result.id].settings[setting.name]
            found = recomputed(measure, table, result.confidence, forms[result.id].exact)
            assert (found is None) == (setting.ours is None), setting
            if found is not None and setting.low is not None:
                n, *numbers, _ = found
                assert setting.n == n
                assert (setting.ours, setting.low, setting.high) == pytest.approx(numbers, rel=1e-7, abs=1e-9)
                if setting.verdict in JUDGED[:2]:
                    assert setting.verdict == judged(*numbers[1:], forms[result.id].criterion)
