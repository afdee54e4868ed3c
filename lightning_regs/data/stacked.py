"""A data set for replicas: one row of samples each, from images that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from lightning_regs.data.dataset import ImageArrays


class StackedArrays(Dataset[list[Tensor]]):
    """Images and labels of R replicas; an index is a whole batch.

    Args:
        x: All images (M, C, H, W) or signals (M, L).
        rows: Which of them each replica has (R, N), int64.
        y: Labels (R, N), int64.
        changed: Bool (R, N), True where the label was corrupted; None where no label corruption was drawn.
    """

    def __init__(self, x: Tensor, rows: Tensor, y: Tensor, changed: Tensor | None = None) -> None:
        self.x, self.rows, self.y, self.changed = x, rows, y, changed

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        return sum(t.numel() * t.element_size() for t in (self.x, *self._per_replica()))

    def _per_replica(self) -> list[Tensor]:
        return [self.rows, self.y, *([] if self.changed is None else [self.changed])]

    def to(self, device: torch.device) -> StackedArrays:
        """Return the same data on a device; nothing is copied where it is there already."""
        return StackedArrays(self.x.to(device), *(t.to(device) for t in self._per_replica()))

    def alone(self) -> ImageArrays | None:
        """Return the data of one replica where all have the same, else None."""
        if self.changed is not None or bool((self.rows != self.rows[0]).any()):
            return None
        everything = torch.equal(self.rows[0], torch.arange(len(self.x)))
        return ImageArrays(self.x if everything else self.x[self.rows[0]], self.y[0])

    def __len__(self) -> int:
        return self.y.shape[1]

    def __getitem__(self, index: Tensor) -> list[Tensor]:
        """Return one batch ``[x, y]`` or ``[x, y, changed]`` of shapes (R, N, ...) and (R, N).

        Args:
            index: Positions among each replica's samples (R, N).
        """
        index = index.to(self.y.device, non_blocking=True)
        rows, *labels = (t.gather(1, index) for t in self._per_replica())
        x = self.x.index_select(0, rows.flatten()).view(*rows.shape, *self.x.shape[1:])
        return [x, *labels]


class StackedSampler(DistributedSampler[Any]):
    """Batches of positions (R, N), each replica's in an order of its own, for a loader with ``batch_size=None``.

    A subclass of torch's ``DistributedSampler`` so that Lightning leaves the loader alone; it takes a process's share
    of the samples where ``orders`` do.

    Args:
        orders: One sampler a replica, of equal lengths.
        batch_size: N, at least 1.
        drop_last: Leave out the last batch where it is not full.
    """

    def __init__(self, orders: Sequence[DistributedSampler[Any]], batch_size: int, drop_last: bool) -> None:
        super().__init__(orders[0].dataset, orders[0].num_replicas, orders[0].rank)
        self.orders = orders
        self.batch_size = batch_size
        self.partial = not drop_last

    def set_epoch(self, epoch: int) -> None:
        """Take the orders of an epoch."""
        for order in self.orders:
            order.set_epoch(epoch)

    def __iter__(self) -> Iterator[Tensor]:
        positions = torch.tensor([list(order) for order in self.orders])
        for batch in torch.split(positions, self.batch_size, dim=1):
            if batch.shape[1] == self.batch_size or self.partial:
                yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.orders[0]), self.batch_size)
        return full + (rest > 0 and self.partial)
