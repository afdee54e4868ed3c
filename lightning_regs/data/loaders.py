"""The loaders: whole batches, sampled alike in one process or many, without the global random stream."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from lightning_regs.core import global_rng, rng
from lightning_regs.core.checks import warn
from lightning_regs.core.lightning import current_batch, pl
from lightning_regs.data.dataset import ImageArrays, StackedArrays, identity_collate
from lightning_regs.data.options import accumulation

Loader = DataLoader[list[Tensor]]


class EvaluationSampler(DistributedSampler[Any]):
    """Serves every sample exactly once over all processes, in order: process r takes r, r + world, r + 2 world, ...

    torch's ``DistributedSampler`` repeats samples until the processes have equally many, which biases what is measured.
    This is a subclass of it so that Lightning leaves the loader alone. Use :func:`even_batch_size` with it.
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


class TrainingSampler(DistributedSampler[Any]):
    """torch's ``DistributedSampler``, in the order of which an epoch can begin later."""

    begin = 0  # samples that the next epoch leaves out

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.begin, None)


class StackedSampler(DistributedSampler[Any]):
    """Batches of positions (R, N), each replica's in an order of its own, for a loader with ``batch_size=None``.

    A subclass of torch's ``DistributedSampler`` so that Lightning leaves the loader alone; it takes a process's share
    of the samples where ``orders`` do, samplers of equal lengths.
    """

    begin = 0  # samples of each replica that the next epoch leaves out

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
        positions = torch.stack([_positions(order) for order in self.orders])
        for batch in torch.split(positions[:, self.begin :], self.batch_size, dim=1):
            if batch.shape[1] == self.batch_size or self.partial:
                yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.orders[0]), self.batch_size)
        return full + (rest > 0 and self.partial)


class StackedInOrder(StackedSampler, SequentialSampler):  # type: ignore[misc]
    """A :class:`StackedSampler` of orders that do not shuffle, which ``Trainer(overfit_batches=...)`` leaves alone."""


def _positions(order: Any) -> Tensor:
    """Return a sampler's positions (N,), int64; of a list of Python numbers torch takes four times as long."""
    return torch.from_numpy(np.fromiter(order, np.int64))


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


class TrainingLoader(Loader):
    """A loader that begins an epoch where its Trainer resumes it, and can serve each batch several times in a row.

    Serving a batch again is data echoing, Choi et al. 2019, arXiv:1907.05550: the batch is gathered or decoded once,
    and copied for each of the ``repeats``, so that what is written into one of them is not seen in the next. When its
    first batch is asked for, ``behind`` says of this loader how many of the epoch were trained on.
    """

    def __init__(
        self, *args: Any, behind: Callable[[Loader], int] = lambda loader: 0, repeats: int = 1, **kwargs: Any
    ) -> None:
        self.behind = behind
        self.repeats = repeats
        self._began = False
        super().__init__(*args, **kwargs)

    def __iter__(self) -> Iterator[list[Tensor]]:  # type: ignore[override]
        # A generator, which runs when the first batch is asked for: Lightning makes it before it knows the epoch, and
        # may count in batches of a longer loader, beside which this one starts over.
        begin = 0 if self._began else self.behind(self) % len(self)
        self._began = True
        skipped, echoed = divmod(begin, self.repeats)
        sampler: Any = self.sampler
        if hasattr(sampler, "begin"):
            sampler.begin, skipped = skipped * (self.batch_size or sampler.batch_size), 0
        for batch in islice(self._batches(), skipped, None):
            for _ in range(echoed, self.repeats):
                once = self.repeats == 1
                yield batch if once else [t.clone().pin_memory() if t.is_pinned() else t.clone() for t in batch]
            echoed = 0

    def _batches(self) -> Iterator[list[Tensor]]:
        if self.num_workers or self.pin_memory:
            return super().__iter__()
        # What the DataLoader does in one process, without its bookkeeping; the order goes to the device at once.
        data: Any = self.dataset
        if self.batch_sampler is None:
            return map(data.__getitem__, self.sampler)
        order = _positions(self.sampler).to(data.y.device)
        batches = torch.split(order, self.batch_size or 1)
        whole = len(batches) - (self.drop_last and len(batches[-1]) < len(batches[0]))
        return map(data.__getitems__, batches[:whole])

    def __len__(self) -> int:
        return self.repeats * super().__len__()


class ResumableLoader(TrainingLoader):
    """A :class:`TrainingLoader` that knows what is behind, of which Lightning need not warn."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: where training is, its Trainer knows."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing."""


class Place:
    """Where in an epoch a training goes on, and with which states of the global random streams, as dropout draws them.

    The state is what :meth:`state_dict` returned when it was saved; None or empty where that is not known.
    """

    def __init__(self, trainer: pl.Trainer, state: dict[str, Any] | None = None) -> None:
        self.trainer = trainer
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        """Return the states after this batch, as plain types and tensors; nothing before the first; collective."""
        return {"randomness": global_rng.states_by_rank()} if current_batch(self.trainer) >= 0 else {}

    def behind(self, loader: Loader) -> int:
        """Return how many batches of this epoch were trained on, and set the streams as they were after them.

        What cannot be brought back is warned of. A loader that the Trainer does not train on begins at the start.
        """
        trainer, batches = self.trainer, current_batch(self.trainer) + 1
        if not any(loader is part for part in pl.utilities.CombinedLoader(trainer.train_dataloader or ()).flattened):
            return 0
        states = (self.state or {}).pop("randomness", [])  # once: a Trainer may ask for a loader each epoch
        if len(states) == trainer.world_size:
            global_rng.set_states(states[trainer.global_rank])
        elif batches:
            saved = f"was saved by {len(states)} processes" if states else "was not saved with this data"
            warn(
                f"training goes on after batch {batches} of an epoch in {trainer.world_size} process(es), and the "
                f"checkpoint {saved}: the rest of the epoch is not what it would have been; go on as it was saved, or "
                "from an epoch's end."
            )
        accumulated = batches % accumulation(trainer)
        if accumulated:
            warn(
                f"training goes on after batch {batches} of an epoch, within an accumulation of gradients of which "
                f"the first {accumulated} are in no checkpoint; save where the optimizer has just stepped."
            )
        return batches


@dataclass(frozen=True)
class LoaderFactory:
    """Make the loaders of one process."""

    rank: int
    world_size: int
    seeds: tuple[int, ...]  # of the order of training; of stacked data one a replica
    num_workers: int
    pin_memory: bool
    in_order: bool = False  # whether training does not shuffle, as ``Trainer(overfit_batches=...)`` asks

    def training(
        self,
        data: ImageArrays | StackedArrays,
        batch_size: int,
        drop_last: bool,
        repeats: int = 1,
        place: Place | None = None,
    ) -> Loader:
        """Return a loader whose order is a function of the seed and the epoch, with each batch ``repeats`` times.

        The sampler is a ``DistributedSampler`` even in a single process: Lightning sets its epoch, also after a
        resume, and does not put a reshuffling one in its place. With a ``place`` an epoch can be resumed.
        """
        seeds, shuffle = (rng.derive_seed(seed, "order") for seed in self.seeds), not self.in_order
        orders = [TrainingSampler(data, self.world_size, self.rank, shuffle=shuffle, seed=seed) for seed in seeds]
        if drop_last and len(orders[0]) < batch_size:
            raise ValueError(
                f"drop_last=True leaves no batch of {batch_size} from the {len(orders[0])} samples of a process; "
                "choose a smaller batch_size."
            )
        loader = partial(ResumableLoader, behind=place.behind) if place else TrainingLoader
        return self._loader(partial(loader, repeats=repeats), data, orders, batch_size, drop_last)

    def evaluation(self, data: ImageArrays | StackedArrays, batch_size: int) -> Loader:
        """Return a loader that shows each sample exactly once, in order, in equally many batches a process."""
        orders = [EvaluationSampler(data, self.world_size, self.rank) for _ in self.seeds]
        batch_size = even_batch_size(len(data), batch_size, self.world_size)
        return self._loader(DataLoader, data, orders, batch_size, drop_last=False)

    def _loader(
        self,
        loader: Callable[..., Loader],
        data: ImageArrays | StackedArrays,
        orders: Sequence[DistributedSampler[Any]],
        batch_size: int,
        drop_last: bool,
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
