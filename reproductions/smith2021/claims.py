"""The sentences of Smith et al. 2021, each with the check that decides it; Novack's and Geiping's are beside it.

Tolerances were fixed before any reported run: the best learning rate must beat the small one by 1 point and the best
coefficient no penalty by 0.5 (the sheet's), "closes most of the gap" is at least half of it, "the same accuracy" is
within 2 points (less than half of what the same learning rate does at another batch size in the pilot), peaks agree
within a factor 2, "fits" is at least 99.9 % training accuracy, and an order of 3 is 2.9 to 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from smith2021.checks import INF, closed, mean_difference, peak_distance, ratio, smallest
from smith2021.studies import STUDIES, Study

from lightning_regs.study.paper.measures import Estimate, Measure, difference, value
from lightning_regs.study.paper.old import Claim
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.report.plots import power

FITS = (99.9, INF)
_LECTURE = "seen: LECTURE"
_RECALLED = "recalled"

THEORY = (
    *(
        Claim(
            id=f"{number}-{penalty}",
            sentence=f"{method}'s end point is {text} from the flow of C {term} (order of the error in the learning "
            "rate, after 4 steps, float64).",
            paper=figure,
            provenance=provenance,
            measure=value(f"theory/{cell}", f"order_{penalty}"),
            holds=(figure - 0.1, figure + 0.1),
        )
        for number, cell, method, reference in (
            ("1", "sgd-flow", "The mean over all orders of SGD", _LECTURE),
            ("2", "gd-flow", "Gradient descent", "seen: LECTURE, BEA-NOTE"),
        )
        for penalty, term, text, figure, provenance in (
            ("quarter", "+ eps/4 mean ||grad C_k||^2", "third order", 3.0, reference),
            ("none", "alone", "only second order", 2.0, "derived"),
            ("half", "+ eps/2 mean ||grad C_k||^2", "only second order", 2.0, "derived"),
        )
    ),
    Claim(
        id="3",
        sentence="Averaged over batches of size B, the squared norm of the gradient is ||grad C||^2 + (N-B)/(N-1) "
        "Gamma/B (largest relative difference over five batch sizes, all batches enumerated).",
        paper=0.0,
        provenance=_LECTURE,
        measure=value("theory/composition", "error"),
        holds=(-INF, 1e-12),
    ),
    Claim(
        id="3-scale",
        sentence="The covariance part goes as 1/B (exponent, without the factor (N-B)/(N-1); it follows from the claim "
        "above).",
        paper=-1.0,
        provenance=_LECTURE,
        measure=value("theory/composition", "slope"),
        holds=(-1.001, -0.999),
    ),
)


_OUT_OF_REACH = {
    "quick": "MNIST-1D is the quick scale's",
    "standard": "measured at the standard scale: an hour on two cores",
    "paper": "needs the paper scale: 6,400 epochs a run, one GPU for weeks",
}


def _claim(
    study: Study,
    number: str,
    sentence: str,
    measure: Measure | Callable[[Rows], Estimate],
    holds: tuple[float, float],
    paper: float | str = "> 0",
    provenance: str = _RECALLED,
    unit: str = "points",
    exact: bool = False,
) -> Claim:
    return Claim(
        id=f"{number}-{study.key}",
        sentence=f"{study.title}: {sentence}",
        paper=paper,
        provenance=provenance,
        unit=unit,
        measure=measure,
        holds=holds,
        scales=(study.scale,),
        out_of_reach=_OUT_OF_REACH[study.scale],
        exact=exact,
    )


def study_claims(study: Study) -> Iterator[Claim]:
    """Make claims 4 to 8 for one study."""
    small, best, top = study.sgd(study.small), study.sgd(study.best_lr), study.sgd(study.top_lr)
    penalised = study.penalised(study.best_penalty)

    claim = partial(_claim, study)
    yield claim(
        "4",
        f"at learning rate {power(2, study.small)} the explicit penalty raises test accuracy (coefficient "
        f"{power(2, study.best_penalty)} over none, at least 0.5 points).",
        difference(penalised, small),
        (0.5, INF),
        provenance="seen: ABSTRACT",
    )
    yield claim(
        "4-closed",
        "the penalty closes most of the gap between the small and the best learning rate (share, at least half).",
        closed(penalised, small, best),
        (0.5, INF),
        paper="much of it",
        unit="",
    )
    yield claim(
        "4-fall",
        f"too large a coefficient is worse ({power(2, study.best_penalty)} over {power(2, study.top_penalty)}).",
        difference(penalised, study.penalised(study.top_penalty)),
        (0.0, INF),
    )
    yield claim(
        "5",
        f"test accuracy rises with the learning rate ({power(2, study.best_lr)} over {power(2, study.small)}, at "
        "least 1 point).",
        difference(best, small),
        (1.0, INF),
        provenance=_LECTURE,
    )
    yield claim(
        "5-fall",
        f"up to a point: too large a learning rate is worse ({power(2, study.best_lr)} over {power(2, study.top_lr)}).",
        difference(best, top),
        (0.0, INF),
    )
    yield claim(
        "5-train",
        f"training accuracy falls as the learning rate grows ({power(2, study.small)} over {power(2, study.top_lr)}, "
        "which is past the stable range).",
        difference(small, top, "train_acc"),
        (1e-9, INF),
        provenance=_LECTURE,
    )
    yield claim(
        "5-fit",
        "every run of both sweeps fits the training set, up to the best learning rate and coefficient (the least "
        "training accuracy).",
        smallest(
            "train_acc",
            *(study.sgd(lr) for lr in study.lrs if lr <= study.best_lr),
            *(study.penalised(strength) for strength in study.penalties if strength <= study.best_penalty),
        ),
        FITS,
        paper="the comparison's condition",
        provenance="derived",
        unit="%",
    )
    yield claim(
        "6",
        "the best coefficient at the small learning rate is the best learning rate without a penalty, within a factor "
        "2 (log2 of their quotient, of the curves averaged over seeds, with a bootstrap interval).",
        peak_distance(
            {lr: study.sgd(lr) for lr in study.lrs},
            {strength: study.penalised(strength) for strength in study.penalties},
        ),
        (-1.0, 1.0),
        paper=0.0,
        unit="",
    )
    for what, cell, name in (("lr", best, "learning rate"), ("lam", penalised, "coefficient")):
        yield claim(
            f"F1c-{what}",
            f"Figure 1c: the regulariser's value at the end falls with the {name} (quotient: best over the small "
            "learning rate without a penalty).",
            ratio(cell, small, "regulariser"),
            (-INF, 1.0),
            paper="< 1",
            unit="x",
        )
    yield from _batch_claims(study, claim)
    yield from _large_claims(study, claim)


def _batch_claims(study: Study, make: Callable[..., Claim]) -> Iterator[Claim]:
    if study.equal_lr:
        sizes = [batch for batch, _ in study.equal_lr[0]]
        ends = [(study.sgd(g[-1][1], g[-1][0]), study.sgd(g[0][1], g[0][0])) for g in study.equal_lr]
        yield make(
            "7",
            f"test accuracy is the same at equal learning rate / batch size (batch {sizes[-1]} over {sizes[0]}, "
            f"within 2 points{', mean over two quotients' if len(ends) > 1 else ''}).",
            mean_difference(ends),
            (-2.0, 2.0),
            paper=0.0,
        )
        middle = [(study.sgd(g[1][1], g[1][0]), study.sgd(g[0][1], g[0][0])) for g in study.equal_lr]
        yield make(
            "7-middle",
            f"the same (batch {sizes[1]} over {sizes[0]}, within 2 points).",
            mean_difference(middle),
            (-2.0, 2.0),
            paper=0.0,
        )
    if study.other_lr is not None:
        batch, lr = study.other_lr
        smaller = min(size for group in study.equal_lr for size, rate in group if rate == lr)
        yield make(
            "7-control",
            f"at equal learning rate instead, {power(2, lr)}, the smaller batch is better (batch {smaller} over "
            f"{batch}, at least 1 point).",
            difference(study.sgd(lr, smaller), study.sgd(lr, batch)),
            (1.0, INF),
            provenance="derived",
        )
    if study.equal_penalty:
        members = study.equal_penalty[0]
        names = [study.penalised(strength, lr, batch) for batch, lr, strength in members]
        scaled = " and equal learning rate / batch size" if members[0][1] != members[-1][1] else ""
        yield make(
            "7-lam",
            f"test accuracy is the same at equal coefficient / batch size{scaled} (batch {members[-1][0]} over "
            f"{members[0][0]}, within 2 points).",
            difference(names[-1], names[0]),
            (-2.0, 2.0),
            paper=0.0,
        )
    if study.steps:
        n, lr = study.steps[-1]
        effective = lr + n.bit_length() - 1
        yield make(
            "8",
            f"at equal numbers of updates and effective rate, {power(2, effective)}, one large step a minibatch is "
            f"better than {n} small ones: discretisation helps.",
            difference(study.sgd(effective), study.repeated(n, lr)),
            (1e-9, INF),
            provenance=_LECTURE,
        )
        yield make(
            "8-n",
            f"at equal numbers of updates and bare rate, {power(2, lr)}, {n} steps a minibatch are worse than one: "
            "stochasticity by itself hurts.",
            difference(study.sgd(lr), study.repeated(n, lr)),
            (1e-9, INF),
            provenance=_LECTURE,
        )


def _large_claims(study: Study, make: Callable[..., Claim]) -> Iterator[Claim]:
    if not study.large:
        return
    small, large = study.small_batch(), study.large_batch()
    penalised = study.large_batch(study.micro[0])
    yield make(
        "N",
        f"a large batch generalises worse at the same learning rate (batch {study.micro[0]} over {study.large}).",
        difference(small, large),
        (1e-9, INF),
        provenance="seen: NOVACK",
    )
    yield make(
        "N-closed",
        f"with the penalty on micro-batches of {study.micro[0]} the large batch recovers most of it (share, at least "
        "half).",
        closed(penalised, large, small),
        (0.5, INF),
        provenance="derived from NOVACK: ResNet-18, which has one learning rate",
        paper=0.68,
        unit="",
    )
    yield make(
        "N-micro",
        f"the penalty on micro-batches of {study.micro[0]} helps more than that on micro-batches of {study.micro[-1]}"
        f"{', the whole batch' if study.micro[-1] == study.large else ''}.",
        difference(penalised, study.large_batch(study.micro[-1])),
        (1e-9, INF),
        provenance="seen: NOVACK",
    )
    fitting = [large, *(study.large_batch(micro) for micro in study.micro)]
    if study.large_clip:
        fitting.append(study.large_batch_clipped())
        yield make(
            "N-closed-clip",
            f"the share that the penalty recovers with its gradient clipped to norm {study.large_clip:g} (at least "
            "half; a control, added after runs without clipping had collapsed in training).",
            closed(study.large_batch_clipped(), large, small),
            (0.5, INF),
            provenance="our control",
            paper=0.68,
            unit="",
        )
    yield make(
        "N-fit",
        "every large-batch run fits the training set (the least training accuracy).",
        smallest("train_acc", *fitting),
        FITS,
        paper="the comparison's condition",
        provenance="derived",
        unit="%",
    )


STUDIES_CLAIMS = tuple(claim for study in STUDIES for claim in study_claims(study))
