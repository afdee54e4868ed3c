"""The contracts of a method of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import torch

from lightning_regs.regularizers import Regularizer
from lightning_regs.testing.contracts import CONTRACTS, trains_in_two_processes
from lightning_regs.testing.modules import CASES, Case
from lightning_regs.testing.odd import ODD
from lightning_regs.testing.processes import run_jobs
from lightning_regs.testing.runs import Run, fit
from lightning_regs.testing.table import outcome
from lightning_regs.testing.variants import Variant, case_of, partners, reason, refusal, variants

REMEDY = re.compile(
    r"\b(use|put|give|remove|leave|pass|set|choose|raise|lower|say|convert|compute|let) ", re.IGNORECASE
)


def check_regularizer(
    method: type[Regularizer], modules: Sequence[Case] = CASES, processes: bool = True, pairs: bool = True
) -> list[str]:
    """Run the contracts of all methods on one of your own.

    ``method.variants()`` says with which arguments: by default every combination of what its parameters declare by
    ``example(...)``. It takes about a minute::

        def test_my_method():
            print(check_regularizer(MyMethod))

    Args:
        method: The class.
        modules: Kinds of LightningModules to run it on; default: two that know nothing of methods, and our own.
        processes: Whether to train in two processes as well, which have to be forked.
        pairs: Whether to train it together with one method of each kind.

    Returns:
        A line for each contract that was run and kept, and for each module that the method refuses, with its reason.

    Raises:
        AssertionError: If it breaks contracts; a sentence for each.
    """
    log = _Log()
    for variant in variants(method):
        accepted = []
        for case in modules:
            if why := refusal(case, variant):
                log.kept.append(f"{variant} refuses the module {case}: {why}")
                continue
            accepted.append(case)
            for contract in CONTRACTS:
                log.run(f"{variant} on {case}", contract, case, variant)
        ends = run_jobs({case.name: (case, [variant.make()]) for case in accepted}) if processes else []
        for case in accepted if processes else ():
            log.run(f"{variant} on {case}", trains_in_two_processes, case, variant, [end[case.name] for end in ends])
    first = variants(method)[0]
    for name in ODD:
        log.run(f"{first} on a module with {name}", is_never_silent, name, first)
    for partner in partners().values() if pairs else ():
        for pair in ((first, partner), (partner, first)):
            log.run(f"{pair[0]}, then {pair[1]}", goes_together, *pair)
    if log.broken:
        told = [f"{what} ({'; '.join(where)})" for what, where in log.broken.items()]
        raise AssertionError("\n".join([f"{method.__name__} breaks {len(told)} promises:", *told]))
    return log.kept


class _Log:
    """What was run, and of what was broken where it was."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.broken: dict[str, list[str]] = {}

    def run(self, where: str, contract: Callable[..., None], *arguments: object) -> None:
        promise = str(contract.__doc__).partition("\n")[0]
        try:
            contract(*arguments)
            self.kept.append(f"{where}: {promise}")
        except Exception as error:  # a contract is broken by whatever the method raises
            told = str(error).partition("\n")[0] or type(error).__name__
            self.broken.setdefault(f"{promise} Not so: {told}", []).append(where)


def is_never_silent(name: str, variant: Variant) -> None:
    """On every kind of module it trains as by hand, or says that it does not, or refuses it with what to do instead."""
    try:
        row = outcome(name, variant)
    except AssertionError:
        raise
    except Exception:  # of the module itself, for what the method made of the batch: that is not silent
        return
    told = variant.cls.__name__ in row.sentence and REMEDY.search(row.sentence)
    assert told or row.outcome == "W", f"{row.sentence!r} does not name the method, or says nothing that one could do"


def goes_together(first: Variant, second: Variant) -> None:
    """The two train together and both act, or are refused with the reason and the remedy."""
    if why := reason(first, second):
        names = f"{first.cls.__name__} and {second.cls.__name__} do not go together"
        assert why.startswith(names)
        assert REMEDY.search(why.removeprefix(names)), f"{why!r} says nothing that one could do"
        return
    case = case_of(first, second)
    run = fit(case, [first.make(), second.make()], limit_train_batches=2)
    assert run.trainer.global_step == 2, "it does not step once a batch"
    assert torch.isfinite(run.trajectory[-1]).all(), "a parameter is not finite"
    for one in (first, second):
        alone = _alone(case, one).trajectory[-1]
        assert not torch.allclose(run.trajectory[-1], alone, rtol=2e-6, atol=1e-9), f"they train as {one} alone"


@cache
def _alone(case: Case, variant: Variant) -> Run:
    return fit(case, [variant.make()], limit_train_batches=2)
