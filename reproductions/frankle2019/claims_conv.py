"""Claims 5 and 6: tickets of Conv-2, Conv-4 and Conv-6, without and with dropout."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from frankle2019 import published
from frankle2019.checks import gain, times
from frankle2019.claims import ABOVE_0, at_least, ladder_claim
from frankle2019.ladders import DROPOUT, LADDERS, Ladder

from lightning_regs.study.paper.old import Claim


def conv_claims(ladder: Ladder) -> Iterator[Claim]:
    """Make claim 5 for a conv net."""
    make, (speed, points) = partial(ladder_claim, ladder), published.CONV[ladder.config or ladder.key]
    assert ladder.accuracy is not None
    fast = ladder.speed[-1]
    yield make(
        "5-speed",
        "tickets reach the minimum validation loss sooner than the dense net (times faster).",
        times(ladder.dense, ladder.cell("ticket", fast)),
        at_least(ladder, speed, neutral=1.0),
        fast,
        paper=speed,
        unit="x",
    )
    yield make(
        "5",
        "tickets have a higher test accuracy at early stopping than the dense net.",
        gain(ladder.cell("ticket", ladder.accuracy), ladder.dense),
        at_least(ladder, points),
        ladder.accuracy,
        paper=points,
    )
    yield make(
        "5-all",
        "all tickets with P_m above 2 % are above the dense net (the last level).",
        gain(ladder.cell("ticket", ladder.last), ladder.dense),
        ABOVE_0,
        ladder.last,
    )
    yield make(
        "5-reinit",
        "tickets are more accurate at early stopping than the same mask with new random weights.",
        gain(ladder.cell("ticket", fast), ladder.reinit_cells(fast)),
        ABOVE_0,
        fast,
    )


def dropout_claims() -> Iterator[Claim]:
    """Make claim 6: dropout and pruning add up."""
    plain = {ladder.config: ladder for ladder in LADDERS if ladder.scale == "paper" and ladder not in DROPOUT}
    for ladder in DROPOUT:
        make, (dropout, pruned) = partial(ladder_claim, ladder), published.DROPOUT[ladder.config]
        assert ladder.accuracy is not None
        yield make(
            "6",
            "dropout raises the dense net's test accuracy at early stopping.",
            gain(ladder.dense, plain[ladder.config].dense),
            at_least(ladder, dropout),
            paper=dropout,
        )
        yield make(
            "6-pruned",
            "with dropout, tickets have a higher test accuracy at early stopping than the dense net.",
            gain(ladder.cell("ticket", ladder.accuracy), ladder.dense),
            at_least(ladder, pruned),
            ladder.accuracy,
            paper=pruned,
        )


def _nets() -> Iterator[Claim]:
    for ladder in LADDERS:
        if (ladder.config or ladder.key) in published.CONV and ladder not in DROPOUT:
            yield from conv_claims(ladder)


CONV_CLAIMS = (*_nets(), *dropout_claims())
