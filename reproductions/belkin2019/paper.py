"""Belkin et al.: Reconciling modern machine learning and the bias-variance trade-off (1812.11118)."""

from functools import partial
from itertools import pairwise
from typing import Any

from lightning_regs.study import (
    FEATURES,
    GROWN,
    PADDED,
    Cell,
    Cells,
    Claim,
    Deviation,
    Family,
    Figure,
    Metric,
    Paper,
    Scale,
    Source,
    across,
    fall,
    grid,
    peak_position,
    rise,
    second_descent,
    sweep,
    value,
)

RATIOS = (0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.4, 1.7, 2, 3, 4, 6)
NETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
NOISE = {"clean": {}, "noisy": {"corruption": "partial_labels", "corruption_p": 0.22222222}}

BOOK = Source("paper", "Reconciling modern machine-learning practice and the classical bias-variance trade-off",
              "Belkin et al.", 2019, "arxiv.org/abs/1812.11118")  # fmt: skip
NOTES = Source("notes", "Notes on the paper and on two reproductions, by others")


def _units(ratio: float, samples: int, inputs: int) -> int:
    """Return the hidden units with which a net has so many parameters for each sample and class, of ten."""
    return round((ratio * samples * 10 - 10) / (inputs + 11))


def _waves(data: dict[str, Any], samples: int, scale: float) -> Cells:
    return Cells(
        Cell(f"waves-{labels}/{ratio:g}", FEATURES, {"data": data | noise | {"train_size": samples, "whiten": False},
             "features": {"count": round(ratio * samples), "scale": scale}})
        for labels, noise in NOISE.items() for ratio in RATIOS
    )  # fmt: skip


def _nets(config: str, samples: int, inputs: int) -> Cells:
    """Nets that start from random weights, and those that grow up to the size at which they fit."""
    units, found = {ratio: _units(ratio, samples, inputs) for ratio in NETS}, Cells()
    for labels, noise in NOISE.items():
        changes = {f"data.{name}": each for name, each in noise.items()}
        for above, most in pairwise((0, 1.25, 3, 10)):
            each = {f"{r:g}": {"padded": {"hidden": [u]}} for r, u in units.items() if above < r <= most}
            large = {"model.architecture_args.hidden": [units[most]]}
            found += grid(f"nets-{labels}/{{ratio}}", config, changes | large, task=PADDED,
                          stack=f"nets-{labels}/up-to-{most:g}", ratio=each)  # fmt: skip
    small = [unit for ratio, unit in units.items() if ratio <= 1]
    return found + grid("grown", config, {"grown": {"sizes": small}}, task=GROWN, stack=True)


def _reused(samples: int, inputs: int) -> dict[float, Any]:
    """Nets that have grown up to the size at which they fit, and those from random weights beyond."""
    return {r: value("grown", f"test_error_{_units(r, samples, inputs)}") if r <= 1 else
            value(f"nets-clean/{r:g}", "test_error") for r in NETS}  # fmt: skip


def _claims(samples: int, inputs: int) -> tuple[Claim, ...]:
    waves = {ratio: f"waves-clean/{ratio:g}" for ratio in RATIOS}
    nets = {labels: {ratio: f"nets-{labels}/{ratio:g}" for ratio in NETS} for labels in NOISE}
    said = partial(Claim, source=(BOOK, NOTES))
    at_one = partial(said, at_least=0.9, at_most=1.1, unit="x", published=1.0)
    more = partial(said, above=0, published="> 0")
    reused = _reused(samples, inputs)
    return (
        more("rise", "With more random features than a first minimum the test error of least squares rises to a peak.",
             rise(waves), headline=True),
        at_one("peak", "The test error of least squares peaks where there are as many random features as samples.",
               peak_position(waves), valid_if="rise", headline=True),
        at_one("peak-loss", "The squared error on test samples peaks there, too.", peak_position(waves, "test_loss")),
        at_one("peak-norm", "The norm of the coefficients of least squares peaks where there are as many random "
               "features as samples.", peak_position(waves, "norm"), headline=True),
        more("below", "With six times as many random features as samples the test error of least squares is below "
             "its first minimum.", second_descent(waves), valid_if="rise", headline=True),
        more("nets-rise", "Where all nets of one hidden layer start from random weights, the test error rises to a "
             "peak over their width.", rise(nets["clean"])),
        said("nets-peak", "It peaks where they have as many parameters as there are samples times classes.",
             peak_position(nets["clean"]), at_least=0.5, at_most=2, unit="x", published=1.0, valid_if="nets-rise"),
        more("reused-rise", "Where nets with up to as many parameters as samples times classes start from the weights "
             "of smaller ones, and wider nets from random weights, the test error rises to a peak.",
             rise(reused, "test_error"), headline=True),
        more("reused-fall", "Beyond that peak it falls to the widest net.", fall(reused, "test_error"),
             valid_if="reused-rise"),
        more("noisy-rise", "Where a fifth of the labels is wrong, nets that start from random weights have a peak.",
             rise(nets["noisy"]), source=NOTES),
        Claim("noisy-below", "Where a fifth of the labels is wrong, the test error of least squares on six times as "
              "many random features as samples, too, is below its first minimum.",
              second_descent({ratio: f"waves-noisy/{ratio:g}" for ratio in RATIOS}), above=0, kind="control"),
    )  # fmt: skip


def _figures(scale: str, samples: int, inputs: int) -> tuple[Figure, ...]:
    waves = {labels: {r: f"waves-{labels}/{r:g}" for r in RATIOS} for labels in NOISE}
    nets = {labels: {r: f"nets-{labels}/{r:g}" for r in NETS} for labels in NOISE}
    names = {"clean": "labels right", "noisy": "20 % of the labels wrong"}
    show = partial(sweep, metric="test_error", log_x=10, on=(scale,))
    sizes = {"squared error": "test_loss", "norm of the coefficients": "norm"}
    return (
        show(f"waves-{scale}", "Least squares on random Fourier features",
             plots={names[labels]: line for labels, line in waves.items()}, x="features a sample", y="test error (%)"),
        show(f"sizes-{scale}", "Squared error and norm", y="mean over seeds", log_y=10, x="features a sample",
             plots={title: {names[labels]: {r: value(cell, metric) for r, cell in line.items()}
                            for labels, line in waves.items()} for title, metric in sizes.items()}),
        show(f"nets-{scale}", "Nets of one hidden layer", plots={
            "test": {names["clean"]: nets["clean"], names["noisy"]: nets["noisy"], "labels right, weights reused up to "
                     "1": _reused(samples, inputs)},
            "training": {names[labels]: {r: value(cell, "train_error") for r, cell in line.items()}
                         for labels, line in nets.items()},
        }, x="parameters a sample and class", y="error (%)"),
    )  # fmt: skip


def _agreement(config: str, hidden: int) -> Cells:
    other = {"other": {"model.architecture_args.hidden": [hidden]}}
    return grid("study/agreement", config, other, seeds=3, stack=True)


def _grown(samples: int, inputs: int) -> Family:
    units = {ratio: _units(ratio, samples, inputs) for ratio in NETS if ratio <= 1}
    errors = (Metric(f"test_error_{unit}", f"Test error at {ratio:g}, %", "%") for ratio, unit in units.items())
    return Family("Nets that grow, by parameters a sample and class", tuple(errors), shown=len(units))


DIGITS, MNIST = "configs/belkin2019/digits-mlp.yaml", "configs/belkin2019/mnist-mlp.yaml"
PAPER = Paper(
    "belkin2019", BOOK.title, BOOK.authors, 2019, "1812.11118",
    summary="Test errors rise to a peak where there are as many parameters as equations, and fall below the first "
    "minimum beyond.",
    scales=(
        Scale("quick", "Digits, 500 for features and 300 for nets: 4 minutes on two cores",
              _waves({"source": "digits"}, 500, 0.67) + _nets(DIGITS, 300, 64) + _agreement(DIGITS, 400), seeds=6,
              replicas=72),
        Scale("standard", "MNIST, 1,000 images for features and 2,000 for nets: planned for 90 minutes on two cores",
              _waves({"source": "mnist"}, 1000, 0.2)
              + (_nets(MNIST, 2000, 784) + _agreement(MNIST, 250)).at({"data.train_size": 2000}), seeds=5, replicas=60),
        Scale("paper", "MNIST, 10,000 images for features and 4,000 for nets: days on a large node",
              _waves({"source": "mnist"}, 10_000, 0.2) + _nets(MNIST, 4000, 784).at({"data.train_size": 4000,
              "trainer.max_epochs": 6000}), seeds=5, replicas=60),
    ),
    metrics=(_grown(300, 64), _grown(2000, 784), _grown(4000, 784)),
    claims=across(quick=_claims(300, 64), standard=_claims(2000, 784), paper=_claims(4000, 784)),
    figures=(*_figures("quick", 300, 64), *_figures("standard", 2000, 784), *_figures("paper", 4000, 784)),
    deviations=(
        Deviation("", "Random Fourier features of a bandwidth of 5 (recalled)", "Frequencies with a standard deviation "
                  "of 0.67 on digits and 0.2 on MNIST, of pixels in [0, 1]", "Errors, and not where the peak is"),
        Deviation("", "The net beyond the size at which it fits starts from random weights, those up to it reuse the "
                  "smaller one's", "The same (reused-rise), and nets that all start from random weights beside it",
                  "Where the two meet, the line jumps: reuse exaggerates the fall, as two reproductions say"),
        Deviation("", "Up to 6,000 epochs; below the size the rate falls by a tenth every 500, and training ends where "
                  "all samples are right", "A fixed rate; 500 epochs at quick scale, 1,000 at standard",
                  "Nets near the size may not have come to an end"),
        Deviation("quick", "SGD with a momentum of 0.95, Glorot's weights", "Adam at 0.003 for 500 epochs, torch's "
                  "weights: held-out digits were not fitted by SGD in the time", "Which of the solutions is found"),
        Deviation("quick", "MNIST, 10,000 and 4,000 images", "Digits of 8x8 pixels, 500 and 300", "Errors are others"),
        Deviation("standard", "10,000 and 4,000 images", "1,000 and 2,000 of them", "Errors are larger"),
    ),
)  # fmt: skip
