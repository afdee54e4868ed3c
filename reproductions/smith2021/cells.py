"""What is trained and computed for Smith et al. 2021, at each scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from smith2021.nets import CIFAR10, FASHION, MNIST1D, WRN, Net

from lightning_regs.study import AGREE, Cell, Cells, grid, regularized, variance_cells

TRAIN = "smith2021.training:train"
Runs = dict[str, dict[str, Any]]
LR, BATCH, EPOCHS, REPEATS = "model.optimizer.lr", "data.batch_size", "trainer.max_epochs", "data.batch_repeats"
SEEDS_OF_THE_GAP = 10  # at quick scale, of the small learning rate, the best one and the best coefficient
SEEDS_OF_CLAIM_5 = 11  # at standard scale, on Fashion-MNIST: by the power analysis on the card


def penalty(coefficient: float, **options: Any) -> dict[str, Any]:
    """Override a run's regularizers by the gradient penalty."""
    return regularized("GradientPenalty", coefficient=coefficient, **options)


def sgd(net: Net, lrs: Iterable[int], batch: int = 0) -> Runs:
    """Runs of plain SGD."""
    return {net.sgd(lr, batch): {LR: 2.0**lr, BATCH: batch or net.batch} for lr in lrs}


def penalised(net: Net, lams: Iterable[int], epochs: int, lr: int | None = None, batch: int = 0) -> Runs:
    """Runs with the penalty, at the small learning rate or another one."""
    rate = net.small if lr is None else lr
    common: dict[str, Any] = {LR: 2.0**rate, BATCH: batch or net.batch, EPOCHS: epochs}
    return {net.penalised(lam, rate, batch): common | penalty(2.0**lam) for lam in lams}


def equal_quotients(net: Net) -> Runs:
    """Runs of half and twice the batch size at learning rates that keep the quotient."""
    return {
        name: run
        for lr in net.equal
        for name, run in (sgd(net, [lr - 1], net.batch // 2) | sgd(net, [lr + 1], 2 * net.batch)).items()
    }


def large_batches(net: Net, epochs: int) -> Runs:
    """Runs of the large batch without the penalty, with that of each micro-batch size, and with a clipped one."""
    common: dict[str, Any] = {LR: 2.0**net.large_lr, BATCH: net.large, EPOCHS: epochs}
    options = {net.large_batch(m): {"micro_batch_size": m} if m < net.large else {} for m in net.micros}
    options[net.clipped] = {"micro_batch_size": net.micros[0], "gradient_clip_val": 1.0}
    methods = {name: common | penalty(2.0**net.large_lr, **given) for name, given in options.items()}
    return {net.large_batch(): common, **methods}


def cells(net: Net, epochs: int, runs: Runs, size: int | None = None, seeds: int | None = None) -> Cells:
    """Make cells of runs; ``epochs`` is what they are trained for unless they say otherwise."""
    sizes = {} if size is None else {"data.train_size": size}
    common = {EPOCHS: epochs, "regulariser_batch": net.batch, **sizes}
    return grid("{run}", f"configs/smith2021/{net.key}.yaml", common, task=TRAIN, seeds=seeds, run=runs)


_THEORY = Cells((
    Cell("theory/sgd-flow", "smith2021.theory:modified_flow", {"full_batch": False}),
    Cell("theory/gd-flow", "smith2021.theory:modified_flow", {"full_batch": True}),
    Cell("theory/composition", "smith2021.theory:batch_composition"),
))  # fmt: skip

# What the paper does not state, set otherwise.
_SETTINGS: Runs = {
    "glorot": {"model.architecture_args.init": "xavier_uniform"}, "wd": {"model.optimizer.weight_decay": 5e-4},
    "raw": {"data.whiten": False},
}  # fmt: skip
_GAP = {MNIST1D.sgd(MNIST1D.small), MNIST1D.sgd(MNIST1D.best), MNIST1D.penalised(MNIST1D.best)}
# n updates a minibatch: as many updates as one has, rounded up to whole epochs; and, as in the paper, as many epochs.
_MNIST1D = cells(MNIST1D, 50, {
    **sgd(MNIST1D, MNIST1D.lrs), **penalised(MNIST1D, MNIST1D.lams, 50),
    **equal_quotients(MNIST1D), **sgd(MNIST1D, [-2], 40),
    **penalised(MNIST1D, [-1], 50, lr=-2, batch=40),
    MNIST1D.repeated(2, -2): {LR: 2.0**-2, REPEATS: 2, EPOCHS: 25},
    MNIST1D.repeated(4, -3): {LR: 2.0**-3, REPEATS: 4, EPOCHS: 13},
    **large_batches(MNIST1D, 80),
    **{f"{cell}/{key}": run | _SETTINGS[key]
       for key in MNIST1D.settings.values()
       for cell, run in (sgd(MNIST1D, [MNIST1D.small, MNIST1D.best]) | penalised(MNIST1D, [MNIST1D.best], 50)).items()},
}, size=1000)  # fmt: skip
QUICK = _THEORY + (replace(cell, seeds=SEEDS_OF_THE_GAP) if cell.name in _GAP else cell for cell in _MNIST1D)
_AS_LONG = {MNIST1D.repeated(4, -3, "equal-epochs"): {LR: 2.0**-3, REPEATS: 4}}
QUICK += cells(MNIST1D, 50, _AS_LONG, size=1000, seeds=SEEDS_OF_THE_GAP)
# The small learning rate, without what the paper's task measures beside; and it against the penalty.
_SMALL = {part: _MNIST1D.only(MNIST1D.sgd(MNIST1D.small))[0].config[part] for part in ("model", "data", "trainer")}
_PENALTY = penalty(2.0**MNIST1D.best)
QUICK += (*variance_cells(_SMALL), Cell("study/agreement", AGREE, _SMALL | {"other": _PENALTY}, seeds=5))

STANDARD = _THEORY + grid("mnist/lenet-penalty", "configs/smith2021/mnist-lenet.yaml", task=TRAIN)
_FASHION = cells(FASHION, 80, {
    **sgd(FASHION, FASHION.lrs), **penalised(FASHION, FASHION.lams, 120),
    **equal_quotients(FASHION), **sgd(FASHION, [-4], 64), **sgd(FASHION, [-2], 128),
}, size=5120)  # fmt: skip
_SLOW, _BEST = FASHION.sgd(FASHION.small), FASHION.sgd(FASHION.best)
STANDARD += (replace(cell, seeds=SEEDS_OF_CLAIM_5) if cell.name in (_SLOW, _BEST) else cell for cell in _FASHION)
_RATES = {part: _FASHION.only(_SLOW)[0].config[part] for part in ("model", "data", "trainer")}
STANDARD += (Cell("study/agreement", AGREE, _RATES | {"other": {LR: 2.0**FASHION.best}}, seeds=3),)
STANDARD += cells(FASHION, 2000, large_batches(FASHION, 2000), size=5120, seeds=3)
STANDARD += cells(CIFAR10, 60, {**sgd(CIFAR10, CIFAR10.lrs), **penalised(CIFAR10, CIFAR10.lams, 80)}, size=2000)

PAPER = _THEORY + cells(WRN, 6400, {
    **sgd(WRN, WRN.lrs), **penalised(WRN, WRN.lams, 6400), **equal_quotients(WRN),
    **penalised(WRN, [-7], 6400, batch=16), **penalised(WRN, [-5], 6400, batch=64), **sgd(WRN, [-7], 64),
})  # fmt: skip
# n updates of 2^lr on each minibatch, at effective rates of 2^-7 to 2^-3.
PAPER += grid("cifar10-wrn-16-4/{run}", "configs/smith2021/cifar10-wrn-16-4.yaml", task=TRAIN, seeds=3, run={
    f"n{2**k}-lr2^{rate - k}": {LR: 2.0 ** (rate - k), REPEATS: 2**k} for k in range(5) for rate in range(-7, -2)
})  # fmt: skip
# Novack et al.'s penalty is lambda |g|^2, ours lambda/4 |g|^2.
for _net, _lr, _small_lr, _lam, _micros in (
    ("resnet18", 0.1, 0.1, 0.01, (128,)),
    ("vgg11", 0.01, 0.15, 0.5, (128, 50, 100, 1000, 2500)),
):
    _large = {LR: _lr, BATCH: 5120}
    PAPER += grid(f"novack-{_net}/{{run}}", f"configs/smith2021/cifar10-{_net}.yaml", task=TRAIN, seeds=3, run={
        "small": {LR: _small_lr}, "large": _large,
        **{f"large+micro-{m}": _large | penalty(4 * _lam, micro_batch_size=m) for m in _micros},
    })  # fmt: skip
# Geiping et al. clip to a norm of 0.25 and penalise blocks of 128 by a forward difference, lr/8 * strength |g|^2, with
# strength 0.5 at learning rate 0.8. Ours stays at the coefficient of the peak: only one without a factor follows it.
_BLOCKS: dict[str, Any] = {"micro_batch_size": 128, "estimator": "forward_difference"}
PAPER += grid("geiping-resnet18/{run}", "configs/smith2021/cifar10-full-batch.yaml", task=TRAIN, seeds=3, run={
    "full-batch": {LR: 0.4} | penalty(0.0, **_BLOCKS),
    "full-batch+clip": {LR: 0.4} | penalty(0.0, gradient_clip_val=0.25, **_BLOCKS),
    "full-batch+clip+penalty": {LR: 0.8} | penalty(0.5 * 0.8 / 2, gradient_clip_val=0.25, **_BLOCKS),
})  # fmt: skip
