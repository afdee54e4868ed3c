"""Smith, Dherin, Barrett, De: On the Origin of Implicit Regularization in Stochastic Gradient Descent (2101.12176)."""

from __future__ import annotations

from dataclasses import replace

from smith2021 import cells
from smith2021.claims import CLAIMS
from smith2021.figures import FIGURES

from lightning_regs.core.metrics import Family, Metric
from lightning_regs.study.paper.paper import Deviation, Paper, Scale
from lightning_regs.training.measured import TRAINED

_FLOW = Family("End points of SGD and gradient descent", (
    Metric("order_quarter", "Order with eps/4"), Metric("order_none", "Order without a penalty"),
    Metric("order_half", "Order with eps/2"),
))  # fmt: skip
_COMPOSITION = Family("Batches by enumeration", (
    Metric("slope", "Exponent of the batch size"), Metric("error", "Largest relative error"),
))  # fmt: skip
_REGULARISER = Metric("regulariser", "Regulariser")
_TRAINED = replace(TRAINED, metrics=(*TRAINED.metrics[:3], _REGULARISER, *TRAINED.metrics[3:]), shown=4)

PAPER = Paper(
    "smith2021",
    "On the Origin of Implicit Regularization in Stochastic Gradient Descent",
    authors="Smith, Dherin, Barrett, De",
    year=2021,
    arxiv="2101.12176",
    summary="Stochastic gradient descent with a finite learning rate follows the flow of a loss with a penalty on "
    "the norm of its minibatch gradients. Added explicitly at a small learning rate, it gives what a large one does.",
    scales=(
        Scale("quick", "the theory, and an MLP on 1,000 MNIST-1D signals: minutes on two cores, every claim's "
              "direction", cells.QUICK, seeds=5),
        Scale("standard", "Fashion-MNIST subsets and small nets, batch 5120 of micro-batches 128, LeNet on MNIST: "
              "about an hour on two cores", cells.STANDARD, seeds=5),
        Scale("paper", "Wide-ResNets on CIFAR-10 as in the paper, ResNet-18 and VGG-11 of Novack et al., full-batch "
              "ResNet-18 of Geiping et al.: GPUs for weeks", cells.PAPER, seeds=7, jobs=1),
    ),
    claims=CLAIMS,
    figures=FIGURES,
    metrics=(_FLOW, _COMPOSITION, _TRAINED),
    deviations=(
        Deviation("", "The paper published no code and most of its protocol could not be read again: configurations "
                  "and claims say what is recalled. Its accuracies are not quoted at all"),
        Deviation("", "Accuracies are those after the last epoch, of all seeds; the paper takes each run's best test "
                  "accuracy, and the mean of the best 5 of 7 (recalled)"),
        Deviation("quick", "An MLP on 1,000 MNIST-1D signals for 50 epochs instead of a Wide-ResNet 10-1 on CIFAR-10 "
                  "for 6,400 (recalled), without augmentation and weight decay, with 5 or 10 seeds instead of 7"),
        Deviation("quick", "Claim 8 compares at equal numbers of updates, with 1/n of the epochs; the paper's protocol "
                  "has equal epochs"),
        Deviation("standard", "MLPs on 5,120 Fashion-MNIST and 2,000 CIFAR-10 images for 60 to 120 epochs instead of a "
                  "Wide-ResNet 10-1, without augmentation and weight decay, with 3 or 5 seeds. Penalised runs are "
                  "longer than those without a penalty, as they take longer to fit"),
        Deviation("paper", "Crops are from 32 to 28 pixels, where the original presumably pads by 4"),
        Deviation("paper", "Batch size, weight decay and batch norm of the Wide-ResNet 16-4 are not in what was read "
                  "of the paper: they are 64, 5e-4 and on"),
        Deviation("paper", "Novack et al.'s rows end at the last of 300 epochs, a number that was not read, instead of "
                  "the best validation checkpoint"),
        Deviation("paper", "Geiping et al.'s rows have neither their warm-up nor the coefficient that follows the "
                  "learning rate"),
    ),
)  # fmt: skip
