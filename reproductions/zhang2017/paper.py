"""Zhang, Bengio, Hardt, Recht, Vinyals: Understanding deep learning requires rethinking generalization (1611.03530)."""

from __future__ import annotations

from zhang2017 import cells
from zhang2017.claims_theory import CONTROLS, THEORY
from zhang2017.claims_training import MEMORISATION, REGULARIZERS, TABLE_1
from zhang2017.published import TABLE_1 as PUBLISHED

from lightning_regs.study.paper.figure import Figure, Panel
from lightning_regs.study.paper.paper import Paper, Scale

_CORRUPTION = ("*/true-labels", "*/partial-*", "*/random-labels")

PAPER = Paper(
    id="zhang2017",
    title="Understanding deep learning requires rethinking generalization",
    authors="Zhang, Bengio, Hardt, Recht, Vinyals",
    year=2017,
    arxiv="1611.03530",
    summary="Networks that generalise well on true labels also fit random labels and pure noise to zero training "
    "error, so neither their capacity nor explicit regularization alone explains why they generalise.",
    scales=(
        Scale(
            "quick",
            "scikit-learn's digits and small nets: minutes on two cores, the direction of the claims",
            cells.quick(),
        ),
        Scale(
            "standard",
            "CIFAR-10 and MNIST, both MLPs, the small AlexNet stopped at 40 of 64 epochs, kernels on up to 60,000 "
            "images: hours on two cores. Trained in bf16-mixed, with MLP 1x512 in float32 beside it as the control",
            cells.standard(),
            jobs=1,
        ),
        Scale("paper", "the paper's protocol with every CIFAR-10 net and row: one GPU", cells.paper(), jobs=1),
        Scale(
            "imagenet",
            "Table 2, Inception V3 on an ILSVRC 2012 folder: a GPU for days",
            cells.imagenet(),
            seeds=2,
            jobs=1,
        ),
    ),
    claims=(*MEMORISATION, *REGULARIZERS, *THEORY, *TABLE_1, *CONTROLS),
    figures=(
        Figure(
            "fig1a",
            "Figure 1a: every kind of randomisation is fitted",
            "Training loss against steps for true labels, shuffled pixels, random pixels, Gaussian images and random "
            "labels. The paper's curves fall in this order: true, shuffled, then random pixels and Gaussian, random "
            "labels last.",
            "zhang2017.figures:figure_1a",
            (
                Panel(
                    "curve",
                    ("train_loss",),
                    ("*/true-labels", *(f"*/{mode}" for mode in cells.MODES), "*/random-labels"),
                ),
            ),
        ),
        Figure(
            "fig1b",
            "Figure 1b: the slowdown grows with the corruption",
            "Epochs to fit the training set relative to true labels, against the share of corrupted labels. "
            "The paper's factor runs from 1 to about 4, the dotted line.",
            "zhang2017.figures:figure_1b",
            (Panel("bar", ("fit_epoch",), _CORRUPTION),),
        ),
        Figure(
            "fig1c",
            "Figure 1c: test error rises smoothly to chance",
            "Test error of nets that fit their training set, against the share of corrupted labels; rings are the "
            "paper's ends.",
            "zhang2017.figures:figure_1c",
            (Panel("bar", ("test_acc",), _CORRUPTION),),
        ),
        Figure(
            "fig2b",
            "Figure 2b: batch norm and no explicit regulariser",
            "Test accuracy over training of small Inception with and without batch norm; the paper ends at 85.75 and "
            "82.00 %.",
            "zhang2017.figures:figure_2b",
            (Panel("curve", ("test_acc",), ("small-inception/true-labels", "small-inception-nobn/true-labels")),),
        ),
        Figure(
            "table1",
            "Table 1: the paper's accuracy and ours",
            "Final accuracies on CIFAR-10, the paper's and ours with a 95 % interval over seeds.",
            "zhang2017.figures:table_1",
            (Panel("bar", ("train_acc", "test_acc"), tuple(PUBLISHED)),),
        ),
    ),
)
