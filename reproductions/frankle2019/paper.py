"""Frankle & Carbin: The Lottery Ticket Hypothesis (1803.03635), with its successors."""

from __future__ import annotations

from functools import partial

from frankle2019 import cells
from frankle2019.cells import Ladder
from frankle2019.claims import CLAIMS

from lightning_regs.study import Deviation, Family, Figure, Metric, Paper, Scale, curves, points, sweep, variance_figure

PRUNED = Family(
    "Pruned nets",
    (
        Metric("p_m", "Weights left", "%"),
        Metric("stop_iteration", "Early-stopping iteration", "iterations", never="never came"),
        Metric("test_acc_stop", "Test accuracy at early stopping", "%"),
        Metric("test_acc", "Test accuracy", "%"),
        Metric("train_acc", "Train accuracy", "%"),
        Metric("val_acc", "Validation accuracy", "%"),
        Metric("start_test_acc", "Test accuracy before training", "%"),
        Metric("stop_val_acc", "Validation accuracy at early stopping", "%"),
        Metric("barrier", "Error barrier to its twin", "%"),
    ),
)
_LINES = {"winning ticket": "ticket", "random reinit": "reinit", "random mask": "random", "one-shot ticket": "one-shot"}
_SIGNS = {
    "the ticket's own weights": "ticket", "new weights, signs kept": "sign-reinit",
    "reshuffled, signs kept": "sign-reshuffle", "constants, signs kept": "sign-constant",
    "noise of 0.5 sigma added": "noise-0.5", "noise of 3 sigma added": "noise-3", "new weights": "reinit-1",
    "reshuffled": "reshuffle", "constants, random signs": "constant", "small initial weights pruned": "small-init",
}  # fmt: skip
_MASKS = {"untrained": "untrained", "learned": "learned", "learned, rescaled": "rescaled"}


def _line(ladder: Ladder, kind: str) -> dict[float, str | tuple[str, ...]]:
    """Return the cells of a treatment by the percent of weights left."""
    cell = ladder.reinits if kind == "reinit" else partial(ladder.cell, kind)
    return {ladder.p_m(level): cell(level) for level in ladder.levels.get(kind, ())}


def _against_weights(id: str, title: str, metric: str, y: str, caption: str) -> Figure:
    """Make one pair of axes a ladder: its tickets and what they are compared with."""
    plots = {
        ladder.told: {name: line for name, kind in _LINES.items() if (line := _line(ladder, kind))}
        for ladder in cells.LADDERS
    }
    return sweep(
        id, title, metric, plots, f"{caption} Percent of weights remaining falls to the right, as in the paper.",
        x="percent of weights remaining", y=y, log_x=1, descending=True,
        reference={ladder.told: ladder.dense for ladder in cells.LADDERS},
    )  # fmt: skip


PAPER = Paper(
    "frankle2019",
    "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
    "Frankle, Carbin",
    2019,
    "1803.03635",
    summary="A dense net contains sparse subnetworks that train from their own initial weights at least as fast and as "
    "far as the whole; with new random weights the same subnetworks learn slower and end worse.",
    scales=(
        Scale("quick", "LeNet-300-100 on MNIST-1D, 8 levels: the claims' direction, 71 minutes of computing",
              cells.of_ladders(cells.QUICK) + cells.STUDIES, seeds=10, replicas=100),
        Scale("standard", "LeNet-300-100 on MNIST by the paper's protocol but for its length, supermasks, and Conv-2 "
              "on CIFAR-10 with fewer trials and iterations: hours on two cores",
              cells.of_ladders(cells.LENET, cells.CONV2), seeds=5, replicas=25),
        Scale("paper", "the papers' lengths and trials, Conv-2/4/6 with and without dropout, ResNet-20 and VGG-19, "
              "late rewinding, rewinding against fine-tuning: days on one GPU",
              cells.of_ladders(cells.LENET_PAPER, *cells.CONVS, *cells.DROPOUT) + cells.SEARCHED, seeds=5, jobs=1,
              replicas=100),
    ),
    claims=CLAIMS,
    metrics=(PRUNED,),
    deviations=(
        Deviation("", "Nets trained one by one", "The runs of a level trained as replicas of one net, but for conv "
                  "nets", "Rounding only"),
        Deviation("", "Zhou et al. prune round by round for frozen weights and untrained masks",
                  "One pruning of the dense net", "Masks of claims 16 and 17 may be worse"),
        Deviation("", "How a learned mask is evaluated is not stated", "The mean over ten sampled masks", "Small"),
        Deviation("quick", "LeNet-300-100 on MNIST, Adam 1.2e-3, 50,000 iterations, 24 levels",
                  "The same net on 3,000 signals of MNIST-1D, Adam 2.4e-3, 2,000 iterations, 8 levels",
                  "Only directions can be compared"),
        Deviation("standard", "LeNet: 50,000 iterations, 24 levels, 5 trials",
                  "15,000 iterations, 16 levels, 10 trials; 8 for what is compared in detail at 13.5 %, 3 for "
                  "barriers, 5 for controls below 13.5 %",
                  "Masks come from shorter trainings; at low P_m reinitialised nets may be cut short"),
        Deviation("standard", "Conv-2 on 45,000 images, 20,000 iterations, Adam 2e-4, float32, 5 trials",
                  "A quarter of its width, 15,000 images, 4,000 iterations, 6e-4, bf16-mixed, 3 trials",
                  "A miss says little about the paper's Conv-2"),
        Deviation("", "Masks learned for 2,000 passes over the data (recalled), batch 250",
                  "50 passes; 40, at batch 60, at quick scale; 2,000 at paper scale",
                  "In the pilots accuracy was still rising after 30 passes: ours may be lower"),
        Deviation("paper", "ResNet-20 and VGG-19 start from Gaussian Glorot weights", "From Kaiming's, as "
                  "torchvision's do", "Unknown"),
        Deviation("paper", "How images are scaled for the deep nets was not read", "Every image has mean 0 and "
                  "variance 1", "Unknown"),
        Deviation("paper", "Crops of 32 after padding by 4", "Crops of 28 from 32 pixels", "Accuracy a little lower"),
        Deviation("paper", "Renda et al. choose the length of retraining on validation data", "130 epochs for all",
                  "May favour one kind of retraining"),
        Deviation("paper", "Zhou et al.'s optimizer for masks of conv nets was not read", "That of LeNet", "Unknown"),
        Deviation("", "Conv-6 has 1.7M weights in the paper's table", "2.26M, as its layers give them, which also fit "
                  "the paper's percentages", "None"),
    ),
    figures=(
        _against_weights(
            "stop", "Early-stopping iteration against the weights remaining", "stop_iteration",
            "early-stopping iteration", "The iteration of the least validation loss. In the paper tickets stop earlier "
            "than the dense net down to 3.6 %, reinitialised nets later and later."),
        _against_weights(
            "accuracy", "Test accuracy at early stopping against the weights remaining", "test_acc_stop",
            "test accuracy at early stopping (%)", "The weights at the least validation loss. In the paper tickets "
            "rise above the dense net and return to it at 3.6 %, reinitialised nets fall from 21.1 % on."),
        _against_weights(
            "end", "Test accuracy after the last iteration against the weights remaining", "test_acc",
            "test accuracy at the end (%)", "The same after the full length. In the paper tickets gain up to 0.35 "
            "points."),
        curves(
            "training", "Training of the dense net, a ticket and the reinitialised ticket", "val_acc",
            {
                ladder.told: {
                    "dense net": ladder.dense,
                    f"ticket, {ladder.p_m(ladder.fast):.1f} %": ladder.cell("ticket", ladder.fast),
                    "the same, reinitialised": ladder.cell("reinit-1", ladder.fast),
                }
                for ladder in cells.LADDERS if "reinit" in ladder.levels
            },
            "At the level of claims 1 and 3. In the paper the ticket learns faster than the dense net, the "
            "reinitialised one slower.", y="validation accuracy (%)"),
        points(
            "signs", "What of the initial weights matters", "test_acc_stop",
            {
                f"{ladder.told}, {ladder.p_m(level):.1f} % of the weights": {
                    name: ladder.cell(kind, level) for name, kind in _SIGNS.items()
                }
                for ladder in cells.LADDERS for level in ladder.levels.get("details", ())
            },
            "Under one mask: the ticket's own weights, others with their signs, others without. In Zhou et al. those "
            "that keep the signs train like the ticket.", y="test accuracy at early stopping (%)"),
        points(
            "supermask", "Masks without trained weights", "test_acc",
            {
                ladder.told: {
                    f"{name}, {on}": ladder.masked(how, weights) for name, how in _MASKS.items()
                    for on, weights in {"initial weights": "initial", "signed constants": "signed-constant"}.items()
                } | {"trained weights": ladder.dense}
                for ladder in cells.LADDERS if ladder.mask_epochs
            },
            "Masks on weights that are never trained: from the trained dense net, and learned. Chance is 10 %; rings "
            "are Zhou et al.'s on MNIST (recalled, but for 86 % and 95.3 %).", y="test accuracy (%)", limits=(0, 100)),
        variance_figure("The dense LeNet-300-100 on MNIST-1D, after the last epoch", "validation split"),
    ),
)  # fmt: skip
