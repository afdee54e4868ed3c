"""Batches and targets of other forms than ``[x, y]`` with class indices."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from lightning_regs.regularizers.parts.targets import MixedTarget
from lightning_regs.testing.odd.base import BATCH, CLASSES, SIDE, Odd


class _Dict(Odd):
    """A dict batch."""

    def collate(self, rows: Any) -> Any:
        x, y = default_collate(rows)
        return {"image": x, "label": y, "id": [str(i) for i in range(len(x))]}

    def unpacked(self, batch: Any) -> Any:
        return batch["image"], batch["label"]


class _Triple(Odd):
    """A batch of three, batch=(0, 1)."""

    keys: ClassVar[Any] = (0, 1)

    def collate(self, rows: Any) -> Any:
        return [*default_collate(rows), torch.arange(len(rows))]

    def unpacked(self, batch: Any) -> Any:
        return batch[:2]


class _UnnamedTriple(_Triple):
    """A batch of three, not told of."""

    keys = None


class _Tuple(Odd):
    """A batch that is a tuple."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return tuple(batch)


class _Tokens(Odd):
    """Samples of integers."""

    def flat(self) -> nn.Sequential:
        return nn.Sequential(nn.Embedding(CLASSES, 3), nn.Flatten(), nn.Linear(3 * SIDE, CLASSES))

    def samples(self, g: torch.Generator) -> Tensor:
        return torch.randint(CLASSES, (2 * BATCH, SIDE), generator=g)


class _Fetches(Odd):
    """Batches fetched in the step."""

    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        (x, y), batch_idx, _ = next(dataloader_iter)
        return self.learn(x, y, batch_idx)


class _Column(Odd):
    """Labels (N, 1)."""

    def labels(self, g: torch.Generator) -> Tensor:
        return super().labels(g).unsqueeze(1)

    def loss(self, z: Tensor, y: Any) -> Tensor:
        return F.cross_entropy(z, y.squeeze(1))


class _Segmentation(Odd):
    """Segmentation (N, H, W)."""

    maps = True

    def labels(self, g: torch.Generator) -> Tensor:
        return torch.randint(CLASSES, (2 * BATCH, SIDE, SIDE), generator=g)


class _Regression(Odd):
    """A regression (N, K)."""

    def labels(self, g: torch.Generator) -> Tensor:
        return torch.randn(2 * BATCH, CLASSES, generator=g, dtype=torch.float64)

    def loss(self, z: Tensor, y: Any) -> Tensor:
        return F.mse_loss(z, y)


class _Dense(_Regression):
    """A regression of pixels (N, K, H, W)."""

    maps = True

    def labels(self, g: torch.Generator) -> Tensor:
        return torch.randn(2 * BATCH, CLASSES, SIDE, SIDE, generator=g, dtype=torch.float64)


class _Several(Odd):
    """Several labels a sample, as integers (N, K)."""

    def labels(self, g: torch.Generator) -> Tensor:
        return torch.randint(2, (2 * BATCH, CLASSES), generator=g)

    def loss(self, z: Tensor, y: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(z, y.double())


class _SeveralFloats(_Several):
    """Several labels a sample, as floats (N, K)."""

    def labels(self, g: torch.Generator) -> Tensor:
        return super().labels(g).double()


class _Probabilities(Odd):
    """Probabilities (N, K)."""

    def labels(self, g: torch.Generator) -> Tensor:
        return torch.randn(2 * BATCH, CLASSES, generator=g, dtype=torch.float64).softmax(1)


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
