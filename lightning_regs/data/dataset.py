"""A map-style data set that hands out whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_regs.data.image_folder import ImageFiles

T = TypeVar("T")


class ImageArrays(Dataset[list[Tensor]]):
    """Images and labels, served a batch at a time.

    PyTorch's loader asks for a whole batch through ``__getitems__``; together with :func:`identity_collate` that is one
    ``index_select`` a batch, wherever the tensors live. Samplers, shuffling and workers stay PyTorch's own.

    Args:
        x: Images (N, C, H, W) or signals (N, L); or image files, which are decoded for each batch.
        y: Labels (N,), int64.
        changed: Bool (N,), True where the label was corrupted; None where no label corruption was drawn.

    Attributes:
        x: As given.
        y: The labels (N,) that training sees.
        changed: As given.

    Raises:
        ValueError: The tensors have different lengths.
    """

    def __init__(self, x: Tensor | ImageFiles, y: Tensor, changed: Tensor | None = None) -> None:
        self.x, self.y, self.changed = x, y, changed
        self._labels = [y] if changed is None else [y, changed]
        lengths = [len(x), *map(len, self._labels)]
        if len(set(lengths)) != 1:
            raise ValueError(f"x, y and changed have lengths {lengths}; give one row a sample.")

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        tensors = self._labels if isinstance(self.x, ImageFiles) else [self.x, *self._labels]
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: torch.device) -> ImageArrays:
        """Return the same data on a device; nothing is copied where it is there already, or stays in files."""
        if isinstance(self.x, ImageFiles):
            return self
        return ImageArrays(self.x.to(device), *(t.to(device) for t in self._labels))

    def take(self, index: Tensor) -> ImageArrays:
        """Return the samples that an index (M,) picks."""
        return ImageArrays(self.x[index], *(t[index] for t in self._labels))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> list[Tensor]:
        return [self.x[index], *(t[index] for t in self._labels)]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Return one batch: ``[x, y]`` or ``[x, y, changed]``, each with one row an index."""
        index = torch.tensor(indices, dtype=torch.int64).to(self.y.device, non_blocking=True)
        x = self.x.decode(index) if isinstance(self.x, ImageFiles) else self.x.index_select(0, index)
        return [x, *(t.index_select(0, index) for t in self._labels)]


def identity_collate(batch: T) -> T:
    """Return the batch that ``__getitems__`` has already put together."""
    return batch
