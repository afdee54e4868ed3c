"""Every method on every module: it trains and acts, has streams of its own, and a resumed run is the same run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_runs import all_pairs, fit, generators, ids, plain
from discover import Variant, methods, variants
from modules import BATCH, CASES, CONV, OURS, Case
from torch import Tensor

from lightning_regs import Regularizer
from lightning_regs.core.lightning import pl

ACCEPTED, REFUSED = all_pairs()
every = pytest.mark.parametrize(("case", "variant"), ACCEPTED, ids=map(ids, ACCEPTED))


@every
def test_trains_and_acts(case: Case, variant: Variant) -> None:
    run = fit(case, [variant.make()], max_epochs=2)
    numbers = [*run.losses, *(float(value) for value in run.trainer.callback_metrics.values())]
    assert numbers
    assert all(math.isfinite(number) for number in numbers)
    assert torch.isfinite(run.end).all()
    assert run.trainer.global_step == 8
    assert not torch.equal(run.start, run.end)
    assert torch.equal(run.initial, plain(case, max_epochs=2).initial)
    same_or_zero = (run.start == run.initial) | (run.start == 0)
    assert same_or_zero.all(), "before the first batch a method may set weights to zero, and change them no more"
    assert not torch.allclose(run.end, plain(case, max_epochs=2).end, rtol=1e-5, atol=1e-7), "it made no difference"


@every
def test_leaves_the_global_generators_to_the_module(case: Case, variant: Variant) -> None:
    method = variant.make()
    drew: list[str] = []

    def watched(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            before = generators()
            result = hook(*args, **options)
            if generators() != before:
                drew.append(name)
            return result

        return call

    for name in (name for name in dir(pl.Callback) if name.startswith("on_") and is_own(method, name)):
        setattr(method, name, watched(name, getattr(method, name)))
    run = fit(case, [method])
    assert not drew, "these hooks draw from, or seed, a global generator"
    if set(run.samples) == {BATCH}:  # more samples need more of the module's own draws
        assert run.random == plain(case).random


def is_own(method: Regularizer, name: str) -> bool:
    return getattr(type(method), name) is not getattr(pl.Callback, name)


@pytest.mark.parametrize("variant", [variant for case, variant in ACCEPTED if case is CONV], ids=str)
def test_batch_norm_counts_each_batch_once(variant: Variant) -> None:
    run = fit(CONV, [variant.make()])
    assert run.state["net.1.num_batches_tracked"] == 4


@pytest.mark.parametrize("variant", [variant for case, variant in ACCEPTED if case is OURS], ids=str)
def test_draws_depend_on_seed_batch_and_rank_or_on_none(variant: Variant) -> None:
    def after(seed: int, *position: int) -> Tensor:
        method = variant.make()
        method.seed = seed
        return fit(OURS, [method], batch=0, position=position).end

    # Each run has the same data and the same global seed (the epoch's), so what differs are the method's draws.
    base = after(5, 0, 0, 0)
    assert torch.equal(base, after(5, 0, 0, 0))
    others = [after(6, 0, 0, 0), after(5, 1, 0, 0), after(5, 0, 1, 0), after(5, 0, 0, 1)]
    differ = {not torch.equal(base, other) for other in others}
    assert len(differ) == 1, "draws depend on some of epoch, batch, rank and seed, but not on all"


@every
def test_resume_at_an_epochs_end_is_bit_equal(case: Case, variant: Variant, tmp_path: Path) -> None:
    whole = fit(case, [variant.make()], max_epochs=2)
    fit(case, [variant.make()]).trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.rand(17)  # the global generator is elsewhere after a restart
    resumed = fit(case, [variant.make()], max_epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert resumed.trainer.global_step == whole.trainer.global_step == 8
    assert len(resumed.gradient_norms) == 4  # only the second epoch was trained
    same(resumed.state, whole.state)
    same(resumed.optimizer, whole.optimizer)
    same(resumed.trainer.callback_metrics, whole.trainer.callback_metrics)


@every
def test_checkpoint_loads_with_weights_only(case: Case, variant: Variant, tmp_path: Path) -> None:
    method = variant.make()
    run = fit(case, [method])
    run.trainer.save_checkpoint(tmp_path / "m.ckpt")
    checkpoint = torch.load(tmp_path / "m.ckpt", weights_only=True)
    assert "state_dict" in checkpoint
    torch.save(method.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert checkpoint["callbacks"].get(method.state_key, {}).keys() == state.keys()


def test_every_method_and_variant_is_here() -> None:
    assert {variant.cls for _, variant in ACCEPTED} == set(methods())
    for variant in variants():
        on = [case for case, accepted in ACCEPTED if accepted == variant]
        assert OURS in on, f"{variant} does not go with the package's own Classifier"
    for cls in methods():
        on = [case for case, accepted in ACCEPTED if accepted.cls is cls]
        assert set(on) == set(CASES), f"no variant of {cls.__name__} goes with some of the modules"


def test_a_module_is_refused_by_name_with_the_remedy() -> None:
    for _, variant, reason in REFUSED:
        assert variant.cls.__name__ in reason
        assert "use " in reason


def same(ours: Any, theirs: Any) -> None:
    """Assert bit equality, all the way down."""
    assert type(ours) is type(theirs)
    if isinstance(ours, Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            same(ours[key], theirs[key])
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    else:
        assert ours == theirs
