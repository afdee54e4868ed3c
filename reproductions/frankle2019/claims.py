"""The sentences of Frankle & Carbin 2019 and its successors, each with its number and the check that decides it.

What counts as reproduced was fixed before any reported run. Where the paper gives a number, ours is at least half of
the effect; at quick scale, whose data are not the paper's, only the direction is asked for. "Back at the dense net" is
within 0.15 points of test accuracy, and 33 % of the iterations. "Hardly hurts", "train well" and "except for those"
are at most half of what the treatment that it is compared with loses against the ticket. Two runs count as connected
below a barrier of 2 % error. An untrained mask is the paper's within 5 points, a learned one within 1, or above. As
good as the dense net is, of deep nets, at most 0.5 points below. Accuracies at early stopping are those of the weights
at the least validation loss; every run goes on to its full length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from frankle2019.cells import SUPERMASKS, supermask
from frankle2019.claims_deep import deep
from frankle2019.ladders import (
    CONV2,
    CONV2_PAPER,
    CONV4_PAPER,
    CONV6_PAPER,
    DROPOUT,
    LENET,
    LENET_PAPER,
    QUICK,
    SIGN_FREE,
    SIGN_KEPT,
    Ladder,
)
from frankle2019.sources import CONNECTIVITY, PAPER, SURVEY, ZHOU, ZHOU_CODE, ZHOU_NOTE

from lightning_regs.study import (
    Claim,
    Measure,
    across,
    difference,
    percent_lower,
    ratio,
    share,
    value,
)

STOP, SPEED = "test_acc_stop", "stop_iteration"
Make = Callable[..., Claim]


def gain(cells: Any, others: Any, metric: str = STOP) -> Measure:
    """How many points of test accuracy, by default at early stopping, ``cells`` are above ``others``."""
    return difference(cells, others, metric)


def effect(ladder: Ladder, theirs: float, neutral: float = 0.0, words: str = "> 0") -> dict[str, Any]:
    """Return the paper's number and the ladder's share of its effect, or the direction on data that are not its."""
    if not ladder.fraction:
        return {"published": words, "above": neutral}
    return {"published": theirs, "at_least": neutral + ladder.fraction * (theirs - neutral)}


def of_ladder(
    ladder: Ladder, id: str, sentence: str, measure: Measure, level: int | None = None, **about: Any
) -> Claim:
    """Make a claim about a ladder, whose sentence says net, length and P_m; by default a number above 0 points."""
    at = "" if level is None else f", P_m = {ladder.p_m(level):.1f} %"
    if not {"above", "below", "at_least", "at_most", "within"} & set(about):
        about["above"] = 0
    about = {"published": "> 0", "source": PAPER, "unit": "points"} | about
    return Claim(id, f"{ladder.title}, {ladder.iterations:,} iterations{at}: {sentence}", measure, **about)


def lenet(ladder: Ladder) -> Iterator[Claim]:
    """Claims 1 to 4: tickets, reinitialised nets and one-shot pruning."""
    say, dense = partial(of_ladder, ladder), ladder.dense
    ticket, one_shot = partial(ladder.cell, "ticket"), partial(ladder.cell, "one-shot")
    best, fast = ladder.accuracy, ladder.speed[-1]
    assert best is not None
    earlier = "reach the minimum validation loss earlier than the dense net"
    for level in ladder.speed:
        words = effect(ladder, 38.0) if level == fast else {}
        yield say("1" if level == fast else f"1-level{level}", f"winning tickets {earlier}.",
                  percent_lower(ticket(level), dense, SPEED), level, unit="%",
                  headline=level == fast, **words)  # fmt: skip
    yield say("1-range", f"winning tickets {earlier} on average over the levels down to P_m = {ladder.p_m(fast):.1f} "
              "%.",
              percent_lower([ticket(level) for level in range(1, fast + 1)], dense, SPEED), unit="%")  # fmt: skip
    yield say("2", "test accuracy of tickets at early stopping is above the dense net's.",
              gain(ticket(best), dense), best, headline=True, **effect(ladder, 0.3))  # fmt: skip
    yield say("2-end", "test accuracy of tickets after the last iteration is above the dense net's (the paper's is its "
              "largest gain).", gain(ticket(best), dense, "test_acc"), best, **effect(ladder, 0.35))  # fmt: skip
    yield say("2-train", "training accuracy of tickets is about 100 %, so that the gain is one in generalisation.",
              value(ticket(best), "train_acc"), best, at_least=99.5, published=100.0, unit="%")  # fmt: skip
    if (small := ladder.small) is not None:
        yield say("1-back", "tickets are back at the dense net's speed (its stopping iteration over theirs).",
                  ratio(dense, ticket(small), SPEED), small, at_least=0.75, at_most=4 / 3, published=1.0,
                  unit="x")  # fmt: skip
        yield say("2-back", "tickets are back at the dense net's test accuracy at early stopping.",
                  gain(ticket(small), dense), small, within=0.15, published=0.0)  # fmt: skip
        yield say("2-train-back", "training accuracy of tickets is still about 100 % (the paper: for P_m of at least "
                  "2 %).",
                  value(ticket(small), "train_acc"), small, at_least=99.5, published=100.0, unit="%")  # fmt: skip
        yield say("3-ticket", "a ticket does not fall below the dense net's accuracy before P_m = 2.9 % (by more "
                  "than 0.15 "
                  "points).", gain(ticket(small), dense), small, at_least=-0.15, published=">= 0")  # fmt: skip
    reinit = ladder.reinit_cells(fast)
    yield say("3", "randomly reinitialised with the same mask, the net falls below the dense net's accuracy at early "
              "stopping.", gain(reinit, dense), fast, below=0, published="< 0", headline=True)  # fmt: skip
    if (small := ladder.reinit_small) is not None:
        yield say("3-small", "the smaller the reinitialised net, the worse: here too it is below the dense net's "
                  "accuracy at early stopping.", gain(ladder.reinit_cells(small), dense), small, below=0,
                  published="< 0")  # fmt: skip
    yield say("3-speed", "the ticket reaches the minimum validation loss sooner than the reinitialised net (times "
              "faster).",
              ratio(reinit, ticket(fast), SPEED), fast, unit="x",
              headline=True, **effect(ladder, 2.51, 1, "> 1"))  # fmt: skip
    yield say("3-accuracy", "the ticket is more accurate at early stopping than the reinitialised net.",
              gain(ticket(fast), reinit), fast, **effect(ladder, 0.5))  # fmt: skip
    if fast in ladder.random:
        yield say("3-random", "a random mask of as many weights a layer is worse still than random weights under the "
                  "ticket's "
                  "mask.", gain(reinit, ladder.cell("random", fast)), fast)  # fmt: skip
    for level in ladder.speed:
        yield say("4" if level == fast else f"4-level{level}", "one-shot pruning finds tickets too: an earlier "
                  "minimum than the "
                  "dense net's (the paper has it for P_m from 67.5 to 17.6 %).",
                  percent_lower(one_shot(level), dense, SPEED), level, unit="%")  # fmt: skip
    yield say("4-accuracy", "one-shot tickets have a higher test accuracy than the dense net (the paper: for P_m "
              "from 95.0 to "
              "5.17 %).", gain(one_shot(fast), dense), fast)  # fmt: skip
    if (small := ladder.one_shot_small) is not None:
        yield say("4-small", "one-shot tickets still have a higher test accuracy than the dense net.",
                  gain(one_shot(small), dense), small)  # fmt: skip
    last = max(ladder.one_shot)
    yield say("4-iterative", "iterative pruning finds better tickets than one-shot pruning at the same size.",
              gain(ticket(last), one_shot(last)), last)  # fmt: skip
    yield from details(ladder)
    yield from stability(ladder)
    yield from supermasks(ladder)


def details(ladder: Ladder) -> Iterator[Claim]:
    """Claims 10, 11, 15 and 16: why tickets train."""
    level = ladder.details[0]
    say, cell = partial(of_ladder, ladder, level=level), partial(ladder.cell, level=level)
    ticket, reinit = cell("ticket"), cell("reinit-1")
    yield say("10", "resetting every round (Strategy 1) finds better tickets than pruning a net that goes on "
              "training and "
              "resetting once at the end (Strategy 2).", gain(ticket, cell("continued-reset")))  # fmt: skip
    yield say("10-speed", "resetting every round finds tickets that reach the minimum validation loss sooner than "
              "those of "
              "Strategy 2 (times faster).", ratio(cell("continued-reset"), ticket, SPEED), above=1,
              published="> 1", unit="x")  # fmt: skip
    yield say("11", "pruning small initial weights at iteration 0 is worse than random reinitialisation under the "
              "ticket's mask.",
              gain(reinit, cell("small-init")))  # fmt: skip
    yield say("11-moved", "in the training of the dense net the weights of the ticket move more than the rest (mean "
              "distance, "
              "quotient).",
              ratio(ticket, ticket, "moved_kept", "moved_pruned"),
              above=1, published="> 1", unit="x")  # fmt: skip
    yield say("11-noise", "noise of 0.5 sigma on the initial weights hardly hurts (share of what a reinitialisation "
              "loses).",
              share(cell("noise-0.5"), ticket, reinit, STOP), at_most=0.5, published="hardly", unit="")  # fmt: skip
    yield say("11-noise3", "even noise of 3 sigma is better than a reinitialisation.", gain(cell("noise-3"), reinit))
    for kept, free in zip(SIGN_KEPT, SIGN_FREE, strict=True):
        kind = kept.split("-")[1]
        name = {"reinit": "reinitialised", "reshuffle": "reshuffled"}.get(kind, kind)
        yield say(f"15-{kind}", f"{name} weights that keep the signs train better than those that do not.",
                  gain(cell(kept), cell(free)), source=ZHOU_NOTE)  # fmt: skip
    yield say("15", "weights that keep the signs train well: reinitialised, reshuffled or constant (mean share of "
              "what the same "
              "without signs lose).", share([cell(k) for k in SIGN_KEPT], ticket, [cell(k) for k in SIGN_FREE], STOP),
              at_most=0.5, published="well", source=ZHOU_NOTE, unit="")  # fmt: skip
    if level in ladder.one_shot:
        zeroed, frozen, both = cell("one-shot"), cell("one-shot-frozen"), (ZHOU_NOTE, ZHOU_CODE)
        yield say("16", "setting pruned weights to zero is better than freezing them at their initial values "
                  "(one-shot masks).",
                  gain(zeroed, frozen), source=both)  # fmt: skip
        yield say("16-grown", "freezing only those pruned weights that moved away from zero, with the others at "
                  "zero, hardly hurts "
                  "(share of what freezing all loses).", share(cell("one-shot-frozen-grown"), zeroed, frozen, STOP),
                  at_most=0.5, published="hardly", source=both, unit="", valid_if="16")  # fmt: skip


def stability(ladder: Ladder) -> Iterator[Claim]:
    """Claim 13, for a ladder whose dense net and tickets were trained twice."""
    sparse = ladder.twins[1]
    twin = ladder.cell("ticket-twin", sparse)
    for id, level, what in (("13", 0, "the dense net"), ("13-ticket", sparse, "the ticket")):
        yield of_ladder(
            ladder, id, f"{what} is stable to SGD noise at initialisation: two runs in different orders have no "
            "barrier of "
            "test error on the line between them.", value(ladder.cell("ticket-twin", level), "barrier"), level,
            published="< 2", source=(CONNECTIVITY, SURVEY), at_most=2.0)  # fmt: skip
    yield of_ladder(
        ladder, "13-reinit", "the reinitialised net, which is less accurate, is less stable than the ticket (barrier, "
        "difference).", difference(ladder.cell("reinit-1-twin", sparse), twin, "barrier"), sparse,
        source=CONNECTIVITY)  # fmt: skip


# Test accuracy in % of masks on weights that are never trained: net -> by how the mask was found, on which weights.
# "rescaled" is learned with dynamic weight rescaling.
_HOW = [(how, weights) for how in ("untrained", "learned", "rescaled") for weights in ("initial", "signed_constant")]
_THEIRS = {
    "lenet": dict(zip(_HOW, (79.3, 86.0, 95.3, 96.4, 97.8, 98.0), strict=True)),
    "conv4": dict(zip(_HOW, (23.7, 39.7, 65.4, 66.2, 71.7, 72.5), strict=True)),
    "conv6": dict(zip(_HOW, (24.0, 41.0, 65.3, 65.4, 76.3, 76.5), strict=True)),
}
_READ = {
    ("lenet", "untrained", "signed_constant"): ZHOU, ("conv6", "untrained", "signed_constant"): ZHOU,
    ("lenet", "learned", "initial"): ZHOU_NOTE, ("conv4", "learned", "initial"): ZHOU_NOTE,
}  # fmt: skip


def supermasks(ladder: Ladder, suffix: str = "") -> Iterator[Claim]:
    """Claim 17: masks on weights that are never trained."""
    quick, epochs = ladder is QUICK, SUPERMASKS[ladder]
    net = ladder.config if ladder.config in _THEIRS else "lenet"
    for (how, weights), theirs in _THEIRS[net].items():
        on = "signed constants" if weights == "signed_constant" else "the initial weights"
        extra = " and dynamic weight rescaling" if how == "rescaled" else ""
        slack = 5 if how == "untrained" else 1
        has = f"has the paper's test accuracy less at most {slack} point{'s' if slack > 1 else ''}, or more."
        if quick:
            has = "is right on at least twice as many as chance, 10 %."
        text = f"a mask on {on}, learned for {epochs:,} epochs with frozen weights{extra}, {has}"
        if how == "untrained":
            text = (f"without training any weight, a mask on {on} (large final, same sign, after {ladder.iterations:,} "
                    f"iterations of the dense net; P_m chosen on validation data) {has}")  # fmt: skip
        tolerance: dict[str, Any] = {"at_least": theirs - slack, "published": theirs}
        tolerance = {"at_least": 20.0, "published": "far above 10 %"} if quick else tolerance
        read = _READ.get((net, how, weights))
        yield Claim(f"17-{how}-{weights.replace('_', '-')}{suffix}", f"{ladder.title}: {text}",
                    value(supermask(ladder, how, weights)), unit="%", source=read or ZHOU,
                    origin="read" if read else "recalled", **tolerance)  # fmt: skip
    yield Claim(f"17-order{suffix}", f"{ladder.title}: a mask learned for {epochs:,} epochs is better than one from "
                "the dense net of "
                f"{ladder.iterations:,} iterations, both on the initial weights.",
                difference(supermask(ladder, "learned", "initial"), supermask(ladder, "untrained", "initial")),
                above=0, published="> 0", source=ZHOU_NOTE, unit="points")  # fmt: skip


def conv(ladder: Ladder, net: str) -> Iterator[Claim]:
    """Claim 5: convolutional nets."""
    say, dense, ticket, fast = (
        partial(of_ladder, ladder),
        ladder.dense,
        partial(ladder.cell, "ticket"),
        ladder.speed[-1],
    )
    faster, points = {"conv2": (3.5, 3.4), "conv4": (3.5, 3.5), "conv6": (2.5, 3.3)}[net]
    assert ladder.accuracy is not None
    yield say(f"5-speed-{net}", "tickets reach the minimum validation loss sooner than the dense net (times faster).",
              ratio(dense, ticket(fast), SPEED), fast, unit="x", **effect(ladder, faster, 1))  # fmt: skip
    yield say(f"5-{net}", "tickets have a higher test accuracy at early stopping than the dense net.",
              gain(ticket(ladder.accuracy), dense), ladder.accuracy, **effect(ladder, points))  # fmt: skip
    yield say(f"5-all-{net}", "all tickets with P_m above 2 % are above the dense net (the last level).",
              gain(ticket(ladder.last), dense), ladder.last)  # fmt: skip
    yield say(f"5-reinit-{net}", "tickets are more accurate at early stopping than the same mask with new random "
              "weights.",
              gain(ticket(fast), ladder.reinit_cells(fast)), fast)  # fmt: skip


def dropout() -> Iterator[Claim]:
    """Claim 6: dropout and pruning add up."""
    theirs = {"conv2": (2.1, 2.3), "conv4": (3.0, 4.6), "conv6": (2.4, 4.7)}
    for ladder, plain in zip(DROPOUT, (CONV2_PAPER, CONV4_PAPER, CONV6_PAPER), strict=True):
        say, (added, pruned) = partial(of_ladder, ladder), theirs[ladder.config]
        assert ladder.accuracy is not None
        yield say(f"6-{ladder.key}", "dropout raises the dense net's test accuracy at early stopping.",
                  gain(ladder.dense, plain.dense), **effect(ladder, added))  # fmt: skip
        yield say(f"6-pruned-{ladder.key}", "with dropout, tickets have a higher test accuracy at early stopping "
                  "than the dense net.",
                  gain(ladder.cell("ticket", ladder.accuracy), ladder.dense), ladder.accuracy,
                  **effect(ladder, pruned))  # fmt: skip


CLAIMS = (
    *across(quick=lenet(QUICK), standard=lenet(LENET), paper=lenet(LENET_PAPER)),
    *across(standard=conv(CONV2, "conv2"), paper=conv(CONV2_PAPER, "conv2")),
    *across(paper=(*conv(CONV4_PAPER, "conv4"), *conv(CONV6_PAPER, "conv6"), *dropout())),
    *across(paper=(*supermasks(CONV4_PAPER, "-conv4"), *supermasks(CONV6_PAPER, "-conv6"))),
    *across(paper=deep()),
)
