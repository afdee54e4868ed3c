"""Orders of samples that several processes share without repeating or losing one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler


class EvaluationSampler(DistributedSampler[Any]):
    """Serves every sample exactly once over all processes, in order: process r takes r, r + world, r + 2 world, ...

    torch's ``DistributedSampler`` repeats samples until the processes have equally many, which biases what is measured.
    This is a subclass of it so that Lightning leaves the loader alone. Use :func:`even_batch_size` with it.

    Args:
        dataset: The data set, at least as long as there are processes.
        num_replicas: The number of processes, at least 1.
        rank: This process, in [0, num_replicas).

    Raises:
        ValueError: A process would get no sample.
    """

    def __init__(self, dataset: Dataset[Any], num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self._total = len(dataset)  # type: ignore[arg-type]
        if self._total < num_replicas:
            raise ValueError(
                f"{self._total} samples cannot be spread over {num_replicas} processes; use at most {self._total}."
            )
        self.num_samples = len(range(rank, self._total, num_replicas))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, self._total, self.num_replicas))


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


class StackedInOrder(StackedSampler, SequentialSampler):  # type: ignore[misc]
    """A :class:`StackedSampler` of orders that do not shuffle, which ``Trainer(overfit_batches=...)`` leaves alone."""


def even_batch_size(total: int, batch_size: int, world_size: int) -> int:
    """Find the batch size nearest to the wished one that gives every process the same number of batches.

    Processes hold ``ceil(total / world_size)`` samples or one fewer; where the batch size divides the smaller number,
    the others would have one more batch and wait for ever in the next collective call. Of two that are equally near it
    is the smaller. There are at least as many samples as processes.
    """
    fewest, rest = divmod(total, world_size)
    if rest == 0:
        return batch_size
    candidates = (batch_size + sign * step for step in range(fewest + batch_size + 2) for sign in (-1, 1))
    return next(b for b in candidates if b >= 1 and fewest % b != 0)
