"""The task that watches signals, of a stack of nets."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from lightning_regs.analysis import layer_jacobians, layer_signals
from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.study import SIGNALS
from lightning_regs.study.paper.config import override
from lightning_regs.study.paper.tasks import import_task
from lightning_regs.training.fit import initial_network

CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [16, 12], "activation": "sigmoid"}},
    "data": {"source": "digits", "train_size": 200, "batch_size": 200},
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
}


def test_each_net_of_a_stack_is_measured(tmp_path: Path) -> None:
    runs = [RunContext(tmp_path / str(seed), seed) for seed in (3, 4)]
    rows = import_task(SIGNALS).stacked([CONFIG] * 2, runs)
    assert rows[0]["deviation_1"] != rows[1]["deviation_1"]
    data = ImageDataModule(**CONFIG["data"], seed=4)
    data.setup()
    net = initial_network({"architecture": "mlp", **CONFIG["model"]}, data, 4)
    x, y = data.eval_transform(data.dataset("train").x), data.dataset("train").y
    found = layer_signals(net, x, y)  # of the same samples in another order
    assert rows[1]["start_deviation_2"] == pytest.approx(found["body.4"].deviation, rel=1e-4)
    assert rows[1]["start_gradient_1"] == pytest.approx(found["body.2"].gradient, rel=1e-4)
    ratio = found["body.2"].gradient / found["body.4"].gradient
    assert rows[1]["start_gradient_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert rows[1]["jacobian"] == pytest.approx(float(layer_jacobians(net, x)["body.4"].mean()), rel=0.02)
    with (runs[1].folder / "curves.csv").open(encoding="utf-8") as file:
        curve = list(csv.DictReader(file))
    assert float(curve[-1]["signal_deviation_2"]) == pytest.approx(rows[1]["deviation_2"], rel=1e-4)
    assert not [name for name in curve[0] if name.startswith("signal") and name.endswith("_3")]
    normed = override(CONFIG, {"model.architecture_args.norm": "batch", "trainer.max_epochs": 1})
    assert "jacobian" not in import_task(SIGNALS)(normed, RunContext(tmp_path / "n", 0))
