"""A run resumed at an epoch's end sees what the uninterrupted run saw, bit for bit."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_regs.data import ImageDataModule


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(36, 10)
        self.seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen.append((self.current_epoch, x.clone(), y.clone()))
        return nn.functional.cross_entropy(self.head(x.flatten(1)), y)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def data() -> ImageDataModule:
    return ImageDataModule(
        "digits",
        batch_size=64,
        image_size=6,
        random_crop=True,
        random_flip=True,
        random_rotation=10.0,
        corruption="partial_labels",
        corruption_p=0.3,
        train_size=300,
        val_split=30,
        seed=5,
    )


def trainer(epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_resumed_epochs_equal_uninterrupted_ones(tmp_path):
    whole = Net()
    trainer(4).fit(whole, data())

    first, run = Net(), trainer(2)
    run.fit(first, data())
    run.save_checkpoint(tmp_path / "half.ckpt")

    torch.manual_seed(99)
    torch.rand(17)
    second = Net()
    trainer(4).fit(second, data(), ckpt_path=tmp_path / "half.ckpt")

    resumed = first.seen + second.seen
    assert [epoch for epoch, *_ in second.seen] == [2] * 5 + [3] * 5
    assert len(whole.seen) == len(resumed) == 20
    for (_, x, y), (_, other_x, other_y) in zip(whole.seen, resumed, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert torch.equal(whole.head.weight, second.head.weight)
    assert not torch.equal(whole.seen[0][1], whole.seen[5][1])
