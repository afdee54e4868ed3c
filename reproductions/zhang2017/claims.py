"""The sentences of Zhang et al. 2017, each with its number and the check that decides it.

Tolerances were fixed before any run was looked at: a test accuracy of Table 1 counts as reproduced within 1.5 points,
"fits" means at least 99 % training accuracy (the lowest figure that the paper calls a fit is 99.21), "chance" is 10 %
within 1 point on CIFAR-10's 10,000 test images and within 4 points on the 597 of digits. One thing changed afterwards:
ranges that ended at 100 % or at 0 were opened on that side, because a t-interval around 99.97 passes 100.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from zhang2017.cells import MODES, SWEEP

from lightning_regs.study import (
    Claim,
    Measure,
    Source,
    across,
    difference,
    largest,
    margin,
    rank_correlation,
    ratio,
    smallest,
    smallest_step,
    trained,
    value,
)

TEXT = Source(
    "text", "Understanding deep learning requires rethinking generalization", "Zhang et al.", 2017,
    "arxiv.org/abs/1611.03530", "Read as a bilingual full text of sections 0 to 6, without the appendix",
)  # fmt: skip
SLIDES = Source(
    "slides", "Course slides",
    note="They transcribe Table 1; a second, independent deck gives the same rows as far as its excerpt ran",
)  # fmt: skip
NOTES = Source("notes", "Paper notes", note="The page on arXiv 1611.03530 of a collection of notes on papers")
STUDENT = Source("student", "Student reproduction", note="A repository with recipes and an alignment report")
AUTHOR = Source(
    "author", "Code of the first author", link="github.com/pluskid/fitting-random-labels",
    note="It has the kernel's bandwidth on MNIST, and does not reproduce the paper's exact models",
)  # fmt: skip

REAL = ("standard", "paper")
GPU = ("paper",)


class Row(NamedTuple):
    """A row of Table 1: the claim on its test accuracy with its scales, the cell, and what the paper printed in %."""

    claim: str
    on: tuple[str, ...]
    cell: str
    label: str
    train: float
    test: float


# Rows without a claim here have one on their training accuracy below.
TABLE_1 = tuple(Row(*row) for row in (
    ("T1-inception-crop-wd", GPU, "small-inception/true-labels+crop+wd", "Inception, crop, weight decay", 100.0, 89.05),
    ("T1-inception-crop", GPU, "small-inception/true-labels+crop", "Inception, crop", 100.0, 89.31),
    ("T1-inception-wd", GPU, "small-inception/true-labels+wd", "Inception, weight decay", 100.0, 86.03),
    ("6", GPU, "small-inception/true-labels", "Inception", 100.0, 85.75),
    ("", GPU, "small-inception/random-labels", "Inception, random labels", 100.0, 9.78),
    ("T1-nobn-wd", GPU, "small-inception-nobn/true-labels+wd", "Inception w/o BN, weight decay", 100.0, 83.00),
    ("T1-nobn", GPU, "small-inception-nobn/true-labels", "Inception w/o BN", 100.0, 82.00),
    ("", GPU, "small-inception-nobn/random-labels", "Inception w/o BN, random labels", 100.0, 10.12),
    ("T1-alexnet-crop-wd", GPU, "small-alexnet/true-labels+crop+wd", "AlexNet, crop, weight decay", 99.90, 81.22),
    ("T1-alexnet-crop", GPU, "small-alexnet/true-labels+crop", "AlexNet, crop", 99.82, 79.66),
    ("T1-alexnet-wd", GPU, "small-alexnet/true-labels+wd", "AlexNet, weight decay", 100.0, 77.36),
    ("T1-alexnet", REAL, "small-alexnet/true-labels", "AlexNet", 100.0, 76.07),
    ("", REAL, "small-alexnet/random-labels", "AlexNet, random labels", 99.82, 9.86),
    ("T1-mlp3-wd", REAL, "mlp-3x512/true-labels+wd", "MLP 3x512, weight decay", 100.0, 53.35),
    ("T1-mlp3", REAL, "mlp-3x512/true-labels", "MLP 3x512", 100.0, 52.39),
    ("", REAL, "mlp-3x512/random-labels", "MLP 3x512, random labels", 100.0, 10.48),
    ("T1-mlp1-wd", REAL, "mlp-1x512/true-labels+wd", "MLP 1x512, weight decay", 99.80, 50.39),
    ("T1-mlp1", REAL, "mlp-1x512/true-labels", "MLP 1x512", 100.0, 50.51),
    ("", REAL, "mlp-1x512/random-labels", "MLP 1x512, random labels", 99.34, 10.61),
))  # fmt: skip
_ROW = {row.cell: row for row in TABLE_1}

_T1: dict[str, Any] = {"source": SLIDES, "where": "Table 1", "unit": "%"}
_T1_POINTS: dict[str, Any] = _T1 | {"unit": "points", "origin": "derived"}
_T2: dict[str, Any] = {"source": TEXT, "where": "Table 2", "on": ("imagenet",)}
_T3: dict[str, Any] = {"source": (NOTES, TEXT), "where": "Table 3"}
_T4: dict[str, Any] = {"source": (STUDENT, NOTES), "where": "Table 4", "unit": "%"}
_S5: dict[str, Any] = {"source": TEXT, "where": "section 5"}


def _fits(id: str, cell: str, sentence: str, **more: Any) -> Claim:
    """A claim on the training accuracy of a row of Table 1, or of a control of one, or with its own ``published``."""
    if "published" not in more:
        more = _T1 | more | {"published": _ROW["/".join(cell.split("/")[:2])].train}
    return Claim(id, f"{sentence} (training accuracy).", value(cell, "train_acc"), at_least=99, **more)


def _gain_of_stopping(cell: str) -> Measure:
    return difference(cell, cell, "best_test_acc", "test_acc")


def _of_two_nets(net: str, name: str, ending: str, on: tuple[str, ...] | None) -> tuple[Claim, ...]:
    images = ("shuffled pixels", "pixels permuted image by image", "Gaussian pixels")
    return (
        Claim(f"3-factor{ending}", f"Random labels take up to about 4 times the epochs of true labels to fit ({name}).",
              ratio(f"{net}/random-labels", f"{net}/true-labels", "fit_epoch", until="epochs"), at_least=1, at_most=4,
              published="1 to 4", unit="x", source=NOTES, where="Figure 1b", on=on),
        *(Claim(f"4-{mode}{ending}", f"Images with {what} are fitted to zero training error ({name}).",
                value(f"{net}/{mode}", "train_acc"), at_least=99.9, published=100.0, unit="%",
                source=TEXT, where="Figure 1a", on=on)
          for mode, what in zip(MODES, images, strict=True)),
        Claim(f"5-rise{ending}", f"Test error rises with every level of label corruption (smallest rise, {name}).",
              smallest_step("test_acc", -1, *(f"{net}/{variant}" for variant in SWEEP)), above=0, published="> 0",
              unit="points", source=TEXT, where="Figure 1c", on=on, headline=not ending),
    )  # fmt: skip


def _chance(id: str, cell: str, name: str, near: float = 1, **more: Any) -> Claim:
    sentence = f"{name} trained on random labels is at chance on the test set."
    more = _T1 | {"published": _ROW[cell].test} | more
    return Claim(id, sentence, value(cell), at_least=10 - near, at_most=10 + near, **more)


# What the paper does not state, set otherwise.
_UNSTATED = {"batches of 64": "/batch64", "Glorot's initial weights": "/glorot", "float32": "/fp32"}
_ON_DIGITS = {
    "batches of 25": "/batch25", "batches of 100": "/batch100", "Glorot's initial weights": "/glorot",
    "weight decay 5e-4": "+wd",
}  # fmt: skip


def _set_otherwise(cell: str, metric: str, keys: dict[str, str]) -> dict[str, Measure]:
    return {words: value(f"{cell}{key}", metric) for words, key in keys.items()}


_MLP_CHANCE = _chance("1-chance", "mlp-1x512/random-labels", "MLP 1x512")
_GLOROT = {"Glorot's initial weights": "/glorot"}


def _fit_of_mlp(layers: str, keys: dict[str, str]) -> Claim:
    cell = f"mlp-{layers}x512/random-labels"
    return _fits(f"2-mlp{layers}", cell, f"MLP {layers}x512 fits random labels", headline=layers == "1",
                 settings=_set_otherwise(cell, "train_acc", keys))  # fmt: skip


_DERIVED: dict[str, Any] = {"published": "about 10", "source": TEXT, "where": "Figure 1c", "origin": "derived"}
_MLP_SWEEP = tuple(f"mlp-1x512/{variant}" for variant in SWEEP)
_ALL_MODES = (*_MLP_SWEEP, *(f"mlp-1x512/{mode}" for mode in MODES))

MEMORISATION = (
    _fits("1", "small-inception/random-labels", "Small Inception fits random labels", on=GPU, headline=True),
    _fits("1-nobn", "small-inception-nobn/random-labels", "Small Inception without batch norm fits random labels",
          on=GPU),
    *across(standard=[_MLP_CHANCE], paper=[_MLP_CHANCE],
            quick=[_chance("1-chance", "mlp-1x512/random-labels", "MLP 1x512", near=4, **_DERIVED)]),
    _chance("1-chance-inception", "small-inception/random-labels", "Small Inception", on=GPU),
    _fits("2-alexnet", "small-alexnet/random-labels", "Small AlexNet fits random labels"),
    *across(quick=[_fit_of_mlp("3", {})], standard=[_fit_of_mlp("3", _GLOROT)], paper=[_fit_of_mlp("3", {})]),
    *across(quick=[_fit_of_mlp("1", _ON_DIGITS)], standard=[_fit_of_mlp("1", _UNSTATED)], paper=[_fit_of_mlp("1", {})]),
    *_of_two_nets("mlp-1x512", "MLP 1x512", "", None),
    *_of_two_nets("small-inception", "small Inception", "-inception", GPU),
    Claim("3-smooth", "The slowdown grows with the corruption level (rank correlation, MLP 1x512).",
          rank_correlation("fit_epoch", *_MLP_SWEEP, until="epochs"), at_least=0.8, published="grows", source=TEXT,
          where="Figure 1b"),
    Claim("4-modes", "Every mode of randomisation is fitted (the least training accuracy over all modes, MLP 1x512).",
          smallest("train_acc", *_ALL_MODES), at_least=99.9, published=100.0, unit="%", source=TEXT, where="Figure 1"),
    Claim("4-chance", "Trained on random pixels or Gaussian images, the net is near chance on such test images (the "
          "larger test accuracy, MLP 1x512).",
          largest("test_acc", "mlp-1x512/random-pixels", "mlp-1x512/gaussian"), at_least=6, at_most=14, unit="%",
          **_DERIVED | {"where": "Figure 1a"}),
    Claim("4-order", "Random pixels and Gaussian images are fitted in fewer epochs than random labels (MLP 1x512).",
          margin("mlp-1x512/random-labels", ("mlp-1x512/random-pixels", "mlp-1x512/gaussian"), "fit_epoch",
                 until="epochs"), at_least=1,
          published="> 0", unit="epochs", source=TEXT, where="Figure 1a"),
)  # fmt: skip

# Rows that a control at standard scale sets otherwise.
_OF_MLPS = {"T1-mlp3": _GLOROT, "T1-mlp1": _GLOROT | {"float32": "/fp32"}}


def _row_of_mlp(row: Row, scale: str) -> Claim:
    otherwise = _set_otherwise(row.cell, "test_acc", _OF_MLPS[row.claim]) if scale == "standard" else {}
    return Claim(row.claim, f"Table 1: {row.label}: test accuracy on CIFAR-10.", value(row.cell), within=1.5,
                 published=row.test, settings=otherwise, **_T1)  # fmt: skip


_WITH_WD = "fits random labels in spite of weight decay"
REGULARIZERS = (
    *(Claim(row.claim, f"Table 1: {row.label}: test accuracy on CIFAR-10.", value(row.cell), within=1.5,
            published=row.test, on=row.on, **_T1)
      for row in TABLE_1 if row.claim and row.claim not in _OF_MLPS),
    *across(**{scale: [_row_of_mlp(row, scale) for row in TABLE_1 if row.claim in _OF_MLPS] for scale in REAL}),
    Claim("6-gain", "Crop and weight decay add 3.30 points to small Inception's test accuracy.",
          difference("small-inception/true-labels+crop+wd", "small-inception/true-labels"), within=1.5,
          published=3.30, on=GPU, headline=True, **_T1_POINTS),
    Claim("6-mlp", "Weight decay hardly changes MLP 1x512's test accuracy.",
          difference("mlp-1x512/true-labels+wd", "mlp-1x512/true-labels"), at_least=-1.5, at_most=1.5,
          published=-0.12, on=REAL, **_T1_POINTS),
    _fits("7-inception", "small-inception/random-labels+wd", f"Small Inception {_WITH_WD}",
          published=100.0, on=GPU, **_T4),
    _fits("7-mlp3", "mlp-3x512/random-labels+wd", f"MLP 3x512 {_WITH_WD}", published=100.0, on=REAL, **_T4),
    _fits("7-mlp1", "mlp-1x512/random-labels+wd", f"MLP 1x512 {_WITH_WD}", published=99.21, **_T4),
    Claim("7-alexnet", "Small AlexNet with weight decay (5e-4; the paper's is not stated) fails to converge on random "
          "labels (training accuracy).",
          value("small-alexnet/random-labels+wd", "train_acc"), at_most=99, published="fails", on=GPU, **_T4),
    _fits("8-crop", "small-inception/random-labels+crop", "Small Inception fits random labels in spite of random crops",
          published=99.93, on=GPU, **_T4),
    _fits("8-augment", "small-inception/random-labels+augment",
          "Small Inception fits random labels in spite of full augmentation", published=99.28, on=GPU, **_T4),
    Claim("9", "Batch norm is worth 3 to 4 points of small Inception's test accuracy.",
          difference("small-inception/true-labels", "small-inception-nobn/true-labels"), within=1.5,
          published=3.75, on=GPU, **_T1_POINTS | {"source": (SLIDES, TEXT)}),
    Claim("9-thin", "Batch norm raises the test accuracy of a small Inception of a quarter of the width (2,000 images; "
          "the paper's difference is of the whole net at 50,000).",
          difference("small-inception/true-labels", "small-inception-nobn/true-labels"), above=0, published=3.75,
          on=("thin",), valid_if=trained("small-inception*/true-labels", at_least=90),
          **_T1_POINTS | {"source": (SLIDES, TEXT)}),
    Claim("10", "Early stopping shows no benefit on CIFAR-10 (best epoch's test accuracy over the last's, MLP 1x512).",
          _gain_of_stopping("mlp-1x512/true-labels"), at_most=1, published="none", unit="points", source=TEXT, on=REAL),
    Claim("10-imagenet", "Early stopping may help on ImageNet (top-1 test accuracy of the best epoch over the last).",
          _gain_of_stopping("inception-v3/true-labels"), at_least=1, published=3.36, unit="points", origin="derived",
          **_T2 | {"source": NOTES}),
    Claim("11-random", "ImageNet, Inception V3, random labels without regularisers: top-1 training accuracy.",
          value("inception-v3/random-labels", "train_acc"), at_least=90, published=95.20, unit="%", **_T2),
    Claim("11-random-reg", "ImageNet, Inception V3, random labels, dropout and weight decay: top-1 training accuracy.",
          value("inception-v3/random-labels+dropout+wd", "train_acc"), at_least=85, published="about 90", unit="%",
          **_T2),
    Claim("11-true", "ImageNet, Inception V3, true labels without regularisers: top-1 test accuracy.",
          value("inception-v3/true-labels"), within=1.5, published=59.80, unit="%", **_T2),
)  # fmt: skip


def _no_ridge(id: str, cell: str, name: str, exact: bool = False) -> Claim:
    return Claim(id, f"The best ridge gains nothing on {name} (points of test error).",
                 value(f"theory/{cell}", "ridge_gain"), at_most=0.3, published="no gain", unit="points",
                 exact=exact, **_T3)  # fmt: skip


_PROVEN: dict[str, Any] = {"kind": "theory", "exact": True, "on": ("quick",)}
THEORY = (
    Claim("12", "Theorem 1: 2n + d weights fit any labels (largest residual, n = 200, d = 30, float64).",
          value("theory/theorem1", "max_residual"), at_most=1e-6, published=0.0, source=TEXT, where="Theorem 1",
          headline=True, **_PROVEN),
    Claim("12-count", "Theorem 1: the construction has no weight more than 2n + d.",
          value("theory/theorem1", "excess_weights"), at_most=0, published=0.0, unit="weights", source=TEXT,
          where="Theorem 1", **_PROVEN),
    Claim("12-deep", "Theorem 1 with depth k: the width is of order n / k (largest width over n / (k - 1), k to 11).",
          value("theory/theorem1-deep", "width_ratio"), at_most=2, published="O(1)", source=NOTES, where="Theorem 1",
          **_PROVEN),
    Claim("13-mnist", "A Gaussian kernel without regularisation has this test error on MNIST (60,000 images).",
          value("theory/kernel-mnist", "test_error"), within=0.1, published=1.2, unit="%", exact=True,
          on=REAL, **_T3 | {"source": (NOTES, TEXT, AUTHOR)}),
    Claim("13-fit", "The kernel interpolates MNIST: no training error without regularisation (60,000 images).",
          value("theory/kernel-mnist", "train_error"), at_most=0, published=0.0, unit="%", exact=True,
          origin="derived", on=REAL, **_S5),
    Claim("13-gabor", "After a Gabor transform a Gaussian kernel has this test error on MNIST (60,000 "
          "images; in the paper half of that on pixels).",
          value("theory/gabor-mnist", "test_error"), within=0.1, published=0.6, unit="%", exact=True,
          on=REAL, **_T3),
    *across(standard=[_no_ridge("13-gabor-l2", "gabor-mnist-10k", "10,000 images of MNIST after the Gabor transform")],
            paper=[_no_ridge("13-gabor-l2", "gabor-mnist", "MNIST after the Gabor transform", exact=True)]),
    Claim("13-gabor-10k", "A Gabor transform lowers the kernel's test error on MNIST (10,000 images; the paper's "
          "difference is at 60,000).",
          difference("theory/gabor-mnist-10k", "theory/kernel-mnist-10k", "test_error"), below=0,
          published=-0.6, unit="points", origin="derived", on=("standard",), **_T3),
    Claim("13-cifar", "A Gaussian kernel on pixels has this test error on CIFAR-10 (50,000 images).",
          value("theory/kernel-cifar10", "test_error"), within=1.5, published=46.0, unit="%", exact=True,
          on=REAL, **_T3),
    Claim("13-conv", "On 32,000 random convolutional features the error on CIFAR-10 is this (50,000 images).",
          value("theory/conv-cifar10", "test_error"), within=1.5, published=17.0, unit="%", on=GPU, **_T3),
    Claim("13-conv-5k", "Random convolutional features lower the kernel's error on CIFAR-10 by over 10 points (5,000 "
          "images and 500 filters; the paper's difference is at 50,000 and 32,000).",
          difference("theory/conv-cifar10-5k", "theory/kernel-cifar10-5k", "test_error"), at_most=-10,
          published=-29.0, unit="points", origin="derived", on=("standard",), **_T3),
    *across(**{scale: [Claim(
        "13-conv-l2", "On random convolutional features of CIFAR-10 a ridge does help (points of test error).",
        value(cell, "ridge_gain"), above=0, published=2.0, unit="points", origin="derived", **_T3)]
        for scale, cell in (("standard", "theory/conv-cifar10-5k"), ("paper", "theory/conv-cifar10"))}),
    *across(standard=[_no_ridge("13-l2", "kernel-mnist-10k", "10,000 images of MNIST")],
            quick=[_no_ridge("13-l2", "kernel-digits", "digits", exact=True)]),
    Claim("14", "The Gabor interpolant of 10,000 images of MNIST has the larger norm (ratio of norms sqrt(tr(a' K a)); "
          "the paper's are of 60,000 images).",
          ratio("theory/gabor-mnist-10k", "theory/kernel-mnist-10k", "norm"), at_least=1, published=1.77, unit="x",
          origin="derived", on=("standard",), **_S5),
    Claim("14-raw", "The minimum-norm interpolant of MNIST has about this norm (sqrt(tr(a' K a)), 60,000 images; the "
          "paper does not say which norm, nor for which bandwidth).",
          value("theory/kernel-mnist", "norm"), within=22, published=220.0, exact=True, on=REAL, **_S5),
    Claim("14-gabor", "After the Gabor transform the interpolant of MNIST has about this norm (60,000 images).",
          value("theory/gabor-mnist", "norm"), within=39, published=390.0, exact=True, on=REAL, **_S5),
    Claim("S5-sgd", "SGD from zero on least squares with d > n ends at the minimum-norm solution (relative distance).",
          value("theory/min-norm", "distance"), at_most=1e-6, published=0.0, origin="recalled", **_S5, **_PROVEN),
)  # fmt: skip


def _control(id: str, sentence: str, variant: str, metric: str) -> Claim:
    cell = f"mlp-1x512/{variant}"
    return Claim(id, f"bf16-mixed instead of float32 hardly changes MLP 1x512's {sentence}.",
                 difference(cell, f"{cell}/fp32", metric), at_least=-0.5, at_most=0.5, unit="points", kind="control",
                 on=("standard",))  # fmt: skip


# What the standard scale does differently from the paper.
CONTROLS = (
    Claim("C-thin", "With batch norm a small Inception of a quarter of the width fits 2,000 images in fewer "
          "epochs than without.",
          ratio("small-inception/true-labels", "small-inception-nobn/true-labels", "fit_epoch", until="epochs"),
          below=1, unit="x", kind="control", on=("thin",)),
    _control("C-bf16", "test accuracy", "true-labels", "test_acc"),
    _control("C-bf16-random", "training accuracy on random labels", "random-labels", "train_acc"),
)  # fmt: skip

CLAIMS = (*MEMORISATION, *REGULARIZERS, *THEORY, *CONTROLS)
