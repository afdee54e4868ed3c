"""The methods on modules as people write them: each works, says that it does not, or refuses, and silence is found."""

from __future__ import annotations

from typing import Any

import pytest
from generated import RENEW, methods, rows
from torch import Tensor

from lightning_regs import Regularizer
from lightning_regs.regularizers.base import Acts
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.testing.check import REMEDY, is_never_silent
from lightning_regs.testing.odd import ODD
from lightning_regs.testing.table import Row, outcome
from lightning_regs.testing.variants import Variant, variants


@pytest.mark.parametrize("module", ODD)
def test_each_method_works_warns_or_refuses_as_the_table_says(module: str) -> None:
    measured = [outcome(module, variants(cls)[0]) for cls in methods()]
    assert measured == [row for row in rows() if row.module == module], f"the table is another one; run `{RENEW}`"


def test_the_table_has_every_method_by_every_module() -> None:
    assert [row[:2] for row in rows()] == [(cls.__name__, module) for cls in methods() for module in ODD]
    assert all(row.method in row.sentence and REMEDY.search(row.sentence) for row in rows() if row.outcome != "W")
    assert {row.outcome for row in rows() if row.method == "Mixup"} == {"W", "v", "R"}


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


class _Relabels(Regularizer, acts=Acts.BATCH):
    """Averages labels whatever they are."""

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        return 0.5 * (x + x.flip(0)), 0.5 * (y + y.flip(0)) if y.is_floating_point() else y


class _Doubles(Regularizer, acts=Acts.GRADIENTS):
    """Keeps the promise."""

    def on_gradients(self, gradients: list[Tensor], at: Moment) -> None:
        for g in gradients:
            g.mul_(2.0)


@pytest.mark.parametrize(
    ("method", "module", "what"),
    [
        (_PrunesAll, "a teacher and an average", r"it changes 'teacher\.1\.weight'"),
        (_Watches, "a closure called twice", "it does nothing, and does not say so"),
        (_Relabels, "class numbers as floats (N,)", "it averages class numbers"),
    ],
)
def test_silence_is_found(method: type[Regularizer], module: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        is_never_silent(module, Variant(method, 0, method.__name__))


def test_a_hook_that_lightning_has_no_occasion_to_call_is_told() -> None:
    row = outcome("the optimizer's own step", Variant(_ByHook, 0, "_ByHook"))
    assert row.outcome == "v"
    assert row.sentence.startswith("_ByHook did nothing in a whole epoch: nothing called its on_before_optimizer_step.")


@pytest.mark.parametrize(
    "module",
    [
        *("a closure called twice", "the optimizer's own step", "the optimizer's own step, with a closure"),
        *("the step of an optimizer that Lightning does not know", "a teacher and an average"),
    ],
)
def test_a_method_of_ones_own_that_uses_the_short_hooks_keeps_it(module: str) -> None:
    assert outcome(module, Variant(_Doubles, 0, "_Doubles")) == Row("_Doubles", module, "W", "")
