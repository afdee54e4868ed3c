"""A LightningModule that keeps what it is given, and a quiet Trainer."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_regs.core.batch import notes
from lightning_regs.data import ImageDataModule


class Recorder(pl.LightningModule):
    """Keeps what each step is given."""

    def __init__(self, inputs: int = 64) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, 10)
        self.seen: dict[str, list] = {"train": [], "val": [], "test": []}

    def record(self, stage, batch):
        assert type(batch) is list
        changed = notes(batch[1]).get("corrupted")
        self.seen[stage].append((*(t.clone() for t in batch), changed))
        x, y = batch
        return nn.functional.cross_entropy(self.head(x.flatten(1)), y)

    def training_step(self, batch, batch_idx):
        return self.record("train", batch)

    def validation_step(self, batch, batch_idx):
        self.record("val", batch)

    def test_step(self, batch, batch_idx):
        self.record("test", batch)

    def predict_step(self, batch, batch_idx):
        return batch[1]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def columns(self, stage):
        x, y, changed = zip(*self.seen[stage], strict=True)
        return torch.cat(x), torch.cat(y), None if changed[0] is None else torch.cat(changed)


def trainer(**kwargs) -> pl.Trainer:
    return pl.Trainer(**({"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False} | kwargs))


def digits(**kwargs) -> ImageDataModule:
    return ImageDataModule("digits", **({"seed": 3, "train_size": 300, "test_size": 90} | kwargs))
