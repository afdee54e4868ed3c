"""Initialization from the first process's batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_initialization import Foreign, train, variances

from lightning_regs import Initialization

pytestmark = pytest.mark.cpu("it forks, which no process can after CUDA has started")


class SecondDead(Foreign):
    """In the second process all samples are zero; each writes down its first batch and its weights."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.seen = folder, []
        self.automatic_optimization = False  # no backward pass, which a forked process may not make

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * (1 - self.global_rank), batch[1]]

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0])

    def on_fit_end(self):
        torch.save([self.seen[0], self.net.state_dict()], self.folder / f"{self.global_rank}.pt")


def test_two_processes_have_the_weights_that_the_first_one_s_batch_gives(tmp_path: Path):
    options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork", "enable_checkpointing": False}
    train(SecondDead(tmp_path), [Initialization("lsuv")], trainer=options)
    (first, ours), (second, theirs) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert not second.any()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    net = Foreign().net
    net.load_state_dict(ours)
    assert variances(net, first) == pytest.approx([1, 1], abs=0.02)
