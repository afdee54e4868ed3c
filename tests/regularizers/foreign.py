"""A LightningModule that knows nothing of regularizers, a run of it, and what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs.core.lightning import pl

CLASSES, SHAPE = 4, (3, 6, 6)


class Plain(pl.LightningModule):
    """Trains a network by a loss on class indices, and keeps its batches and losses, on the CPU."""

    def __init__(self, network: nn.Module | None = None, lr: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = network or nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.Linear(8, CLASSES))
        self.lr = lr
        self.batches: list[list[Tensor]] = []
        self.losses: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.batches.append([x.cpu(), y.cpu()])
        loss = self.loss(self(x), y)
        self.losses.append(loss.detach().cpu())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class OwnLoss(Plain):
    """Computes its cross-entropy by hand, so that no loss of torch sees the target."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return -logits.log_softmax(1).gather(1, y[:, None]).mean()


class NumbersLoss(OwnLoss):
    """Reads the labels as Python numbers."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return super().loss(logits, torch.tensor(y.tolist(), device=logits.device))


def images(number: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, *SHAPE, generator=generator), torch.randint(CLASSES, (number,), generator=generator)


def fit(model: pl.LightningModule, methods: Sequence[Any], data: Any = None, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 1, "enable_checkpointing": False} | options
    trainer = pl.Trainer(callbacks=list(methods), **options)
    if data is None:
        data = DataLoader(TensorDataset(*images()), batch_size=4)
    trainer.fit(model, data)
    return trainer


def at(batch_idx: int = 0, epoch: int = 0, rank: int = 0, datamodule: Any = None) -> dict[str, Any]:
    """Return the arguments of a batch hook at a place in the training, but for the batch."""
    data = SimpleNamespace(_datahook_selector=SimpleNamespace(datamodule=datamodule))
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, _data_connector=data)
    return {"trainer": trainer, "pl_module": None, "batch_idx": batch_idx}
