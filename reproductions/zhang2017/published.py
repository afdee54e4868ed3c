"""What the paper printed (arXiv 1611.03530) and the figures show: Table 1 and the text; none is read off a plot."""

from __future__ import annotations

# Test error at p = 0 (100 - Table 1) and where all curves end (section 2.2).
PAPER_TEST_ERROR = {"small-inception": 14.25, "small-alexnet": 23.93, "mlp-1x512": 49.49, "mlp-3x512": 47.61}
PAPER_CHANCE = 90.0
PAPER_SLOWDOWN = 4.0
PAPER_BATCH_NORM = {"small-inception": 85.75, "small-inception-nobn": 82.00}

# Table 1: cell -> (train, test) accuracy in %.
TABLE_1 = {
    "small-inception/true-labels+crop+wd": (100.0, 89.05),
    "small-inception/true-labels+crop": (100.0, 89.31),
    "small-inception/true-labels+wd": (100.0, 86.03),
    "small-inception/true-labels": (100.0, 85.75),
    "small-inception/random-labels": (100.0, 9.78),
    "small-inception-nobn/true-labels+wd": (100.0, 83.00),
    "small-inception-nobn/true-labels": (100.0, 82.00),
    "small-inception-nobn/random-labels": (100.0, 10.12),
    "small-alexnet/true-labels+crop+wd": (99.90, 81.22),
    "small-alexnet/true-labels+crop": (99.82, 79.66),
    "small-alexnet/true-labels+wd": (100.0, 77.36),
    "small-alexnet/true-labels": (100.0, 76.07),
    "small-alexnet/random-labels": (99.82, 9.86),
    "mlp-3x512/true-labels+wd": (100.0, 53.35),
    "mlp-3x512/true-labels": (100.0, 52.39),
    "mlp-3x512/random-labels": (100.0, 10.48),
    "mlp-1x512/true-labels+wd": (99.80, 50.39),
    "mlp-1x512/true-labels": (100.0, 50.51),
    "mlp-1x512/random-labels": (99.34, 10.61),
}
