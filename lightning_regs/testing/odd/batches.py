"""Batches and targets of other forms than ``[x, y]`` with class indices."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from lightning_regs.regularizers.parts.targets import MixedTarget
from lightning_regs.testing.odd.base import BATCH, CLASSES, SIDE, Odd, kind


def _normal(*shape: int) -> Any:
    """Return a method that draws floats of this shape for each sample."""
    return lambda _, g: torch.randn(2 * BATCH, *shape, generator=g, dtype=torch.float64)


def _integers(high: int, *shape: int) -> Any:
    """Return a method that draws integers below a number, of this shape for each sample."""
    return lambda _, g: torch.randint(high, (2 * BATCH, *shape), generator=g)


def _with_names(_: Odd, rows: Any) -> dict[str, Any]:
    x, y = default_collate(rows)
    return {"image": x, "label": y, "id": [str(i) for i in range(len(x))]}


kind("a dict batch", collate=_with_names, unpacked=lambda _, batch: (batch["image"], batch["label"]))
_triple = kind(
    "a batch of three, batch=(0, 1)",
    keys=(0, 1),
    collate=lambda _, rows: [*default_collate(rows), torch.arange(len(rows))],
    unpacked=lambda _, batch: batch[:2],
)
kind("a batch of three, not told of", _triple, keys=None)
kind("a batch that is a tuple", on_after_batch_transfer=lambda _, batch, dataloader_idx: tuple(batch))
kind(
    "samples of integers",
    flat=lambda _: nn.Sequential(nn.Embedding(CLASSES, 3), nn.Flatten(), nn.Linear(3 * SIDE, CLASSES)),
    samples=_integers(CLASSES, SIDE),
)


class _Fetches(Odd):
    """Batches fetched in the step."""

    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        (x, y), batch_idx, _ = next(dataloader_iter)
        return self.learn(x.to(self.device), y.to(self.device), batch_idx)


kind("labels (N, 1)", labels=_integers(CLASSES, 1), loss=lambda _, z, y: F.cross_entropy(z, y.squeeze(1)))
kind("segmentation (N, H, W)", maps=True, labels=_integers(CLASSES, SIDE, SIDE))
_regression = kind("a regression (N, K)", labels=_normal(CLASSES), loss=lambda _, z, y: F.mse_loss(z, y))
kind("a regression of pixels (N, K, H, W)", _regression, maps=True, labels=_normal(CLASSES, SIDE, SIDE))
_several = kind(
    "several labels a sample, as integers (N, K)",
    labels=_integers(2, CLASSES),
    loss=lambda _, z, y: F.binary_cross_entropy_with_logits(z, y.double()),
)
kind(
    "several labels a sample, as floats (N, K)",
    _several,
    labels=lambda self, g: _integers(2, CLASSES)(self, g).double(),
)
kind("probabilities (N, K)", labels=lambda self, g: _normal(CLASSES)(self, g).softmax(1))


class _FloatClasses(Odd):
    """Class numbers as floats (N,)."""

    def labels(self, g: torch.Generator) -> Tensor:
        return super().labels(g).double()

    def loss(self, z: Tensor, y: Any) -> Tensor:
        return F.cross_entropy(z, y.long())

    def whole(self, z: Tensor, y: Tensor) -> Tensor:
        labels = y.long()
        assert isinstance(labels, MixedTarget) or torch.equal(y, labels.double()), "it averages class numbers"
        return super().whole(z, labels)
