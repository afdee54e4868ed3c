"""Killed before any file operation and repeated, a run and a search end as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import find_ticket
from lightning_regs.core.lightning import pl
from lightning_regs.study.run.events import Event, Job
from lightning_regs.study.run.worker import perform
from lightning_regs.training.fit import EpochCheckpoint


def _die_before(number: int, folder: Path, work: Callable[[Path], object]) -> None:
    """Do the work in a forked process, until the file operation of that number."""
    torch.set_num_threads(1)
    count = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.rename", "os.remove", "os.mkdir")) and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    work(folder)
    os._exit(0)


def killed(number: int, folder: Path, work: Callable[[Path], object]) -> bool:
    process = multiprocessing.get_context("fork").Process(target=_die_before, args=(number, folder, work))
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class Net(pl.LightningModule):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def search(folder: Path) -> dict[str, Any]:
    x = torch.linspace(-1, 1, 64).view(16, 4)
    data = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 8)
    trainer = {"max_epochs": 1, "accelerator": "cpu", "num_sanity_val_steps": 0}
    tickets = find_ticket(
        Net, lambda: data, folder=folder, trainer=trainer, levels=1, checkpoint_every=0.0, rewind_to="1it"
    )
    return {name: value.tolist() for level in tickets for name, value in level.weights().items()}


def train(folder: Path) -> dict[str, Any]:
    config = {
        "model": {"architecture": "mlp", "architecture_args": {"hidden": [4]}, "optimizer": {"name": "SGD", "lr": 0.1}},
        "data": {"source": "digits", "train_size": 40, "test_size": 20, "batch_size": 20},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    }
    events: list[Event] = []
    perform((Job("one", 0, "lightning_regs.training.fit:train", config, str(folder)),), 1, events.append)
    row = next(event.row for event in events if event.kind == "finished")
    assert row is not None
    return {name: value for name, value in row.items() if name not in ("wall_s", "device", "fit_epoch", "config_hash")}


@pytest.fixture
def saves_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpochCheckpoint.__init__, "__defaults__", (0.0,))


FILES = {
    search: [
        ".lock",
        *(f"level_0{n}/{name}" for n in (0, 1) for name in ("config.json", "level.pt")),
        "level_00/rewind.ckpt",
    ],
    train: ["config.json", "curves.csv", "elapsed", "lock", "row.json"],
}


@pytest.mark.usefixtures("saves_often")
@pytest.mark.parametrize("work", [search, train], ids=["search", "run"])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_kill_before_any_file_operation_leaves_nothing_behind(work: Any, tmp_path: Path) -> None:
    expected = work(tmp_path / "whole")
    assert left(tmp_path / "whole") == sorted(FILES[work])
    number = 1
    while killed(number, folder := tmp_path / str(number), work):
        assert work(folder) == expected, number
        assert left(folder) == sorted(FILES[work]), number
        number += 2  # each second one: what is opened is renamed next
    assert number > 12
