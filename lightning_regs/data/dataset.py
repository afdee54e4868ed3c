"""A map-style data set that hands out whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

T = TypeVar("T")


class ImageArrays(Dataset[list[Tensor]]):
    """Images and labels in one tensor each, served a batch at a time.

    PyTorch's loader asks for a whole batch through ``__getitems__``; together with :func:`identity_collate` that is one
    ``index_select`` a batch, wherever the tensors live. Samplers, shuffling and workers stay PyTorch's own.

    Args:
        x: Images (N, C, H, W) or signals (N, L).
        y: Labels (N,), int64.
        changed: Bool (N,), True where the label was corrupted; None where no label corruption was drawn.

    Raises:
        ValueError: The tensors have different lengths.
    """

    def __init__(self, x: Tensor, y: Tensor, changed: Tensor | None = None) -> None:
        self.tensors = [x, y] if changed is None else [x, y, changed]
        if len({len(t) for t in self.tensors}) != 1:
            raise ValueError(f"x, y and changed have lengths {[len(t) for t in self.tensors]}; give one row a sample.")

    @property
    def x(self) -> Tensor:
        """The images (N, C, H, W) or signals (N, L)."""
        return self.tensors[0]

    @property
    def y(self) -> Tensor:
        """The labels (N,) that training sees."""
        return self.tensors[1]

    @property
    def changed(self) -> Tensor | None:
        """Bool (N,), True where the label differs from the original; None without label corruption."""
        return self.tensors[2] if len(self.tensors) == 3 else None

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors)

    def to(self, device: torch.device) -> ImageArrays:
        """Return the same data on a device; nothing is copied where it is there already."""
        return ImageArrays(*(t.to(device) for t in self.tensors))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> list[Tensor]:
        return [t[index] for t in self.tensors]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Return one batch: ``[x, y]`` or ``[x, y, changed]``, each with one row an index."""
        index = torch.tensor(indices, dtype=torch.int64).to(self.y.device, non_blocking=True)
        return [t.index_select(0, index) for t in self.tensors]


def identity_collate(batch: T) -> T:
    """Return the batch that ``__getitems__`` has already put together."""
    return batch
