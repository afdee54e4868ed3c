"""What every method promises on any module: one function a contract, whose docstring is the promise.

Each takes the kind of module and what makes the method, and raises ``AssertionError`` where the promise is broken.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import pl
from lightning_regs.regularizers import Regularizer
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.scaling import scaler_of
from lightning_regs.testing.modules import BATCH, CONV, OURS, Case
from lightning_regs.testing.runs import SCALE, Position, Run, fit, generators, half, plain, quiet
from lightning_regs.testing.variants import Variant

CLIP = 0.01
_SAME = "it makes no difference; change what its hook is given, and let each example(...) show in a single step"


@cache
def _whole(case: Case, variant: Variant) -> Run:
    return fit(case, [variant.make()], max_epochs=2)


@cache
def _in_float32(case: Case, variant: Variant) -> Run:
    return fit(case, [variant.make()], each_batch=True)


def trains_and_acts(case: Case, variant: Variant) -> None:
    """Every batch steps, all numbers are finite, and the training is another one than without the method."""
    run, without = _whole(case, variant), plain(case, max_epochs=2)
    numbers = [*run.losses, *(float(value) for value in run.trainer.callback_metrics.values())]
    assert numbers, "nothing is logged"
    assert all(map(math.isfinite, numbers)), "a loss or a metric is not finite"
    assert torch.isfinite(run.trajectory[-1]).all(), "a parameter is not finite"
    assert run.trainer.global_step == len(run.gradient_norms) == 8, "it does not step once a batch"
    steps = zip(run.trajectory, run.trajectory[1:], strict=False)
    assert all(not torch.equal(before, after) for before, after in steps), "a step leaves the parameters as they are"
    assert torch.equal(run.initial, without.initial), "the initial parameters are others"
    set_up = (run.trajectory[0] == run.initial) | (run.trajectory[0] == 0)
    assert set_up.all(), "before the first batch a method may set weights to zero, and change them no more"
    differs = not torch.allclose(run.trajectory[-1], without.trajectory[-1], rtol=1e-5, atol=1e-7)
    assert differs, _SAME
    if case is CONV:
        assert run.state["net.1.num_batches_tracked"] == 8, "batch norms do not count each batch once"


def leaves_the_global_generators_alone(case: Case, variant: Variant) -> None:
    """The random streams of the module are as without the method."""
    method = variant.make()
    drew: list[str] = []

    def watched(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            before = generators()
            result = hook(*args, **options)
            drew.extend([name] * (generators() != before))
            return result

        return call

    for name in (name for name in dir(pl.Callback) if name.startswith("on_")):
        setattr(method, name, watched(name, getattr(method, name)))
    run = fit(case, [method])
    assert not drew, f"{drew[0]} draws from, or seeds, a global generator"
    if set(run.samples) == {BATCH}:  # more samples need more of the module's own draws
        assert run.random == plain(case).random, "the global generators end elsewhere"


def draws_by_seed_and_place(case: Case, variant: Variant) -> None:
    """Its draws depend on seed, epoch, batch and rank, those for gradients and weights not on the rank, or on none."""
    if case is not OURS:
        return

    def after(seed: int, *position: int) -> Tensor:
        method = variant.make()
        method.seed = seed
        return fit(OURS, [method], batch=0, position=position).trajectory[-1]  # type: ignore[arg-type]

    # Each run has the same data and the same global seed (the epoch's), so what differs are the method's draws.
    base = after(5, 0, 0, 0)
    assert torch.equal(base, after(5, 0, 0, 0)), "two equal runs differ"
    differ = {name: not torch.equal(base, after(*place)) for name, place in _PLACES.items()}
    if variant.cls.acts in (Acts.GRADIENTS, Acts.WEIGHTS):
        assert not differ.pop("rank"), "they differ between processes, whose parameters have to stay equal"
    assert len(set(differ.values())) == 1, f"they depend on {[name for name, does in differ.items() if does]} alone"


_PLACES = {"seed": (6, 0, 0, 0), "epoch": (5, 1, 0, 0), "batch": (5, 0, 1, 0), "rank": (5, 0, 0, 1)}


def resumes_bit_equal(case: Case, variant: Variant) -> None:
    """A run that is resumed at an epoch's end, from a checkpoint of plain types, is the uninterrupted one."""
    method = variant.make()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.ckpt"
        half_way = fit(case, [method]).trainer
        with quiet():
            half_way.save_checkpoint(path)
        saved = torch.load(path, weights_only=True)["callbacks"].get(method.state_key, {})
        assert saved.keys() == method.state_dict().keys(), "the checkpoint lacks the method's state"
        torch.rand(17)  # the global generator is elsewhere after a restart
        run, whole = fit(case, [variant.make()], max_epochs=2, ckpt_path=path), _whole(case, variant)
    assert run.trainer.global_step == 8, "it counts other steps"
    assert len(run.gradient_norms) == 4, "it trains other batches"
    for what in ("state", "optimizer"):
        assert _equal(getattr(run, what), getattr(whole, what)), f"it ends with another {what}"
    assert _equal(run.trainer.callback_metrics, whole.trainer.callback_metrics), "it ends with other metrics"


def acts_in_bf16_as_in_float32(case: Case, variant: Variant) -> None:
    """Under bf16-mixed it acts, parameters stay float32, and the first step is nearly that of float32."""
    low, full = fit(case, [variant.make()], each_batch=True, precision="bf16-mixed"), _in_float32(case, variant)
    assert torch.isfinite(low.trajectory[-1]).all(), "a parameter is not finite"
    assert all(p.dtype == torch.float32 for p in low.module.parameters()), "a parameter is not float32"
    without = plain(case, "bf16-mixed", each_batch=True)
    assert not torch.equal(low.trajectory[-1], without.trajectory[-1]), _SAME
    _close(low.trajectory[1] - low.trajectory[0], full.trajectory[1] - full.trajectory[0], 0.2, "the first step")


def acts_in_16_mixed_as_in_float32(case: Case, variant: Variant) -> None:
    """Under 16-mixed nothing is lost to the scaling of losses and gradients, and nothing is scaled twice."""
    low, full = fit(case, [variant.make()], each_batch=True, plugins=[half()]), _in_float32(case, variant)
    scaler = scaler_of(low.trainer)
    assert scaler is not None
    assert scaler.get_scale() == SCALE, "a step was skipped"
    _close(low.moved, full.moved, 0.1, "the training")
    # What the method adds to the first step, apart from the rest: unscaled it would be 128 times as much, and a
    # penalty that was lost to scaling would be nothing. Below a share of the step it is lost in the rounding.
    plain_low, plain_full = plain(case, "16-mixed", each_batch=True), plain(case, each_batch=True)
    added, expected = (a.trajectory[1] - b.trajectory[1] for a, b in ((low, plain_low), (full, plain_full)))
    step = full.trajectory[1] - full.trajectory[0]
    _close(added, expected, 0.5, "what it adds to the first step", least=0.02 * step.norm().item())
    # From Lightning's own first scale steps are skipped until nothing overflows.
    found = fit(case, [variant.make()], plugins=[half(2.0**16)], max_epochs=2)
    assert torch.isfinite(found.trajectory[-1]).all(), "a parameter is not finite after skipped steps"
    assert not torch.equal(found.trajectory[0], found.trajectory[-1]), "no scale is found"


def accumulates(case: Case, variant: Variant) -> None:
    """Four accumulated batches are one step, that of the mean of their gradients."""
    method, options = _flags(case, variant, accumulate_grad_batches=4)
    run = fit(case, [method], each_batch=True, **options)
    assert run.trainer.global_step == len(run.gradient_norms) == 1, "it does not step once"
    for before in run.trajectory[1:4]:
        assert torch.equal(before, run.trajectory[0]), "a batch that only accumulates changes parameters"
    without = plain(case, each_batch=True, accumulate_grad_batches=4)
    _same_step(run.moved, step_of_the_mean(case, variant, [(i, (0, i, 0)) for i in range(4)]), without.moved)
    assert not torch.allclose(run.moved, without.moved, rtol=1e-6, atol=1e-8), _SAME


def is_clipped_last(case: Case, variant: Variant) -> None:
    """Clipping has the last word on the gradient."""
    assert min(_whole(case, variant).gradient_norms) > 2 * CLIP
    method, options = _flags(case, variant, gradient_clip_val=CLIP)
    run = fit(case, [method], **options)
    exact = all(abs(norm - CLIP) < 1e-3 * CLIP for norm in run.gradient_norms)
    assert exact, f"gradients of norm {run.gradient_norms} are stepped with, and were clipped to {CLIP}"
    assert not torch.equal(run.trajectory[-1], plain(case, gradient_clip_val=CLIP).trajectory[-1]), _SAME


def acts_sometimes(case: Case, variant: Variant) -> None:
    """A method on batches acts in its epochs alone, with its probability there, and draws the rest as without."""
    if case is not OURS or variant.cls.on_batch is Regularizer.on_batch:
        return

    def path(**arguments: Any) -> list[Tensor]:
        return fit(case, [variant.make(**arguments)], max_epochs=2).trajectory

    def steps(one: list[Tensor], other: list[Tensor]) -> int:
        """Return how many steps two paths share."""
        return sum(torch.equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))

    always, never = _whole(case, variant).trajectory, plain(case, max_epochs=2).trajectory
    assert steps(path(p=0), never) == 8, "with p=0 it acts"
    assert steps(path(from_epoch=1), never) == 4, "it does not begin with its first epoch"
    assert steps(path(until_epoch=1), always) >= 4, "it does not act up to its last epoch"
    assert steps(path(until_epoch=1), always) < 8, "it acts after its last epoch"
    assert max(steps(path(p=0.5), other) for other in (always, never)) < 8, "with p=0.5 it acts on all or on none"
    resumes_bit_equal(case, replace(variant, label=f"{variant} sometimes", changed=(("p", 0.5),)))


CONTRACTS: tuple[Callable[[Case, Variant], None], ...] = (
    trains_and_acts,
    leaves_the_global_generators_alone,
    draws_by_seed_and_place,
    resumes_bit_equal,
    acts_in_bf16_as_in_float32,
    acts_in_16_mixed_as_in_float32,
    accumulates,
    is_clipped_last,
    acts_sometimes,
)


def trains_in_two_processes(case: Case, variant: Variant, ends: Sequence[dict[str, Any]]) -> None:
    """Two processes take the step of the mean of the gradients that each has alone, and stay equal.

    The ends are what :func:`~lightning_regs.testing.processes.run_jobs` returns of the method, one a process.
    """
    for end in ends:
        assert end["error"] is None, end["error"]
    one, other = (end["trajectory"] for end in ends)
    assert len(one) == 3  # each rank has every other one of the four batches
    assert all(torch.equal(a, b) and torch.isfinite(a).all() for a, b in zip(one, other, strict=True)), "they differ"
    ranks: list[tuple[int, Position]] = [(rank, (0, 0, rank)) for rank in range(2)]
    # On the CPU, as the two processes are: on another device methods may draw otherwise.
    alone = [plain(case, batch=i, each_batch=True, position=place, accelerator="cpu").moved for i, place in ranks]
    _same_step(one[1] - one[0], step_of_the_mean(case, variant, ranks, accelerator="cpu"), torch.stack(alone).mean(0))
    assert not torch.equal(one[1], one[2]), "the second batch does not step"


def step_of_the_mean(case: Case, variant: Variant, places: Sequence[tuple[int, Position]], **options: Any) -> Tensor:
    """Return one step from the initial parameters by the mean of the gradients that batches have at their places.

    That is what a step over several batches, accumulated or of several processes, has to be, whatever the method is; it
    is taken at the last of the ``places``, each the number of a batch and where it stands. Options are the Trainer's.
    """
    options |= {"each_batch": True}
    found, buffers = [], None
    accumulated = len({rank for _, (_, _, rank) in places}) == 1
    for batch, position in places:
        run = fit(case, [variant.make()], batch=batch, position=position, buffers=buffers, **options)
        if accumulated:  # batch-norm statistics go from one batch to the next, while the step is put off
            buffers = {name: run.state[name] for name, _ in run.module.named_buffers() if name in run.state}
        found.append(run.gradient)
    mean = torch.stack(found).mean(0)
    return fit(case, [variant.make()], batch=batch, position=position, gradient=mean, **options).moved


def _flags(case: Case, variant: Variant, **flags: Any) -> tuple[Regularizer, dict[str, Any]]:
    """Return the method and the Trainer's options; the flags go to the method where it drives the steps."""
    return (variant.make(**flags), {}) if case.ours and variant.make().drives else (variant.make(), flags)


def _same_step(ours: Tensor, theirs: Tensor, without: Tensor) -> None:
    _close(ours, theirs, 1e-4, "the step")
    # Apart from the rest, so that a weak method cannot be lost in it.
    _close(ours - without, theirs - without, 0.1, "what the method adds to the step")


def _close(ours: Tensor, theirs: Tensor, tolerance: float, what: str, least: float = 1e-30) -> None:
    distance = ((ours - theirs).norm() / theirs.norm().clamp_min(least)).item()
    assert distance < tolerance, f"{what} is another one, by {distance:.2g} of its length"


def _equal(ours: Any, theirs: Any) -> bool:
    """Return bit equality, all the way down."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)
