"""Every method in bf16, and in float16 with the scaler, against float32: nothing is lost to scaling."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from contract_runs import SCALE, Run, all_pairs, distance, fit, half, ids, plain
from discover import Variant
from modules import Case

from lightning_regs.core.lightning import pl

ACCEPTED, _ = all_pairs()
every = pytest.mark.parametrize(("case", "variant"), ACCEPTED, ids=map(ids, ACCEPTED))


def run(case: Case, variant: Variant, **options: Any) -> Run:
    return fit(case, [variant.make()], each_batch=True, **options)


@cache
def in_float32(case: Case, variant: Variant) -> Run:
    """What both kinds of half precision are compared with."""
    return run(case, variant)


@every
def test_bf16_mixed(case: Case, variant: Variant) -> None:
    low, full = run(case, variant, precision="bf16-mixed"), in_float32(case, variant)
    assert torch.isfinite(low.end).all()
    assert all(p.dtype == torch.float32 for p in low.module.parameters())
    assert not torch.equal(low.end, plain(case, "bf16-mixed", each_batch=True).end)
    assert distance(low.trajectory[1] - low.start, full.trajectory[1] - full.start) < 0.2


@every
def test_16_mixed_with_the_scaler(case: Case, variant: Variant) -> None:
    low, full = run(case, variant, plugins=[half()]), in_float32(case, variant)
    low_plain, full_plain = plain(case, "16-mixed", each_batch=True), plain(case, each_batch=True)
    assert low.trainer.precision_plugin.scaler.get_scale() == SCALE  # no step was skipped
    assert torch.isfinite(low.end).all()
    assert distance(low.moved, full.moved) < 0.1
    # What the method adds to the first step, apart from the rest: unscaled it would be 128 times as much, and a
    # penalty that was lost to scaling would be nothing.
    ours, expected = low.trajectory[1] - low_plain.trajectory[1], full.trajectory[1] - full_plain.trajectory[1]
    assert distance(ours, expected) < 0.5


@every
def test_16_mixed_finds_its_scale(case: Case, variant: Variant) -> None:
    # From Lightning's own first scale, 65536, steps are skipped until nothing overflows.
    low = run(case, variant, plugins=[pl.plugins.MixedPrecision("16-mixed", "cpu")], max_epochs=2)
    assert torch.isfinite(low.end).all()
    assert not torch.equal(low.start, low.end)
    assert low.trainer.precision_plugin.scaler.get_scale() >= 2.0**10
