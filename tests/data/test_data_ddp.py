"""Two CPU processes: every sample once, the same number of batches, no reshuffle by Lightning."""

from __future__ import annotations

import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_regs.core import rng
from lightning_regs.data import ImageDataModule

TRAIN, TEST, BATCH, EVAL_BATCH, SEED = 40, 17, 8, 4, 7


class Reporter(pl.LightningModule):
    """Writes the numbers of the samples that this process was given, a list a batch."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.head = nn.Linear(16, 10)
        self.folder = folder
        self.seen: dict[str, list[list[int]]] = {}
        self.mirrored: list[int] = []

    def note(self, key, batch):
        x, y = batch
        first, last = x[:, 0, 0, 0], x[:, 0, 0, -1]
        numbers = (torch.maximum(first, last) * 255).round().long() - 1
        self.seen.setdefault(key, []).append(numbers.tolist())
        return nn.functional.cross_entropy(self.head(x.flatten(1)), y), last > first

    def training_step(self, batch, batch_idx):
        loss, mirrored = self.note(f"train {self.current_epoch}", batch)
        self.mirrored += mirrored.int().tolist()
        return loss

    def validation_step(self, batch, batch_idx):
        self.note(f"val {self.current_epoch}", batch)

    def on_fit_end(self):
        report = {
            "seen": self.seen,
            "mirrored": self.mirrored,
            "sampler": type(self.trainer.train_dataloader.sampler).__name__,
        }
        with open(f"{self.folder}/rank{self.global_rank}.json", "w") as file:  # noqa: PTH123
            json.dump(report, file)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


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
        seed=SEED,
    )
    pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Reporter(str(folder)), data)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.slow
def test_training_shows_every_sample_once_an_epoch(ranks):
    for epoch in range(2):
        batches = [rank["seen"][f"train {epoch}"] for rank in ranks]
        assert [len(part) for part in batches] == [3, 3]
        assert sorted(flat(batches[0]) + flat(batches[1])) == list(range(TRAIN))
        order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(rng.derive_seed(SEED, "order") + epoch))
        assert [flat(part) for part in batches] == [order[0::2].tolist(), order[1::2].tolist()]
    assert {rank["sampler"] for rank in ranks} == {"DistributedSampler"}


@pytest.mark.slow
def test_evaluation_shows_every_sample_once_in_equally_many_batches(ranks):
    batches = [rank["seen"]["val 1"] for rank in ranks]
    assert len(batches[0]) == len(batches[1]) == 3
    assert flat(batches[0]) == list(range(0, TEST, 2))
    assert flat(batches[1]) == list(range(1, TEST, 2))


@pytest.mark.slow
def test_processes_draw_different_augmentation(ranks):
    first, second = (rank["mirrored"] for rank in ranks)
    assert 0 < sum(first) < len(first)
    assert first != second
