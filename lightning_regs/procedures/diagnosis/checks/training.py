"""Checks of short trainings: one batch, inputs and labels, steps of the module's own optimizer, the learning rate."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from statistics import fmean, median, pstdev
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.copies import SameStart
from lightning_regs.procedures.diagnosis.case import ZERO, Case
from lightning_regs.procedures.diagnosis.findings import Finding, Skipped, bars, curves, histogram, judged
from lightning_regs.procedures.range_test.range_test import range_test

# About a thousandth is the rule of thumb; Adam starts at some hundredths in small nets. A layer that a step changes by
# a third has forgotten its initial weights after three; a step below 1e-7 is lost in the rounding of float32.
FAST, STILL, STEPS = 0.3, 1e-7, 10
# Standard deviations of the loss under shuffled labels: chance reaches three once in some hundred diagnoses.
# Of n samples even a perfect net reaches about the root of n.
BEYOND, SHUFFLES, HELD_OUT = 3.0, 20, 32
# The suggestion of a range test is a tenth of the rate at which the loss is least, and good to an order of magnitude.
HIGH, LOW = 100.0, 1e-3


def overfit_one_batch(case: Case) -> Finding:
    """A net learns up to 32 samples by heart: their loss comes down by nine tenths of the way to its least value.

    By half of it where that value is not known, as of a loss that is not one of torch's alone. By Adam at 0.01 for 150
    steps, else at 0.001 for 300, from the start and without dropout; a net of few parameters learns fewer samples. What
    fails at both has a mistake in the net, the loss or the labels, as the optimizer has none.
    """
    batch, rate, losses, values, until, _ = case.fitted
    n, most = len(case.inputs(batch)[0]), max(values)
    wrong = values[-1] > until if math.isfinite(until) else not losses[-1] < losses[0]
    told = f"{len(values)} steps of Adam at {rate:g} bring {n} samples' loss from {values[0]:.4g} to {values[-1]:.4g}"
    if wrong and losses[-1] < losses[0] and values[-1] > values[0]:
        told = (
            f"The loss that is returned falls to {losses[-1]:.4g} while torch's rises to {most:.4g}: its sign is wrong"
        )
    return judged(
        wrong,
        values[-1],
        f"{told}{'; it should be near its least value' if wrong else ''}.",
        "Make one batch work first: look at the loss, at what it is given, and whether each layer gets a gradient.",
        curves({"loss": values}, "step on one batch", "loss", until),
    )


def inputs_matter(case: Case) -> Finding:
    """With zeros in the place of inputs one batch is not learned: the net uses what it is given.

    Cried where zeros reach a loss that is higher by less than a tenth of what separates a net that knows nothing from a
    perfect one: at best they give the entropy of the batch's labels, which is nearly all of it.
    """
    batch, rate, _, values, _, span = case.fitted
    label, given = case.label(batch), case.inputs(batch)
    if len(label) < 2 or bool((label == label[0]).all()):
        raise Skipped("All labels of the batch are the same, which zeros would tell as well.")
    if values[-1] > 1.5 * values[0]:
        raise Skipped("Nothing is learned from one batch: see overfit_one_batch.")
    zeros = case.replaced(batch, given, [torch.zeros_like(x) for x in given])
    blind = [value for _, value in case.learn(case.calm(), [zeros], rate, len(values))]
    return judged(
        not blind[-1] - values[-1] > ZERO * abs(span),
        blind[-1] - values[-1],
        f"With zeros for inputs the loss of one batch ends at {blind[-1]:.4g}, with the inputs at {values[-1]:.4g}.",
        "See whether the inputs reach the loss: a variable overwritten, a layer whose outputs are all zero, a mask.",
        curves({"inputs": values, "zeros": blind}, "step on one batch", "loss"),
    )


def update_ratio(case: Case) -> Finding:
    """Ten steps of the module's own optimizer move every parameter, each by a small share of its norm.

    Cried where a parameter stays as it was, weights move by a median above 0.3 or all below 1e-7 of their norm in a
    step, they become no numbers, or training stops with an error.
    """
    steps = _Steps()
    try:
        case.copies.fit(steps, case.seed, max_epochs=STEPS)
    except _Steps.Enough:
        pass
    except Exception as error:
        told = f"Training stops with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return judged(True, math.nan, f"{told}{'' if told.endswith('.') else '.'}", "See to that first.", None)
    if not steps.trained and not steps.moves:
        return judged(True, 0, "No optimizer has a parameter.", "Return one from configure_optimizers.", None)
    if not steps.rate and not steps.moves:
        raise Skipped("The learning rate of the first ten steps is 0, as in a warm-up.")
    ratios = {name: median(moves) for name, moves in steps.moves.items()}
    middle = median(ratios.values()) if ratios else math.nan
    still = [f"{name} ({why})" for name, why in steps.still.items()]
    told, remedy = f"A step changes weights by a share of {middle:.2g} of their norm in the median", "Change the rate."
    if not STILL < middle < FAST:
        remedy = "Lower the learning rate." if middle >= FAST else "Raise the learning rate."
    if still:
        more = f" and {len(still) - 3} more" if len(still) > 3 else ""
        told = f"{len(still)} of {len(steps.start)} parameters stay as they were: {', '.join(still[:3])}{more}"
        remedy = (
            "Set requires_grad, give them to the optimizer, detach nothing; skip this check if they are to be frozen."
        )
    if steps.broken:
        told, remedy = (
            f"After {steps.taken} steps {steps.broken} is no number",
            "Lower the learning rate, or clip gradients.",
        )
    wrong = still or steps.broken or not STILL < middle < FAST
    return judged(
        wrong, middle, f"{told}.", remedy, bars(ratios, "share of its norm that a step changes", FAST, log=True)
    )


def labels(case: Case) -> Finding:
    """What is learned from some batches tells true labels of others from shuffled ones.

    A copy learns up to 15 batches for 150 steps of Adam, at the rate that learned one batch. Cried where the loss on
    held-out batches is not three standard deviations below those under 20 shuffles of their labels: then the labels
    have nothing to do with inputs.
    """
    y = torch.cat([case.label(batch) for batch in case.batches])
    hold = max(len(case.batches) // 4, math.ceil(HELD_OUT * len(case.batches) / len(y)))
    learned, held = case.batches[:-hold], case.batches[-hold:]
    if len(learned) < hold:
        raise Skipped(f"{len(y)} samples are too few to learn some and hold out others; it takes {2 * HELD_OUT}.")
    if bool((y == y[0]).all()):
        raise Skipped("All labels are the same, however they are shuffled.")
    classes = 1 if y.is_floating_point() else len(set(y.flatten().tolist()))
    if len(y) < 4 * classes:
        raise Skipped(f"{len(y)} samples of {classes} classes are too few to learn any of them.")
    module = case.calm()
    case.learn(module, learned, case.fitted.rate, 150)
    module.eval()

    def loss(labels: Tensor) -> float:
        parts = torch.split(labels, [len(case.label(batch)) for batch in held])
        found = [case.replaced(b, [case.label(b)], [part]) for b, part in zip(held, parts, strict=True)]
        with torch.no_grad():
            return fmean(case.step(module, batch).value for batch in found)

    own = torch.cat([case.label(batch) for batch in held])
    source = torch.Generator().manual_seed(case.seed)
    true = loss(own)
    others = [loss(own[torch.randperm(len(own), generator=source).to(own.device)]) for _ in range(SHUFFLES)]
    beyond = (fmean(others) - true) / max(pstdev(others), 1e-12)
    return judged(
        not beyond > BEYOND,
        beyond,
        f"On held-out samples the loss is {true:.4g} with their labels and {fmean(others):.4g} with shuffled ones, "
        f"{beyond:.3g} standard deviations apart.",
        "Look at samples beside their labels: one shuffled without the other, an index off by one; or they are noise.",
        histogram(others, "held-out loss under shuffled labels, and with theirs (dashed)", true),
    )


def learning_rate(case: Case) -> Finding:
    """The optimizer's rate is within the range that a range test gives: from 1/1000 to 100 times its suggestion.

    The largest of its groups and its schedule. A hundred times is ten times the rate at which the loss was least, where
    trainings diverge.
    """
    if len(case.trainer.optimizers) != 1 or not case.start.automatic_optimization:
        raise Skipped(f"{case.name} has no one optimizer that Lightning steps, which a range test needs.")
    groups = case.trainer.optimizers[0].param_groups
    rate = max(float(group.get("max_lr", group.get("initial_lr", group["lr"]))) for group in groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = range_test(case.copies.module, case.copies.source, seeds=2, trainer=case.copies.options, seed=case.seed)
    if not found.suggestion == found.suggestion:
        raise Skipped("The loss falls clearly at no rate, so that a range test suggests none.")
    ratio = rate / found.suggestion
    return judged(
        not LOW < ratio < HIGH,
        rate,
        f"The learning rate is {rate:.2g}, and a range test suggests {found.suggestion:.2g}.",
        f"Train at about {found.suggestion:.1g}, or rates around it.",
        found.plot,
    )


class _Steps(SameStart):
    """Sees ten steps: how far weights are moved, and which parameters are not."""

    class Enough(Exception):
        """Ends the training."""

    def __init__(self) -> None:
        self.start: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        self.moves: dict[str, list[float]] = defaultdict(list)
        self.still: dict[str, str] = {}
        self.broken = ""
        self.taken, self.rate, self.trained = 0, 0.0, 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the weights before a step."""
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        self.start = self.start or self.before

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure; stop after the last step."""
        self.taken += 1
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        rates = {id(p): float(group["lr"]) for group in groups for p in group["params"]}
        self.rate, self.trained = max([self.rate, *rates.values()]), len(rates)
        for name, p in pl_module.named_parameters():
            old = self.before[name]
            if p.ndim > 1 and old.any() and not torch.equal(p, old):
                self.moves[name].append(float((p.detach() - old).norm() / old.norm()))
            if not p.isfinite().all():
                self.broken = name
        if self.taken < STEPS and not self.broken:
            return
        for name, p in pl_module.named_parameters():
            if torch.equal(p, self.start[name]):
                reasons = {
                    "requires_grad is False": not p.requires_grad,
                    "no optimizer has it": id(p) not in rates,
                    "no gradient reaches it": p.grad is None,
                    # Of a bias before batch norm it is 0 but for rounding.
                    "its gradient is 0": p.ndim > 1 and p.grad is not None and not p.grad.any(),
                }
                why = [reason for reason, holds in reasons.items() if holds]
                self.still |= {name: why[0]} if why else {}
        raise self.Enough
