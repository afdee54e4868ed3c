"""The methods by the ways in which modules take their steps: each works, says that it does nothing, or refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_regs import Regularizer
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.testing.contracts import is_never_silent
from lightning_regs.testing.modules import DICT
from lightning_regs.testing.variants import Variant, methods, variants
from lightning_regs.testing.ways import WAYS, outcome

BATCH = ("AdversarialTraining", "CutMix", "Cutout", "LabelSmoothing", "Mixup")
# Those that do not work; v: says so, R: refuses.
OTHERWISE: dict[str, dict[str, str]] = {
    "a closure called twice": {},
    "loss.backward()": {"GradientPenalty": "v"},
    "the optimizer's own step": {},
    "weights moved by hand": {"NormPenalty": "v", "MaxNorm": "v"},
    "batches fetched in the step": dict.fromkeys(BATCH, "R"),
    "a teacher and an average": {},
}


@pytest.mark.parametrize("way", WAYS)
def test_each_method_works_warns_or_refuses(way: str) -> None:
    found = {cls.__name__: outcome(WAYS[way], variants(cls)[0]) for cls in methods()}
    assert {name: letter for name, letter in found.items() if letter != "W"} == OTHERWISE[way]


class _ByHook(Regularizer, acts=Acts.GRADIENTS):
    """Trusts in a hook that comes with Lightning's steps alone."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for w in pl_module.parameters():
            w.grad.mul_(2.0)


class _PrunesAll(Regularizer, acts=Acts.WEIGHTS):
    """Acts on whatever the module has."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for w in pl_module.parameters():
            w.data.mul_(0.5)


class _Watches(Regularizer, acts=Acts.BATCH):
    """Changes nothing."""

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return x, y


class _Doubles(Regularizer, acts=Acts.GRADIENTS):
    """Keeps the promise."""

    def on_gradients(self, gradients: list[Tensor], at: Moment) -> None:
        torch._foreach_mul_(gradients, 2.0)


@pytest.mark.parametrize(
    ("method", "where"),
    [
        (_ByHook, "the optimizer's own step it does nothing, and does not say so"),
        (_PrunesAll, "the optimizer's own step it does nothing, and does not say so"),
        (_Watches, "a closure called twice it does nothing, and does not say so"),
    ],
)
def test_silence_is_found(method: type[Regularizer], where: str) -> None:
    with pytest.raises(AssertionError, match=where):
        is_never_silent(DICT, Variant(method, 0, method.__name__))


def test_what_acts_on_others_networks_is_found() -> None:
    with pytest.raises(AssertionError, match=r"a teacher and an average it changes 'teacher\.1\.weight'"):
        outcome(WAYS["a teacher and an average"], Variant(_PrunesAll, 0, "_PrunesAll"))


def test_a_method_of_ones_own_that_uses_the_short_hooks_keeps_it() -> None:
    is_never_silent(DICT, Variant(_Doubles, 0, "_Doubles"))
