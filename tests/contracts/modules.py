"""LightningModules that were not written for any regularizer, and our own, with data that fits each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_regs import Classifier, Cutout, GradientPenalty, Mixup, Regularizer
from lightning_regs.core.lightning import NAMESPACE, pl

if NAMESPACE == "lightning.pytorch":
    from lightning.pytorch.demos.boring_classes import BoringModel
else:
    from pytorch_lightning.demos.boring_classes import BoringModel

BATCH, BATCHES = 8, 4


class Demo(BoringModel):
    """The model of Lightning's own demos. None of these classifies ``[x, y]``, so the batch is unpacked.

    Its layer, its loss against labels (a squared error), its dict and its optimizer and schedule are as they come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), self.layer)

    def step(self, batch: Any) -> Tensor:
        x, y = batch
        return self.loss(self(x), F.one_hot(y, 2).float())


class ReturnsDict(pl.LightningModule):
    """Has a training step that returns a dict with extras, and an accuracy that takes class indices only."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * 8 * 8, 16)
        self.out = nn.Linear(16, 4)
        self.accuracy = MulticlassAccuracy(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(x.view(x.shape[0], -1))))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        self.log("train_loss", loss)
        return {"loss": loss, "extra": logits.detach().argmax(1)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)


class ConvNet(pl.LightningModule):
    """Has convolution, batch norm and dropout, a loss that is a module, and a schedule that goes by steps."""

    def __init__(self) -> None:
        super().__init__()
        features = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
        self.net = nn.Sequential(*features, nn.Flatten(), nn.Dropout(0.3), nn.Linear(8 * 4 * 4, 4))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class LitClassifier(pl.LightningModule):
    """In the form of Lightning's documentation: a wrapped model, a torchmetrics accuracy, Adam."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.accuracy = MulticlassAccuracy(num_classes=4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        y_hat = self.model(x)
        loss = F.cross_entropy(y_hat, y)
        self.accuracy(y_hat, y)
        self.log("train_acc_step", self.accuracy)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.model(x), y), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def docs_methods() -> list[Regularizer]:
    """What the documentation's module is given."""
    return [Cutout(length=4), Mixup(alpha=0.4), GradientPenalty(coefficient=0.05)]


def small_network() -> nn.Module:
    """A network for the two that wrap one: convolution and dropout, no batch norm."""
    features = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Dropout(0.2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(8 * 4 * 4, 4))


def our_classifier(methods: list[Regularizer]) -> Classifier:
    """The package's own module, with a schedule."""
    return Classifier(
        small_network(),
        optimizer={"name": "SGD", "lr": 0.1, "momentum": 0.9},
        schedule={"name": "ExponentialLR", "gamma": 0.8},
        regularizers=methods,
        input_shape=(3, 8, 8),
        num_classes=4,
        seed=3,
    )


@dataclass(frozen=True)
class Case:
    """A module, the shape of its images, and how methods get to it.

    Args:
        name: For test ids.
        build: Makes the module; takes the methods where the module hands them to the trainer itself.
        shape: ``(C, H, W)`` of its images.
        classes: Number of its classes.
        ours: Whether the module takes the methods.
    """

    name: str
    build: Callable[[list[Regularizer]], pl.LightningModule]
    shape: tuple[int, int, int] = (3, 8, 8)
    classes: int = 4
    ours: bool = False

    def data(self, batches: int = BATCHES) -> tuple[Tensor, Tensor]:
        """Return images in [0, 1] whose brightness depends on their class, and the classes."""
        g = torch.Generator().manual_seed(11)
        y = torch.randint(self.classes, (batches * BATCH,), generator=g)
        x = torch.rand(len(y), *self.shape, generator=g)
        return 0.7 * x + 0.3 * (y / (self.classes - 1)).view(-1, 1, 1, 1), y

    def loader(self, batch: int | None = None, part: tuple[int, int] = (0, 1)) -> DataLoader[Any]:
        """Return the loader of all batches in a fixed order, of one of them, or of each n-th from the k-th on."""
        x, y = self.data()
        first, step = part if batch is None else (batch, BATCHES)
        rows = torch.arange(len(y)).view(-1, BATCH)[first::step].flatten()
        return DataLoader(TensorDataset(x[rows], y[rows]), batch_size=BATCH)

    def __str__(self) -> str:
        return self.name


DEMO = Case("demo", lambda _: Demo(), shape=(2, 4, 4), classes=2)
DICT = Case("dict", lambda _: ReturnsDict())
CONV = Case("conv", lambda _: ConvNet())
OURS = Case("ours", our_classifier, ours=True)
DOCS = Case("docs", lambda _: LitClassifier(small_network()))
CASES = [DEMO, DICT, CONV, OURS]
