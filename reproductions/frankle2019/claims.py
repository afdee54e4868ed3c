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

from functools import partial
from itertools import product
from typing import Any

from frankle2019 import cells
from frankle2019.cells import Ladder, Net

from lightning_regs.study import (
    Claim,
    Measure,
    Source,
    across,
    difference,
    per_seed,
    percent_lower,
    ratio,
    share,
    value,
    weighted_sum,
)

PAPER = Source("paper", "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", "Frankle, Carbin",
               2019, "arxiv.org/abs/1803.03635", "main text in a Chinese translation, appendices B to I in "
               "English")  # fmt: skip
ZHOU = Source("zhou", "Deconstructing Lottery Tickets", "Zhou, Lan, Liu, Yosinski", 2019, "arxiv.org/abs/1905.01067",
              "the abstract, as quoted on a page; figures that are recalled were not read again")  # fmt: skip
ZHOU_NOTE = Source("zhou-note", "Korean reading note on Zhou et al.")
ZHOU_CODE = Source("zhou-code", "Code of Zhou et al.", link="github.com/uber-research/deconstructing-lottery-tickets")
CONNECTIVITY = Source("connectivity", "Linear Mode Connectivity and the Lottery Ticket Hypothesis", "Frankle, "
                      "Dziugaite, Roy, Carbin", 2020, "arxiv.org/abs/1912.05671", "the abstract, as quoted on a "
                      "page")  # fmt: skip
SURVEY = Source("survey", "Survey of lottery tickets, a blog post")
REWINDING = Source("rewinding", "Two reading notes on rewinding", note="they agree on 0.1 to 7 % of training")
RENDA = Source("renda", "Comparing Rewinding and Fine-tuning in Neural Network Pruning", "Renda, Frankle, Carbin", 2020,
               "github.com/lottery-ticket/rewinding-iclr20-public", "medians computed from the raw tables behind its "
               "plots")  # fmt: skip
MIKLER = Source("mikler", "Reproduction of Renda et al. with its report",
                link="github.com/sjmikler/reproducing-comparing-rewinding-and-finetuning")  # fmt: skip

STOP, SPEED = "test_acc_stop", "stop_iteration"
gain = partial(difference, metric=STOP)


def of(net: Net, id: str, sentence: str, measure: Measure, level: int | None = None, **about: Any) -> Claim:
    """Make a claim about a net, whose sentence says net, length and P_m; by default a number above 0 points."""
    at = "" if level is None else f", P_m = {net.p_m(level):.1f} %"
    if not {"above", "below", "at_least", "at_most", "within"} & set(about):
        about["above"] = 0
    about = {"published": "> 0", "source": PAPER} | about
    return Claim(id, f"{net.told}{at}: {sentence}", measure, **about)


def effect(ladder: Ladder, theirs: float, neutral: float = 0.0, words: str = "> 0") -> dict[str, Any]:
    """Return the paper's number and half of its effect as criterion, or the direction on data that are not its."""
    if ladder is cells.QUICK:
        return {"published": words, "above": neutral}
    return {"published": theirs, "at_least": neutral + (theirs - neutral) / 2}


def lenet(ladder: Ladder) -> tuple[Claim, ...]:
    """Claims 1 to 4 and 10 to 17: tickets, reinitialised nets and one-shot pruning, and why tickets train."""
    dense, fast, best, last = ladder.dense, ladder.fast, ladder.best, max(ladder.levels["one-shot"])
    ticket, one_shot = partial(ladder.cell, "ticket"), partial(ladder.cell, "one-shot")
    reinit, say = ladder.reinits(fast), partial(of, ladder)
    earlier = "reach the minimum validation loss earlier than the dense net"
    once = ("one-shot pruning finds tickets too: an earlier minimum than the dense net's (the paper has it for P_m "
            "from 67.5 to 17.6 %).")  # fmt: skip
    return (
        say("1-level3", f"winning tickets {earlier}.", percent_lower(ticket(3), dense, SPEED), 3),
        say("1", f"winning tickets {earlier}.", percent_lower(ticket(fast), dense, SPEED), fast,
            headline=True, **effect(ladder, 38.0)),
        say("1-range", f"winning tickets {earlier} on average over the levels down to P_m = {ladder.p_m(fast):.1f} %.",
            percent_lower([ticket(level) for level in range(1, fast + 1)], dense, SPEED)),
        say("2", "test accuracy of tickets at early stopping is above the dense net's.", gain(ticket(best), dense),
            best, headline=True, **effect(ladder, 0.3)),
        say("2-end", "test accuracy of tickets after the last iteration is above the dense net's (the paper's is its "
            "largest gain).", difference(ticket(best), dense), best, **effect(ladder, 0.35)),
        say("2-train", "training accuracy of tickets is about 100 %, so that the gain is one in generalisation.",
            value(ticket(best), "train_acc"), best, at_least=99.5, published=100.0),
        say("3", "randomly reinitialised with the same mask, the net falls below the dense net's accuracy at early "
            "stopping.", gain(reinit, dense), fast, below=0, published="< 0", headline=True),
        say("3-speed", "the ticket reaches the minimum validation loss sooner than the reinitialised net (times "
            "faster).", ratio(reinit, ticket(fast), SPEED), fast, headline=True, **effect(ladder, 2.51, 1, "> 1")),
        say("3-accuracy", "the ticket is more accurate at early stopping than the reinitialised net.",
            gain(ticket(fast), reinit), fast, **effect(ladder, 0.5)),
        say("3-random", "a random mask of as many weights a layer is worse still than random weights under the "
            "ticket's mask.", gain(reinit, ladder.cell("random", fast)), fast),
        say("4-level3", once, percent_lower(one_shot(3), dense, SPEED), 3),
        say("4", once, percent_lower(one_shot(fast), dense, SPEED), fast),
        say("4-accuracy", "one-shot tickets have a higher test accuracy than the dense net (the paper: for P_m from "
            "95.0 to 5.17 %).", gain(one_shot(fast), dense), fast),
        say("4-iterative", "iterative pruning finds better tickets than one-shot pruning at the same size.",
            gain(ticket(last), one_shot(last)), last),
        *details(ladder),
        *masks(ladder),
    )  # fmt: skip


def details(ladder: Ladder) -> tuple[Claim, ...]:
    """Claims 10, 11, 13, 15 and 16: why tickets train, and whether two trainings of one are connected."""
    level = ladder.levels["details"][0]
    cell, say = partial(ladder.cell, level=level), partial(of, ladder, level=level)
    ticket, reinit, reset, zeroed = cell("ticket"), cell("reinit-1"), cell("continued-reset"), cell("one-shot")
    frozen, twin, noted = cell("one-shot-frozen"), cell("ticket-twin"), partial(say, source=ZHOU_NOTE)
    signs = {"reinit": ("reinitialised", "reinit-1"), "reshuffle": ("reshuffled", "reshuffle"),
             "constant": ("constant", "constant")}  # fmt: skip
    still = ("is stable to SGD noise at initialisation: two runs in different orders have no barrier of test error on "
             "the line between them.")  # fmt: skip
    connected: dict[str, Any] = {"at_most": 2.0, "unit": "points", "published": "< 2", "source": (CONNECTIVITY, SURVEY)}
    return (
        say("10", "resetting every round (Strategy 1) finds better tickets than pruning a net that goes on training "
            "and resetting once at the end (Strategy 2).", gain(ticket, reset)),
        say("10-speed", "resetting every round finds tickets that reach the minimum validation loss sooner than those "
            "of Strategy 2 (times faster).", ratio(reset, ticket, SPEED), above=1, published="> 1"),
        say("11", "pruning small initial weights at iteration 0 is worse than random reinitialisation under the "
            "ticket's mask.", gain(reinit, cell("small-init"))),
        say("11-moved", "in the training of the dense net the weights of the ticket move more than the rest (mean "
            "distance, quotient).", ratio(ticket, ticket, "moved_kept", "moved_pruned"), above=1, published="> 1"),
        say("11-noise", "noise of 0.5 sigma on the initial weights hardly hurts (share of what a reinitialisation "
            "loses).", share(cell("noise-0.5"), ticket, reinit, STOP), at_most=0.5, published="hardly"),
        say("11-noise3", "even noise of 3 sigma is better than a reinitialisation.", gain(cell("noise-3"), reinit)),
        *(noted(f"15-{kept}", f"{name} weights that keep the signs train better than those that do not.",
                gain(cell(f"sign-{kept}"), cell(free))) for kept, (name, free) in signs.items()),
        noted("15", "weights that keep the signs train well: reinitialised, reshuffled or constant (mean share of "
              "what the same without signs lose).", share([cell(f"sign-{kept}") for kept in signs], ticket,
                                                          [cell(free) for _, free in signs.values()], STOP),
              at_most=0.5, published="well"),
        say("16", "setting pruned weights to zero is better than freezing them at their initial values (one-shot "
            "masks).", gain(zeroed, frozen), source=(ZHOU_NOTE, ZHOU_CODE)),
        say("16-grown", "freezing only those pruned weights that moved away from zero, with the others at zero, hardly "
            "hurts (share of what freezing all loses).", share(cell("one-shot-frozen-grown"), zeroed, frozen, STOP),
            at_most=0.5, published="hardly", source=(ZHOU_NOTE, ZHOU_CODE), valid_if="16"),
        of(ladder, "13", f"the dense net {still}", value(ladder.cell("ticket-twin", 0), "barrier"), 0, **connected),
        say("13-ticket", f"the ticket {still}", value(twin, "barrier"), **connected),
        say("13-reinit", "the reinitialised net, which is less accurate, is less stable than the ticket (barrier, "
            "difference).", difference(cell("reinit-1-twin"), twin, "barrier"), source=CONNECTIVITY),
    )  # fmt: skip


# Of masks on weights that are never trained: how they are told; and by net their test accuracies in %, in the order of
# how they are found, on the initial weights and on signed constants.
_TOLD = {
    "untrained": "without training any weight, a mask on {on} (large final, same sign, after {iterations:,} iterations "
    "of the dense net; P_m chosen on validation data)",
    "learned": "a mask on {on}, learned for {epochs:,} epochs with frozen weights,",
    "rescaled": "a mask on {on}, learned for {epochs:,} epochs with frozen weights and dynamic weight rescaling,",
}
_THEIRS = {
    "lenet": (79.3, 86.0, 95.3, 96.4, 97.8, 98.0),
    "conv4": (23.7, 39.7, 65.4, 66.2, 71.7, 72.5),
    "conv6": (24.0, 41.0, 65.3, 65.4, 76.3, 76.5),
}
_READ = {("lenet", "untrained", "signed-constant"): ZHOU, ("conv6", "untrained", "signed-constant"): ZHOU,
         ("lenet", "learned", "initial"): ZHOU_NOTE, ("conv4", "learned", "initial"): ZHOU_NOTE}  # fmt: skip


def masks(ladder: Ladder, suffix: str = "") -> tuple[Claim, ...]:
    """Claim 17: masks on weights that are never trained."""
    net = "lenet" if ladder is cells.QUICK else ladder.config
    found = []
    for (how, weights), theirs in zip(product(cells.HOW, cells.ON), _THEIRS[net], strict=True):
        on = "signed constants" if weights == "signed-constant" else "the initial weights"
        told = _TOLD[how].format(on=on, iterations=ladder.iterations, epochs=ladder.mask_epochs)
        less, points = (5, "points") if how == "untrained" else (1, "point")
        has = f"has the paper's test accuracy less at most {less} {points}, or more."
        asked: dict[str, Any] = {"at_least": theirs - less, "published": theirs}
        if ladder is cells.QUICK:
            has = "is right on at least twice as many as chance, 10 %."
            asked = {"at_least": 20.0, "published": "far above 10 %"}
        read = _READ.get((net, how, weights))
        found.append(Claim(f"17-{how}-{weights}{suffix}", f"{ladder.title}: {told} {has}",
                           value(ladder.masked(how, weights)), source=read or ZHOU,
                           origin="read" if read else "recalled", **asked))  # fmt: skip
    learned, untrained = (ladder.masked(how, "initial") for how in ("learned", "untrained"))
    return (*found, Claim(
        f"17-order{suffix}", f"{ladder.title}: a mask learned for {ladder.mask_epochs:,} epochs is better than one "
        f"from the dense net of {ladder.iterations:,} iterations, both on the initial weights.",
        difference(learned, untrained), above=0, published="> 0", source=ZHOU_NOTE,
    ))  # fmt: skip


def small(ladder: Ladder) -> tuple[Claim, ...]:
    """Claims 1 to 4 on the smallest tickets, which are not looked at where the data are not the paper's."""
    say, dense, ticket = partial(of, ladder), ladder.dense, ladder.cell("ticket", 15)
    return (
        say("1-back", "tickets are back at the dense net's speed (its stopping iteration over theirs).",
            ratio(dense, ticket, SPEED), 15, at_least=0.75, at_most=4 / 3, published=1.0),
        say("2-back", "tickets are back at the dense net's test accuracy at early stopping.", gain(ticket, dense), 15,
            within=0.15, published=0.0),
        say("2-train-back", "training accuracy of tickets is still about 100 % (the paper: for P_m of at least 2 %).",
            value(ticket, "train_acc"), 15, at_least=99.5, published=100.0),
        say("3-ticket", "a ticket does not fall below the dense net's accuracy before P_m = 2.9 % (by more than 0.15 "
            "points).", gain(ticket, dense), 15, at_least=-0.15, published=">= 0"),
        say("3-small", "the smaller the reinitialised net, the worse: here too it is below the dense net's accuracy at "
            "early stopping.", gain(ladder.reinits(12), dense), 12, below=0, published="< 0"),
        say("4-small", "one-shot tickets still have a higher test accuracy than the dense net.",
            gain(ladder.cell("one-shot", 13), dense), 13),
    )  # fmt: skip


def conv(ladder: Ladder) -> tuple[Claim, ...]:
    """Claim 5: convolutional nets."""
    say, dense, ticket = partial(of, ladder), ladder.dense, partial(ladder.cell, "ticket")
    net, fast, last = ladder.config, ladder.fast, max(ladder.levels["ticket"])
    faster, points = {"conv2": (3.5, 3.4), "conv4": (3.5, 3.5), "conv6": (2.5, 3.3)}[net]
    return (
        say(f"5-speed-{net}", "tickets reach the minimum validation loss sooner than the dense net (times faster).",
            ratio(dense, ticket(fast), SPEED), fast, **effect(ladder, faster, 1)),
        say(f"5-{net}", "tickets have a higher test accuracy at early stopping than the dense net.",
            gain(ticket(ladder.best), dense), ladder.best, **effect(ladder, points)),
        say(f"5-all-{net}", "all tickets with P_m above 2 % are above the dense net (the last level).",
            gain(ticket(last), dense), last),
        say(f"5-reinit-{net}", "tickets are more accurate at early stopping than the same mask with new random "
            "weights.", gain(ticket(fast), ladder.reinits(fast)), fast),
    )  # fmt: skip


def dropout(ladder: Ladder, plain: Ladder, added: float, pruned: float) -> tuple[Claim, ...]:
    """Claim 6: dropout and pruning add up."""
    say, dense, best = partial(of, ladder), ladder.dense, ladder.cell("ticket", ladder.best)
    return (
        say(f"6-{ladder.key}", "dropout raises the dense net's test accuracy at early stopping.",
            gain(dense, plain.dense), **effect(ladder, added)),
        say(f"6-pruned-{ladder.key}", "with dropout, tickets have a higher test accuracy at early stopping than the "
            "dense net.", gain(best, dense), ladder.best, **effect(ladder, pruned)),
    )  # fmt: skip


def acc(net: Net, level: int) -> tuple[str, str]:
    """Return cell and column of the test accuracy of a level of a deep net."""
    return net.key, f"test_acc_{level:02d}"


def between(net: Net, level: int, other: Net, other_level: int) -> Measure:
    """Points of test accuracy of a level of a deep net above a level of another."""
    (cell, metric), (than, than_metric) = acc(net, level), acc(other, other_level)
    return difference(cell, than, metric, than_metric)


def narrower(net: Net, other: Net, level: int) -> Measure:
    """How many points less a level loses against the dense net in one search than in another."""
    return weighted_sum((1, *acc(net, level)), (-1, *acc(net, 0)), (-1, *acc(other, level)), (1, *acc(other, 0)))


def deep() -> tuple[Claim, ...]:
    """Claims 7 to 9, 12 and 14: VGG-19 and ResNet-20, rewinding and fine-tuning."""
    vgg, vgg_low, vgg_warm, vgg_layers = (cells.VGG[kind] for kind in ("high", "low", "warm", "layers"))
    resnet, low, warm, layers = (cells.RESNET[kind] for kind in ("high", "low", "warm", "layers"))
    rewound = ((cells.RESNET, 8, (100, 500, 2000)), (cells.VGG, 15, (100, 1000)))
    none = "there are no tickets: test accuracy is below the dense net's."
    less = "global pruning loses less than layer-wise pruning."
    best = per_seed(lambda *values: max(values), *(acc(low, level) for level in range(4, 8)))
    return (
        of(vgg, "7", none, between(vgg, 10, vgg, 0), 10, below=0, published="< 0"),
        of(vgg_low, "7-low", "subnetworks stay within 1 point of the dense net.", between(vgg_low, 15, vgg_low, 0), 15,
           at_least=-1.0, published="-1 to 0"),
        of(vgg_warm, "7-warm", "tickets exceed the dense net's accuracy.", between(vgg_warm, 19, vgg_warm, 0), 19),
        of(vgg_warm, "9", less, narrower(vgg_warm, vgg_layers, 16), 16),
        of(resnet, "8", none, between(resnet, 6, resnet, 0), 6, below=0, published="< 0"),
        of(low, "8-low", f"the best ticket's test accuracy, P_m from {low.p_m(4):.1f} to {low.p_m(7):.1f} %.", best,
           within=1, unit="%", published=89.5),
        of(resnet, "8-dense", "the dense net's test accuracy.", value(*acc(resnet, 0)), within=1, published=90.5),
        of(warm, "8-warm", "tickets are as accurate as the dense net at lr 0.1.", between(warm, 6, resnet, 0), 6,
           at_least=-0.5, published=0.0),
        of(warm, "9-resnet", less, narrower(warm, layers, 9), 9),
        *(of(nets[str(k)], f"12-{nets['high'].config}-{k}", f"rewinding to iteration {k:,} is better than to the "
             "start.", between(nets[str(k)], level, nets["high"], level), level, source=REWINDING)
          for nets, level, times in rewound for k in times),
        *renda(7, 90.60, 91.67, 91.75),
        *renda(10, 89.78, 90.91, 90.76),
        Claim("14-wide", "WRN-16-8: repeated lr rewinding at low sparsity loses accuracy (a finding against claim 14).",
              published="< 0", source=MIKLER,
              out_of_reach="no scale has a Wide-ResNet 16-8: many full trainings of 11M weights"),
    )  # fmt: skip


def renda(level: int, fine: float, weight: float, rate: float) -> tuple[Claim, ...]:
    """Claim 14 at a level, from medians of test accuracy: of fine-tuning, weight rewinding and lr rewinding."""
    net = cells.RENDA
    say = partial(of, net["tuned"], level=level, origin="derived")
    return (
        *(say(f"14-{name}-{level}", f"{name} rewinding beats fine-tuning (130 epochs each).",
              between(net[name], level, net["tuned"], level), published=round(theirs - fine, 2), source=RENDA)
          for name, theirs in (("weight", weight), ("lr", rate))),
        say(f"14-{level}", "lr rewinding is as good as weight rewinding, or better.",
            between(net["lr"], level, net["weight"], level), at_least=-0.5, published=round(rate - weight, 2),
            source=(RENDA, MIKLER)),
    )  # fmt: skip


CLAIMS = across(
    quick=lenet(cells.QUICK),
    standard=(*lenet(cells.LENET), *small(cells.LENET), *conv(cells.CONV2)),
    paper=(
        *lenet(cells.LENET_PAPER), *small(cells.LENET_PAPER),
        *(claim for ladder in cells.CONVS for claim in conv(ladder)),
        *(claim for each in zip(cells.DROPOUT, cells.CONVS, (2.1, 3.0, 2.4), (2.3, 4.6, 4.7), strict=True)
          for claim in dropout(*each)),
        *(claim for ladder in cells.CONVS[1:] for claim in masks(ladder, f"-{ladder.config}")),
        *deep(),
    ),
)  # fmt: skip
