"""Nakkiran et al.: Deep Double Descent (1912.02292): over widths, epochs and numbers of samples."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from lightning_regs.study import (
    COURSE,
    PADDED,
    Cells,
    Claim,
    Deviation,
    Figure,
    Paper,
    Scale,
    Source,
    across,
    fall,
    grid,
    peak_over_fit,
    rise,
    second_descent,
    sweep,
    trained,
    value,
)

DIGITS, SIGNALS, CIFAR = (f"configs/nakkiran2020/{name}.yaml" for name in ("digits-mlp", "mnist1d-mlp",
                                                                           "cifar10-preact"))  # fmt: skip
WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 27, 30, 34, 40, 48, 64, 90, 128, 160, 200,
          256)  # fmt: skip
HIDDEN = (*range(4, 32, 4), *range(32, 64, 5), *range(64, 100, 6), 105, 115, 130, 145, 160, 180, 200, 230, 260, 300)
FILTERS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64)
CLEAN = {"data.corruption": "none", "data.corruption_p": 1.0}

DEEP = Source("paper", "Deep Double Descent: Where Bigger Models and More Data Hurt", "Nakkiran et al.", 2020,
              "arxiv.org/abs/1912.02292")  # fmt: skip
CURVES = Source(
    "curves",
    "Data files of the paper's curves, by others",
    note="ResNet-18 on CIFAR-10 with 15 % wrong labels: errors against noisy labels, here of true ones.",
)


def _of_widths(
    labels: str, config: str, net: Callable[[int], dict[str, Any]], widths: Sequence[int], stacks: Sequence[int],
    overrides: dict[str, Any], seeds: int | None = None,
) -> Cells:  # fmt: skip
    """Make a cell for each width; those between two widths of ``stacks`` are trained within the larger one."""
    if not stacks:
        each = {w: {"model.architecture_args": net(w)} for w in widths}
        return grid(f"{labels}/{{width}}", config, overrides, seeds=seeds, width=each)
    found = Cells()
    for above, most in pairwise((0, *stacks)):
        each = {w: {"padded": net(w)} for w in widths if above < w <= most}
        found += grid(f"{labels}/{{width}}", config, overrides | {"model.architecture_args": net(most)}, task=PADDED,
                      seeds=seeds, stack=f"{labels}/up-to-{most}", width=each)  # fmt: skip
    return found


def _at(
    scale: str, config: str, net: Callable[[int], dict[str, Any]], widths: Sequence[int], stacks: Sequence[int], *,
    few: Sequence[int], middle: int, sizes: Sequence[int], last: int, seeds: int | None = None,
) -> tuple[Cells, tuple[Claim, ...], tuple[Figure, ...]]:  # fmt: skip
    """Make cells, claims and figures of a scale.

    Args:
        scale: Its name.
        config: Configuration of its nets.
        net: Width -> options of the architecture.
        widths: Those with wrong labels.
        stacks: Widths up to which nets are trained together; none where each is trained alone.
        few: Widths without wrong labels as well.
        middle: Width of the nets of each number of training samples, ``sizes``.
        sizes: See ``middle``.
        last: Epochs of the widest nets, whose course is followed.
        seeds: Those of the nets of all widths with wrong labels; None for the scale's.
    """
    times = sorted({round(last ** (at / 20)) for at in range(21)})
    cells = _of_widths("noisy", config, net, widths, stacks, {}, seeds)
    cells += _of_widths("clean", config, net, few, stacks, CLEAN)
    cells += grid("samples/{size}", config, {"model.architecture_args": net(middle)}, stack=bool(stacks),
                  size={n: {"data.train_size": n} for n in sizes})  # fmt: skip
    cells += grid("epochs", config, {"model.architecture_args": net(widths[-1]), "trainer.max_epochs": last, "course":
                  {"epochs": times}}, task=COURSE, stack=bool(stacks))  # fmt: skip
    noisy, clean = {w: f"noisy/{w}" for w in widths}, {w: f"clean/{w}" for w in few}
    samples, epochs = {n: f"samples/{n}" for n in sizes}, {n: value("epochs", f"test_error_{n}") for n in times}
    said = partial(Claim, source=DEEP, above=0)
    shown, fitted = partial(said, source=(DEEP, CURVES), origin="derived"), trained(noisy[widths[-1]], at_least=99)
    claims = (
        shown("width-rise", "With wrong labels wider nets get worse again: behind a first minimum over widths the "
              "test error rises to a peak.", rise(noisy), published=8.8, headline=True),
        shown("width-fall", "Behind the peak the test error falls a second time, down to the widest net.", fall(noisy),
              published=14.6, valid_if=("width-rise", fitted), headline=True),
        shown("width-below", "The widest net has a lower test error than the first minimum.", second_descent(noisy),
              published=5.9, valid_if=("width-rise", fitted)),
        Claim("width-where", "The test error peaks where nets just fit their samples: at half to twice the first width "
              "with 99 % of the training labels right.", peak_over_fit(noisy), at_least=0.5, at_most=2,
              published=0.59, source=(DEEP, CURVES), origin="derived", valid_if="width-rise", headline=True),
        said("noise", "Wrong labels make the peak: the rise over widths is larger than with all labels right.",
             rise({w: noisy[w] for w in few}, less=clean)),
        said("epochs-rise", "The test error of a wide net rises again as it trains, from a first minimum to a peak.",
             rise(epochs), headline=True),
        said("epochs-fall", "Behind that peak it falls a second time with more epochs.", fall(epochs),
             valid_if="epochs-rise"),
        said("samples", "More data can hurt: the test error of nets of one width rises with the number of samples.",
             rise(samples), headline=True),
    )  # fmt: skip
    train = {w: value(cell, "train_error") for w, cell in noisy.items()}
    show = partial(sweep, metric="test_error", y="error (%)", log_x=10, on=(scale,))
    figures = (
        show(f"width-{scale}", "Error by width", plots={"test": noisy, "training": train, "test, labels right": clean},
             caption="Training errors are of the labels as given, test errors of the true ones.", x="width"),
        show(f"epochs-{scale}", "Test error of the widest nets by epoch", plots={"test": epochs}, x="epochs"),
        show(f"samples-{scale}", f"Test error of nets of width {middle} by training samples", plots={"test": samples},
             x="training samples"),
    )  # fmt: skip
    return cells, claims, figures


def _layers(number: int, width: int) -> dict[str, Any]:
    return {"hidden": [width] * number}


QUICK = _at("quick", DIGITS, partial(_layers, 1), WIDTHS, (16, 32, 64, 128, 256), few=WIDTHS[1::3], middle=16,
            sizes=(50, 75, 100, 150, 200, 300, 400, 550, 750, 1000), last=400, seeds=24)  # fmt: skip
STANDARD = _at("standard", SIGNALS, partial(_layers, 2), HIDDEN, (20, 42, 88, 160, 300), few=HIDDEN[1::3], middle=47,
               sizes=(500, 1000, 1500, 2000, 2500, 3000, 3500, 4000), last=2000)  # fmt: skip
FULL = _at("paper", CIFAR, lambda width: {"width": width}, FILTERS, (), few=FILTERS, middle=10,
           sizes=(10_000, 20_000, 30_000, 40_000, 50_000), last=4000)  # fmt: skip
AGREEMENT, SIGNAL_AGREEMENT = (
    grid("study/agreement", config, {"other": {"model.architecture_args.hidden": other}}, seeds=3, stack=True)
    for config, other in ((DIGITS, [16]), (SIGNALS, [47, 47]))
)

PAPER = Paper(
    "nakkiran2020", DEEP.title, DEEP.authors, 2020, "1912.02292",
    summary="Test errors fall, rise and fall again as nets grow, as they train, and as data are added; the peak is "
    "where nets just fit their samples.",
    scales=(
        Scale("quick", "400 digits, 20 % wrong labels, nets of 30 widths: 4 minutes on two cores", QUICK[0] + AGREEMENT,
              seeds=8, replicas=128),
        Scale("standard", "MNIST-1D, 15 % wrong labels, nets of 30 widths: 80 minutes on two cores",
              STANDARD[0] + SIGNAL_AGREEMENT, seeds=5, replicas=80),
        Scale("paper", "CIFAR-10, 15 % wrong labels, PreAct ResNet-18 of 17 widths: weeks on one GPU", FULL[0]),
    ),
    claims=across(quick=QUICK[1], standard=STANDARD[1], paper=FULL[1]),
    figures=(*QUICK[2], *STANDARD[2], *FULL[2]),
    deviations=(
        Deviation("quick", "PreAct ResNet-18 and a CNN of 5 layers on CIFAR with random crops and flips, widths by "
                  "filters", "A net of one hidden layer on 400 handwritten digits of 8x8 pixels without augmentation, "
                  "20 % of the labels wrong", "Only directions can be compared, and where the peak is"),
        Deviation("standard", "PreAct ResNet-18 and a CNN of 5 layers on CIFAR with random crops and flips, widths by "
                  "filters", "Nets of two hidden layers on MNIST-1D without augmentation, as a notebook of MNIST-1D's "
                  "authors has them", "Only directions can be compared, and where the peak is"),
        Deviation("", "Wrong labels are drawn among the other classes", "A label is redrawn among all classes so much "
                  "more often that as many are wrong; each of the others is as likely", "None: both have one law"),
        Deviation("", "Adam at 1e-4 for 4,000 epochs, or SGD with a rate of one over the root of time", "At quick "
                  "scale Adam at 0.01 for 200 epochs, at standard SGD at 0.01 with momentum for 500; the curves over "
                  "epochs last 400 and 2,000", "How far nets near the peak fit, and whether a second descent over "
                  "epochs has come"),
    ),
)  # fmt: skip
