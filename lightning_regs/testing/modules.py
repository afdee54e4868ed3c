"""LightningModules that were not written for any regularizer, and our own, with data that fits each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_regs.core.lightning import pl
from lightning_regs.regularizers import Regularizer
from lightning_regs.training.classifier import Classifier

BATCH, BATCHES = 8, 4


class ReturnsDict(pl.LightningModule):
    """Has a training step that returns a dict with extras, and an accuracy that takes class indices only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.accuracy = MulticlassAccuracy(4)

    def forward(self, x: Tensor) -> Any:
        """Return logits."""
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Return the loss and the predictions."""
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        self.log("train_loss", loss)
        return {"loss": loss, "extra": logits.detach().argmax(1)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with all that it has."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)


class _Dropout(nn.Dropout):
    """Draws the same masks in each precision, where CUDA draws others of bfloat16 than of float32."""

    def forward(self, input: Tensor) -> Tensor:
        kept = F.dropout(torch.ones(input.shape, device=input.device), self.p, self.training)
        return input * kept.to(input.dtype)


class _ConvNet(pl.LightningModule):
    """Has convolution, batch norm and dropout, a loss that is a module, and a schedule that goes by steps."""

    def __init__(self) -> None:
        super().__init__()
        features = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
        self.net = nn.Sequential(*features, nn.Flatten(), _Dropout(0.3), nn.Linear(8 * 4 * 4, 4))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss: Tensor = self.criterion(self(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def small_network() -> nn.Module:
    """Return convolution and dropout, without batch norm."""
    features = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), _Dropout(0.2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(8 * 4 * 4, 4))


def our_classifier(methods: Sequence[Regularizer]) -> pl.LightningModule:
    """Return the package's own module, with a schedule."""
    optimizer, schedule = {"name": "SGD", "lr": 0.1, "momentum": 0.9}, {"name": "ExponentialLR", "gamma": 0.8}
    shapes: dict[str, Any] = {"input_shape": (3, 8, 8), "num_classes": 4}
    return Classifier(small_network(), None, optimizer, schedule, regularizers=list(methods), seed=3, **shapes)


@dataclass(frozen=True)
class Case:
    """A kind of module, with data for it, and how methods get to it.

    ``build`` makes the module, and gives it the methods where it is one of ``ours``, which hand them to the Trainer.
    """

    name: str
    build: Callable[[Sequence[Regularizer]], pl.LightningModule]
    ours: bool = False

    def loader(self, batch: int | None = None, part: tuple[int, int] = (0, 1)) -> DataLoader[Any]:
        """Return all batches in a fixed order, or one of them, or each n-th from the k-th on.

        Images ``(3, 8, 8)`` are in [0, 1], and their brightness depends on their class, of 4.
        """
        g = torch.Generator().manual_seed(11)
        y = torch.randint(4, (BATCHES * BATCH,), generator=g)
        x = 0.7 * torch.rand(len(y), 3, 8, 8, generator=g) + 0.1 * y.view(-1, 1, 1, 1)
        first, step = part if batch is None else (batch, BATCHES)
        rows = torch.arange(len(y)).view(-1, BATCH)[first::step].flatten()
        return DataLoader(TensorDataset(x[rows], y[rows]), batch_size=BATCH)

    def __str__(self) -> str:
        return self.name


DICT = Case("dict", lambda _: ReturnsDict())
CONV = Case("conv", lambda _: _ConvNet())
OURS = Case("ours", our_classifier, ours=True)
CASES = (DICT, CONV, OURS)
