"""Map-style data sets that hand out whole batches, of one net's samples or of each replica's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_regs.data.image_files import ImageFiles

T = TypeVar("T")
Arrays = TypeVar("Arrays", bound="_Arrays")


class _Arrays(Dataset[list[Tensor]]):
    """Tensors that belong together; the parts are the constructor's arguments, in its order."""

    _parts: list[Any]

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        return sum(part.nbytes for part in self._parts if isinstance(part, Tensor))

    def to(self: Arrays, device: torch.device) -> Arrays:
        """Return the same data on a device; nothing is copied where it is there already, or stays in files."""
        if isinstance(self._parts[0], ImageFiles):
            return self
        return type(self)(*(part.to(device) for part in self._parts))


class ImageArrays(_Arrays):
    """Images and labels, served a batch at a time.

    PyTorch's loader asks for a whole batch through ``__getitems__``; together with :func:`identity_collate` that is one
    ``index_select`` a batch, wherever the tensors live. Samplers, shuffling and workers stay PyTorch's own.

    Args:
        x: Images (N, C, H, W) or signals (N, L); or image files, which are decoded for each batch.
        y: Labels (N,), int64, that training sees.
        changed: Bool (N,), True where the label was corrupted; None where no label corruption was drawn.

    Raises:
        ValueError: The tensors have different lengths.
    """

    def __init__(self, x: Tensor | ImageFiles, y: Tensor, changed: Tensor | None = None) -> None:
        self.x, self.y, self.changed = x, y, changed
        self._labels = [y] if changed is None else [y, changed]
        self._parts = [x, *self._labels]
        lengths = [len(part) for part in self._parts]
        if len(set(lengths)) != 1:
            raise ValueError(f"x, y and changed have lengths {lengths}; give one row a sample.")

    def take(self, index: Tensor | slice) -> ImageArrays:
        """Return the samples that an index (M,) picks."""
        return ImageArrays(*(part[index] for part in self._parts))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> list[Tensor]:
        return [part[index] for part in self._parts]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> list[Tensor]:
        """Return one batch: ``[x, y]`` or ``[x, y, changed]``, each with one row an index."""
        index = torch.as_tensor(indices, dtype=torch.int64).to(self.y.device, non_blocking=True)
        x = self.x.decode(index) if isinstance(self.x, ImageFiles) else self.x.index_select(0, index)
        return [x, *(t.index_select(0, index) for t in self._labels)]


class StackedArrays(_Arrays):
    """Images and labels of R replicas, from images (M, C, H, W) that they share; an index is a whole batch.

    Which of them each replica has are the rows (R, N); labels (R, N) and what was changed are as of ImageArrays.
    """

    def __init__(self, x: Tensor, rows: Tensor, y: Tensor, changed: Tensor | None = None) -> None:
        self.x, self.rows, self.y, self.changed = x, rows, y, changed
        self._parts = [x, rows, y, *([] if changed is None else [changed])]

    def alone(self) -> ImageArrays | None:
        """Return the data of one replica where all have the same, else None."""
        if self.changed is not None or bool((self.rows != self.rows[0]).any()):
            return None
        everything = torch.equal(self.rows[0], torch.arange(len(self.x)))
        return ImageArrays(self.x if everything else self.x[self.rows[0]], self.y[0])

    def __len__(self) -> int:
        return self.y.shape[1]

    def __getitem__(self, index: Tensor) -> list[Tensor]:
        """Return ``[x, y]`` or ``[x, y, changed]`` of shapes (R, N, ...), at positions of each replica (R, N)."""
        index = index.to(self.y.device, non_blocking=True)
        rows, *labels = (t.gather(1, index) for t in self._parts[1:])
        x = self.x.index_select(0, rows.flatten()).view(*rows.shape, *self.x.shape[1:])
        return [x, *labels]


def identity_collate(batch: T) -> T:
    """Return the batch that ``__getitems__`` has already put together."""
    return batch
