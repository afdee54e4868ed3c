"""Which methods go with which modules, and a module in the form of Lightning's documentation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from generated import methods
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_regs import Cutout, GradientPenalty, Mixup, Regularizer
from lightning_regs.core.lightning import pl
from lightning_regs.testing.modules import CASES, Case, small_network
from lightning_regs.testing.variants import refusal, variants

EVERY = [variant for cls in methods() for variant in variants(cls)]
ACCEPTED = [(case, variant) for case in CASES for variant in EVERY if not refusal(case, variant)]
REFUSED = [(variant, why) for case in CASES for variant in EVERY if (why := refusal(case, variant))]


class LitClassifier(pl.LightningModule):
    """A wrapped model, a torchmetrics accuracy, Adam."""

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


DOCS = Case("docs", lambda _: LitClassifier(small_network()))


def docs_methods() -> list[Regularizer]:
    """What the documentation's module is given."""
    return [Cutout(length=4), Mixup(alpha=0.4), GradientPenalty(coefficient=0.05)]
