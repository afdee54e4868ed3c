"""The stages of han2016: each starts from the one before, alone and stacked, and its file is its net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_regs.core.runs import RunContext
from lightning_regs.pruning import decompress
from lightning_regs.study.paper.tasks import add_to_path, import_task
from lightning_regs.training.fit import initial_network

ROOT = Path(__file__).parents[2]
STAGES: tuple[dict[str, Any], ...] = (
    {"epochs": 2, "lr": 0.01},
    {"epochs": 1, "lr": 0.01, "keep": {"*body*": 0.4, "*head*": 0.5}},
    {"epochs": 1, "lr": 0.001, "bits": {"*": 3}, "start": "random"},
)
CONFIG: dict[str, Any] = {
    "model": {"architecture": "mlp", "architecture_args": {"hidden": [12]}, "optimizer": {"name": "Adam", "lr": 1.0}},
    "data": {"source": "digits", "train_size": 200, "batch_size": 50},
    "trainer": {"accelerator": "cpu"},
}


@pytest.mark.cpu("compares with a file that was written on the CPU")
@pytest.mark.parametrize("seeds", [(3,), (3, 4)])
def test_three_stages(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    add_to_path(ROOT / "reproductions")
    task: Any = import_task("han2016.tasks:stage")
    rows: list[dict[str, float]] = []
    for number in (1, 2, 3):
        runs = []
        for seed in seeds:
            before = {f"net/{number - 1}": str(tmp_path / f"{number - 1}-{seed}")} if number > 1 else {}
            runs.append(RunContext(tmp_path / f"{number}-{seed}", seed=seed, inputs=before))
        accuracy = [100 - row["test_acc"] for row in rows]
        rows = task.stacked([{**CONFIG, "stages": list(STAGES[:number])} for _ in seeds], runs)
        if number == 2:  # pruned before it was trained, a net is no better
            assert all(row["start_test_error"] >= own - 2 for row, own in zip(rows, accuracy, strict=True))
    for run, row in zip(runs, rows, strict=True):
        state = torch.load(tmp_path / f"2-{run.seed}" / "level.pt", weights_only=True)
        kept = sum(int(mask.sum()) for mask in state["mask"].values())
        assert kept == round(64 * 12 * 0.4) + 12 * 10 // 2
        assert row["kept_weights"] == pytest.approx(100 * kept / (64 * 12 + 120))
        assert row["same_outputs"] == 100
        network: Any = run.trained.network()  # type: ignore[attr-defined]
        fresh = initial_network(CONFIG["model"], run.trained.data, 0)  # type: ignore[attr-defined]
        decompress(run.folder / "net.compressed", fresh)
        for index, name in ((0, "body.1"), (1, "head")):
            weight, mask = fresh.get_submodule(name).weight, list(state["mask"].values())[index]
            assert torch.equal(weight, network.get_submodule(name).weight)
            assert torch.equal(weight != 0, mask)
            assert len(weight.unique()) == 8  # zero, and seven
