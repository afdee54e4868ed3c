"""Two CPU processes: every sample once, the same number of batches, each repeated, no reshuffle by Lightning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recorder import Recorder, trainer
from torch import nn

from lightning_regs.core import rng
from lightning_regs.data import ImageDataModule

TRAIN, TEST, BATCH, EVAL_BATCH, SEED = 40, 17, 8, 4, 7


class Reporter(Recorder):
    """Writes the numbers of the samples that this process was given, a list a batch, and which it saw mirrored."""

    def __init__(self, folder: str) -> None:
        super().__init__(16)
        self.folder = folder
        self.numbers: dict[str, list[list[int]]] = {}
        self.mirrored: list[list[int]] = []

    def record(self, stage, batch):
        x, y = batch
        first, last = x[:, 0, 0, 0], x[:, 0, 0, -1]
        numbers = (torch.maximum(first, last) * 255).round().long() - 1
        self.numbers.setdefault(f"{stage} {self.current_epoch}", []).append(numbers.tolist())
        if stage == "train":
            self.mirrored.append((last > first).int().tolist())
        return nn.functional.cross_entropy(self.head(x.flatten(1)), y)

    def on_fit_end(self):
        sampler = type(self.trainer.train_dataloader.sampler).__name__
        report = {"seen": self.numbers, "mirrored": self.mirrored, "sampler": sampler}
        Path(self.folder, f"rank{self.global_rank}.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    x = [np.zeros((n, 4, 4), np.uint8) for n in (TRAIN, TEST)]
    for part in x:
        part[:, 0, 0] = 1 + np.arange(len(part))
    labels = [np.arange(n) % 10 for n in (TRAIN, TEST)]
    np.savez(folder / "n.npz", x_train=x[0], y_train=labels[0], x_test=x[1], y_test=labels[1])
    data = ImageDataModule(
        str(folder / "n.npz"),
        batch_size=BATCH,
        eval_batch_size=EVAL_BATCH,
        whiten=False,
        random_flip=True,
        monitor_test=True,
        batch_repeats=2,
        seed=SEED,
    )
    run = trainer(max_epochs=2, devices=2, strategy="ddp_fork", num_sanity_val_steps=0)
    run.fit(Reporter(str(folder)), data)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.slow
def test_training_shows_every_sample_once_an_epoch(ranks):
    for epoch in range(2):
        repeated = [rank["seen"][f"train {epoch}"] for rank in ranks]
        batches = [part[::2] for part in repeated]
        assert batches == [part[1::2] for part in repeated]
        assert [len(part) for part in batches] == [3, 3]
        assert sorted(flat(batches[0]) + flat(batches[1])) == list(range(TRAIN))
        order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(rng.derive_seed(SEED, "order") + epoch))
        assert [flat(part) for part in batches] == [order[0::2].tolist(), order[1::2].tolist()]
    assert {rank["sampler"] for rank in ranks} == {"TrainingSampler"}


@pytest.mark.slow
def test_evaluation_shows_every_sample_once_in_equally_many_batches(ranks):
    batches = [rank["seen"]["val 1"] for rank in ranks]
    assert len(batches[0]) == len(batches[1]) == 3
    assert flat(batches[0]) == list(range(0, TEST, 2))
    assert flat(batches[1]) == list(range(1, TEST, 2))


@pytest.mark.slow
def test_processes_draw_different_augmentation(ranks):
    assert all(rank["mirrored"][::2] == rank["mirrored"][1::2] for rank in ranks)
    first, second = (flat(rank["mirrored"]) for rank in ranks)
    assert 0 < sum(first) < len(first)
    assert first != second
