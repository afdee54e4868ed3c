"""Claims 10, 11, 13, 15, 16 and 17: why tickets train, and masks without training.

"Hardly hurts", "train well" and "except for those" are read as: at most half of what the treatment that it is compared
with loses against the ticket. Two runs count as connected below a barrier of 2 % error. An untrained mask is the
paper's within 5 points, a learned one within 1, or above; at quick scale it only has to be far from chance (20 %).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from frankle2019 import published
from frankle2019.cells import SUPERMASKS, supermask
from frankle2019.checks import INF, gain, share, times
from frankle2019.claims import ABOVE_0, OUT_OF_REACH, ladder_claim
from frankle2019.ladders import LADDERS, QUICK, SIGN_FREE, SIGN_KEPT, Ladder

from lightning_regs.study.paper.measures import Measure, difference, per_seed, value
from lightning_regs.study.paper.old import Claim

HALF = (-INF, 0.5)
# Percent right of an untrained mask that is far from chance, which is 10 %.
FAR_FROM_CHANCE = 20.0


def detail_claims(ladder: Ladder) -> Iterator[Claim]:
    """Make claims 10, 11, 13, 15 and 16 for a ladder that has their runs."""
    level = ladder.details[0]
    make = partial(ladder_claim, ladder, level=level)

    def cell(kind: str) -> str:
        return ladder.cell(kind, level)

    ticket, reinit = cell("ticket"), cell("reinit-1")
    yield make(
        "10",
        "resetting every round (Strategy 1) finds better tickets than pruning a net that goes on training and "
        "resetting once at the end (Strategy 2).",
        gain(ticket, cell("continued-reset")),
    )
    yield make(
        "10-speed",
        "resetting every round finds tickets that reach the minimum validation loss sooner than those of Strategy 2 "
        "(times faster).",
        times(cell("continued-reset"), ticket),
        (1 + 1e-9, INF),
        paper="> 1",
        unit="x",
    )
    yield make(
        "11",
        "pruning small initial weights at iteration 0 is worse than random reinitialisation under the ticket's mask.",
        gain(reinit, cell("small-init")),
    )
    yield make(
        "11-moved",
        "in the training of the dense net the weights of the ticket move more than the rest (mean distance, quotient).",
        per_seed(lambda kept, pruned: kept / pruned, (ticket, "moved_kept"), (ticket, "moved_pruned")),
        (1 + 1e-9, INF),
        paper="> 1",
        unit="x",
    )
    yield make(
        "11-noise",
        "noise of 0.5 sigma on the initial weights hardly hurts (share of what a reinitialisation loses).",
        share(cell("noise-0.5"), reinit, ticket),
        HALF,
        paper="hardly",
        unit="",
    )
    yield make(
        "11-noise3",
        "even noise of 3 sigma is better than a reinitialisation.",
        gain(cell("noise-3"), reinit),
    )
    for kept, free in zip(SIGN_KEPT, SIGN_FREE, strict=True):
        name = {"reinit": "reinitialised", "reshuffle": "reshuffled", "constant": "constant"}[kept.split("-")[1]]
        yield make(
            f"15-{kept.split('-')[1]}",
            f"{name} weights that keep the signs train better than those that do not.",
            gain(cell(kept), cell(free)),
            provenance=published.KR_NOTES,
        )
    yield make(
        "15",
        "weights that keep the signs train well: reinitialised, reshuffled or constant (mean share of what the same "
        "without signs lose).",
        share([cell(kind) for kind in SIGN_KEPT], [cell(kind) for kind in SIGN_FREE], ticket),
        HALF,
        paper="well",
        provenance=published.KR_NOTES,
        unit="",
    )
    if level in ladder.one_shot:
        zeroed, frozen = cell("one-shot"), cell("one-shot-frozen")
        yield make(
            "16",
            "setting pruned weights to zero is better than freezing them at their initial values (one-shot masks).",
            gain(zeroed, frozen),
            provenance=published.KR_UBER,
        )
        yield make(
            "16-grown",
            "freezing only those pruned weights that moved away from zero, with the others at zero, hardly hurts "
            "(share of what freezing all loses).",
            share(cell("one-shot-frozen-grown"), frozen, zeroed),
            HALF,
            provenance=published.KR_UBER,
            paper="hardly",
            unit="",
        )


def stability_claims(ladder: Ladder) -> Iterator[Claim]:
    """Make claim 13 for a ladder whose dense net and tickets were trained twice."""
    make, sparse = partial(ladder_claim, ladder), ladder.twins[1]
    bound = f"below {published.STABLE:g} % error"
    for name, level, what in (("13", 0, "the dense net"), ("13-ticket", sparse, "the ticket")):
        yield make(
            name,
            f"{what} is stable to SGD noise at initialisation: two runs in different orders have no barrier on the "
            f"line between them ({bound}).",
            value(ladder.cell("ticket-twin", level), "barrier"),
            (-INF, published.STABLE),
            level,
            paper="< 2",
            provenance=f"{published.LMC}; {published.SURVEY}",
            unit="points",
        )
    yield make(
        "13-reinit",
        "the reinitialised net, which is less accurate, is less stable than the ticket (barrier, difference).",
        difference(ladder.cell("reinit-1-twin", sparse), ladder.cell("ticket-twin", sparse), "barrier"),
        ABOVE_0,
        sparse,
        provenance=published.LMC,
    )


def supermask_claims(ladder: Ladder, epochs: int) -> Iterator[Claim]:
    """Make claim 17 for the net of a ladder.

    Args:
        ladder: The net.
        epochs: Length of the learning of masks.
    """
    quick = ladder is QUICK
    table = published.SUPERMASKS["lenet" if ladder.config not in published.SUPERMASKS else ladder.config]
    net = next(name for name, values in published.SUPERMASKS.items() if values is table)
    make = partial(_supermask_claim, ladder)
    for (how, weights), theirs in table.items():
        on = "signed constants" if weights == "signed_constant" else "the initial weights"
        if how == "untrained":
            text = (
                f"without training any weight, a mask on {on} (large final, same sign, after {ladder.iterations:,} "
                "iterations of the dense net; P_m chosen on validation data) has this test accuracy."
            )
        else:
            extra = " and dynamic weight rescaling" if how == "rescaled" else ""
            text = f"a mask on {on}, learned for {epochs:,} epochs with frozen weights{extra}, has this test accuracy."
        yield make(
            f"17-{how}-{weights.replace('_', '-')}",
            text,
            value(supermask(ladder, how, weights)),
            (FAR_FROM_CHANCE if quick else theirs - (5.0 if how == "untrained" else 1.0), INF),
            paper="far above 10 %" if quick else theirs,
            provenance=published.READ.get((net, how, weights), published.RECALLED),
        )
    yield make(
        "17-order",
        f"a mask learned for {epochs:,} epochs is better than one from the dense net of {ladder.iterations:,} "
        "iterations, both on the initial weights.",
        difference(supermask(ladder, "learned", "initial"), supermask(ladder, "untrained", "initial")),
        ABOVE_0,
        provenance=published.KR_NOTES,
        unit="points",
    )


def _supermask_claim(
    ladder: Ladder,
    number: str,
    sentence: str,
    measure: Measure,
    holds: tuple[float, float],
    provenance: str,
    paper: float | str = "> 0",
    unit: str = "%",
) -> Claim:
    return Claim(
        id=f"{number}-{ladder.key}",
        sentence=f"{ladder.title}: {sentence}",
        paper=paper,
        provenance=provenance,
        unit=unit,
        measure=measure,
        holds=holds,
        scales=(ladder.scale,),
        out_of_reach=OUT_OF_REACH[ladder.scale],
    )


def _all() -> Iterator[Claim]:
    for ladder in LADDERS:
        if ladder.details:
            yield from detail_claims(ladder)
        if len(ladder.twins) > 1:
            yield from stability_claims(ladder)
    for ladder, epochs in SUPERMASKS.items():
        yield from supermask_claims(ladder, epochs)


DETAIL_CLAIMS = tuple(_all())
