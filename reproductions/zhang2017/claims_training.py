"""The sentences of Zhang et al. 2017 on training, each with its number and the check that decides it.

Tolerances were fixed before any run was looked at: a test accuracy of Table 1 counts as reproduced within 1.5 points,
"fits" means at least 99 % training accuracy (the lowest figure that the paper calls a fit is 99.21), "chance" is 10 %
within 1 point on CIFAR-10's 10,000 test images and within 4 points on the 597 of digits. One thing changed afterwards:
ranges that ended at 100 % or at 0 were opened on that side, because a t-interval around 99.97 passes 100.
"""

from __future__ import annotations

import math

from zhang2017.checks import (
    FITS,
    INF,
    NEEDS_CIFAR,
    NEEDS_GPU,
    NEEDS_IMAGENET,
    NOT_HERE,
    PAPER_ONLY,
    REAL,
    rank_correlation,
    slowdown,
    smallest_step,
)

from lightning_regs.study.paper.measures import difference, per_seed, value
from lightning_regs.study.paper.old import Claim

_SWEEP = ("true-labels", "partial-0.2", "partial-0.4", "partial-0.6", "partial-0.8", "random-labels")
_MODES = ("shuffled-pixels", "random-pixels", "gaussian")
_MLP_SWEEP = tuple(f"mlp-1x512/{variant}" for variant in _SWEEP)


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
        measure=slowdown("mlp-1x512/random-labels", "mlp-1x512/true-labels", at_most=4.0),
        holds=(1.0, 4.0),
        out_of_reach=NOT_HERE,
    ),
    Claim(
        id="3-factor-inception",
        sentence="Random labels take up to about 4 times the epochs of true labels to fit (small Inception).",
        paper="1 to 4",
        provenance="seen: NOTES",
        unit="x",
        measure=slowdown("small-inception/random-labels", "small-inception/true-labels", at_most=4.0),
        holds=(1.0, 4.0),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
    ),
    Claim(
        id="3-smooth",
        sentence="The slowdown grows with the corruption level (rank correlation, MLP 1x512).",
        paper="grows",
        provenance="seen: TEXT",
        unit="",
        measure=rank_correlation("fit_epoch", *_MLP_SWEEP),
        holds=(0.8, INF),
        out_of_reach=NOT_HERE,
    ),
    Claim(
        id="1-chance-inception",
        sentence="Small Inception trained on random labels is at chance on the test set.",
        paper=9.78,
        provenance="seen: SLIDES",
        unit="%",
        measure=value("small-inception/random-labels", "test_acc"),
        holds=(9.0, 11.0),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
    ),
    _fits("1-nobn", "small-inception-nobn", "Small Inception without batch norm", 100.0, PAPER_ONLY),
    Claim(
        id="4-modes",
        sentence="Every mode of randomisation is fitted to at least 99.9 % (the least over all modes, MLP 1x512).",
        paper=100.0,
        provenance="seen: TEXT",
        unit="%",
        measure=per_seed(min, *((f"mlp-1x512/{mode}", "train_acc") for mode in (*_SWEEP, *_MODES))),
        holds=(99.9, INF),
        out_of_reach=NOT_HERE,
    ),
    Claim(
        id="4-chance",
        sentence="Trained on random pixels or Gaussian images, the net is near chance on such test images (the larger "
        "test accuracy, MLP 1x512).",
        paper="about 10",
        provenance="derived",
        unit="%",
        measure=per_seed(max, *((f"mlp-1x512/{mode}", "test_acc") for mode in ("random-pixels", "gaussian"))),
        holds=(6.0, 14.0),
        out_of_reach=NOT_HERE,
    ),
    *(
        Claim(
            id=f"4-{mode}{suffix}",
            sentence=f"Images with {title} are fitted to zero training error ({net}).",
            paper=100.0,
            provenance="seen: TEXT",
            unit="%",
            measure=value(f"{model}/{mode}", "train_acc"),
            holds=(99.9, INF),
            scales=scales,
            out_of_reach=reason,
        )
        for model, suffix, net, scales, reason in (
            ("mlp-1x512", "", "MLP 1x512", None, NOT_HERE),
            ("small-inception", "-inception", "small Inception", PAPER_ONLY, NEEDS_GPU),
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
            lambda labels, epochs, *images: (
                (epochs + 1 if math.isnan(labels) else labels) - max(images)
                if all(map(math.isfinite, images))
                else math.nan
            ),
            ("mlp-1x512/random-labels", "fit_epoch"),
            ("mlp-1x512/random-labels", "epochs"),
            ("mlp-1x512/random-pixels", "fit_epoch"),
            ("mlp-1x512/gaussian", "fit_epoch"),
        ),
        holds=(1.0, INF),
        out_of_reach=NOT_HERE,
    ),
    Claim(
        id="5-rise",
        sentence="Test error rises with every level of label corruption (smallest rise, MLP 1x512).",
        paper="> 0",
        provenance="seen: TEXT",
        unit="points",
        measure=smallest_step("test_acc", -1.0, *_MLP_SWEEP),
        holds=(1e-9, INF),
        out_of_reach=NOT_HERE,
    ),
    Claim(
        id="5-rise-inception",
        sentence="Test error rises with every level of label corruption (smallest rise, small Inception).",
        paper="> 0",
        provenance="seen: TEXT",
        unit="points",
        measure=smallest_step("test_acc", -1.0, *(f"small-inception/{variant}" for variant in _SWEEP)),
        holds=(1e-9, INF),
        scales=PAPER_ONLY,
        out_of_reach=NEEDS_GPU,
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
        out_of_reach=NOT_HERE,
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
        sentence="Small AlexNet with weight decay (5e-4; the paper's is not stated) fails to converge on random labels "
        "(training accuracy).",
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
    Claim(
        id="10-imagenet",
        sentence="Early stopping may help on ImageNet (top-1 test accuracy of the best epoch over the last).",
        paper=3.36,
        provenance="derived",
        unit="points",
        measure=per_seed(
            lambda best, last: best - last,
            ("inception-v3/true-labels", "best_test_acc"),
            ("inception-v3/true-labels", "test_acc"),
        ),
        holds=(1.0, INF),
        scales=("imagenet",),
        out_of_reach=NEEDS_IMAGENET,
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
