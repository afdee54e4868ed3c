"""Gaier & Ha: Weight Agnostic Neural Networks (1906.04358), the part on MNIST."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    Cells,
    Claim,
    Deviation,
    Family,
    Figure,
    Metric,
    Paper,
    Scale,
    Source,
    curves,
    difference,
    grid,
    points,
    value,
    weighted_sum,
)

CONFIG = "configs/gaier2019/mnist.yaml"
DIGITS = {"data.source": "digits", "trainer.max_epochs": 60}


def _cells(search: dict[str, Any], size: int | None, overrides: dict[str, Any]) -> Cells:
    """Search, train the champion's weights, and train a linear net on the same images."""
    linear = overrides | {"size": size}
    found = linear | {"search": search}
    return (
        grid("wann", CONFIG, found, task="gaier2019.tasks:searched")
        + grid("trained", CONFIG, found, task="gaier2019.tasks:trained", needs=("wann",))
        + grid("linear", CONFIG, linear, task="gaier2019.tasks:trained")
    )


QUICK = {"population": 64, "generations": 1000, "batch_size": 200, "tournament": 16, "enabled": 0.1}
STANDARD = {"population": 96, "generations": 2400, "batch_size": 500, "tournament": 16}
WHOLE = {"population": 960, "generations": 4096, "batch_size": 1000, "tournament": 64}
SMALLER = {"other": {"model.architecture_args.hidden": [20]}}
AGREEMENT = grid("study/agreement", CONFIG, DIGITS | SMALLER, seeds=3, stack=True)

PAGE = Source("page", "Weight Agnostic Neural Networks", "Gaier, Ha", 2019, "weightagnostic.github.io")
CODE = Source("code", "brain-tokyo-workshop, WANNRelease", "Gaier, Ha", 2019, "github.com/google/brain-tokyo-workshop")
ON_MNIST = ("standard", "paper")
_says = partial(Claim, source=PAGE, where="MNIST")
_more = partial(Claim, source=PAGE, where="MNIST", above=0, origin="derived")


def _gain(metric: str, other: str) -> Any:
    return difference("wann", "wann", metric, other)


CLAIMS = (
    _says("random", "With one random weight for all connections 82.0 % of the test images are right.",
          value("wann", "random_acc"), within=3, published=82.0, on=("paper",)),
    _says("chance", "With one random weight for all connections a topology found by search is far above chance: it "
          "has at least 30 % of the test images right.",
          value("wann", "random_acc"), at_least=30, published=82.0, headline=True),
    _says("spread", "Some shared weights are much worse than others: the standard deviation of the accuracy over "
          "weights is at least 9 points.", value("wann", "random_sd"), at_least=9, published=18.7),
    _says("ensemble", "The same net at several weights, as an ensemble, has 91.6 %.", value("wann", "ensemble_acc"),
          within=2, published=91.6, on=("paper",)),
    _more("ensemble-gain", "A topology found by search has a higher accuracy with six shared weights as an ensemble "
          "than with one random weight.",
          _gain("ensemble_acc", "random_acc"), published=9.6, headline=True),
    _says("tuned", "The best single weight has 91.9 %.", value("wann", "tuned_acc"), within=2, published=91.9,
          on=("paper",)),
    _more("tuned-gain", "One weight for all connections of a topology found by search, tuned on training images, is "
          "better than a random one.",
          _gain("tuned_acc", "random_acc"), published=9.9, headline=True),
    _more("tuned-linear", "With one tuned weight the topology is as good as a linear net on the same images: at most a "
          "point worse.",
          weighted_sum((1, "wann", "tuned_acc"), (-1, "linear", "test_acc")), above=None, at_least=-1,
          published=0.3, on=("paper",)),
    _says("trained", "With trained weights the topology has 94.2 %.", value("trained"), within=2, published=94.2,
          on=("paper",)),
    _more("trained-gain", "Training the weight of each connection of a topology found by search is better than one "
          "tuned weight for all.",
          weighted_sum((1, "trained", "test_acc"), (-1, "wann", "tuned_acc")), published=2.3, headline=True),
    _more("trained-linear", "With trained weights the topology is better than a linear net on the same images.",
          difference("trained", "linear"), published=2.6),
    _says("linear", "A linear net has 91.6 % of these images right.", value("linear"), within=1.5, published=91.6,
          on=ON_MNIST),
    Claim("separate", "With a random weight of its own for each connection a topology found by search has less than "
          "half of the accuracy that it has with a shared random weight; shown is by how much.",
          weighted_sum((0.5, "wann", "random_acc"), (-1, "wann", "separate_acc")), above=0, published="they fail",
          source=PAGE, where="control tasks", headline=True),
    Claim("search", "The search is needed: with a random shared weight the best net of its first generation is at "
          "least 10 points worse than the champion of its last.",
          _gain("random_acc", "first_acc"), at_least=10, kind="control"),
    Claim("control", "Such topologies swing up a cart-pole, walk on two legs and race a car.", source=PAGE,
          where="control tasks", out_of_reach="Simulators of these tasks are no part of this package"),
)  # fmt: skip
WAYS = {name: value("wann", f"{key}_acc") for key, name in (
    ("separate", "separate random weights"), ("first", "random weight, first generation"), ("random", "random weight"),
    ("ensemble", "six weights together"), ("tuned", "tuned weight"),
)} | {"trained weights": "trained", "linear net": "linear"}  # fmt: skip
NETS = Family(
    "Champions",
    (
        Metric("random_acc", "One random weight", "%"), Metric("random_sd", "Deviation over weights", "points"),
        Metric("ensemble_acc", "Six weights together", "%"), Metric("tuned_acc", "One tuned weight", "%"),
        Metric("tuned_weight", "That weight"), Metric("separate_acc", "Separate random weights", "%"),
        Metric("first_acc", "Best of the first generation", "%"), Metric("connections", "Connections"),
        Metric("hidden", "Hidden nodes"), Metric("depth", "Depth"), Metric("six_acc", "Six weights, mean", "%"),
        Metric("least_acc", "Worst weight", "%"), Metric("most_acc", "Best weight", "%"), Metric("inputs", "Inputs"),
    ),
    shown=10,
)  # fmt: skip

PAPER = Paper(
    "gaier2019", PAGE.title, PAGE.authors, 2019, "1906.04358",
    summary="Topologies can be found that classify digits with one random weight for all connections: the wiring of a "
    "net does part of what its weights do.",
    scales=(
        Scale("quick", "Digits of 8x8 pixels, 64 candidates, 1,000 generations: 13 minutes of a core",
              _cells(QUICK, None, DIGITS) + AGREEMENT, seeds=5),
        Scale("standard", "MNIST in 16x16 pixels, 96 candidates, 2,400 generations: 45 minutes of a core",
              _cells(STANDARD, 16, {}), seeds=3, jobs=1),
        Scale("paper", "The same with 960 candidates and 4,096 generations: days of a core a seed",
              _cells(WHOLE, 16, {"trainer.max_epochs": 50}), seeds=5),
    ),
    claims=CLAIMS,
    metrics=(NETS,),
    figures=(
        points("ways", "Test accuracy by how weights are set", "test_acc", WAYS, "All connections of a topology that "
               "was found share the weight, but for separate and trained ones. The published numbers "
               "are of MNIST.", y="test accuracy (%)",
               published={("wann", "ensemble_acc"): 91.6, ("wann", "tuned_acc"): 91.9, ("trained", "test_acc"): 94.2,
                          ("linear", "test_acc"): 91.6}),
        curves("weights", "Test accuracy by the weight that all connections share", "test_acc", {"champion": "wann"},
               "The horizontal axis is the weight. From 1 on, of either sign, most digits are right; next to 0 it is "
               "3 to 26 %.", x="shared weight", y="test accuracy (%)"),
        Figure("champion", "A champion", "Connections go from pixels on the left to classes on the right; marks are "
               "the activations of hidden nodes.",
               "gaier2019.figures:champion"),
    ),
    deviations=(
        Deviation("quick", "MNIST, 960 candidates, 4,096 generations of 1,000 images", "Digits of 8x8 pixels, 64 "
                  "candidates, 1,000 generations of 200, tournaments of 16, a tenth of connections on at first; not "
                  "deskewed", "Only directions"),
        Deviation("standard", "960 candidates, 4,096 generations of 1,000 images", "96 candidates, 2,400 generations "
                  "of 500, tournaments of 16", "A seventeenth of the candidates in all: perhaps lower accuracies"),
        Deviation("", "Random weights", "64 at even distances in [-2, 2]; for each connection 64 draws from there",
                  "The range is not said in what was read"),
        Deviation("", "An ensemble of weights", "The mean probabilities of the six weights of the search",
                  "How votes are counted is not said in what was read"),
        Deviation("", "One weight is tuned by line search, all are trained by CMA-ES or REINFORCE", "The best of 121 "
                  "in [-3, 3] on training images; by Adam, from 1 on", "Better or worse"),
        Deviation("", "Weights of their own for each connection are tried on control tasks", "On digits", "Not known"),
        Deviation("", "A split connection between hidden nodes goes on to count in the authors' code", "It is off, as "
                  "the paper has it", "Not measured"),
        Deviation("", "A candidate without connections counts as one with one", "It comes last, or small populations "
                  "are nothing else after some generations", "Not measured; in large populations perhaps nothing"),
        Deviation("", "Images are scaled and sheared by OpenCV", "By torch, with the same formulas",
                  "None that a test against SciPy finds"),
    ),
)  # fmt: skip
