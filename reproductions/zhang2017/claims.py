"""The sentences of Zhang et al. 2017, each with its number and the check that decides it.

Tolerances were fixed before any run was looked at: a test accuracy of Table 1 counts as reproduced within 1.5 points,
"fits" means at least 99 % training accuracy (the lowest figure that the paper calls a fit is 99.21), "chance" is 10 %
within 1 point on CIFAR-10's 10,000 test images and within 4 points on the 597 of digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from lightning_regs.study.claims import Claim, MissingRows, Rows

Measure = Callable[[Rows], Sequence[float]]

INF = math.inf
FITS = (99.0, INF)  # an interval around 99.97 may pass 100
NEEDS_GPU = "needs the paper scale (one GPU): two CPU cores cannot train this network to the end"
NEEDS_CIFAR = "the figure is CIFAR-10's; quick scale has embedded data only"
NEEDS_IMAGENET = (
    "ImageNet cannot be had here; configs/zhang2017/inception-v3-imagenet.yaml runs on an ILSVRC 2012 folder"
)
REAL = ("standard", "paper")


def value(cell: str, metric: str) -> Measure:
    """One metric of one cell, a number a seed."""
    return lambda rows: list(rows.metric(cell, metric).values())


def per_seed(function: Callable[..., float], *parts: tuple[str, str]) -> Measure:
    """A function of several (cell, metric) pairs, applied seed by seed to the seeds that all of them have."""

    def measure(rows: Rows) -> list[float]:
        columns = [rows.metric(cell, metric) for cell, metric in parts]
        seeds = sorted(set.intersection(*(set(column) for column in columns)))
        return [function(*(column[seed] for column in columns)) for seed in seeds]

    return measure


def difference(cell: str, other: str, metric: str) -> Measure:
    """How much larger the metric is in ``cell`` than in ``other``, seed by seed."""
    return per_seed(lambda a, b: a - b, (cell, metric), (other, metric))


def either(*measures: Measure) -> Measure:
    """The first of several measures whose cells have rows: what differs between scales."""

    def measure(rows: Rows) -> Sequence[float]:
        for candidate in measures[:-1]:
            try:
                return candidate(rows)
            except MissingRows:
                continue
        return measures[-1](rows)

    return measure


def slowdown(cell: str, reference: str) -> Measure:
    """Epochs to fit, relative to the reference; a cell that never fitted counts with one epoch more than it had."""

    def ratio(fitted: float, epochs: float, reference_fitted: float) -> float:
        return (epochs + 1 if math.isnan(fitted) else fitted) / reference_fitted

    return per_seed(ratio, (cell, "fit_epoch"), (cell, "epochs"), (reference, "fit_epoch"))


def smallest_step(metric: str, sign: float, *cells: str) -> Measure:
    """The smallest rise (``sign`` 1) or fall (-1) of the metric from one cell to the next."""

    def steps(*values: float) -> float:
        return min(sign * (after - before) for before, after in pairwise(values))

    return per_seed(steps, *((cell, metric) for cell in cells))


def rank_correlation(metric: str, *cells: str) -> Measure:
    """Spearman's correlation of the metric with the cells' order; a missing fit ranks last."""

    def correlate(*values: float) -> float:
        from scipy.stats import spearmanr

        filled = [1e9 if math.isnan(v) else v for v in values]
        return float(spearmanr(range(len(filled)), filled).statistic)

    return per_seed(correlate, *((cell, metric) for cell in cells))


def _fits(
    number: str,
    model: str,
    title: str,
    figure: float,
    scales: tuple[str, ...] | None,
    variant: str = "random-labels",
    extra: str = "",
    provenance: str = "seen: SLIDES",
    reason: str = NEEDS_GPU,
) -> Claim:
    return Claim(
        id=number,
        sentence=f"{title} fits random labels{extra} (training accuracy).",
        paper=figure,
        provenance=provenance,
        unit="%",
        measure=value(f"{model}/{variant}", "train_acc"),
        holds=FITS,
        scales=scales,
        out_of_reach=reason,
    )


def _table(
    number: str,
    model: str,
    title: str,
    variant: str,
    how: str,
    figure: float,
    scales: tuple[str, ...] = REAL,
    reason: str = NEEDS_CIFAR,
) -> Claim:
    return Claim(
        id=number,
        sentence=f"Table 1: {title}, {how}, has this test accuracy on CIFAR-10 (within 1.5 points).",
        paper=figure,
        provenance="seen: SLIDES",
        unit="%",
        measure=value(f"{model}/{variant}", "test_acc"),
        holds=(figure - 1.5, figure + 1.5),
        scales=scales,
        out_of_reach=reason,
    )


PAPER_ONLY = ("paper",)
_SWEEP = ("true-labels", "partial-0.2", "partial-0.4", "partial-0.6", "partial-0.8", "random-labels")
_MLP_SWEEP = tuple(f"mlp-1x512/{variant}" for variant in _SWEEP)

MEMORISATION = (
    _fits("1", "small-inception", "Small Inception", 100.0, PAPER_ONLY),
    Claim(
        id="1-chance",
        sentence="MLP 1x512 trained on random labels is at chance on the test set.",
        paper=10.61,
        provenance="seen: SLIDES",
        unit="%",
        measure=value("mlp-1x512/random-labels", "test_acc"),
        holds=(9.0, 11.0),
        scales=REAL,
        out_of_reach=NEEDS_CIFAR,
    ),
    Claim(
        id="1-chance-digits",
        sentence="MLP 1x512 trained on random labels of digits is near chance on the test set.",
        paper="about 10",
        provenance="derived",
        unit="%",
        measure=value("mlp-1x512/random-labels", "test_acc"),
        holds=(6.0, 14.0),
        scales=("quick",),
        out_of_reach="the quick scale's form of claim 1-chance",
    ),
    _fits("2-alexnet", "small-alexnet", "Small AlexNet", 99.82, None),
    _fits("2-mlp3", "mlp-3x512", "MLP 3x512", 100.0, None),
    _fits("2-mlp1", "mlp-1x512", "MLP 1x512", 99.34, None),
    Claim(
        id="3-factor",
        sentence="Random labels take up to about 4 times the epochs of true labels to fit (MLP 1x512).",
        paper="1 to 4",
        provenance="seen: NOTES",
        unit="x",
        measure=slowdown("mlp-1x512/random-labels", "mlp-1x512/true-labels"),
        holds=(1.0, 4.0),
    ),
    Claim(
        id="3-smooth",
        sentence="The slowdown grows with the corruption level (rank correlation, MLP 1x512).",
        paper="grows",
        provenance="seen: TEXT",
        unit="",
        measure=rank_correlation("fit_epoch", *_MLP_SWEEP),
        holds=(0.8, INF),
    ),
    *(
        Claim(
            id=f"4-{mode}",
            sentence=f"Images with {title} are fitted to zero training error (MLP 1x512).",
            paper=100.0,
            provenance="seen: TEXT",
            unit="%",
            measure=value(f"mlp-1x512/{mode}", "train_acc"),
            holds=(99.9, INF),
        )
        for mode, title in (
            ("shuffled-pixels", "shuffled pixels"),
            ("random-pixels", "pixels permuted image by image"),
            ("gaussian", "Gaussian pixels"),
        )
    ),
    Claim(
        id="4-order",
        sentence="Random pixels and Gaussian images are fitted in fewer epochs than random labels (MLP 1x512).",
        paper="> 0",
        provenance="seen: TEXT",
        unit="epochs",
        measure=per_seed(
            lambda labels, epochs, pixels, noise: (epochs + 1 if math.isnan(labels) else labels) - max(pixels, noise),
            ("mlp-1x512/random-labels", "fit_epoch"),
            ("mlp-1x512/random-labels", "epochs"),
            ("mlp-1x512/random-pixels", "fit_epoch"),
            ("mlp-1x512/gaussian", "fit_epoch"),
        ),
        holds=(1.0, INF),
    ),
    Claim(
        id="5-rise",
        sentence="Test error rises with every level of label corruption (smallest rise, MLP 1x512).",
        paper="> 0",
        provenance="seen: TEXT",
        unit="points",
        measure=smallest_step("test_acc", -1.0, *_MLP_SWEEP),
        holds=(1e-9, INF),
    ),
    Claim(
        id="5-end",
        sentence="With every label random the test error is 90 % (MLP 1x512).",
        paper=90.0,
        provenance="seen: TEXT",
        unit="%",
        measure=per_seed(lambda a: 100 - a, ("mlp-1x512/random-labels", "test_acc")),
        holds=(89.0, 91.0),
        scales=REAL,
        out_of_reach=NEEDS_CIFAR,
    ),
)

REGULARIZERS = (
    _table("6", "small-inception", "small Inception", "true-labels", "no regulariser", 85.75, PAPER_ONLY, NEEDS_GPU),
    Claim(
        id="6-gain",
        sentence="Crop and weight decay add 3.30 points to small Inception's test accuracy.",
        paper=3.30,
        provenance="derived",
        unit="points",
        measure=difference("small-inception/true-labels+crop+wd", "small-inception/true-labels", "test_acc"),
        holds=(1.8, 4.8),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
    ),
    Claim(
        id="6-mlp",
        sentence="Weight decay changes MLP 1x512's test accuracy by less than 1.5 points.",
        paper=-0.12,
        provenance="derived",
        unit="points",
        measure=difference("mlp-1x512/true-labels+wd", "mlp-1x512/true-labels", "test_acc"),
        holds=(-1.5, 1.5),
    ),
    _fits(
        "7-inception",
        "small-inception",
        "Small Inception",
        100.0,
        PAPER_ONLY,
        "random-labels+wd",
        " in spite of weight decay",
        "seen: FOLI, NOTES",
    ),
    _fits(
        "7-mlp3",
        "mlp-3x512",
        "MLP 3x512",
        100.0,
        REAL,
        "random-labels+wd",
        " in spite of weight decay",
        "seen: FOLI, NOTES",
        "not among the quick scale's cells",
    ),
    _fits(
        "7-mlp1",
        "mlp-1x512",
        "MLP 1x512",
        99.21,
        None,
        "random-labels+wd",
        " in spite of weight decay",
        "seen: FOLI, NOTES",
    ),
    Claim(
        id="7-alexnet",
        sentence="Small AlexNet with weight decay fails to converge on random labels (training accuracy).",
        paper="fails",
        provenance="seen: FOLI, NOTES",
        unit="%",
        measure=value("small-alexnet/random-labels+wd", "train_acc"),
        holds=(-INF, 99.0),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
    ),
    _fits(
        "8-crop",
        "small-inception",
        "Small Inception",
        99.93,
        PAPER_ONLY,
        "random-labels+crop",
        " in spite of random crops",
        "seen: FOLI, NOTES",
    ),
    _fits(
        "8-augment",
        "small-inception",
        "Small Inception",
        99.28,
        PAPER_ONLY,
        "random-labels+augment",
        " in spite of full augmentation",
        "seen: FOLI, NOTES",
    ),
    Claim(
        id="9",
        sentence="Batch norm is worth 3 to 4 points of small Inception's test accuracy.",
        paper=3.75,
        provenance="derived",
        unit="points",
        measure=difference("small-inception/true-labels", "small-inception-nobn/true-labels", "test_acc"),
        holds=(2.25, 5.25),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
    ),
    Claim(
        id="10",
        sentence="Early stopping shows no benefit on CIFAR-10 (best epoch's test accuracy over the last's, MLP 1x512).",
        paper="none",
        provenance="seen: TEXT",
        unit="points",
        measure=per_seed(
            lambda best, last: best - last,
            ("mlp-1x512/true-labels", "best_test_acc"),
            ("mlp-1x512/true-labels", "test_acc"),
        ),
        holds=(-INF, 1.0),
        scales=REAL,
        out_of_reach=NEEDS_CIFAR,
    ),
    *(
        Claim(
            id=f"11-{short}",
            sentence=f"ImageNet, Inception V3, {how}: top-1 {what} accuracy.",
            paper=figure,
            provenance="seen: TEXT",
            unit="%",
            measure=value(f"inception-v3/{variant}", metric),
            holds=holds,
            scales=("imagenet",),
            out_of_reach=NEEDS_IMAGENET,
        )
        for short, how, what, variant, metric, figure, holds in (
            (
                "random",
                "random labels without regularisers",
                "training",
                "random-labels",
                "train_acc",
                95.20,
                (90.0, INF),
            ),
            (
                "random-reg",
                "random labels with dropout and weight decay",
                "training",
                "random-labels+dropout+wd",
                "train_acc",
                "about 90",
                (85.0, INF),
            ),
            ("true", "true labels without regularisers", "test", "true-labels", "test_acc", 59.80, (58.3, 61.3)),
        )
    ),
)

_SHEET = "seen: TEXT"
THEORY = (
    Claim(
        id="12",
        sentence="Theorem 1: 2n + d weights fit any labels (largest residual, n = 200, d = 30, float64).",
        paper=0.0,
        provenance=_SHEET,
        measure=value("theory/theorem1", "max_residual"),
        holds=(0.0, 1e-6),
    ),
    Claim(
        id="12-count",
        sentence="Theorem 1: the construction has no weight more than 2n + d.",
        paper=0.0,
        provenance=_SHEET,
        unit="weights",
        measure=value("theory/theorem1", "excess_weights"),
        holds=(-INF, 0.0),
    ),
    Claim(
        id="12-deep",
        sentence="Theorem 1 with depth k: the width is of order n / k (largest width over n / (k - 1), k up to 11).",
        paper="O(1)",
        provenance="seen: NOTES",
        measure=value("theory/theorem1-deep", "width_ratio"),
        holds=(-INF, 2.0),
    ),
    Claim(
        id="13-mnist",
        sentence="A Gaussian kernel without regularisation has this test error on MNIST (60,000 images).",
        paper=1.2,
        provenance="seen: NOTES, TEXT",
        unit="%",
        measure=value("theory/kernel-mnist", "test_error"),
        holds=(1.1, 1.3),
        exact=True,
        out_of_reach="needs MNIST: standard scale",
    ),
    Claim(
        id="13-fit",
        sentence="The kernel interpolates MNIST: no training error without regularisation (60,000 images).",
        paper=0.0,
        provenance=_SHEET,
        unit="%",
        measure=value("theory/kernel-mnist", "train_error"),
        holds=(-INF, 0.0),
        exact=True,
        out_of_reach="needs MNIST: standard scale",
    ),
    Claim(
        id="13-l2",
        sentence="The best ridge gains nothing on MNIST (points of test error, 10,000 images, below 0.3).",
        paper="no gain",
        provenance="seen: NOTES, TEXT",
        unit="points",
        measure=value("theory/kernel-mnist-10k", "ridge_gain"),
        holds=(-INF, 0.3),
        out_of_reach="needs MNIST: standard scale",
    ),
    Claim(
        id="13-l2-digits",
        sentence="The best ridge gains nothing on digits (points of test error, below 0.3).",
        paper="no gain",
        provenance="the quick scale's form of claim 13-l2",
        unit="points",
        measure=value("theory/kernel-digits", "ridge_gain"),
        holds=(-INF, 0.3),
        scales=("quick",),
        out_of_reach="the quick scale's form of claim 13-l2",
    ),
    Claim(
        id="13-gabor",
        sentence="After a Gabor transform the kernel's test error on MNIST is halved (60,000 images).",
        paper=0.6,
        provenance="seen: NOTES, TEXT",
        unit="%",
        measure=value("theory/gabor-mnist", "test_error"),
        holds=(0.5, 0.7),
        scales=PAPER_ONLY,
        out_of_reach="60,000 images with a bandwidth chosen on held-out data: paper scale",
    ),
    Claim(
        id="13-gabor-10k",
        sentence="A Gabor transform lowers the kernel's test error on MNIST (10,000 images).",
        paper=-0.6,
        provenance="derived from the figures at 60,000 images",
        unit="points",
        measure=difference("theory/gabor-mnist-10k", "theory/kernel-mnist-10k", "test_error"),
        holds=(-INF, -1e-9),
        scales=("standard",),
        out_of_reach="the standard scale's form of claim 13-gabor",
    ),
    Claim(
        id="13-cifar",
        sentence="A Gaussian kernel on pixels has this test error on CIFAR-10 (50,000 images).",
        paper=46.0,
        provenance="seen: NOTES, TEXT",
        unit="%",
        measure=value("theory/kernel-cifar10", "test_error"),
        holds=(44.5, 47.5),
        scales=PAPER_ONLY,
        out_of_reach="50,000 images with a bandwidth chosen on held-out data: paper scale",
    ),
    Claim(
        id="13-conv",
        sentence="On 32,000 random convolutional features the error on CIFAR-10 is this (50,000 images).",
        paper=17.0,
        provenance="seen: NOTES, TEXT",
        unit="%",
        measure=value("theory/conv-cifar10", "test_error"),
        holds=(15.5, 18.5),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
    ),
    Claim(
        id="13-conv-10k",
        sentence="Random convolutional features lower the kernel's error on CIFAR-10 by over 10 points "
        "(10,000 images, 1,000 filters).",
        paper=-29.0,
        provenance="derived from the figures at 50,000 images",
        unit="points",
        measure=difference("theory/conv-cifar10-10k", "theory/kernel-cifar10-10k", "test_error"),
        holds=(-INF, -10.0),
        scales=("standard",),
        out_of_reach="the standard scale's form of claim 13-conv",
    ),
    Claim(
        id="13-conv-l2",
        sentence="On random convolutional features of CIFAR-10 a ridge does help (points of test error).",
        paper=2.0,
        provenance="derived",
        unit="points",
        measure=either(value("theory/conv-cifar10", "ridge_gain"), value("theory/conv-cifar10-10k", "ridge_gain")),
        holds=(1e-9, INF),
        scales=REAL,
        out_of_reach=NEEDS_CIFAR,
    ),
    Claim(
        id="14-raw",
        sentence="The minimum-norm interpolant of MNIST has about this norm (within 10 %, 60,000 images).",
        paper=220.0,
        provenance=_SHEET,
        measure=value("theory/kernel-mnist", "norm"),
        holds=(198.0, 242.0),
        exact=True,
        out_of_reach="needs MNIST: standard scale",
    ),
    Claim(
        id="14",
        sentence="The Gabor interpolant of MNIST has the larger norm although its error is smaller (ratio of norms, "
        "10,000 images).",
        paper=1.77,
        provenance="derived",
        unit="x",
        measure=per_seed(lambda a, b: a / b, ("theory/gabor-mnist-10k", "norm"), ("theory/kernel-mnist-10k", "norm")),
        holds=(1.0, INF),
        scales=("standard",),
        out_of_reach="needs MNIST: standard scale",
    ),
    Claim(
        id="14-digits",
        sentence="The Gabor interpolant of digits has the larger norm (ratio of norms).",
        paper=1.77,
        provenance="derived, from MNIST's figures",
        unit="x",
        measure=per_seed(lambda a, b: a / b, ("theory/gabor-digits", "norm"), ("theory/kernel-digits", "norm")),
        holds=(1.0, INF),
        scales=("quick",),
        out_of_reach="the quick scale's form of claim 14",
    ),
    Claim(
        id="S5-sgd",
        sentence="SGD from zero on least squares with d > n ends at the minimum-norm solution (relative distance).",
        paper=0.0,
        provenance=_SHEET,
        measure=value("theory/min-norm", "distance"),
        holds=(-INF, 1e-6),
    ),
)

# What the standard scale does differently from the paper, and what explains its misses.
CONTROLS = (
    Claim(
        id="C-bf16",
        sentence="bf16-mixed instead of float32 changes MLP 1x512's test accuracy by less than 0.5 points.",
        paper="our control",
        provenance="ours",
        unit="points",
        measure=difference("mlp-1x512/true-labels", "mlp-1x512/true-labels/fp32", "test_acc"),
        holds=(-0.5, 0.5),
        scales=("standard",),
        out_of_reach="a control of the standard scale",
    ),
    Claim(
        id="C-bf16-random",
        sentence="bf16-mixed instead of float32 changes MLP 1x512's training accuracy on random labels by "
        "less than 0.5 points.",
        paper="our control",
        provenance="ours",
        unit="points",
        measure=difference("mlp-1x512/random-labels", "mlp-1x512/random-labels/fp32", "train_acc"),
        holds=(-0.5, 0.5),
        scales=("standard",),
        out_of_reach="a control of the standard scale",
    ),
    *(
        Claim(
            id=f"C-glorot-{short}",
            sentence=f"With Glorot's initial weights, TensorFlow's default, {title} has the paper's {what} "
            f"accuracy ({how}).",
            paper=figure,
            provenance="seen: SLIDES",
            unit="%",
            measure=value(f"{model}/{variant}/glorot", metric),
            holds=holds,
            scales=("standard",),
            out_of_reach="an experiment of the standard scale",
        )
        for short, title, model, variant, metric, what, how, figure, holds in (
            (
                "mlp1",
                "MLP 1x512",
                "mlp-1x512",
                "true-labels",
                "test_acc",
                "test",
                "within 1.5 points",
                50.51,
                (49.01, 52.01),
            ),
            (
                "mlp1-random",
                "MLP 1x512",
                "mlp-1x512",
                "random-labels",
                "train_acc",
                "random-label training",
                "at least 99 %",
                99.34,
                FITS,
            ),
            (
                "mlp3",
                "MLP 3x512",
                "mlp-3x512",
                "true-labels",
                "test_acc",
                "test",
                "within 1.5 points",
                52.39,
                (50.89, 53.89),
            ),
            (
                "mlp3-random",
                "MLP 3x512",
                "mlp-3x512",
                "random-labels",
                "train_acc",
                "random-label training",
                "at least 99 %",
                100.0,
                FITS,
            ),
        )
    ),
)

TABLE_1 = (
    _table("T1-mlp1", "mlp-1x512", "MLP 1x512", "true-labels", "no regulariser", 50.51),
    _table("T1-mlp1-wd", "mlp-1x512", "MLP 1x512", "true-labels+wd", "weight decay", 50.39),
    _table("T1-mlp3", "mlp-3x512", "MLP 3x512", "true-labels", "no regulariser", 52.39),
    _table("T1-mlp3-wd", "mlp-3x512", "MLP 3x512", "true-labels+wd", "weight decay", 53.35),
    _table("T1-alexnet", "small-alexnet", "small AlexNet", "true-labels", "no regulariser", 76.07),
    *(
        _table(f"T1-{short}{suffix}", model, title, variant, how, figure, PAPER_ONLY, NEEDS_GPU)
        for short, model, title, variant, suffix, how, figure in (
            ("alexnet", "small-alexnet", "small AlexNet", "true-labels+wd", "-wd", "weight decay", 77.36),
            ("alexnet", "small-alexnet", "small AlexNet", "true-labels+crop", "-crop", "random crop", 79.66),
            (
                "alexnet",
                "small-alexnet",
                "small AlexNet",
                "true-labels+crop+wd",
                "-crop-wd",
                "random crop and weight decay",
                81.22,
            ),
            ("inception", "small-inception", "small Inception", "true-labels+wd", "-wd", "weight decay", 86.03),
            ("inception", "small-inception", "small Inception", "true-labels+crop", "-crop", "random crop", 89.31),
            (
                "inception",
                "small-inception",
                "small Inception",
                "true-labels+crop+wd",
                "-crop-wd",
                "random crop and weight decay",
                89.05,
            ),
            (
                "nobn",
                "small-inception-nobn",
                "small Inception without batch norm",
                "true-labels",
                "",
                "no regulariser",
                82.00,
            ),
            (
                "nobn",
                "small-inception-nobn",
                "small Inception without batch norm",
                "true-labels+wd",
                "-wd",
                "weight decay",
                83.00,
            ),
        )
    ),
)
