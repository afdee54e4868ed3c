"""Every method on every module: what it promises, found by reflection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accepted import ACCEPTED, EVERY, REFUSED
from generated import methods

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.testing.check import goes_together
from lightning_regs.testing.contracts import CLIP, CONTRACTS, trains_in_two_processes
from lightning_regs.testing.modules import BATCHES, CASES, CONV, DICT, OURS, Case
from lightning_regs.testing.runs import fit, parameters, plain
from lightning_regs.testing.variants import Variant, partners, reason, variants

every = pytest.mark.parametrize(("case", "variant"), ACCEPTED, ids=[f"{v}-{c}" for c, v in ACCEPTED])


@every
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_keeps(contract: Callable[[Case, Variant], None], case: Case, variant: Variant) -> None:
    contract(case, variant)


@every
def test_two_processes(case: Case, variant: Variant, two_processes: list[dict[str, dict[str, Any]]]) -> None:
    trains_in_two_processes(case, variant, [ends[f"{variant} {case}"] for ends in two_processes])


def test_every_method_is_here_and_goes_with_every_kind_of_module() -> None:
    assert {variant.cls for _, variant in ACCEPTED} == set(methods())
    for variant in EVERY:
        assert (OURS, variant) in ACCEPTED, f"{variant} does not go with the package's own Classifier"
    for cls in methods():
        assert cls.acts is not None, f"{cls.__name__} does not say what it acts on"
        on = {case for case, variant in ACCEPTED if variant.cls is cls}
        assert on == set(CASES), f"no variant of {cls.__name__} goes with some of the modules"


def test_a_module_is_refused_by_name_with_the_remedy() -> None:
    assert REFUSED
    for variant, why in REFUSED:
        assert variant.cls.__name__ in why
        assert "use " in why


# -- pairs: each method with one of each kind, so that their number grows as that of the methods ---------------------

FIRST = [variants(cls)[0] for cls in methods()]
PAIRS = {(a, b) for one in FIRST for kind in partners().values() for a, b in ((one, kind), (kind, one))}


@pytest.mark.parametrize(("first", "second"), sorted(PAIRS, key=str), ids=str)
def test_a_pair_trains_and_both_act_or_it_is_refused(first: Variant, second: Variant) -> None:
    goes_together(first, second)


REASONS = {why: (a, b) for a in EVERY for b in EVERY if (why := reason(a, b))}


@pytest.mark.parametrize(("first", "second"), REASONS.values(), ids=str)
def test_a_refused_pair_is_refused_by_trainer_and_classifier(first: Variant, second: Variant) -> None:
    names = f"{first.cls.__name__} and {second.cls.__name__} do not go together"
    goes_together(first, second)
    error, words = MisconfigurationException, names
    if first.cls is second.cls and first.cls.state_dict is not pl.Callback.state_dict:
        # Of two that have a state to save, Lightning itself says so, before any of their hooks.
        error, words = RuntimeError, f"more than one stateful callback of type `{first.cls.__name__}`"
    with pytest.raises(error, match=words):
        fit(CONV, [first.make(), second.make()])
    with pytest.raises(ValueError, match=names):
        OURS.build([first.make(), second.make()])


# -- what the suite stands on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [{"gradient_clip_val": CLIP}, {"accumulate_grad_batches": 4}], ids=str)
@pytest.mark.parametrize("variant", [v for c, v in ACCEPTED if c is OURS and v.make().drives], ids=str)
def test_flags_that_manual_optimization_forbids_name_our_argument(variant: Variant, flags: dict[str, float]) -> None:
    ((name, value),) = flags.items()
    with pytest.raises(MisconfigurationException, match=rf"use {variant.cls.__name__}\({name}={value}\) instead"):
        fit(OURS, [variant.make()], **flags)


def first_step(module: Any) -> torch.Tensor:
    """The step of the mean gradient of all batches, in plain torch."""
    optimizer = module.configure_optimizers()
    sum(F.cross_entropy(module(x), y) / BATCHES for x, y in DICT.loader()).backward()
    optimizer.step()
    return parameters(module)


def test_the_suites_plain_run_is_a_loop_of_plain_torch() -> None:
    """What every method is compared with is what a loop without Lightning gives, accumulated and not."""
    torch.manual_seed(0)
    torch.testing.assert_close(fit(DICT, [], accumulate_grad_batches=4).trajectory[-1], first_step(DICT.build([])))
    torch.manual_seed(0)
    module: Any = DICT.build([])
    optimizer = module.configure_optimizers()
    for x, y in DICT.loader():
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
    run = fit(DICT, [])
    torch.testing.assert_close(run.trajectory[-1], parameters(module))
    assert torch.equal(plain(DICT).trajectory[0], run.trajectory[0])
