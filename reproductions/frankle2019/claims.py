"""Claims 1 to 4: tickets, reinitialised nets and one-shot pruning on LeNet-300-100.

What counts as reproduced was fixed before any reported run. Where the paper gives a number, ours is at least half of
the effect; at quick scale, whose data are not the paper's, only the direction is asked for. "Back at the dense net" is
within 0.15 points of test accuracy, and 33 % of the iterations. Accuracies at early stopping are those of the weights
at the least validation loss; every run goes on to its full length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from frankle2019 import published
from frankle2019.checks import INF, earlier, gain, times
from frankle2019.ladders import LADDERS, Ladder

from lightning_regs.study.paper.measures import Estimate, Measure, value
from lightning_regs.study.paper.old import Claim
from lightning_regs.study.paper.rows import Rows

ABOVE_0 = (1e-9, INF)
# Of test accuracy in points, and of iterations as a factor: as good as the dense net.
SAME_ACCURACY, SAME_SPEED = 0.15, (0.75, 4 / 3)

OUT_OF_REACH = {
    "quick": "MNIST-1D is the quick scale's",
    "standard": "measured at the standard scale: hours on two cores",
    "paper": "needs the paper scale: days on one GPU",
}


def ladder_claim(
    ladder: Ladder,
    number: str,
    sentence: str,
    measure: Measure | Callable[[Rows], Estimate],
    holds: tuple[float, float] = ABOVE_0,
    level: int | None = None,
    paper: float | str = "> 0",
    provenance: str = published.PAPER,
    unit: str = "points",
) -> Claim:
    """Make a claim about one ladder, whose sentence says net, length and P_m."""
    at = "" if level is None else f", P_m = {ladder.p_m(level):.1f} %"
    return Claim(
        id=f"{number}-{ladder.key}",
        sentence=f"{ladder.title}, {ladder.iterations:,} iterations{at}: {sentence}",
        paper=paper,
        provenance=provenance,
        unit=unit,
        measure=measure,
        holds=holds,
        scales=(ladder.scale,),
        out_of_reach=OUT_OF_REACH[ladder.scale],
    )


def figure(ladder: Ladder, theirs: float, words: str = "> 0") -> float | str:
    """Return the paper's figure, or in words what is left of it on data that are not the paper's."""
    return theirs if ladder.fraction else words


def at_least(ladder: Ladder, effect: float, neutral: float = 0.0) -> tuple[float, float]:
    """Return the range that counts as the paper's number: the ladder's share of its effect, or the direction."""
    return (neutral + max(1e-9, ladder.fraction * (effect - neutral)), INF)


def dense_claims(ladder: Ladder) -> Iterator[Claim]:
    """Make claims 1 to 4 for a ladder with reinitialisations and one-shot pruning."""
    make = partial(ladder_claim, ladder)
    assert ladder.accuracy is not None
    dense, fast = ladder.dense, ladder.speed[-1]

    def ticket(level: int) -> str:
        return ladder.cell("ticket", level)

    for level in ladder.speed:
        theirs = level == fast
        yield make(
            "1" if theirs else f"1-level{level}",
            "winning tickets reach the minimum validation loss earlier than the dense net (percent earlier).",
            earlier(ticket(level), dense),
            at_least(ladder, published.EARLIER) if theirs else ABOVE_0,
            level,
            paper=figure(ladder, published.EARLIER) if theirs else "> 0",
            unit="%",
        )
    yield make(
        "1-range",
        "winning tickets reach the minimum validation loss earlier than the dense net on average over the levels down "
        f"to P_m = {ladder.p_m(fast):.1f} % (percent earlier).",
        earlier([ticket(level) for level in range(1, fast + 1)], dense),
        paper="> 0",
        unit="%",
    )
    yield make(
        "2",
        "test accuracy of tickets at early stopping is above the dense net's.",
        gain(ticket(ladder.accuracy), dense),
        at_least(ladder, published.GAIN),
        ladder.accuracy,
        paper=figure(ladder, published.GAIN),
    )
    yield make(
        "2-end",
        "test accuracy of tickets after the last iteration is above the dense net's (the paper's is its largest gain).",
        gain(ticket(ladder.accuracy), dense, "test_acc"),
        at_least(ladder, published.GAIN_AT_END),
        ladder.accuracy,
        paper=figure(ladder, published.GAIN_AT_END),
    )
    yield make(
        "2-train",
        "training accuracy of tickets is about 100 % (at least 99.5 %), so that the gain is one in generalisation.",
        value(ticket(ladder.accuracy), "train_acc"),
        (99.5, INF),
        ladder.accuracy,
        paper=100.0,
        unit="%",
    )
    if ladder.small is not None:
        yield from _small_claims(ladder)
    yield from _reinit_claims(ladder, fast)
    yield from _one_shot_claims(ladder, fast)


def _small_claims(ladder: Ladder) -> Iterator[Claim]:
    make, small = partial(ladder_claim, ladder), ladder.small
    assert small is not None
    ticket = ladder.cell("ticket", small)
    yield make(
        "1-back",
        "tickets are back at the dense net's speed (its stopping iteration over theirs).",
        times(ladder.dense, ticket),
        SAME_SPEED,
        small,
        paper=1.0,
        unit="x",
    )
    yield make(
        "2-back",
        "tickets are back at the dense net's test accuracy at early stopping (within 0.15 points).",
        gain(ticket, ladder.dense),
        (-SAME_ACCURACY, SAME_ACCURACY),
        small,
        paper=0.0,
    )
    yield make(
        "2-train-back",
        "training accuracy of tickets is still about 100 % (at least 99.5 %; the paper: for P_m of at least 2 %).",
        value(ticket, "train_acc"),
        (99.5, INF),
        small,
        paper=100.0,
        unit="%",
    )
    yield make(
        "3-ticket",
        "a ticket does not fall below the dense net's accuracy before P_m = 2.9 % (by more than 0.15 points).",
        gain(ticket, ladder.dense),
        (-SAME_ACCURACY, INF),
        small,
        paper=">= 0",
    )


def _reinit_claims(ladder: Ladder, fast: int) -> Iterator[Claim]:
    make = partial(ladder_claim, ladder)
    ticket, reinit = ladder.cell("ticket", fast), ladder.reinit_cells(fast)
    yield make(
        "3",
        "randomly reinitialised with the same mask, the net falls below the dense net's accuracy at early stopping.",
        gain(reinit, ladder.dense),
        (-INF, -1e-9),
        fast,
        paper="< 0",
    )
    if (small := ladder.reinit_small) is not None:
        yield make(
            "3-small",
            "the smaller the reinitialised net, the worse: here too it is below the dense net's accuracy at early "
            "stopping.",
            gain(ladder.reinit_cells(small), ladder.dense),
            (-INF, -1e-9),
            small,
            paper="< 0",
        )
    yield make(
        "3-speed",
        "the ticket reaches the minimum validation loss sooner than the reinitialised net (times faster).",
        times(reinit, ticket),
        at_least(ladder, published.FASTER_THAN_REINIT, neutral=1.0),
        fast,
        paper=figure(ladder, published.FASTER_THAN_REINIT, "> 1"),
        unit="x",
    )
    yield make(
        "3-accuracy",
        "the ticket is more accurate at early stopping than the reinitialised net.",
        gain(ticket, reinit),
        at_least(ladder, published.ABOVE_REINIT),
        fast,
        paper=figure(ladder, published.ABOVE_REINIT),
    )
    if fast in ladder.random:
        yield make(
            "3-random",
            "a random mask of as many weights a layer is worse still than random weights under the ticket's mask.",
            gain(reinit, ladder.cell("random", fast)),
            ABOVE_0,
            fast,
        )


def _one_shot_claims(ladder: Ladder, fast: int) -> Iterator[Claim]:
    make = partial(ladder_claim, ladder)
    one_shot = ladder.cell("one-shot", fast)
    for level in ladder.speed:
        yield make(
            "4" if level == fast else f"4-level{level}",
            "one-shot pruning finds tickets too: an earlier minimum than the dense net's (percent earlier; the paper "
            "has it for P_m from 67.5 to 17.6 %).",
            earlier(ladder.cell("one-shot", level), ladder.dense),
            ABOVE_0,
            level,
            unit="%",
        )
    yield make(
        "4-accuracy",
        "one-shot tickets have a higher test accuracy than the dense net (the paper: for P_m from 95.0 to 5.17 %).",
        gain(one_shot, ladder.dense),
        ABOVE_0,
        fast,
    )
    small = ladder.one_shot_small
    if small is not None:
        yield make(
            "4-small",
            "one-shot tickets still have a higher test accuracy than the dense net.",
            gain(ladder.cell("one-shot", small), ladder.dense),
            ABOVE_0,
            small,
        )
    last = max(ladder.one_shot)
    yield make(
        "4-iterative",
        "iterative pruning finds better tickets than one-shot pruning at the same size.",
        gain(ladder.cell("ticket", last), ladder.cell("one-shot", last)),
        ABOVE_0,
        last,
    )


DENSE_CLAIMS = tuple(claim for ladder in LADDERS if ladder.one_shot for claim in dense_claims(ladder))
