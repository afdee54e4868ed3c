"""Mixup in a LightningModule of your own: two lines, and nothing of the module changes.

Run it: ``python examples/own_module_mixup.py``. Takes a few seconds and no data set.
"""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_regs import ImageDataModule, Mixup


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, y = batch
        return cross_entropy(self.net(x), y)  # torch's loss sees the mixture of two labels

    def test_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("test accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main() -> float:
    """Train with mixup and return the accuracy on test data."""
    pl.seed_everything(0)
    trainer = pl.Trainer(max_epochs=20, callbacks=[Mixup(alpha=0.2)], logger=False, enable_checkpointing=False)
    data = ImageDataModule("digits")
    module = Net()
    trainer.fit(module, datamodule=data)
    return trainer.test(module, datamodule=data)[0]["test accuracy"]


if __name__ == "__main__":
    main()
