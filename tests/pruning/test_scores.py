"""Zhou et al.'s criteria, against their definitions in plain Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.pruning.scores import SCORES, random_scores


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


BY_HAND: dict[str, Callable[[float, float], float]] = {
    "large_final": lambda i, f: abs(f),
    "magnitude": lambda i, f: abs(f),
    "small_final": lambda i, f: -abs(f),
    "large_init": lambda i, f: abs(i),
    "small_init": lambda i, f: -abs(i),
    "magnitude_increase": lambda i, f: abs(f) - abs(i),
    "movement": lambda i, f: abs(f - i),
    "large_final_same_sign": lambda i, f: abs(f) if sign(i) == sign(f) else 0.0,
    "large_final_differ_sign": lambda i, f: abs(f) if sign(i) != sign(f) else 0.0,
    "magnitude_increase_same_sign": lambda i, f: abs(f) - abs(i) if sign(i) == sign(f) else 0.0,
    "magnitude_increase_differ_sign": lambda i, f: abs(f) - abs(i) if sign(i) != sign(f) else 0.0,
}
RANKED = {"large_init_large_final": 1, "small_init_small_final": -1}
# Eighths, so that sums are exact and ties are frequent.
weights = st.integers(-16, 16).map(lambda n: n / 8)


def test_every_criterion_is_tested() -> None:
    assert set(SCORES) == set(BY_HAND) | set(RANKED)


@pytest.mark.parametrize("name", list(BY_HAND))
@settings(max_examples=15, deadline=None)
@given(pairs=st.lists(st.tuples(weights, weights), min_size=6, max_size=6))
def test_criteria_of_one_weight(name: str, pairs: list[tuple[float, float]]) -> None:
    initial, final = torch.tensor(pairs, dtype=torch.float64).view(2, 3, 2).unbind(-1)
    scores = SCORES[name](initial, final)
    assert scores.shape == (2, 3)
    assert scores.flatten().tolist() == [BY_HAND[name](i, f) for i, f in pairs]


@pytest.mark.parametrize("name", list(RANKED))
@settings(max_examples=15, deadline=None)
@given(pairs=st.lists(st.tuples(weights, weights), min_size=2, max_size=12))
def test_two_conditions_have_a_percentile_in_common(name: str, pairs: list[tuple[float, float]]) -> None:
    initial, final = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    scores = SCORES[name](initial, final).tolist()
    sizes = [[RANKED[name] * abs(value) for value in values] for values in zip(*pairs, strict=True)]
    # A weight is kept at a percentile if at both times at least so many others are smaller.
    for threshold in range(len(pairs)):
        kept = {n for n, score in enumerate(scores) if score >= threshold}
        both = {n for n in range(len(pairs)) if all(sum(o < s[n] for o in s) >= threshold for s in sizes)}
        assert kept == both


def test_random_scores_depend_on_the_generator_alone() -> None:
    like = torch.ones(50, 40)
    first, again, other = (random_scores(like, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 2000
    assert ((first >= 0) & (first < 1)).all()
