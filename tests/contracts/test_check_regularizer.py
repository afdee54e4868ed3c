"""The contracts on methods of one's own: one that keeps them, for each kind, and one for each way not to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_regs import Regularizer
from lightning_regs.core.checks import Positive
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.testing import check_regularizer
from lightning_regs.testing.modules import CONV, DICT, OURS
from lightning_regs.testing.runs import fit


class Brightens(Regularizer, acts=Acts.BATCH):
    """Draws from its own generator and saves nothing."""

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return x * self.factor(at), y

    def factor(self, at: Moment) -> Any:
        return 0.5 + torch.rand((), generator=at.generator)


class TwiceTheGradient(Regularizer, acts=Acts.LOSS):
    """Makes the gradient of a step by itself."""

    accumulate_grad_batches: int = 1
    gradient_clip_val: Positive | None = None

    def backward(self, rows: Any) -> Tensor:
        loss = rows.loss()
        rows.accumulate(loss * rows.share * 2.0)
        return loss.detach()


class DrawsFromTheGlobalGenerator(Brightens):
    """Its draws move the module's."""

    def factor(self, at: Moment) -> Any:
        return 0.5 + torch.rand(())


class DrawsTheSameOnEachRank(Brightens):
    """Its generator knows the batch alone."""

    def factor(self, at: Moment) -> Any:
        return 0.5 + torch.rand((), generator=torch.Generator().manual_seed(self.seed + at.batch))


class SavesAnObject(Brightens):
    """Its state is no plain type."""

    def state_dict(self) -> dict[str, Any]:
        return {"factor": Fraction(1, 2)}


class ForgetsItsState(Brightens):
    """What it does depends on what it did, which it does not save."""

    seen = 0

    def factor(self, at: Moment) -> Any:
        self.seen += 1
        return 1 + 0.1 * self.seen


class PenaltyLostToScaling(Regularizer):
    """Adds to a loss that is scaled, and divided by the number of accumulated batches, as if it were neither."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        loss.add_(0.1 * torch.stack([p.square().sum() for p in pl_module.parameters()]).sum())


class ActsAfterClipping(Regularizer):
    """Changes the gradient when the last word on it has been said."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        clip = pl_module.configure_gradient_clipping

        def then_add(optimizer: Any, *args: Any, **options: Any) -> None:
            clip(optimizer, *args, **options)
            for p in pl_module.parameters():
                p.grad.add_(p.detach(), alpha=0.1)

        pl_module.configure_gradient_clipping = then_add


class NoiseOfEachRank(Regularizer, acts=Acts.GRADIENTS):
    """Changes the gradients of each process otherwise, after they were averaged."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for p in pl_module.parameters():
            p.grad.mul_(1.0 + trainer.global_rank)


class DoesNothing(Regularizer):
    """Has no effect."""


@pytest.mark.cpu("it forks, which no process can after CUDA has started")
@pytest.mark.slow
def test_a_method_that_keeps_all_contracts() -> None:
    """One on gradients is ``examples/own_method.py``."""
    ran = check_regularizer(Brightens, [CONV, OURS])
    assert any("Two processes take the step" in line for line in ran)
    assert any("WeightMask" in line for line in ran)
    assert all(line.startswith(("Brightens", "Mixup", "Norm", "Gradient", "Weight")) for line in ran)
    assert len(ran) >= 2 * 9 + 8


@pytest.mark.slow
def test_a_gradient_of_ones_own_drives_the_classifier() -> None:
    assert check_regularizer(TwiceTheGradient, [OURS], processes=False, pairs=False)


@pytest.mark.parametrize(
    ("method", "sentences"),
    [
        (DrawsFromTheGlobalGenerator, ["draws from, or seeds, a global generator"]),
        (SavesAnObject, ["from a checkpoint of plain types"]),
        (ForgetsItsState, ["it ends with another state"]),
        (PenaltyLostToScaling, ["Under 16-mixed nothing is lost", "Four accumulated batches are one step"]),
        (ActsAfterClipping, ["and were clipped to 0.01"]),
        (DoesNothing, ["it makes no difference"]),
    ],
)
@pytest.mark.slow
def test_a_broken_contract_is_told_in_a_sentence(method: type[Regularizer], sentences: list[str]) -> None:
    with pytest.raises(AssertionError) as told:
        check_regularizer(method, [DICT], processes=False, pairs=False)
    first, *broken = str(told.value).splitlines()
    assert first == f"{method.__name__} breaks {len(broken)} promises:"
    assert all(f" ({method.__name__} on " in line for line in broken)
    for sentence in sentences:
        assert any(sentence in line for line in broken), broken


@pytest.mark.slow
def test_draws_that_know_too_little_are_found() -> None:
    with pytest.raises(AssertionError, match=r"they depend on \['seed', 'batch'\] alone"):
        check_regularizer(DrawsTheSameOnEachRank, [OURS], processes=False, pairs=False)


@pytest.mark.slow
def test_processes_that_drift_apart_are_found() -> None:
    with pytest.raises(AssertionError, match="Two processes take the step of the mean"):
        check_regularizer(NoiseOfEachRank, [DICT], pairs=False)


def test_a_kind_is_named_by_its_member() -> None:
    with pytest.raises(TypeError, match=r"^Odd has acts='gradients'; write one of Acts.BATCH, .*Acts.GRADIENTS"):
        type("Odd", (Regularizer,), {}, acts="gradients")


@pytest.mark.parametrize(("made", "says"), [(None, "a NoneType"), (torch.zeros(2), "a Tensor"), ((1, 2, 3), "a tuple")])
def test_a_method_on_batches_returns_both(made: Any, says: str) -> None:
    odd: Any = type("Odd", (Regularizer,), {"on_batch": lambda self, x, y, at: made}, acts=Acts.BATCH)
    with pytest.raises(TypeError, match=rf"^Odd.on_batch returned {says}.*; use `return x, y`"):
        fit(DICT, [odd()], batch=0)
