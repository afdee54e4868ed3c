"""The sweeps of Smith et al. 2021 as plain data: one study a data set and network, with the same cells and claims.

Learning rates and coefficients are powers of two and are written as their exponents. What a claim compares (the small
learning rate, the best one, the best coefficient) was fixed on held-out training data before the first reported run;
see the card.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """One sweep.

    Attributes:
        key: Start of its cells' names, and its configuration file's name.
        title: Data and network.
        scale: The scale that has it.
        train_size: Number of training images, drawn by the seed; None for all.
        batch: The batch size of both sweeps.
        epochs: Length of the runs of the sweep over learning rates.
        penalty_epochs: Length of the penalised runs: longer where they take longer to fit.
        small: The small learning rate at which the penalty is varied.
        best_lr: The best learning rate.
        best_penalty: The best coefficient at the small learning rate.
        lrs: The sweep over learning rates, without a penalty.
        penalties: The sweep over coefficients, at the small learning rate.
        equal_lr: Groups of (batch size, learning rate) with equal quotients.
        equal_penalty: Groups of (batch size, learning rate, coefficient) with equal quotients.
        other_lr: A (batch size, learning rate) to compare with a member of ``equal_lr`` that has that rate.
        steps: Updates a minibatch and their bare learning rate, for the runs with several.
        large: Batch size of the large-batch runs, 0 for none.
        large_epochs: Their length.
        large_lr: Their learning rate; that of the small batch too.
        large_penalty: Their coefficient.
        micro: Micro-batch sizes of the penalty in the large-batch runs: the small batch's size first, then larger ones.
        large_clip: Norm to which the gradient is clipped in one more large-batch run with the smallest micro-batches;
            0 for no such run. A control, added after a run without clipping had collapsed to chance in training.
        gap_seeds: Seeds of the three cells that the gap is measured on (the small learning rate, the best one, the best
            coefficient); None for the scale's.
        large_seeds: Seeds of the large-batch runs; None for the scale's.
    """

    key: str
    title: str
    scale: str
    train_size: int | None
    batch: int
    epochs: int
    penalty_epochs: int
    small: int
    best_lr: int
    best_penalty: int
    lrs: tuple[int, ...]
    penalties: tuple[int, ...]
    equal_lr: tuple[tuple[tuple[int, int], ...], ...] = ()
    equal_penalty: tuple[tuple[tuple[int, int, int], ...], ...] = ()
    other_lr: tuple[int, int] | None = None
    steps: tuple[tuple[int, int], ...] = ()
    large: int = 0
    large_epochs: int = 0
    large_lr: int = 0
    large_penalty: int = 0
    large_clip: float = 0.0
    gap_seeds: int | None = None
    large_seeds: int | None = None
    micro: tuple[int, ...] = ()

    def sgd(self, lr: int, batch: int | None = None) -> str:
        """Name the cell of plain SGD."""
        return f"{self.key}/sgd-b{batch or self.batch}-lr2^{lr}"

    def penalised(self, penalty: int, lr: int | None = None, batch: int | None = None) -> str:
        """Name the cell of SGD with an explicit penalty."""
        return f"{self.key}/penalty-b{batch or self.batch}-lr2^{self.small if lr is None else lr}-lam2^{penalty}"

    def repeated(self, n: int, lr: int) -> str:
        """Name the cell with n updates a minibatch at a bare learning rate; with one it is plain SGD."""
        return self.sgd(lr) if n == 1 else f"{self.key}/n{n}-b{self.batch}-lr2^{lr}"

    def large_batch(self, micro: int | None = None) -> str:
        """Name the large-batch cell, with a penalty on micro-batches of a size or without one."""
        name = f"{self.key}/large-b{self.large}-lr2^{self.large_lr}"
        return name if micro is None else f"{name}-lam2^{self.large_penalty}-micro{micro}"

    def large_batch_clipped(self) -> str:
        """Name the large-batch cell with the penalty on the smallest micro-batches and a clipped gradient."""
        return f"{self.large_batch(self.micro[0])}-clip{self.large_clip:g}"

    def small_batch(self) -> str:
        """Name the cell that the large batch is compared with."""
        return self.sgd(self.large_lr, self.micro[0])

    @property
    def top_lr(self) -> int:
        """The largest learning rate of the sweep."""
        return self.lrs[-1]

    @property
    def top_penalty(self) -> int:
        """The largest coefficient of the sweep."""
        return self.penalties[-1]


MNIST1D = Study(
    key="mnist1d",
    title="MNIST-1D, MLP 2x256",
    scale="quick",
    train_size=1000,
    batch=20,
    epochs=50,
    penalty_epochs=50,
    small=-3,
    best_lr=-1,
    best_penalty=-1,
    lrs=(-4, -3, -2, -1, 0),
    penalties=(-3, -2, -1, 0, 1),
    equal_lr=(((10, -2), (20, -1), (40, 0)), ((10, -3), (20, -2), (40, -1))),
    equal_penalty=(((20, -3, -2), (40, -2, -1)),),
    other_lr=(40, -2),
    steps=((2, -2), (4, -3)),
    large=100,
    large_epochs=80,
    large_lr=-1,
    large_penalty=-1,
    large_clip=1.0,
    gap_seeds=10,
    micro=(20, 100),
)

FASHION = Study(
    key="fashion-mnist",
    title="Fashion-MNIST, MLP 2x128",
    scale="standard",
    train_size=5120,
    batch=32,
    epochs=80,
    penalty_epochs=120,
    small=-5,
    best_lr=-3,
    best_penalty=-3,
    lrs=(-5, -4, -3, -2, -1),
    penalties=(-5, -4, -3, -2),
    equal_lr=(((16, -4), (32, -3), (64, -2)),),
    other_lr=(64, -4),
    large=5120,
    large_seeds=3,
    large_clip=1.0,
    large_epochs=2000,
    large_lr=-2,
    large_penalty=-2,
    micro=(128, 2560),
)

CIFAR10 = Study(
    key="cifar10",
    title="CIFAR-10, MLP 2x128",
    scale="standard",
    train_size=2000,
    batch=32,
    epochs=60,
    penalty_epochs=80,
    small=-6,
    best_lr=-3,
    best_penalty=-3,
    lrs=(-6, -5, -4, -3, -2),
    penalties=(-5, -4, -3, -2),
)

WRN = Study(
    key="cifar10-wrn-10-1",
    title="CIFAR-10, Wide-ResNet 10-1",
    scale="paper",
    train_size=None,
    batch=32,
    epochs=6400,
    penalty_epochs=6400,
    small=-9,
    best_lr=-6,
    best_penalty=-6,
    lrs=(-9, -8, -7, -6, -5, -4),
    penalties=(-9, -8, -7, -6, -5, -4),
    equal_lr=(((16, -7), (32, -6), (64, -5)),),
    equal_penalty=(((16, -9, -7), (32, -9, -6), (64, -9, -5)),),
)

STUDIES = (MNIST1D, FASHION, CIFAR10, WRN)
