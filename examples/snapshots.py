"""Five nets for the training of one, in a LightningModule of your own, and their mean as a net that predicts.

Run it: ``python examples/snapshots.py [FOLDER]``. Takes a few seconds and no data set.
"""

import sys
import tempfile
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_regs import ImageDataModule, SnapshotEnsemble, load_ensemble


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("test_loss", cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)  # and no schedule


def main(folder: Path) -> float:
    """Train, print the error of the last m nets for every m, and return the accuracy of all five in percent."""
    pl.seed_everything(0)
    data = ImageDataModule("digits")
    snapshots = SnapshotEnsemble(folder, cycles=5)
    trainer = pl.Trainer(max_epochs=20, callbacks=[snapshots], logger=False, enable_checkpointing=False)
    net = Net()
    trainer.fit(net, datamodule=data)
    trainer.test(net, datamodule=data)  # error_m1 is the last net's, error_m5 that of the mean of all

    ensemble = load_ensemble(folder, Net())  # on another day, in another program
    images = data.eval_transform(data.dataset("test").x)
    with torch.no_grad():
        right = ensemble(images).argmax(1) == data.dataset("test").y
    return 100 * right.float().mean().item()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp()) / "snapshots"))
