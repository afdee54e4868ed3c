"""Criteria against plain set logic, exhaustively on a small grid: ends open or closed, intervals on and across them."""

from __future__ import annotations

import itertools
import math

import pytest

from lightning_regs.study.paper.criteria import Criterion
from lightning_regs.study.paper.verdicts import judge

NONE = {"above": None, "below": None, "at_least": None, "at_most": None, "within": None}
ENDS = range(-2, 3)
LOWER = [{}, *({word: end} for word in ("above", "at_least") for end in ENDS)]
UPPER = [{}, *({word: end} for word in ("below", "at_most") for end in ENDS)]
# Ends of criteria and intervals are whole: what they have in common shows at the halves between.
HALVES = [half / 2 for half in range(-8, 9)]
INTERVALS = [(low, high) for low in range(-4, 5) for high in range(low, 5)]


def criterion(published=None, **words):
    return Criterion.of("claim 'c'", published, **(NONE | words))


def satisfies(number, above=-math.inf, below=math.inf, at_least=-math.inf, at_most=math.inf):
    return above < number < below and at_least <= number <= at_most


@pytest.mark.parametrize("lower", LOWER, ids=str)
def test_an_interval_is_judged_as_the_set_of_its_numbers(lower):
    for words in (lower | upper for upper in UPPER if lower or upper):
        if not any(satisfies(number, **words) for number in HALVES):
            with pytest.raises(ValueError, match=r"^claim 'c' asks for a number .*, and there is none\.$"):
                criterion(**words)
            continue
        asked = criterion(**words)
        for low, high in INTERVALS:
            held = [satisfies(number, **words) for number in HALVES if low <= number <= high]
            assert asked.contains(low, high) == all(held), (words, low, high)
            assert asked.excludes(low, high) == (not any(held)), (words, low, high)
            expected = "reproduced" if all(held) else "not decided" if any(held) else "not reproduced"
            assert judge(asked, low, high) == expected


def test_within_is_the_closed_range_around_the_published_number():
    assert criterion(10, within=1.5) == Criterion(8.5, 11.5, within=1.5)
    assert criterion(10, within=0).contains(10, 10)
    for published, within in itertools.product((None, "about 3", True, math.nan, math.inf), (1.0,)):
        with pytest.raises(ValueError, match=r"is within 1\.0 of published=.*; give a number to be near to\.$"):
            criterion(published, within=within)
    with pytest.raises(ValueError, match="within -1 of published=10"):
        criterion(10, within=-1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"above": 0, "at_least": 0}, "gives both above= and at_least=; one of them says it."),
        ({"below": 0, "at_most": 1}, "gives both below= and at_most=; one of them says it."),
        ({"within": 1, "at_most": 1}, "gives both within= and at_most=; one of them says it."),
        ({"above": math.nan}, "has the limit nan; give a finite number, or leave that side out."),
        ({"at_most": math.inf}, "has the limit inf; give a finite number, or leave that side out."),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(ValueError, match=r"^claim 'c' ") as refused:
        criterion(1, **words)
    assert str(refused.value).endswith(message)


@pytest.mark.parametrize(
    ("words", "unit", "text"),
    [
        ({"above": 0}, "points", "above 0 points"),
        ({"below": -1.5}, "", "below \u22121.5"),
        ({"at_least": 99}, "%", "at least 99 %"),
        ({"at_most": 4}, "x", "at most 4\u00d7"),
        ({"at_least": 0, "at_most": 1}, "", "0 to 1"),
        ({"above": 0, "below": 1}, "", "above 0 and below 1"),
        ({"above": 0, "at_most": 1}, "", "above 0 and at most 1"),
        ({"at_least": 7, "at_most": 7}, "epochs", "7 epochs"),
        ({"within": 1.5}, "%", "49.01 to 52.01 %"),
    ],
)
def test_a_criterion_says_itself(words, unit, text):
    assert criterion(50.51, **words).text(unit) == text


def test_no_word_is_no_criterion():
    assert criterion(1.0) is None
