"""An ensemble of M nets against M forward passes."""

from __future__ import annotations

import torch
from harness import Table, alternate, ratio, seconds

from lightning_regs.models import build
from lightning_regs.procedures.snapshots.ensemble import Ensemble

MEMBERS, ROUNDS = 5, 15


def test_an_ensemble_costs_its_forward_passes(table: Table) -> None:
    nets = [build("resnet20", (3, 32, 32), 10).eval() for _ in range(MEMBERS)]
    ensemble, x = Ensemble(nets), torch.randn(32, 3, 32, 32)
    with torch.no_grad():
        alone = lambda: seconds(lambda: [net(x) for net in nets])  # noqa: E731
        together = lambda: seconds(lambda: ensemble(x))  # noqa: E731
        times = alternate({"alone": alone, "together": together}, ROUNDS)
    measured = ratio(times, "together", "alone")
    table.add(f"ensemble of {MEMBERS} ResNet-20 / {MEMBERS} forward passes", measured, 1.05, at_most=True)
    assert measured < 1.2
