"""What Smith et al. 2021 say, with Novack et al. and Geiping et al. beside them.

Tolerances were fixed before any reported run: the best learning rate must beat the small one by 1 point and the best
coefficient no penalty by 0.5, "closes most of the gap" is at least half of it, "the same accuracy" is within 2 points
(less than half of what the same learning rate does at another batch size in the pilot), peaks agree within a factor 2,
and an order of 3 is 2.9 to 3.1. Conditions came later, after an audit of the verdicts: runs that are compared have
fitted the training set (99.9 %), those past the best rate still train (50 %), and equal accuracy at equal quotients is
asked for only where the batch size makes a difference at an equal rate.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from smith2021.nets import CIFAR10, FASHION, MNIST1D, WRN, Net

from lightning_regs.study import (
    Measure,
    difference,
    peak_distance,
    ratio,
    share,
    value,
    weighted_sum,
)
from lightning_regs.study.paper.claims import Claim, Source, across
from lightning_regs.study.paper.conditions import Condition, trained
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

Fields = dict[str, Any]
_RECALLED: Fields = {"source": SMITH, "origin": "recalled"}
_HIGHER: Fields = {"published": "> 0", "unit": "points"}  # the paper says which is better, and not by how much
_SAME: Fields = {"published": 0.0, "within": 2, "unit": "points"} | _RECALLED
_THEORY: Fields = {"kind": "theory", "exact": True, "on": ("quick",)}
_CLOSED: Fields = {"at_least": 0.5, "source": NOVACK, "origin": "derived", "where": "its ResNet-18"}


def fitted(*cells: str) -> Condition:
    """Ask that every run of some cells fits the training set."""
    return trained(cells, at_least=99.9)


def named(net: Net, claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Say in each claim which net it is about."""
    return tuple(replace(claim, sentence=f"{net.title}: {claim.sentence}") for claim in claims)


def flows(number: str, whose: str, cell: str, *sources: Source) -> Iterable[Claim]:
    """Make the claims on the order of an end point's distance from three flows."""
    derived: Fields = {"source": LECTURE, "origin": "derived"}
    read: Fields = {"source": sources, "headline": cell == "sgd-flow"}
    for flow, term, text, found, fields in (
        ("quarter", "of C + eps/4 mean ||grad C_k||^2", "third", 3.0, read),
        ("none", "of C alone", "only second", 2.0, derived),
        ("half", "of C + eps/2 mean ||grad C_k||^2", "only second", 2.0, derived),
    ):
        sentence = f"{whose}'s end point is {text} order from the flow {term} (order of the error, 4 steps, float64, "
        sentence += "on every random problem)."
        measure = value(f"theory/{cell}", f"order_{flow}")
        yield Claim(f"{number}-{flow}", sentence, measure, published=found, within=0.1, **fields, **_THEORY)


def sweeps(net: Net) -> tuple[Claim, ...]:
    """Make the claims on the learning rate of a net and on the coefficient at the small one."""
    slow, best, top = net.sgd(net.small), net.sgd(net.best), net.sgd(net.lrs[-1])
    penalised, strongest = net.penalised(net.best), net.penalised(net.lams[-1])
    small_lr, best_is, top_lr, top_lam = (power(2, e) for e in (net.small, net.best, net.lrs[-1], net.lams[-1]))
    fitting = [net.sgd(lr) for lr in net.lrs if lr <= net.best]
    fitting += [net.penalised(lam) for lam in net.lams if lam <= net.best]
    by_chance = statistics.fmean(abs(lr - lam) <= 1 for lr in net.lrs for lam in net.lams)
    at_end = "the regulariser's value at the end falls with the"
    over = f"(quotient: {best_is} over learning rate {small_lr} without a penalty; a run that fits further has a "
    over += "smaller one by that alone)"
    return named(net, (
        Claim("4", f"at learning rate {small_lr} the explicit penalty raises test accuracy (coefficient "
              f"{best_is} over none).",
              difference(penalised, slow), at_least=0.5, **_HIGHER, source=SMITH, where="abstract", headline=True,
              valid_if=fitted(penalised, slow), settings=settings(net, penalised, slow)),
        Claim("4-closed", "the penalty closes most of the gap between the small and the best learning rate (share).",
              share(penalised, slow, best), at_least=0.5, published="much of it", **_RECALLED, where="Figure 1b",
              valid_if=fitted(penalised, slow, best)),
        Claim("4-fall", f"too large a coefficient is worse ({best_is} over {top_lam}).",
              difference(penalised, strongest), above=0, **_HIGHER, **_RECALLED, where="Figure 1b",
              valid_if=trained((penalised, strongest), at_least=50)),
        Claim("5", f"test accuracy rises with the learning rate ({best_is} over {small_lr}).",
              difference(best, slow), at_least=1, **_HIGHER, source=LECTURE, headline=True,
              valid_if=fitted(best, slow), settings=settings(net, best, slow)),
        Claim("5-fall", f"up to a point: too large a learning rate is worse ({best_is} over {top_lr}).",
              difference(best, top), above=0, **_HIGHER, **_RECALLED, where="Figure 1b",
              valid_if=trained((best, top), at_least=50)),
        Claim("5-train", f"training accuracy falls as the learning rate grows ({small_lr} over {top_lr}).",
              difference(slow, top, "train_acc"), above=0, **_HIGHER, source=LECTURE,
              valid_if=trained((slow, top), at_least=50)),
        Claim("6", "the best coefficient at the small learning rate is the best learning rate without a penalty, up to "
              "one step of the grid, a factor 2 (log2 of their quotient, of curves averaged over seeds; peaks drawn at "
              f"random are so near in {by_chance:.0%} of cases).".replace("%", " %"),
              peak_distance({lr: net.sgd(lr) for lr in net.lrs}, {lam: net.penalised(lam) for lam in net.lams}),
              published=0.0, within=1, **_RECALLED, where="Figure 1b", valid_if=fitted(*fitting)),
        Claim("F1c-lr", f"{at_end} learning rate {over}.",
              ratio(best, slow, "regulariser"), below=1, published="< 1", unit="x", **_RECALLED, where="Figure 1c",
              valid_if=fitted(best, slow)),
        Claim("F1c-lam", f"{at_end} coefficient {over}.",
              ratio(penalised, slow, "regulariser"), below=1, published="< 1", unit="x", **_RECALLED,
              where="Figure 1c", valid_if=fitted(penalised, slow)),
    ))  # fmt: skip


def settings(net: Net, cells: str, others: str) -> dict[str, Measure]:
    """Compare two cells where what the paper does not state is set otherwise."""
    return {words: difference(f"{cells}/{key}", f"{others}/{key}") for words, key in net.settings.items()}


def _mean(pairs: list[tuple[str, str]]) -> Measure:
    """Return how much larger the test accuracy is in the first cell of a pair, the mean over pairs."""
    one = 1 / len(pairs)
    return weighted_sum(*(term for a, b in pairs for term in ((one, a, "test_acc"), (-one, b, "test_acc"))))


def batches(net: Net) -> tuple[Claim, ...]:
    """Make the claims on runs of half and twice the batch size at an equal quotient."""
    half, twice = net.batch // 2, 2 * net.batch
    halves = [net.sgd(lr - 1, half) for lr in net.equal]
    ends = list(zip([net.sgd(lr + 1, twice) for lr in net.equal], halves, strict=True))
    middle = list(zip([net.sgd(lr) for lr in net.equal], halves, strict=True))
    mean = f", mean over {len(ends)} quotients" if len(ends) > 1 else ""
    same = "test accuracy is the same at equal learning rate / batch size"
    return named(net, (
        Claim("7", f"{same} (batch {twice} over {half}{mean}).",
              _mean(ends), **_SAME, where="Figure 2a", valid_if="7-control", headline=True),
        Claim("7-middle", f"{same} (batch {net.batch} over {half}{mean}).",
              _mean(middle), **_SAME, where="Figure 2a", valid_if="7-control"),
    ))  # fmt: skip


def equal_rate(net: Net) -> tuple[Claim, ...]:
    """Make the claim on the same batch sizes at an equal learning rate."""
    lr, small, large = net.equal[0] - 1, net.batch // 2, 2 * net.batch
    sentence = f"at equal learning rate, {power(2, lr)}, the smaller batch has the higher test accuracy "
    sentence += f"({small} over {large})."
    measure = difference(net.sgd(lr, small), net.sgd(lr, large))
    return named(net, [Claim("7-control", sentence, measure, at_least=1, **_HIGHER, source=LECTURE, origin="derived")])


def coefficients(net: Net, batch: int, penalised: str, other: int, than: str, also: str = "") -> tuple[Claim, ...]:
    """Make the claim on penalised runs of two batch sizes at an equal quotient."""
    sentence = f"test accuracy is the same at equal coefficient / batch size{also} (batch {batch} over {other})."
    return named(
        net, [Claim("7-lam", sentence, difference(penalised, than), **_SAME, where="Figure 2b", valid_if="7-control")]
    )


def repeats(
    title: str, n: int, effective: tuple[int, str, str], bare: tuple[int, str, str], key: str = ""
) -> tuple[Claim, ...]:
    """Make the claims on n updates a minibatch: at an equal rate, effective or bare, the cells with one and with n."""
    (rate, one, many), (step, single, several) = effective, bare
    return (
        Claim(f"8{key}", f"{title}: at an equal effective rate, {power(2, rate)}, one large step a minibatch has a "
              f"higher test accuracy than {n} small ones (discretisation helps, the authors say; at an equal bare rate "
              f"see 8-n{key}).",
              difference(one, many), above=0, **_HIGHER, source=LECTURE, headline=not key),
        Claim(f"8-n{key}", f"{title}: at an equal bare rate, {power(2, step)}, {n} steps a minibatch have a lower "
              "test accuracy than one (stochasticity by itself hurts, the authors say).",
              difference(single, several), above=0, **_HIGHER, source=LECTURE),
    )  # fmt: skip


def large_batches(net: Net) -> tuple[Claim, ...]:
    """Make the claims on a large batch and on its penalty, of micro-batches."""
    first, last = net.micros
    small, large = net.sgd(net.large_lr, first), net.large_batch()
    penalised, coarse = net.large_batch(first), net.large_batch(last)
    whole = ", the whole batch" if last == net.large else ""
    return named(net, (
        Claim("N", f"a large batch has a lower test accuracy at the same learning rate ({first} over {net.large}).",
              difference(small, large), above=0, **_HIGHER, source=NOVACK, valid_if=fitted(small, large)),
        Claim("N-closed", f"the penalty on micro-batches of {first} recovers most of what batch {net.large} loses "
              f"against {first} (share).",
              share(penalised, large, small), published=0.68, **_CLOSED, valid_if=fitted(penalised, large, small)),
        Claim("N-micro", f"the penalty on micro-batches of {first} helps batch {net.large} more than that on "
              f"{last}{whole}.",
              difference(penalised, coarse), above=0, **_HIGHER, source=NOVACK,
              valid_if=fitted(penalised, coarse)),
        Claim("N-closed-clip", f"with its gradient clipped to norm 1 the penalty on micro-batches of {first} recovers "
              f"most of what batch {net.large} loses against {first} (share; a control, added after runs without "
              "clipping had collapsed in training).",
              share(net.clipped, large, small), published=0.68, **_CLOSED, kind="control",
              valid_if=fitted(net.clipped, large, small)),
    ))  # fmt: skip


def printed(who: str, rows: Iterable[tuple[str, str, str, float]], **fields: Any) -> tuple[Claim, ...]:
    """Make a claim of each row of a table of test accuracies: its id, what was trained, its cell, the number."""
    return tuple(
        Claim(name, f"{who}: {what}, has this test accuracy on CIFAR-10.", value(cell), published=number, within=1.5,
              unit="%", **fields)
        for name, what, cell, number in rows
    )  # fmt: skip


_MNIST = Claim(
    "MNIST", "LeNet on MNIST trains with the penalty (coefficient = learning rate): a penalty from stale gradients had "
    "stayed at 10 % test accuracy.",
    value("mnist/lenet-penalty"), at_least=98.5, published="our own bar", unit="%", kind="control",
)  # fmt: skip
_PENALTY = "batch 5120 with the penalty on micro-batches of"
_NOVACK = (
    Claim("N-closed", "Novack et al.: ResNet-18: the penalty recovers most of what the large batch loses (share).",
          share("novack-resnet18/large+micro-128", "novack-resnet18/large", "novack-resnet18/small"),
          published=0.68, **_CLOSED),
    Claim("N-closed-vgg11", "Novack et al.: VGG-11: the penalty recovers most of what the large batch loses (share).",
          share("novack-vgg11/large+micro-128", "novack-vgg11/large", "novack-vgg11/small"),
          at_least=0.5, published=0.87, source=NOVACK, origin="derived"),
    Claim("N-micro", "Novack et al.: VGG-11: the penalty on micro-batches of 100 helps more than that on 2500.",
          difference("novack-vgg11/large+micro-100", "novack-vgg11/large+micro-2500"),
          above=0, published=1.59, unit="points", source=NOVACK, origin="derived"),
    *printed("Novack et al.", (
        ("N-resnet18-small", "ResNet-18, batch 128", "novack-resnet18/small", 92.64),
        ("N-resnet18-large", "ResNet-18, batch 5120", "novack-resnet18/large", 89.83),
        ("N-resnet18-large+micro-128", f"ResNet-18, {_PENALTY} 128", "novack-resnet18/large+micro-128", 91.75),
        ("N-vgg11-small", "VGG-11, batch 128", "novack-vgg11/small", 78.19),
        ("N-vgg11-large", "VGG-11, batch 5120", "novack-vgg11/large", 73.90),
        ("N-vgg11-large+micro-128", f"VGG-11, {_PENALTY} 128", "novack-vgg11/large+micro-128", 77.62),
        ("N-vgg11-micro-50", f"VGG-11, {_PENALTY} 50", "novack-vgg11/large+micro-50", 77.34),
        ("N-vgg11-micro-100", f"VGG-11, {_PENALTY} 100", "novack-vgg11/large+micro-100", 77.23),
        ("N-vgg11-micro-1000", f"VGG-11, {_PENALTY} 1000", "novack-vgg11/large+micro-1000", 75.73),
        ("N-vgg11-micro-2500", f"VGG-11, {_PENALTY} 2500", "novack-vgg11/large+micro-2500", 75.64),
    ), source=NOVACK),
)  # fmt: skip
_GEIPING = printed("Geiping et al.", (
    ("G-full-batch", "full-batch ResNet-18, trained longer", "geiping-resnet18/full-batch", 87.36),
    ("G-full-batch+clip", "full-batch ResNet-18, clipped", "geiping-resnet18/full-batch+clip", 93.85),
    ("G-full-batch+clip+penalty", "full-batch ResNet-18, clipped and with the penalty",
     "geiping-resnet18/full-batch+clip+penalty", 95.36),
), source=GEIPING, origin="recalled")  # fmt: skip


_AS_LONG = MNIST1D.repeated(4, -3, "equal-epochs")


def _equally_long(claims: Iterable[Claim]) -> Iterable[Claim]:
    """Leave out what longer training of penalised runs explains by itself."""
    return (claim for claim in claims if claim.id != "F1c-lam")


CLAIMS = (
    *flows("1", "The mean over all orders of SGD", "sgd-flow", LECTURE),
    *flows("2", "Gradient descent", "gd-flow", LECTURE, BLOG),
    Claim("3", "Averaged over batches of size B, the squared norm of the gradient is ||grad C||^2 + (N-B)/(N-1) "
          "Gamma/B (largest relative difference over five batch sizes, all batches enumerated).",
          value("theory/composition", "error"), at_most=1e-12, published=0.0, source=LECTURE, **_THEORY),
    Claim("3-scale", "The covariance part goes as 1/B (exponent, without the factor (N-B)/(N-1); it follows from claim "
          "3).", value("theory/composition", "slope"), published=-1.0, within=0.001, source=LECTURE, **_THEORY),
    *across(
        quick=(
            *sweeps(MNIST1D), *batches(MNIST1D), *equal_rate(MNIST1D),
            *coefficients(MNIST1D, 40, MNIST1D.penalised(-1, -2, 40), 20, MNIST1D.penalised(-2),
                          " and equal learning rate / batch size"),
            *repeats(MNIST1D.title, 4, (-1, MNIST1D.sgd(-1), MNIST1D.repeated(4, -3)),
                     (-3, MNIST1D.sgd(-3), MNIST1D.repeated(4, -3))),
            *repeats(f"{MNIST1D.title}, equal epochs (4 steps a minibatch train 4 times as long)", 4,
                     (-1, MNIST1D.sgd(-1), _AS_LONG), (-3, MNIST1D.sgd(-3), _AS_LONG), "-epochs"),
            *large_batches(MNIST1D),
        ),
        standard=(
            *_equally_long(sweeps(FASHION)), *batches(FASHION), *equal_rate(FASHION), *large_batches(FASHION), _MNIST,
            *(replace(claim, id=f"{claim.id}-cifar10", headline=False) for claim in _equally_long(sweeps(CIFAR10))),
        ),
        paper=(
            *sweeps(WRN), *batches(WRN), *equal_rate(WRN),
            *coefficients(WRN, 64, WRN.penalised(-5, batch=64), 16, WRN.penalised(-7, batch=16)),
            *repeats("CIFAR-10, Wide-ResNet 16-4", 16,
                     (-4, "cifar10-wrn-16-4/n1-lr2^-4", "cifar10-wrn-16-4/n16-lr2^-8"),
                     (-7, "cifar10-wrn-16-4/n1-lr2^-7", "cifar10-wrn-16-4/n16-lr2^-7")),
            *_NOVACK, *_GEIPING,
        ),
    ),
)  # fmt: skip
