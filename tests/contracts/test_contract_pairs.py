"""Every ordered pair of methods is trained, or refused with the reason and the remedy."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from contract_runs import Run, fit, takes_over
from discover import Variant, methods, variants
from modules import CONV, OURS, Case
from pairs import FILE, RENEW, case_of, pairs, reason, table

from lightning_regs.core.lightning import MisconfigurationException, pl

PAIRS = pairs()
TOGETHER = [pair for pair in PAIRS if not reason(*pair)]
REFUSED = [pair for pair in PAIRS if reason(*pair)]
REMEDY = re.compile(r"\b(use|put|give|remove|leave|pass|set|choose|raise|lower) ")


@cache
def alone(case: Case, variant: Variant) -> Run:
    return fit(case, [variant.make()], limit_train_batches=2)


@pytest.mark.parametrize(("first", "second"), TOGETHER, ids=str)
def test_a_pair_trains_and_both_act(first: Variant, second: Variant) -> None:
    case = case_of(first, second)
    run = fit(case, [first.make(), second.make()], limit_train_batches=2)
    assert run.trainer.global_step == 2
    assert torch.isfinite(run.end).all()
    for one in (first, second):
        assert not torch.allclose(run.end, alone(case, one).end, rtol=2e-6, atol=1e-9), f"as {one} alone"


@pytest.mark.parametrize(("first", "second"), REFUSED, ids=str)
def test_a_refused_pair_names_both_the_reason_and_the_remedy(first: Variant, second: Variant) -> None:
    text = reason(first, second)
    assert text is not None
    names = f"{first.cls.__name__} and {second.cls.__name__} do not go together"
    assert text.startswith(names)
    assert REMEDY.search(text.removeprefix(names)), f"{text!r} says nothing that one could do"
    error, words = MisconfigurationException, names
    if first.cls is second.cls and first.cls.state_dict is not pl.Callback.state_dict:
        # Of two that have a state to save, Lightning itself says so, before any of their hooks.
        error, words = RuntimeError, f"more than one stateful callback of type `{first.cls.__name__}`"
    with pytest.raises(error, match=words):
        fit(CONV, [first.make(), second.make()])
    with pytest.raises(ValueError, match=names):
        OURS.build([first.make(), second.make()])


def test_all_pairs_are_here() -> None:
    assert len(TOGETHER) + len(REFUSED) == len(variants()) ** 2
    assert {first.cls for first, _ in PAIRS} == set(methods())
    assert not any(takes_over(OURS, a) and takes_over(OURS, b) for a, b in TOGETHER)


def test_the_table_is_the_committed_one() -> None:
    assert FILE.read_text() == table(), f"renew it with: {RENEW}"
