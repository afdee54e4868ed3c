"""What is particular to Srivastava et al. 2014: its task."""

import importlib
from pathlib import Path

import pytest

from lightning_regs.core.runs import RunContext
from lightning_regs.layers import monte_carlo
from lightning_regs.study.paper.loading import load_paper

PAPER = load_paper("srivastava2014")
thinned = importlib.import_module("srivastava2014.thinned")


def test_units_are_counted_and_dropout_is_averaged(tmp_path: Path) -> None:
    cell = {cell.name: cell for cell in PAPER.scale("quick").cells}["table/dropout"]
    config = cell.config | {"data": cell.config["data"] | {"source": "digits", "train_size": 200, "test_size": 50}}
    config["trainer"] = config["trainer"] | {"max_epochs": 2, "accelerator": "cpu"}
    run = RunContext(tmp_path, 3, 1)
    row = thinned.thinned(config, run)
    net, test = run.trained.network(), run.trained.data.dataset("test")
    x = run.trained.data.eval_transform(test.x)
    hidden = net.body[:2](x)  # flattened, and the only linear layer
    assert row["active"] == pytest.approx(100 * (hidden > 0).double().mean().item())
    for number in (1, 5, 50):
        wrong = monte_carlo(net, x, number, seed=3).argmax(1) != test.y
        assert row[f"mc_error_{number}"] == pytest.approx(100 * wrong.double().mean().item())
    config["model"] = config["model"] | {"architecture_args": {"hidden": [8]}}
    assert set(row) - set(thinned.thinned(config, RunContext(tmp_path / "plain", 0, 1))) == {
        "mc_error_1", "mc_error_5", "mc_error_50"
    }  # fmt: skip
