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
        Scale("quick", "the theory, and an MLP on 1,000 MNIST-1D signals: 25 minutes on two cores, every "
              "claim's direction", cells.QUICK, seeds=5, replicas=10, test_items=1000),
        Scale("standard", "Fashion-MNIST subsets and small nets, batch 5120 of micro-batches 128, LeNet on MNIST: "
              "80 minutes on two cores", cells.STANDARD, seeds=5, test_items=10_000),
        Scale("paper", "Wide-ResNets on CIFAR-10 as in the paper, ResNet-18 and VGG-11 of Novack et al., full-batch "
              "ResNet-18 of Geiping et al.: GPUs for weeks", cells.PAPER, seeds=7, jobs=1),
    ),
    claims=CLAIMS,
    figures=FIGURES,
    metrics=(_FLOW, _COMPOSITION, _TRAINED),
    deviations=(
        Deviation("", "A protocol in the paper's appendix, without published code",
                  "What is recalled of it; configurations and claims say which part", "Accuracies are not quoted"),
        Deviation("", "Each run's best test accuracy, the mean of the best 5 of 7 runs (recalled)",
                  "Test accuracy after the last epoch, the mean of all runs", "Ours is lower; no choice on test data"),
        Deviation("", "Not stated how images are normalised (recalled: per channel)",
                  "Every image, or signal, has mean 0 and variance 1 of its own",
                  "At quick scale accuracies are 6 to 9 points higher without it, "
                  "and claim 5 is not decided: see its settings"),
        Deviation("quick", "Wide-ResNet 10-1 on CIFAR-10, 6,400 epochs, 7 seeds (recalled)",
                  "MLP 2x256 on 1,000 MNIST-1D signals, 50 epochs, 5 or 10 seeds, no augmentation or weight decay",
                  "Only directions can be compared"),
        Deviation("", "How weights start was not read", "torch's default initial weights; Glorot's beside them",
                  "See the settings of claims 4 and 5"),
        Deviation("quick", "Large batches: Novack et al.'s nets and lengths", "The same MLP, 80 epochs at batch 100",
                  "Only directions can be compared"),
        Deviation("quick", "Claim 8: equal numbers of epochs", "Nearly equal numbers of updates (13 epochs "
                  "with n = 4 are 52 with 1, against 50); equal epochs beside them, in claims 8-epochs and 8-n-epochs",
                  "At equal epochs n updates a minibatch train n times as long"),
        Deviation("standard", "Wide-ResNet 10-1 on CIFAR-10, 6,400 epochs, 7 seeds (recalled)",
                  "MLP 2x128 on 5,120 images of Fashion-MNIST and 2,000 of CIFAR-10, 60 to 120 epochs, 3 to "
                  "11 seeds, no "
                  "augmentation or weight decay", "Only directions can be compared"),
        Deviation("standard", "Equal epochs for all runs (recalled)",
                  "Penalised runs are longer than those without a penalty (120 and 80 epochs, 80 and 60 on "
                  "CIFAR-10), as "
                  "they take longer to fit", "May favour the penalty"),
        Deviation("standard", "Novack et al.: 300 epochs of VGG-11 and ResNet-18 at batch 5120",
                  "2,000 steps of an MLP on as many images as the batch has", "Unknown; the penalty diverged here"),
        Deviation("paper", "Not stated how crops are padded (presumably by 4 pixels)", "Crops of 28 from 32 "
        "pixels, resized",
                  "Unknown"),
        Deviation("paper", "Batch size, weight decay and batch norm of the Wide-ResNet 16-4 were not read",
                  "64, 5e-4 and on", "Unknown"),
        Deviation("paper", "Novack et al.: the best validation checkpoint, after an unknown number of epochs",
                  "The last of 300 epochs", "Ours is lower"),
        Deviation("paper", "Geiping et al.: a warm-up, and a coefficient that follows the learning rate",
                  "No warm-up; the coefficient of the peak throughout", "The penalty acts longer"),
    ),
)  # fmt: skip
