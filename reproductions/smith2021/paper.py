"""Smith, Dherin, Barrett, De: On the Origin of Implicit Regularization in Stochastic Gradient Descent (2101.12176)."""

from dataclasses import replace
from functools import partial
from typing import Any

from smith2021 import cells
from smith2021.cells import CIFAR10, FASHION, MNIST1D, REPEATED, WRN, Net
from smith2021.claims import CLAIMS, SMITH

from lightning_regs.study import (
    Deviation,
    Family,
    Metric,
    Paper,
    Scale,
    curves,
    points,
    sweep,
    value,
    variance_figure,
)
from lightning_regs.study.measured import TRAINED
from lightning_regs.study.report.plots import power

FLOW = Family("End points of SGD and gradient descent", (
    Metric("order_quarter", "Order with eps/4"), Metric("order_none", "Order without a penalty"),
    Metric("order_half", "Order with eps/2"),
))  # fmt: skip
COMPOSITION = Family("Batches by enumeration", (
    Metric("slope", "Exponent of the batch size"), Metric("error", "Largest relative error"),
))  # fmt: skip
REGULARISED = replace(TRAINED, metrics=(*TRAINED.metrics[:3], Metric("regulariser", "Regulariser"),
                                        *TRAINED.metrics[3:]), shown=4)  # fmt: skip

# The paper's own accuracies were not read: only Novack et al.'s are rings.
NOVACK = {
    f"{title}: {what}": f"novack-{key}/{run}" for key, title in (("resnet18", "ResNet-18"), ("vgg11", "VGG-11"))
    for what, run in {"batch 128": "small", "batch 5120": "large", "penalty, micro 128": "large+micro-128"}.items()
}  # fmt: skip
MICRO = {f"VGG-11: penalty, micro {m}": f"novack-vgg11/large+micro-{m}" for m in (50, 100, 1000, 2500)}
NETS = (MNIST1D, FASHION, CIFAR10, WRN)
_two = partial(power, 2)


def _powers(cells: dict[int, str], size: int = 1) -> dict[float, str]:
    """Put cells at powers of two, over the batch size where it is given."""
    return {2.0**at / size: cell for at, cell in cells.items()}


# At the largest rate and coefficient training no longer fits every run: those are in the figure of both sweeps only.
def _rates(net: Net, *others: int) -> dict[str, dict[float, str]]:
    half, twice = [lr - 1 for lr in net.equal], [*(lr + 1 for lr in net.equal), *others]
    rates = {net.batch // 2: half, net.batch: net.lrs[:-1], 2 * net.batch: twice}
    return {f"batch {size}": _powers({lr: net.sgd(lr, size) for lr in lrs}, size) for size, lrs in rates.items()}


def _coefficients(net: Net, others: dict[int, dict[int, str]]) -> dict[str, dict[float, str]]:
    lines = {net.batch: {lam: net.penalised(lam) for lam in net.lams[:-1]}} | others
    return {f"batch {size}": _powers(line, size) for size, line in lines.items()}


_accuracy = partial(sweep, metric="test_acc", y="test accuracy (%)", log_x=2)
_large = partial(points, title="Large batches with the penalty of small ones", metrics="test_acc",
                 y="test accuracy (%)")  # fmt: skip
BOTH: dict[str, Any] = {
    "x": "learning rate, or coefficient of the penalty", "reference": {net.title: net.sgd(net.small) for net in NETS},
    "plots": {net.title: {
        "learning rate, no penalty": _powers({lr: net.sgd(lr) for lr in net.lrs}),
        f"coefficient, at learning rate {_two(net.small)}": _powers({lam: net.penalised(lam) for lam in net.lams}),
    } for net in NETS},
}  # fmt: skip
FIGURES = (
    sweep("flow", "Claim 1: SGD follows the flow of C + eps/4 R", "error_quarter_0",
          {name: {0.04 / 2**i: value("theory/sgd-flow", f"error_{flow}_{i}") for i in range(6)} for name, flow in
           (("flow of C", "none"), ("of C + eps/2 R", "half"), ("of C + eps/4 R", "quarter"))},
          "Distance between the mean end point of SGD over all orders of an epoch's four batches and the gradient flow "
          "of three losses, R the mean squared norm of the batches' gradients. With eps/4 the error is of third order, "
          "otherwise of second.",
          x="learning rate eps", y="distance from SGD's mean end point", log_x=2, log_y=10),
    curves("fig1a", "Figure 1a: the penalty over training", ("test_acc", "train_loss"),
           {net.title: {f"learning rate {_two(net.small)}": net.sgd(net.small),
                        f"and the penalty, {_two(net.best)}": net.penalised(net.best),
                        f"learning rate {_two(net.best)}": net.sgd(net.best)} for net in NETS},
           "At the small learning rate with and without the penalty, and at the best learning rate. The paper's "
           "regularised run is clearly higher in test accuracy late in training (recalled).", y="test accuracy (%)"),
    _accuracy("fig1b", "Figure 1b: test accuracy by learning rate and coefficient", **BOTH, caption="Test accuracy "
              "against the learning rate of plain SGD and against the coefficient of the explicit penalty at the small "
              "learning rate; the dotted line is that rate without a penalty. In the paper both rise, peak at the same "
              "power of two and fall (recalled). At the right end of a line training no longer fits every run."),
    sweep("fig1c", "Figure 1c: the regulariser's value", "regulariser", **BOTH, caption="Mean squared norm of a "
          "batch's gradient on the training set after training; the dotted line is the small learning rate without a "
          "penalty. In the paper it falls as learning rate or coefficient grow (recalled). At the right end of a line "
          "training no longer fits every run.", y="mean squared gradient norm", log_x=2, log_y=10),
    _accuracy("fig2a", "Figure 2a: test accuracy by learning rate / batch size", x="learning rate / batch size",
              plots={MNIST1D.title: _rates(MNIST1D, -2), FASHION.title: _rates(FASHION, -4), WRN.title: _rates(WRN)},
              caption="Test accuracy against learning rate over batch size, at equal epochs, without the sweep's "
              "largest rate. In the paper the curves of small batches coincide (recalled)."),
    _accuracy("fig2b", "Figure 2b: test accuracy by coefficient / batch size", x="coefficient / batch size",
              plots={MNIST1D.title: _coefficients(MNIST1D, {40: {-1: MNIST1D.penalised(-1, -2, 40)}}),
                     WRN.title: _coefficients(WRN, {16: {-7: WRN.penalised(-7, batch=16)},
                                                    64: {-5: WRN.penalised(-5, batch=64)}})},
              caption="The same for the explicit penalty, without its largest coefficient. In the paper the curves of "
              "small batches coincide (recalled).", on=("quick", "paper")),
    _accuracy("fig3", "Figure 3: several updates a minibatch", x="bare learning rate", on=("quick", "paper"), plots={
                  MNIST1D.title: {"n = 1": _powers({lr: MNIST1D.sgd(lr) for lr in MNIST1D.lrs[:-1]}),
                                  "n = 2": {2.0**-2: "mnist1d/n2-b20-lr2^-2"},
                                  "n = 4": {2.0**-3: "mnist1d/n4-b20-lr2^-3"},
                                  "n = 4, equal epochs": {2.0**-3: "mnist1d/n4-b20-lr2^-3/equal-epochs"}},
                  "CIFAR-10, Wide-ResNet 16-4": {f"n = {n}": _powers(names) for n, names in REPEATED.items()}},
              caption="Test accuracy with n updates on each minibatch against the bare learning rate, at nearly equal "
              "numbers of updates (of epochs where it is said, and at the paper scale). In the paper a large bare rate "
              "helps, and a larger n at the same bare rate hurts."),
    _large("large-batch", on=("quick", "standard"), plots={
               net.title: net.large_batches() | {f"Novack, {label}": cell for label, cell in NOVACK.items()}
               for net in (MNIST1D, FASHION)},
           caption="Test accuracy of a small batch, a large one, and a large one whose micro-batches, of the size "
           "given, carry the penalty; rings are Novack et al.'s, of other networks on CIFAR-10: compare the order."),
    _large("novack", plots=NOVACK | MICRO, on=("paper",), caption="Test accuracy on CIFAR-10 of a small batch, a large "
           "one, and a large one whose micro-batches carry the penalty."),
    variance_figure("SGD at the small learning rate on 1,000 MNIST-1D signals", "which 1,000 signals"),
)  # fmt: skip

PAPER = Paper(
    "smith2021", SMITH.title, SMITH.authors, 2021, "2101.12176",
    summary="Stochastic gradient descent with a finite learning rate follows the flow of a loss with a penalty on "
    "the norm of its minibatch gradients. Added explicitly at a small learning rate, it gives what a large one does.",
    scales=(
        Scale("quick", "the theory, and an MLP on 1,000 MNIST-1D signals: 25 minutes on two cores, every "
              "claim's direction", cells.QUICK, seeds=5, replicas=10),
        Scale("standard", "Fashion-MNIST subsets and small nets, batch 5120 of micro-batches 128, LeNet on MNIST: "
              "80 minutes on two cores", cells.STANDARD, seeds=5),
        Scale("paper", "Wide-ResNets on CIFAR-10 as in the paper, ResNet-18 and VGG-11 of Novack et al., full-batch "
              "ResNet-18 of Geiping et al.: GPUs for weeks", cells.PAPER, seeds=7, jobs=1),
    ),
    claims=CLAIMS,
    figures=FIGURES,
    metrics=(FLOW, COMPOSITION, REGULARISED),
    deviations=(
        Deviation("", "A protocol in the paper's appendix, without published code",
                  "What is recalled of it; configurations and claims say which part", "Accuracies are not quoted"),
        Deviation("", "Each run's best test accuracy, the mean of the best 5 of 7 runs (recalled)",
                  "Test accuracy after the last epoch, the mean of all runs", "Ours is lower; no choice on test data"),
        Deviation("", "Not stated how images are normalised (recalled: per channel)",
                  "Every image, or signal, has mean 0 and variance 1 of its own", "At quick scale accuracies are 6 to "
                  "9 points higher without it, and claim 5 is not decided: see its settings"),
        Deviation("quick", "Wide-ResNet 10-1 on CIFAR-10, 6,400 epochs, 7 seeds (recalled)", "MLP 2x256 on 1,000 "
                  "MNIST-1D signals, 50 epochs, 5 or 10 seeds, no augmentation or weight decay",
                  "Only directions can be compared"),
        Deviation("", "How weights start was not read", "torch's default initial weights; Glorot's beside them",
                  "See the settings of claims 4 and 5"),
        Deviation("quick", "Large batches: Novack et al.'s nets and lengths", "The same MLP, 80 epochs at batch 100",
                  "Only directions can be compared"),
        Deviation("quick", "Claim 8: equal numbers of epochs", "Nearly equal numbers of updates (13 epochs "
                  "with n = 4 are 52 with 1, against 50); equal epochs beside them, in claims 8-epochs and 8-n-epochs",
                  "At equal epochs n updates a minibatch train n times as long"),
        Deviation("standard", "Wide-ResNet 10-1 on CIFAR-10, 6,400 epochs, 7 seeds (recalled)", "MLP 2x128 on 5,120 "
                  "images of Fashion-MNIST and 2,000 of CIFAR-10, 60 to 120 epochs, 3 to 11 seeds, no augmentation or "
                  "weight decay", "Only directions can be compared"),
        Deviation("standard", "Equal epochs for all runs (recalled)", "Penalised runs are longer than those without a "
                  "penalty (120 and 80 epochs, 80 and 60 on CIFAR-10), as they take longer to fit",
                  "May favour the penalty"),
        Deviation("standard", "Novack et al.: 300 epochs of VGG-11 and ResNet-18 at batch 5120",
                  "2,000 steps of an MLP on as many images as the batch has", "Unknown; the penalty diverged here"),
        Deviation("paper", "Not stated how crops are padded (presumably by 4 pixels)",
                  "Crops of 28 from 32 pixels, resized", "Unknown"),
        Deviation("paper", "Batch size, weight decay and batch norm of the Wide-ResNet 16-4 were not read",
                  "64, 5e-4 and on", "Unknown"),
        Deviation("paper", "Novack et al.: the best validation checkpoint, after an unknown number of epochs",
                  "The last of 300 epochs", "Ours is lower"),
        Deviation("paper", "Geiping et al.: a warm-up, and a coefficient that follows the learning rate",
                  "No warm-up; the coefficient of the peak throughout", "The penalty acts longer"),
    ),
)  # fmt: skip
