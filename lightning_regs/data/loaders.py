"""The loaders: whole batches, sampled alike in one process or many, without the global random stream."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from lightning_regs.core import rng
from lightning_regs.data.dataset import ImageArrays, StackedArrays, identity_collate
from lightning_regs.data.samplers import EvaluationSampler, StackedInOrder, StackedSampler, even_batch_size

Loader = DataLoader[list[Tensor]]


class EchoingLoader(Loader):
    """A loader that serves each batch several times in a row: data echoing, Choi et al. 2019, arXiv:1907.05550.

    The batch is gathered or decoded once, and copied for each of the ``repeats``, so that what is written into one of
    them is not seen in the next. The other arguments are those of torch's ``DataLoader``.
    """

    def __init__(self, *args: Any, repeats: int, **kwargs: Any) -> None:
        self.repeats = repeats
        super().__init__(*args, **kwargs)

    def __iter__(self) -> Iterator[list[Tensor]]:  # type: ignore[override]
        for batch in super().__iter__():
            for _ in range(self.repeats):
                yield [t.clone().pin_memory() if t.is_pinned() else t.clone() for t in batch]

    def __len__(self) -> int:
        return self.repeats * super().__len__()


@dataclass(frozen=True)
class LoaderFactory:
    """Make the loaders of one process.

    Attributes:
        rank: This process, in [0, world_size).
        world_size: The number of processes.
        seeds: Run seed: the order of training; of stacked data one a replica.
        num_workers: Worker processes a loader.
        pin_memory: Copy batches into pinned memory on the way to a GPU.
        in_order: Whether training does not shuffle, as ``Trainer(overfit_batches=...)`` asks.
    """

    rank: int
    world_size: int
    seeds: tuple[int, ...]
    num_workers: int
    pin_memory: bool
    in_order: bool = False

    def training(self, data: ImageArrays | StackedArrays, batch_size: int, drop_last: bool, repeats: int = 1) -> Loader:
        """Return a loader whose order is a function of the seed and the epoch, with each batch ``repeats`` times.

        The sampler is torch's ``DistributedSampler`` even in a single process: Lightning sets its epoch, also after a
        resume, and does not put a reshuffling one in its place.

        Raises:
            ValueError: With ``drop_last`` no full batch is left.
        """
        orders: list[DistributedSampler[Any]] = [
            DistributedSampler(
                data, self.world_size, self.rank, shuffle=not self.in_order, seed=rng.derive_seed(seed, "order")
            )
            for seed in self.seeds
        ]
        if drop_last and len(orders[0]) < batch_size:
            raise ValueError(
                f"drop_last=True leaves no batch of {batch_size} from the {len(orders[0])} samples of a process; "
                "choose a smaller batch_size."
            )
        return self._loader(data, orders, batch_size, drop_last, repeats)

    def evaluation(self, data: ImageArrays | StackedArrays, batch_size: int) -> Loader:
        """Return a loader that shows each sample exactly once, in order, in equally many batches a process.

        Raises:
            ValueError: There are fewer samples than processes.
        """
        orders = [EvaluationSampler(data, self.world_size, self.rank) for _ in self.seeds]
        return self._loader(data, orders, even_batch_size(len(data), batch_size, self.world_size), drop_last=False)

    def _loader(
        self,
        data: ImageArrays | StackedArrays,
        orders: Sequence[DistributedSampler[Any]],
        batch_size: int,
        drop_last: bool,
        repeats: int = 1,
    ) -> Loader:
        if not self.num_workers:
            # Lightning's hint is for loaders that work sample by sample.
            warnings.filterwarnings("ignore", message=".*_dataloader' does not have many workers")
        options: dict[str, Any]
        if isinstance(data, StackedArrays):
            in_order = self.in_order or isinstance(orders[0], EvaluationSampler)
            sampler = (StackedInOrder if in_order else StackedSampler)(orders, batch_size, drop_last)
            options = {"batch_size": None, "sampler": sampler}
        else:
            options = {"batch_size": batch_size, "sampler": orders[0], "drop_last": drop_last}
        loader = DataLoader if repeats == 1 else partial(EchoingLoader, repeats=repeats)
        return loader(
            data,
            **options,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=identity_collate,
            pin_memory=self.pin_memory,
            # Without it each epoch would draw from the global stream.
            generator=rng.generator(self.seeds[0], "loader"),
        )
