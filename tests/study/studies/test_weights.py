"""The task that measures weights, on a stack of nets with gates."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_regs.core.runs import RunContext
from lightning_regs.pruning import compact, open_gates
from lightning_regs.study import WEIGHTS, regularized
from lightning_regs.study.paper.config import override
from lightning_regs.study.paper.tasks import import_task

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [16]}, "optimizer": {"name": "Adam", "lr": 0.1}},
    "data": {"source": "digits", "train_size": 200, "batch_size": 20},
    "trainer": {"max_epochs": 4, "accelerator": "cpu"},
}


def test_each_net_of_a_stack_is_measured(tmp_path: Path) -> None:
    config = override(CONFIG, regularized("L0", coefficient=0.02))
    runs = [RunContext(tmp_path / str(seed), seed) for seed in (3, 4)]
    rows = import_task(WEIGHTS).stacked([config] * 2, runs)
    assert rows[0]["weight_norm"] != rows[1]["weight_norm"]
    trained: Any = runs[1].trained
    net, row = trained.network(), rows[1]
    weights = torch.cat([net.body[1].weight.flatten(), net.head.weight.flatten()]).detach()
    assert row["weight_norm"] == pytest.approx(float(weights.norm()), rel=1e-5)
    with (runs[1].folder / "curves.csv").open(encoding="utf-8") as file:
        curve = list(csv.DictReader(file))
    assert len(curve) == 4
    assert float(curve[-1]["weights_norm"]) == pytest.approx(row["weight_norm"], rel=1e-4)
    assert [row["inputs_1"], row["inputs_2"]] == [(z > 0).sum() for z in open_gates(net).values()]
    left = sum(w.numel() for w in compact(net).parameters() if w.ndim > 1)
    assert row["kept_weights"] == pytest.approx(100 * left / len(weights))
    assert row["kept_weights"] < 100
