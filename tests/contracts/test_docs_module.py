"""A LightningModule in the form of Lightning's documentation, with three methods at once and nothing else changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accepted import DOCS, docs_methods

from lightning_regs.testing.runs import fit, plain


def test_trains(tmp_path: Path) -> None:
    run = fit(DOCS, docs_methods(), max_epochs=12, val=True)
    losses = torch.tensor(run.losses)
    assert torch.isfinite(run.trajectory[-1]).all()
    assert losses[-8:].mean() < losses[:8].mean()
    metrics = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
    assert {"train_acc_step", "train_loss", "val_loss", "train/gradient_penalty", "train/gradient_norm"} <= set(metrics)
    assert metrics["train/gradient_penalty"] > 0
    assert metrics["val_loss"] < 1.3  # validation sees neither holes nor mixtures; 1.39 is chance


def test_resumed_is_bit_equal(tmp_path: Path) -> None:
    whole = fit(DOCS, docs_methods(), max_epochs=3)
    fit(DOCS, docs_methods(), max_epochs=2).trainer.save_checkpoint(tmp_path / "two.ckpt")
    resumed = fit(DOCS, docs_methods(), max_epochs=3, ckpt_path=tmp_path / "two.ckpt")
    assert len(resumed.gradient_norms) == 4
    assert torch.equal(whole.trajectory[-1], resumed.trajectory[-1])
    assert whole.state.keys() == resumed.state.keys()
    for name, moments in whole.optimizer["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, resumed.optimizer["state"][name][key])
    assert not torch.equal(whole.trajectory[-1], plain(DOCS, max_epochs=3).trajectory[-1])


def test_two_processes(two_processes: list[dict[str, dict[str, Any]]]) -> None:
    first, second = (ends["docs"] for ends in two_processes)
    assert (first["error"], second["error"]) == (None, None)
    assert len(first["trajectory"]) == 3
    for a, b in zip(first["trajectory"], second["trajectory"], strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()
    assert not torch.equal(first["trajectory"][1], two_processes[0]["docs-plain"]["trajectory"][1])
    # The epoch's means are those of both processes, and both log them.
    assert first["metrics"]["train/gradient_norm"] == second["metrics"]["train/gradient_norm"] > 0
    assert first["metrics"]["train/penalty_share"] == second["metrics"]["train/penalty_share"] > 0
