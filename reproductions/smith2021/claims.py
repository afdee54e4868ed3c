"""What Smith et al. 2021 say, with Novack et al. and Geiping et al. beside them.

Tolerances were fixed before any reported run: the best learning rate must beat the small one by 1 point and the best
coefficient no penalty by 0.5, "closes most of the gap" is at least half of it, "the same accuracy" is within 2 points
(less than half of what the same learning rate does at another batch size in the pilot), peaks agree within a factor 2,
and an order of 3 is 2.9 to 3.1. Conditions came later, after an audit of the verdicts: runs that are compared have
fitted the training set (99.9 %), those past the best rate still train (50 %), and equal accuracy at equal quotients is
asked for only where the batch size makes a difference at an equal rate.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from smith2021.cells import CIFAR10, FASHION, MNIST1D, REPEATED, SETTINGS, WRN, Net

from lightning_regs.study import (
    Claim,
    Measure,
    Source,
    across,
    difference,
    peak_distance,
    ratio,
    share,
    trained,
    value,
    weighted_sum,
)
from lightning_regs.study.report.plots import power

SMITH = Source(
    "smith", "On the Origin of Implicit Regularization in Stochastic Gradient Descent", "Smith, Dherin, Barrett, De",
    2021, "arxiv.org/abs/2101.12176", "The abstract was read; what is recalled of the rest was not read again",
)  # fmt: skip
LECTURE = Source(
    "lecture", "Lecture notes that transcribe a talk of the first author",
    note="Of a course on advanced machine learning: the whole derivation, and little on the experiments",
)  # fmt: skip
BLOG = Source("blog", "A blog's derivation of the modified flow of gradient descent to second order")
NOVACK = Source(
    "novack", "Disentangling the Mechanisms Behind Implicit Regularization in SGD: the README of its code",
    "Novack et al.", 2023, "github.com/acmi-lab/imp-regularizers",
    "The paper is arXiv 2211.15853; two tables on micro-batches there differ by up to 0.7 points",
)  # fmt: skip
GEIPING = Source(
    "geiping", "Stochastic Training is Not Necessary for Generalization: its code and configurations",
    "Geiping, Goldblum, Pope, Moeller, Goldstein", 2022, "github.com/JonasGeiping/fullbatchtraining",
    "The list of experiments was read there, their accuracies were not; the paper is arXiv 2109.14119",
)  # fmt: skip

FITTED, TRAINS = 99.9, 50  # training accuracy of runs that fit the training set, and of those that still train
RECALLED: dict[str, Any] = {"source": SMITH, "origin": "recalled"}
SAME = RECALLED | {"published": 0.0, "within": 2, "valid_if": "7-control"}
_theory = partial(Claim, source=LECTURE, kind="theory", exact=True, on=("quick",))
_fitted = partial(trained, at_least=FITTED)
_two = partial(power, 2)


def _higher(
    id: str, sentence: str, cell: str, than: str, metric: str = "test_acc", train: float | None = None, **about: Any
) -> Claim:
    """Claim that a cell has a higher accuracy than another, if every run of both has this training accuracy.

    The paper says which is higher, and not by how much.
    """
    asked: dict[str, Any] = {"published": "> 0"} | ({} if "at_least" in about else {"above": 0})
    asked |= {} if train is None else {"valid_if": trained((cell, than), at_least=train)}
    return Claim(id, sentence, difference(cell, than, metric), **asked | about)


def _recovers(id: str, sentence: str, penalised: str, large: str, small: str, **about: Any) -> Claim:
    """Claim that the penalty recovers at least half of what a large batch loses against a small one."""
    asked: dict[str, Any] = {"at_least": 0.5, "published": 0.68, "source": NOVACK, "origin": "derived"}
    return Claim(id, sentence, share(penalised, large, small), **asked | {"where": "its ResNet-18"} | about)


def _printed(who: str, rows: Iterable[tuple[str, str, str, float]], **about: Any) -> Iterable[Claim]:
    """Claim each row of a table of test accuracies: its id, what was trained, its cell, the number."""
    for id, what, cell, number in rows:
        sentence = f"{who}: {what}, has this test accuracy on CIFAR-10."
        yield Claim(id, sentence, value(cell), published=number, within=1.5, **about)


def _of(net: Net, *claims: Claim, end: str = "") -> tuple[Claim, ...]:
    """Say in each claim which net it is about; with an ``end`` of its own in its id it is no headline."""
    said = (replace(claim, id=claim.id + end, sentence=f"{net.title}: {claim.sentence}") for claim in claims)
    return tuple(replace(claim, headline=False) if end else claim for claim in said)


def _sweeps(net: Net, settings: Iterable[tuple[str, str]] = (), end: str = "") -> tuple[Claim, ...]:
    """Make the claims on the learning rate of a net and on the coefficient at the small one."""
    slow, best, top = net.sgd(net.small), net.sgd(net.best), net.sgd(net.lrs[-1])
    penalised, strongest = net.penalised(net.best), net.penalised(net.lams[-1])
    small_lr, best_is, top_lr, top_lam = map(_two, (net.small, net.best, net.lrs[-1], net.lams[-1]))
    rates, coefficients = {lr: net.sgd(lr) for lr in net.lrs}, {lam: net.penalised(lam) for lam in net.lams}
    fitting = [cell for line in (rates, coefficients) for at, cell in line.items() if at <= net.best]
    by_chance = statistics.fmean(abs(lr - lam) <= 1 for lr in net.lrs for lam in net.lams)
    in_figure = RECALLED | {"where": "Figure 1b"}

    def otherwise(cell: str) -> dict[str, Measure]:
        return {words: difference(f"{cell}/{key}", f"{slow}/{key}") for words, key in settings}

    return _of(
        net,
        _higher("4", f"at learning rate {small_lr} the explicit penalty raises test accuracy (coefficient {best_is} "
                "over none).", penalised, slow, train=FITTED, at_least=0.5, source=SMITH, where="abstract",
                headline=True, settings=otherwise(penalised)),
        Claim("4-closed", "the penalty closes most of the gap between the small and the best learning rate (share).",
              share(penalised, slow, best), at_least=0.5, published="much of it",
              valid_if=_fitted((penalised, slow, best)), **in_figure),
        _higher("4-fall", f"too large a coefficient is worse ({best_is} over {top_lam}).", penalised, strongest,
                train=TRAINS, **in_figure),
        _higher("5", f"test accuracy rises with the learning rate ({best_is} over {small_lr}).", best, slow,
                train=FITTED, at_least=1, source=LECTURE, headline=True, settings=otherwise(best)),
        _higher("5-fall", f"up to a point: too large a learning rate is worse ({best_is} over {top_lr}).", best, top,
                train=TRAINS, **in_figure),
        _higher("5-train", f"training accuracy falls as the learning rate grows ({small_lr} over {top_lr}).", slow, top,
                "train_acc", train=TRAINS, source=LECTURE),
        Claim("6", "the best coefficient at the small learning rate is the best learning rate without a penalty, up to "
              "one step of the grid, a factor 2 (log2 of their quotient, of curves averaged over seeds; peaks drawn at "
              f"random are so near in {100 * by_chance:.0f} % of cases).",
              peak_distance(rates, coefficients), published=0.0, within=1, valid_if=_fitted(fitting), **in_figure),
        *(Claim(f"F1c-{key}", f"the regulariser's value at the end falls with the {what} (quotient: {best_is} over "
                f"learning rate {small_lr} without a penalty; a run that fits further has a smaller one by that "
                "alone).", ratio(cell, slow, "regulariser"), below=1, published="< 1", where="Figure 1c",
                valid_if=_fitted((cell, slow)), **RECALLED)
          for key, what, cell in (("lr", "learning rate", best), ("lam", "coefficient", penalised))),
        end=end,
    )  # fmt: skip


def _batches(net: Net, coefficients: dict[int, str] | None = None, also: str = "") -> tuple[Claim, ...]:
    """Make the claims on half and twice the batch size, at an equal quotient and at an equal learning rate.

    Where there are ``coefficients``, they are penalised runs of two batch sizes at an equal quotient.
    """
    half, twice, rate, many = net.batch // 2, 2 * net.batch, net.equal[0] - 1, len(net.equal)
    halves, ends = [net.sgd(lr - 1, half) for lr in net.equal], [net.sgd(lr + 1, twice) for lr in net.equal]
    mean = f", mean over {many} quotients" if many > 1 else ""

    def gap(cells: Iterable[str]) -> Measure:
        """Return how much larger the test accuracy is than in the halves, the mean over pairs of cells."""
        terms = ([(1 / many, a, "test_acc"), (-1 / many, b, "test_acc")] for a, b in zip(cells, halves, strict=True))
        return weighted_sum(*chain(*terms))

    same = "test accuracy is the same at equal"
    return _of(
        net,
        *(Claim(id, f"{same} learning rate / batch size (batch {batch} over {half}{mean}).", gap(cells),
                where="Figure 2a", headline=id == "7", **SAME)
          for id, batch, cells in (("7", twice, ends), ("7-middle", net.batch, map(net.sgd, net.equal)))),
        _higher("7-control", f"at equal learning rate, {_two(rate)}, the smaller batch has the higher test accuracy "
                f"({half} over {twice}).", net.sgd(rate, half), net.sgd(rate, twice), at_least=1, source=LECTURE,
                origin="derived"),
        *([Claim("7-lam", f"{same} coefficient / batch size{also} (batch {' over '.join(map(str, coefficients))}).",
                 difference(*coefficients.values()), where="Figure 2b", **SAME)] if coefficients else ()),
    )  # fmt: skip


def _repeats(title: str, n: int, once: dict[int, str], repeated: Sequence[str], end: str = "") -> tuple[Claim, ...]:
    """Compare one update and n a minibatch, by cells at an equal effective rate and at an equal bare one."""
    (rate, one), (bare, single) = once.items()
    many, several = repeated
    return (
        _higher(f"8{end}", f"{title}: at an equal effective rate, {_two(rate)}, one large step a minibatch has a "
                f"higher test accuracy than {n} small ones (discretisation helps, the authors say; at an equal bare "
                f"rate see 8-n{end}).", one, many, source=LECTURE, headline=not end),
        _higher(f"8-n{end}", f"{title}: at an equal bare rate, {_two(bare)}, {n} steps a minibatch have a lower test "
                "accuracy than one (stochasticity by itself hurts, the authors say).", single, several, source=LECTURE),
    )  # fmt: skip


def _large_batches(net: Net) -> tuple[Claim, ...]:
    """Make the claims on a large batch and on its penalty, of micro-batches."""
    batch, _, first, last = net.large
    small, large, penalised, coarse, clipped = net.large_batches().values()
    whole = ", the whole batch" if last == batch else ""
    return _of(
        net,
        _higher("N", f"a large batch has a lower test accuracy at the same learning rate ({first} over {batch}).",
                small, large, train=FITTED, source=NOVACK),
        _recovers("N-closed", f"the penalty on micro-batches of {first} recovers most of what batch {batch} loses "
                  f"against {first} (share).", penalised, large, small, valid_if=_fitted((penalised, large, small))),
        _higher("N-micro", f"the penalty on micro-batches of {first} helps batch {batch} more than that on "
                f"{last}{whole}.", penalised, coarse, train=FITTED, source=NOVACK),
        _recovers("N-closed-clip", f"with its gradient clipped to norm 1 the penalty on micro-batches of {first} "
                  f"recovers most of what batch {batch} loses against {first} (share; a control, added after runs "
                  "without clipping had collapsed in training).", clipped, large, small, kind="control",
                  valid_if=_fitted((clipped, large, small))),
    )  # fmt: skip


RESNET, VGG, FULL_BATCH = "novack-resnet18", "novack-vgg11", "geiping-resnet18/full-batch"
PENALISED = "batch 5120 with the penalty on micro-batches of"
OTHERS = (
    _recovers("N-closed", "Novack et al.: ResNet-18: the penalty recovers most of what the large batch loses (share).",
              f"{RESNET}/large+micro-128", f"{RESNET}/large", f"{RESNET}/small"),
    _recovers("N-closed-vgg11", "Novack et al.: VGG-11: the penalty recovers most of what the large batch loses "
              "(share).", f"{VGG}/large+micro-128", f"{VGG}/large", f"{VGG}/small", published=0.87, where=""),
    _higher("N-micro", "Novack et al.: VGG-11: the penalty on micro-batches of 100 helps more than that on 2500.",
            f"{VGG}/large+micro-100", f"{VGG}/large+micro-2500", published=1.59, source=NOVACK, origin="derived"),
    *_printed("Novack et al.", (
        ("N-resnet18-small", "ResNet-18, batch 128", f"{RESNET}/small", 92.64),
        ("N-resnet18-large", "ResNet-18, batch 5120", f"{RESNET}/large", 89.83),
        ("N-resnet18-large+micro-128", f"ResNet-18, {PENALISED} 128", f"{RESNET}/large+micro-128", 91.75),
        ("N-vgg11-small", "VGG-11, batch 128", f"{VGG}/small", 78.19),
        ("N-vgg11-large", "VGG-11, batch 5120", f"{VGG}/large", 73.90),
        ("N-vgg11-large+micro-128", f"VGG-11, {PENALISED} 128", f"{VGG}/large+micro-128", 77.62),
        *((f"N-vgg11-micro-{micro}", f"VGG-11, {PENALISED} {micro}", f"{VGG}/large+micro-{micro}", number)
          for micro, number in ((50, 77.34), (100, 77.23), (1000, 75.73), (2500, 75.64))),
    ), source=NOVACK),
    *_printed("Geiping et al.", (
        ("G-full-batch", "full-batch ResNet-18, trained longer", FULL_BATCH, 87.36),
        ("G-full-batch+clip", "full-batch ResNet-18, clipped", f"{FULL_BATCH}+clip", 93.85),
        ("G-full-batch+clip+penalty", "full-batch ResNet-18, clipped and with the penalty",
         f"{FULL_BATCH}+clip+penalty", 95.36),
    ), source=GEIPING, origin="recalled"),
)  # fmt: skip

THEORY = (
    *(_theory(f"{number}-{flow}", f"{whose}'s end point is {text} order from the flow of C{term} (order of the error, "
              "4 steps, float64, on every random problem).", value(f"theory/{cell}", f"order_{flow}"),
              published=order, within=0.1, **about)
      for number, whose, cell, read in (
          ("1", "The mean over all orders of SGD", "sgd-flow", {"source": LECTURE, "headline": True}),
          ("2", "Gradient descent", "gd-flow", {"source": (LECTURE, BLOG)}))
      for flow, term, text, order, about in (
          ("quarter", " + eps/4 mean ||grad C_k||^2", "third", 3.0, read),
          ("none", " alone", "only second", 2.0, {"origin": "derived"}),
          ("half", " + eps/2 mean ||grad C_k||^2", "only second", 2.0, {"origin": "derived"}))),
    _theory("3", "Averaged over batches of size B, the squared norm of the gradient is ||grad C||^2 + (N-B)/(N-1) "
            "Gamma/B (largest relative difference over five batch sizes, all batches enumerated).",
            value("theory/composition", "error"), at_most=1e-12, published=0.0),
    _theory("3-scale", "The covariance part goes as 1/B (exponent, without the factor (N-B)/(N-1); it follows from "
            "claim 3).", value("theory/composition", "slope"), published=-1.0, within=0.001),
)  # fmt: skip
FOUR = "mnist1d/n4-b20-lr2^-3"
ONCE = {-1: MNIST1D.sgd(-1), -3: MNIST1D.sgd(-3)}
QUICK = (
    *_sweeps(MNIST1D, [(words, key) for words, (key, _) in SETTINGS.items()]),
    *_batches(MNIST1D, {40: MNIST1D.penalised(-1, -2, 40), 20: MNIST1D.penalised(-2)},
              " and equal learning rate / batch size"),
    *_repeats(MNIST1D.title, 4, ONCE, (FOUR, FOUR)),
    *_repeats(f"{MNIST1D.title}, equal epochs (4 steps a minibatch train 4 times as long)", 4, ONCE,
              [f"{FOUR}/equal-epochs"] * 2, "-epochs"),
    *_large_batches(MNIST1D),
)  # fmt: skip
LENET = Claim(
    "MNIST", "LeNet on MNIST trains with the penalty (coefficient = learning rate): a penalty from stale gradients had "
    "stayed at 10 % test accuracy.",
    value("mnist/lenet-penalty"), at_least=98.5, published="our own bar", kind="control",
)  # fmt: skip
# Without F1c-lam, which longer training of penalised runs explains by itself.
STANDARD = (*_sweeps(FASHION)[:-1], *_batches(FASHION), *_large_batches(FASHION), LENET,
            *_sweeps(CIFAR10, end="-cifar10")[:-1])  # fmt: skip
WIDE = (
    *_sweeps(WRN), *_batches(WRN, {64: WRN.penalised(-5, batch=64), 16: WRN.penalised(-7, batch=16)}),
    *_repeats("CIFAR-10, Wide-ResNet 16-4", 16, {rate: REPEATED[1][rate] for rate in (-4, -7)},
              (REPEATED[16][-8], REPEATED[16][-7])),
)  # fmt: skip
CLAIMS = (*THEORY, *across(quick=QUICK, standard=STANDARD, paper=(*WIDE, *OTHERS)))
