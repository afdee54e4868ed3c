"""The figures of Smith et al. 2021. The paper's own accuracies were not read: only Novack et al.'s are rings."""

from __future__ import annotations

from smith2021.nets import FASHION, MNIST1D, NETS, WRN, Net

from lightning_regs.study import Measure, curves, points, sweep, value, variance_figure
from lightning_regs.study.report.plots import power

Line = dict[float, str]
_FLOWS = {"none": "flow of C", "half": "of C + eps/2 R", "quarter": "of C + eps/4 R"}


def _error(flow: str) -> dict[float, Measure]:
    return {0.04 / 2**i: value("theory/sgd-flow", f"error_{flow}_{i}") for i in range(6)}


def _training(net: Net) -> dict[str, str]:
    small, best = power(2, net.small), power(2, net.best)
    return {
        f"learning rate {small}": net.sgd(net.small),
        f"and the penalty, {best}": net.penalised(net.best),
        f"learning rate {best}": net.sgd(net.best),
    }


def _sweeps(net: Net) -> dict[str, Line]:
    return {
        "learning rate, no penalty": {2.0**lr: net.sgd(lr) for lr in net.lrs},
        f"coefficient, at learning rate {power(2, net.small)}": {2.0**lam: net.penalised(lam) for lam in net.lams},
    }


# At the largest rate and coefficient training no longer fits every run: those are in the figure of both sweeps only.
def _rates(net: Net, *others: int) -> dict[str, Line]:
    half, twice = net.batch // 2, 2 * net.batch
    up, down = [lr + 1 for lr in net.equal], [lr - 1 for lr in net.equal]
    rates = {half: down, net.batch: net.lrs[:-1], twice: [*up, *others]}
    return {f"batch {size}": {2.0**lr / size: net.sgd(lr, size) for lr in lrs} for size, lrs in rates.items()}


def _coefficients(net: Net, *others: tuple[int, int, int]) -> dict[str, Line]:
    lines: dict[str, Line] = {f"batch {net.batch}": {2.0**lam / net.batch: net.penalised(lam) for lam in net.lams[:-1]}}
    for batch, lr, lam in others:
        lines.setdefault(f"batch {batch}", {})[2.0**lam / batch] = net.penalised(lam, lr, batch)
    return lines


def _large(net: Net) -> dict[str, str]:
    small = net.micros[0]
    return {
        f"batch {small}": net.sgd(net.large_lr, small),
        f"batch {net.large}": net.large_batch(),
        **{f"penalty, micro {micro}": net.large_batch(micro) for micro in net.micros},
        f"penalty, micro {small}, clipped": net.clipped,
    }


_RUNS = {"batch 128": "small", "batch 5120": "large", "penalty, micro 128": "large+micro-128"}
_NOVACK = {
    f"{title}: {what}": f"novack-{key}/{run}"
    for key, title in (("resnet18", "ResNet-18"), ("vgg11", "VGG-11"))
    for what, run in _RUNS.items()
}
_MICRO = {f"VGG-11: penalty, micro {m}": f"novack-vgg11/large+micro-{m}" for m in (50, 100, 1000, 2500)}
_REPEATS = {
    f"n = {2**k}": {2.0 ** (rate - k): f"cifar10-wrn-16-4/n{2**k}-lr2^{rate - k}" for rate in range(-7, -2)}
    for k in range(5)
}
_ACCURACY = "test accuracy (%)"
_OF_SMALL = {net.title: net.sgd(net.small) for net in NETS}

FIGURES = (
    sweep(
        "flow", "Claim 1: SGD follows the flow of C + eps/4 R", "error_quarter_0",
        {name: _error(flow) for flow, name in _FLOWS.items()},
        "Distance between the mean end point of SGD over all orders of an epoch's four batches and the gradient flow "
        "of three losses, R the mean squared norm of the batches' gradients. With eps/4 the error is of third order, "
        "otherwise of second.",
        x="learning rate eps", y="distance from SGD's mean end point", log_x=2, log_y=10,
    ),
    curves(
        "fig1a", "Figure 1a: the penalty over training", ("test_acc", "train_loss"),
        {net.title: _training(net) for net in NETS},
        "At the small learning rate with and without the penalty, and at the best learning rate. The paper's "
        "regularised run is clearly higher in test accuracy late in training (recalled).", y=_ACCURACY,
    ),
    sweep(
        "fig1b", "Figure 1b: test accuracy by learning rate and coefficient", "test_acc",
        {net.title: _sweeps(net) for net in NETS},
        "Test accuracy against the learning rate of plain SGD and against the coefficient of the explicit penalty at "
        "the small learning rate; the dotted line is that rate without a penalty. In the paper both rise, peak at the "
        "same power of two and fall (recalled). At the right end of a line training no longer fits every run.",
        x="learning rate, or coefficient of the penalty", y=_ACCURACY, log_x=2, reference=_OF_SMALL,
    ),
    sweep(
        "fig1c", "Figure 1c: the regulariser's value", "regulariser", {net.title: _sweeps(net) for net in NETS},
        "Mean squared norm of a batch's gradient on the training set after training; the dotted line is the small "
        "learning rate without a penalty. In the paper it falls as learning rate or coefficient grow (recalled). At "
        "the right end of a line training no longer fits every run.",
        x="learning rate, or coefficient of the penalty", y="mean squared gradient norm", log_x=2, log_y=10,
        reference=_OF_SMALL,
    ),
    sweep(
        "fig2a", "Figure 2a: test accuracy by learning rate / batch size", "test_acc",
        {MNIST1D.title: _rates(MNIST1D, -2), FASHION.title: _rates(FASHION, -4), WRN.title: _rates(WRN)},
        "Test accuracy against learning rate over batch size, at equal epochs, without the sweep's largest rate. In "
        "the paper the curves of small batches coincide (recalled).",
        x="learning rate / batch size", y=_ACCURACY, log_x=2,
    ),
    sweep(
        "fig2b", "Figure 2b: test accuracy by coefficient / batch size", "test_acc",
        {MNIST1D.title: _coefficients(MNIST1D, (40, -2, -1)),
         WRN.title: _coefficients(WRN, (16, -9, -7), (64, -9, -5))},
        "The same for the explicit penalty, without its largest coefficient. In the paper the curves of small batches "
        "coincide (recalled).",
        x="coefficient / batch size", y=_ACCURACY, log_x=2, on=("quick", "paper"),
    ),
    sweep(
        "fig3", "Figure 3: several updates a minibatch", "test_acc",
        {MNIST1D.title: {"n = 1": {2.0**lr: MNIST1D.sgd(lr) for lr in MNIST1D.lrs[:-1]},
                         **{f"n = {n}": {2.0**lr: MNIST1D.repeated(n, lr)} for n, lr in ((2, -2), (4, -3))},
                         "n = 4, equal epochs": {2.0**-3: MNIST1D.repeated(4, -3, "equal-epochs")}},
         "CIFAR-10, Wide-ResNet 16-4": _REPEATS},
        "Test accuracy with n updates on each minibatch against the bare learning rate, at nearly equal numbers of "
        "updates (of epochs where it is said, and at the paper scale). In the paper a large bare rate helps, and a "
        "larger n at the same bare rate hurts.",
        x="bare learning rate", y=_ACCURACY, log_x=2, on=("quick", "paper"),
    ),
    points(
        "large-batch", "Large batches with the penalty of small ones", "test_acc",
        {net.title: _large(net) | {f"Novack, {label}": cell for label, cell in _NOVACK.items()}
         for net in (MNIST1D, FASHION)},
        "Test accuracy of a small batch, a large one, and a large one whose micro-batches, of the size given, carry "
        "the penalty; rings are Novack et al.'s, of other networks on CIFAR-10: compare the order.",
        y=_ACCURACY, on=("quick", "standard"),
    ),
    points(
        "novack", "Large batches with the penalty of small ones", "test_acc", _NOVACK | _MICRO,
        "Test accuracy on CIFAR-10 of a small batch, a large one, and a large one whose micro-batches carry the "
        "penalty.", y=_ACCURACY, on=("paper",),
    ),
    variance_figure("SGD at the small learning rate on 1,000 MNIST-1D signals", "which 1,000 signals"),
)  # fmt: skip
