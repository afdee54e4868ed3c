"""What checks measure by short trainings: of one batch, of some, by the module's own optimizer, and of the rate."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from contextlib import suppress
from statistics import fmean, median, pstdev
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.diagnosis.case import ZERO, Case, Enough, classes
from lightning_regs.procedures.diagnosis.findings import Seen, Skipped, told
from lightning_regs.procedures.range_test.range_test import range_test

_STEPS, _SHUFFLES = 10, 20
# Of n samples even a perfect net is about the root of n standard deviations better on their labels.
_HELD_OUT = 32


def overfit_one_batch(case: Case) -> Seen:
    """Measure the loss of up to 32 samples that are learned by heart, without dropout: Adam has no mistake."""
    batch, rate, losses, values, until, _ = case.fitted
    words: dict[str, Any] = {"steps": len(values), "rate": rate, "n": len(case.inputs(batch)[0]), "first": values[0]}
    wrong: Any = values[-1] > until if math.isfinite(until) else not losses[-1] < losses[0]
    if wrong and losses[-1] < losses[0] and values[-1] > values[0]:
        wrong = (f"The loss that is returned falls to {losses[-1]:.4g} while torch's rises to {max(values):.4g}: its "
                 "sign is wrong.")  # fmt: skip
    words["should"] = "; it should be near its least value" if wrong else ""
    return Seen(values[-1], {"loss": values}, words, wrong, line=until)


def inputs_matter(case: Case) -> Seen:
    """Measure by how much the loss of a batch that is learned with zeros for inputs ends above that with the inputs."""
    batch, rate, _, values, _, span = case.fitted
    label, given = case.label(batch), case.inputs(batch)
    if len(label) < 2 or bool((label == label[0]).all()):
        raise Skipped("All labels of the batch are the same, which zeros would tell as well.")
    if values[-1] > 1.5 * values[0]:
        raise Skipped("Nothing is learned from one batch: see overfit_one_batch.")
    zeros = case.replaced(batch, given, [torch.zeros_like(x) for x in given])
    blind = [value for _, value in case.learn(case.calm(), [zeros], rate, len(values))]
    gain = blind[-1] - values[-1]
    words = {"zeros": blind[-1], "inputs": values[-1]}
    return Seen(gain, {"inputs": values, "zeros": blind}, words, wrong=not gain > ZERO * abs(span))


def update_ratio(case: Case) -> Seen:
    """Measure by which share of its norm a step of the module's own optimizer moves each weight, in ten steps."""
    start, before, moves = dict[str, Tensor](), dict[str, Tensor](), defaultdict[str, list[float]](list)
    still, broken, rates = dict[str, str](), list[str](), list[dict[int, float]]()

    def see(trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        rates.append({id(p): float(group["lr"]) for group in groups for p in group["params"]})
        for name, p in module.named_parameters():
            new, old = p.detach().clone(), before.get(name)
            if old is not None and p.ndim > 1 and old.any() and not torch.equal(new, old):
                moves[name].append(float((new - old).norm() / old.norm()))
            start.setdefault(name, new)
            before[name] = new
            broken.extend([name] * (not new.isfinite().all()))
        if len(rates) <= _STEPS and not broken:
            return
        for name, p in module.named_parameters():
            reasons = {
                "requires_grad is False": not p.requires_grad,
                "no optimizer has it": id(p) not in rates[-1],
                "no gradient reaches it": p.grad is None,
                # Of a bias before batch norm it is 0 but for rounding.
                "its gradient is 0": p.ndim > 1 and p.grad is not None and not p.grad.any(),
            }
            why = [reason for reason, holds in reasons.items() if holds and torch.equal(p, start[name])]
            still.update({name: why[0]} if why else {})
        raise Enough

    try:
        with suppress(Enough):
            shown = pl.callbacks.LambdaCallback(on_train_batch_start=see)
            case.copies.fit(shown, case.seed, max_epochs=_STEPS + 1)
    except Exception as error:
        return Seen(math.nan, wrong=f"Training stops with {told(error)}", remedy="See to that first.")
    if not rates[-1] and not moves:
        return Seen(0, wrong="No optimizer has a parameter.", remedy="Return one from configure_optimizers.")
    if not moves and not any(rate for each in rates for rate in each.values()):
        raise Skipped("The learning rate of the first ten steps is 0, as in a warm-up.")
    ratios = {name: median(found) for name, found in moves.items()}
    wrong, remedy = "", ""
    if still:
        names = [f"{name} ({why})" for name, why in still.items()]
        more = f" and {len(still) - 3} more" if len(still) > 3 else ""
        wrong = f"{len(still)} of {len(start)} parameters stay as they were: {', '.join(names[:3])}{more}."
        remedy = "Set requires_grad, give them to the optimizer, detach nothing; or skip this check if that is meant."
    if broken:
        wrong = f"After {len(rates) - 1} steps {broken[-1]} is no number."
        remedy = "Lower the learning rate, or clip gradients."
    if not ratios and not wrong:
        raise Skipped("All parameters are moved, and none of two dimensions or more has a norm to compare moves with.")
    middle = median(ratios.values()) if ratios else math.nan
    return Seen(middle, ratios, {"way": "Lower" if middle > 0.1 else "Raise"}, wrong, remedy)


def labels(case: Case) -> Seen:
    """Measure how far the loss of held-out samples is below that under shuffled labels, when others were learned."""
    y = torch.cat([case.label(batch) for batch in case.batches])
    after = [sum(len(case.label(batch)) for batch in case.batches[-n:]) for n in range(1, len(case.batches) + 1)]
    hold = max(len(case.batches) // 4, 1 + sum(number < _HELD_OUT for number in after))
    learned, held = case.batches[:-hold], case.batches[-hold:]
    kinds = 1 if y.is_floating_point() else classes(y)
    if len(learned) < hold:
        raise Skipped(f"{len(y)} samples are too few to learn some and hold out others; it takes {2 * _HELD_OUT}.")
    if bool((y == y[0]).all()):
        raise Skipped("All labels are the same, however they are shuffled.")
    if len(y) < 4 * kinds:
        raise Skipped(f"{len(y)} samples of {kinds} classes are too few to learn any of them.")
    module = case.calm()
    case.learn(module, learned, case.fitted.rate, 150)
    module.eval()

    def loss(labels: Tensor) -> float:
        parts = torch.split(labels, [len(case.label(batch)) for batch in held])
        found = [case.replaced(b, [case.label(b)], [part]) for b, part in zip(held, parts, strict=True)]
        with torch.no_grad():
            return fmean(case.step(module, batch).value for batch in found)

    own, source = torch.cat([case.label(batch) for batch in held]), torch.Generator().manual_seed(case.seed)
    true = loss(own)
    others = [loss(own[torch.randperm(len(own), generator=source).to(own.device)]) for _ in range(_SHUFFLES)]
    beyond = (fmean(others) - true) / max(pstdev(others), 1e-12)
    return Seen(beyond, others, {"true": true, "shuffled": fmean(others)}, line=true)


def learning_rate(case: Case) -> Seen:
    """Measure the largest rate of the optimizer's groups and its schedule, beside what a range test suggests."""
    if len(case.trainer.optimizers) != 1 or not case.start.automatic_optimization:
        raise Skipped(f"{case.name} has no one optimizer that Lightning steps, which a range test needs.")
    groups = case.trainer.optimizers[0].param_groups
    if not groups:
        raise Skipped("The optimizer has no parameters, and no rate.")
    rate = max(float(group.get("max_lr", group.get("initial_lr", group["lr"]))) for group in groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = range_test(case.copies.module, case.copies.source, seeds=2, trainer=case.copies.options, seed=case.seed)
    if not found.suggestion == found.suggestion:
        raise Skipped("The loss falls clearly at no rate, so that a range test suggests none.")
    wrong = not 1e-3 < rate / found.suggestion < 100
    return Seen(rate, found.plot, {"suggested": found.suggestion}, wrong=wrong)
