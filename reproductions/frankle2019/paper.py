"""Frankle & Carbin: The Lottery Ticket Hypothesis (1803.03635), with its successors."""

from __future__ import annotations

from frankle2019 import cells
from frankle2019.claims import DENSE_CLAIMS
from frankle2019.claims_conv import CONV_CLAIMS
from frankle2019.claims_deep import DEEP_CLAIMS
from frankle2019.claims_details import DETAIL_CLAIMS
from frankle2019.ladders import LADDERS, SIGN_FREE, SIGN_KEPT

from lightning_regs.study.paper.figure import Figure, Panel
from lightning_regs.study.paper.paper import Paper, Scale

_AXIS = "Percent of weights remaining falls to the right, as in the paper."
_BARS = "Lines are means over trials, bars reach from the lowest to the highest."

_DETAILS = ("ticket", *SIGN_KEPT, "noise-0.5", "noise-3", *SIGN_FREE, "small-init")


def _against_weights(metric: str) -> tuple[Panel, ...]:
    """Make one panel a ladder: its tickets and what they are compared with."""
    panels = []
    for ladder in LADDERS:
        kinds = {"reinit-?": ladder.reinit, "random": ladder.random, "one-shot": ladder.one_shot}
        cells = (f"{ladder.key}/{kind}/*" for kind in ("ticket", *(kind for kind in kinds if kinds[kind])))
        panels.append(Panel("bar", (metric,), tuple(cells)))
    return tuple(panels)


_TRAINING = tuple(
    Panel("curve", ("val_acc",), (ladder.dense, ladder.cell("ticket", level), ladder.cell("reinit-1", level)))
    for ladder in LADDERS
    if (level := ladder.speed[-1]) in ladder.reinit
)
_SIGNS = tuple(
    Panel("bar", ("test_acc_stop",), tuple(ladder.cell(kind, level) for kind in _DETAILS))
    for ladder in LADDERS
    for level in ladder.details
)
_SUPERMASKS = tuple(
    Panel("bar", ("test_acc",), (f"{ladder.key}/supermask/*", ladder.dense)) for ladder in cells.SUPERMASKS
)

PAPER = Paper(
    id="frankle2019",
    title="The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
    authors="Frankle, Carbin",
    year=2019,
    arxiv="1803.03635",
    summary="A dense net contains sparse subnetworks that train from their own initial weights at least as fast and as "
    "far as the whole; with new random weights the same subnetworks learn slower and end worse.",
    scales=(
        Scale(
            "quick",
            "LeNet-300-100 on MNIST-1D, 8 levels: minutes on two cores, the claims' direction",
            cells.quick(),
            seeds=5,
            replicas=100,
        ),
        Scale(
            "standard",
            "LeNet-300-100 on MNIST by the paper's protocol but for its length, supermasks, and Conv-2 on CIFAR-10 "
            "with fewer trials and iterations: hours on two cores",
            cells.standard(),
            seeds=5,
            replicas=25,
        ),
        Scale(
            "paper",
            "the papers' lengths and trials, Conv-2/4/6 with and without dropout, ResNet-20 and VGG-19, late "
            "rewinding, rewinding against fine-tuning: days on one GPU",
            cells.paper(),
            seeds=5,
            jobs=1,
            replicas=100,
        ),
    ),
    claims=(*DENSE_CLAIMS, *CONV_CLAIMS, *DETAIL_CLAIMS, *DEEP_CLAIMS),
    figures=(
        Figure(
            "stop",
            "Early-stopping iteration against the weights remaining",
            f"The iteration of the least validation loss. {_AXIS} In the paper tickets stop earlier than the dense "
            f"net down to 3.6 %, reinitialised nets later and later. {_BARS}",
            "frankle2019.figures:early_stopping",
            _against_weights("stop_iteration"),
        ),
        Figure(
            "accuracy",
            "Test accuracy at early stopping against the weights remaining",
            f"The weights at the least validation loss. {_AXIS} In the paper tickets rise above the dense net and "
            f"return to it at 3.6 %, reinitialised nets fall from 21.1 % on. {_BARS}",
            "frankle2019.figures:accuracy_at_stop",
            _against_weights("test_acc_stop"),
        ),
        Figure(
            "end",
            "Test accuracy after the last iteration against the weights remaining",
            f"The same after the full length. {_AXIS} In the paper tickets gain up to 0.35 points. {_BARS}",
            "frankle2019.figures:accuracy_at_end",
            _against_weights("test_acc"),
        ),
        Figure(
            "training",
            "Training of the dense net, a ticket and the reinitialised ticket",
            "Validation accuracy over the first iterations, at the level of claims 1 and 3. In the paper the ticket "
            "learns faster than the dense net, the reinitialised one slower.",
            "frankle2019.figures:training",
            _TRAINING,
        ),
        Figure(
            "signs",
            "What of the initial weights matters",
            "Test accuracy at early stopping under one mask: the ticket's own weights, others with their signs, others "
            "without. In Zhou et al. those that keep the signs train like the ticket.",
            "frankle2019.figures:signs",
            _SIGNS,
        ),
        Figure(
            "supermask",
            "Masks without trained weights",
            "Test accuracy of masks on weights that are never trained: from the trained dense net, and learned. Rings "
            "are Zhou et al.'s on MNIST (recalled, but for 86 % and 95.3 %).",
            "frankle2019.figures:supermasks",
            _SUPERMASKS,
        ),
    ),
)
