"""The nets of Smith et al. 2021, and what is trained and computed at each scale.

Learning rates and coefficients are powers of two, written as their exponents. What a claim compares (the small learning
rate, the best one, the best coefficient) was fixed on held-out training data before the first reported run; see the
card.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lightning_regs.study import Cell, Cells, grid, regularized, resolve, variance_cells

TRAIN = "smith2021.training:train"
LR, BATCH, EPOCHS = "model.optimizer.lr", "data.batch_size", "trainer.max_epochs"


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
        large: A large batch size, its learning rate and coefficient, and two micro-batch sizes of its penalty, of which
            the first is the small batch that it is compared with.
    """

    key: str
    title: str
    batch: int
    small: int
    best: int
    lrs: range
    lams: range
    equal: tuple[int, ...] = ()
    large: tuple[int, int, int, int] = (0, 0, 0, 0)

    def sgd(self, lr: int, batch: int = 0) -> str:
        """Name the cell of plain SGD."""
        return f"{self.key}/sgd-b{batch or self.batch}-lr2^{lr}"

    def penalised(self, lam: int, lr: int | None = None, batch: int = 0) -> str:
        """Name the cell with the penalty, at the small learning rate or another one."""
        return f"{self.key}/penalty-b{batch or self.batch}-lr2^{self.small if lr is None else lr}-lam2^{lam}"

    def large_batches(self) -> dict[str, str]:
        """Name the cells of a small batch, a large one, and that with penalties, the last clipped to norm 1."""
        batch, lr, first, last = self.large
        large = f"{self.key}/large-b{batch}-lr2^{lr}"
        penalty = f"{large}-lam2^{lr}-micro"
        return {
            f"batch {first}": self.sgd(lr, first), f"batch {batch}": large,
            f"penalty, micro {first}": f"{penalty}{first}", f"penalty, micro {last}": f"{penalty}{last}",
            f"penalty, micro {first}, clipped": f"{penalty}{first}-clip1",
        }  # fmt: skip


MNIST1D = Net("mnist1d", "MNIST-1D, MLP 2x256", batch=20, small=-3, best=-1, lrs=range(-4, 1), lams=range(-3, 2),
              equal=(-1, -2), large=(100, -1, 20, 100))  # fmt: skip
FASHION = Net("fashion-mnist", "Fashion-MNIST, MLP 2x128", batch=32, small=-5, best=-3, lrs=range(-5, 0),
              lams=range(-5, -1), equal=(-3,), large=(5120, -2, 128, 2560))  # fmt: skip
CIFAR10 = Net("cifar10", "CIFAR-10, MLP 2x128", batch=32, small=-6, best=-3, lrs=range(-6, -1), lams=range(-5, -1))
WRN = Net("cifar10-wrn-10-1", "CIFAR-10, Wide-ResNet 10-1", batch=32, small=-9, best=-6, lrs=range(-9, -3),
          lams=range(-9, -3), equal=(-6,))  # fmt: skip
# What the paper does not state, set otherwise: in words, its key in the names of cells, and what it changes.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Glorot's initial weights": ("glorot", {"model.architecture_args.init": "xavier_uniform"}),
    "weight decay 5e-4": ("wd", {"model.optimizer.weight_decay": 5e-4}),
    "no whitening": ("raw", {"data.whiten": False}),
}


penalty = partial(regularized, "GradientPenalty")


def read(name: str) -> dict[str, Any]:
    """Return what a cell's name says of its configuration.

    It has the batch size behind ``b``, the exponents of learning rate and coefficient behind ``lr2^`` and ``lam2^``,
    and behind ``n`` the updates on each minibatch; ``micro`` and ``clip`` are of the penalty, and micro-batches as
    large as the batch are none.
    """
    said = {word: int(number) for word, number in re.findall(r"(\bn|b|lr2\^|lam2\^|micro|clip)(-?\d+)", name)}
    changes: dict[str, Any] = {LR: 2.0 ** said["lr2^"]}
    changes |= {path: said[word] for word, path in (("b", BATCH), ("n", "data.batch_repeats")) if word in said}
    options: dict[str, Any] = {"gradient_clip_val": float(said["clip"])} if "clip" in said else {}
    options |= {"micro_batch_size": said["micro"]} if "micro" in said and said["micro"] < said["b"] else {}
    return changes | (penalty(coefficient=2.0 ** said["lam2^"], **options) if "lam2^" in said else {})


def _cells(net: Net, epochs: int, names: Iterable[str], seeds: int | None = None) -> Cells:
    common, runs = {EPOCHS: epochs, "regulariser_batch": net.batch}, {name: read(name) for name in names}
    return grid("{run}", f"configs/smith2021/{net.key}.yaml", common, task=TRAIN, seeds=seeds, run=runs)


def _sweeps(net: Net, epochs: int, longer: int, seeds: int | None = None, of: Iterable[str] = ()) -> Cells:
    """Vary the learning rate; and the coefficient, for some more epochs. Some runs may have seeds of their own."""
    found = _cells(net, epochs, map(net.sgd, net.lrs)) + _cells(net, longer, map(net.penalised, net.lams))
    return Cells(replace(cell, seeds=seeds) if cell.name in of else cell for cell in found)


def _equal(net: Net) -> list[str]:
    """Name runs of half and twice the batch size at learning rates that keep the quotient."""
    return [name for lr in net.equal for name in (net.sgd(lr - 1, net.batch // 2), net.sgd(lr + 1, 2 * net.batch))]


THEORY = Cells((
    Cell("theory/sgd-flow", "smith2021.theory:modified_flow", {"full_batch": False}),
    Cell("theory/gd-flow", "smith2021.theory:modified_flow", {"full_batch": True}),
    Cell("theory/composition", "smith2021.theory:batch_composition"),
))  # fmt: skip

GAP = (MNIST1D.sgd(-3), MNIST1D.sgd(-1), MNIST1D.penalised(-1))  # the small rate, and what claims compare it with
QUICK = THEORY + _sweeps(MNIST1D, 50, 50, seeds=10, of=GAP)
QUICK += _cells(MNIST1D, 50, [*_equal(MNIST1D), MNIST1D.sgd(-2, 40), MNIST1D.penalised(-1, -2, 40)])
# n updates a minibatch: as many updates as one has, rounded up to whole epochs; below, as in the paper, as many epochs.
QUICK += _cells(MNIST1D, 25, ["mnist1d/n2-b20-lr2^-2"]) + _cells(MNIST1D, 13, ["mnist1d/n4-b20-lr2^-3"])
QUICK += _cells(MNIST1D, 80, [*MNIST1D.large_batches().values()][1:])
for _key, _otherwise in SETTINGS.values():
    QUICK += _cells(MNIST1D, 50, [f"{cell}/{_key}" for cell in GAP]).at(_otherwise)
QUICK += _cells(MNIST1D, 50, ["mnist1d/n4-b20-lr2^-3/equal-epochs"], seeds=10)
# The file has the small learning rate.
SIGNALS, CLOTHES = "configs/smith2021/mnist1d.yaml", "configs/smith2021/fashion-mnist.yaml"
QUICK += variance_cells(resolve(SIGNALS))
QUICK += grid("study/agreement", SIGNALS, {"other": penalty(coefficient=0.5)}, seeds=5)
QUICK = QUICK.at({"data.train_size": 1000})

# Claim 5 has 11 seeds by the power analysis on the card.
_FASHION = _sweeps(FASHION, 80, 120, seeds=11, of=(FASHION.sgd(-5), FASHION.sgd(-3)))
_FASHION += _cells(FASHION, 80, [*_equal(FASHION), FASHION.sgd(-4, 64), FASHION.sgd(-2, 128)])
_FASHION += grid("study/agreement", CLOTHES, {"other": {LR: 2.0**-3}}, seeds=3)
_FASHION += _cells(FASHION, 2000, [*FASHION.large_batches().values()][1:], seeds=3)
STANDARD = THEORY + grid("mnist/lenet-penalty", "configs/smith2021/mnist-lenet.yaml", task=TRAIN)
STANDARD += _FASHION.at({"data.train_size": 5120}) + _sweeps(CIFAR10, 60, 80).at({"data.train_size": 2000})

PAPER = THEORY + _sweeps(WRN, 6400, 6400)
PAPER += _cells(WRN, 6400, [*_equal(WRN), WRN.penalised(-7, batch=16), WRN.penalised(-5, batch=64), WRN.sgd(-7, 64)])
# n updates of 2^lr on each minibatch, at effective rates of 2^-7 to 2^-3.
REPEATED = {2**k: {rate - k: f"cifar10-wrn-16-4/n{2**k}-lr2^{rate - k}" for rate in range(-7, -2)} for k in range(5)}
PAPER += grid("{run}", "configs/smith2021/cifar10-wrn-16-4.yaml", task=TRAIN, seeds=3, run={
    name: read(name) for names in REPEATED.values() for name in names.values()
})  # fmt: skip
# Novack et al.'s penalty is lambda |g|^2, ours lambda/4 |g|^2.
for _net, _lr, _small_lr, _lam, _micros in (
    ("resnet18", 0.1, 0.1, 0.01, (128,)), ("vgg11", 0.01, 0.15, 0.5, (128, 50, 100, 1000, 2500))
):  # fmt: skip
    _large = {LR: _lr, BATCH: 5120}
    PAPER += grid(f"novack-{_net}/{{run}}", f"configs/smith2021/cifar10-{_net}.yaml", task=TRAIN, seeds=3, run={
        "small": {LR: _small_lr}, "large": _large,
        **{f"large+micro-{m}": _large | penalty(coefficient=4 * _lam, micro_batch_size=m) for m in _micros},
    })  # fmt: skip
# Geiping et al. clip to a norm of 0.25 and penalise blocks of 128 by a forward difference, lr/8 * strength |g|^2, with
# strength 0.5 at learning rate 0.8. Ours stays at the coefficient of the peak: only one without a factor follows it.
_blocks = partial(penalty, micro_batch_size=128, estimator="forward_difference")
PAPER += grid("geiping-resnet18/{run}", "configs/smith2021/cifar10-full-batch.yaml", task=TRAIN, seeds=3, run={
    "full-batch": {LR: 0.4} | _blocks(coefficient=0.0),
    "full-batch+clip": {LR: 0.4} | _blocks(coefficient=0.0, gradient_clip_val=0.25),
    "full-batch+clip+penalty": {LR: 0.8} | _blocks(coefficient=0.5 * 0.8 / 2, gradient_clip_val=0.25),
})  # fmt: skip
