"""The nets whose learning rate, penalty and batch size Smith et al. 2021 vary, and the names of their cells.

Learning rates and coefficients are powers of two, written as their exponents. What a claim compares (the small learning
rate, the best one, the best coefficient) was fixed on held-out training data before the first reported run; see the
card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Net:
    """A network on a data set, with the same sweeps and claims as the others.

    Attributes:
        key: Start of its cells' names, and name of its configuration file.
        title: Data and network.
        batch: Batch size of both sweeps.
        small: Learning rate at which the coefficient of the penalty is varied.
        best: Best learning rate without a penalty, and best coefficient at the small one.
        lrs: The sweep over learning rates.
        lams: The sweep over coefficients.
        equal: Learning rates that are compared with half the rate at half the batch size and twice at twice.
        large: A large batch size; 0 for none.
        large_lr: Its learning rate and its coefficient.
        micros: Micro-batch sizes of its penalty; the first is the small batch that it is compared with.
        settings: What the paper does not state and is set otherwise, in words, and its key in the names of cells.
    """

    key: str
    title: str
    batch: int
    small: int
    best: int
    lrs: range
    lams: range
    equal: tuple[int, ...] = ()
    large: int = 0
    large_lr: int = 0
    micros: tuple[int, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)

    def sgd(self, lr: int, batch: int = 0) -> str:
        """Name the cell of plain SGD."""
        return f"{self.key}/sgd-b{batch or self.batch}-lr2^{lr}"

    def penalised(self, lam: int, lr: int | None = None, batch: int = 0) -> str:
        """Name the cell with the penalty, at the small learning rate or another one."""
        return f"{self.key}/penalty-b{batch or self.batch}-lr2^{self.small if lr is None else lr}-lam2^{lam}"

    def repeated(self, n: int, lr: int, *how: str) -> str:
        """Name the cell with n updates a minibatch at a bare learning rate."""
        return "/".join((f"{self.key}/n{n}-b{self.batch}-lr2^{lr}", *how))

    def large_batch(self, micro: int = 0) -> str:
        """Name the cell with the large batch, without the penalty or with that of micro-batches."""
        name = f"{self.key}/large-b{self.large}-lr2^{self.large_lr}"
        return f"{name}-lam2^{self.large_lr}-micro{micro}" if micro else name

    @property
    def clipped(self) -> str:
        """The cell with the large batch, the penalty of the first micro-batches, and its gradient clipped to norm 1."""
        return f"{self.large_batch(self.micros[0])}-clip1"


MNIST1D = Net(
    "mnist1d", "MNIST-1D, MLP 2x256", batch=20, small=-3, best=-1, lrs=range(-4, 1), lams=range(-3, 2), equal=(-1, -2),
    large=100, large_lr=-1, micros=(20, 100),
    settings={"Glorot's initial weights": "glorot", "weight decay 5e-4": "wd", "no whitening": "raw"},
)  # fmt: skip
FASHION = Net(
    "fashion-mnist", "Fashion-MNIST, MLP 2x128", batch=32, small=-5, best=-3, lrs=range(-5, 0), lams=range(-5, -1),
    equal=(-3,), large=5120, large_lr=-2, micros=(128, 2560),
)  # fmt: skip
CIFAR10 = Net("cifar10", "CIFAR-10, MLP 2x128", batch=32, small=-6, best=-3, lrs=range(-6, -1), lams=range(-5, -1))
WRN = Net(
    "cifar10-wrn-10-1", "CIFAR-10, Wide-ResNet 10-1", batch=32, small=-9, best=-6, lrs=range(-9, -3),
    lams=range(-9, -3), equal=(-6,),
)  # fmt: skip
NETS = (MNIST1D, FASHION, CIFAR10, WRN)
