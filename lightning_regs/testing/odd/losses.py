"""Losses that are torch's in part or not at all, and metrics."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAUROC

from lightning_regs.testing.odd.base import CLASSES, Odd, kind


def _focal(_: Odd, z: Tensor, y: Any) -> Tensor:
    log_p = z.log_softmax(1)
    p = log_p.gather(1, y.unsqueeze(1)).squeeze(1).exp()
    return ((1 - p) ** 2 * F.nll_loss(log_p, y, reduction="none")).mean()


kind("a loss partly torch's", loss=_focal)
kind("a loss of shape (1,)", loss=lambda _, z, y: F.cross_entropy(z, y).view(1))
kind("an autoencoder, which uses no label", loss=lambda _, z, y: z.square().mean())
kind("labels read as numbers", loss=lambda _, z, y: F.cross_entropy(z, torch.tensor(y.tolist(), device=z.device)))
kind(
    "labels read as numbers beside torch's loss",
    loss=lambda _, z, y: F.cross_entropy(z, y) - z[range(len(z)), y.tolist()].mean(),
)


class _Metric(Odd):
    """A metric with thresholds, and a count of correct answers."""

    def __init__(self) -> None:
        super().__init__()
        self.metric, self.expected = (MulticlassAUROC(CLASSES, thresholds=5) for _ in range(2))

    def loss(self, z: Tensor, y: Any) -> Tensor:
        if self.training and self._trainer is not None:
            plain = y.as_subclass(Tensor)
            self.metric.update(z.softmax(1), y)
            self.expected.update(z.softmax(1), plain)
            correct = (z.argmax(1) == y).sum().item()
            assert correct == (z.argmax(1) == plain).sum().item(), "it counts other labels than the heavier"
            assert torch.equal(self.metric.compute(), self.expected.compute()), "its metric saw no heavier labels"
        return super().loss(z, y)
