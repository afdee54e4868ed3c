"""What checks measure of the data, and of the net before it has learned."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import suppress
from itertools import zip_longest
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from lightning_regs.analysis.signal._hooks import ACTIVATIONS, WEIGHTED, flatness
from lightning_regs.procedures.diagnosis.case import Case, classes, first_samples
from lightning_regs.procedures.diagnosis.findings import NoLoss, Seen, Skipped, told

# Logits of unit variance, as usual rules for initial weights give them at most, cost about half a nat above ln K. 2.5
# times ln K takes a standard deviation of about three. The squared error of a net that says 0 is that of the best
# constant, plus the square of the targets' mean: ten times it stands for a mean of three standard deviations.
CLASSES, NUMBERS = 2.5, 10.0
# Sums of float32 differ by less between two kernels; dropout makes outputs differ by a third and more.
SAME = 1e-3
_PARAMETERS = 30
_STEPS = (1e-7, 1e-3)  # the second for what is float32 on the way, where the first is lost in rounding
_MODAL = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
_BOUNDED = (nn.Tanh, nn.Sigmoid, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid, nn.LogSigmoid)


def data_order(case: Case) -> Seen:
    """Measure the classes of a batch against those that it has in random order."""
    found = [case.label(batch).detach().cpu() for batch in case.batches]
    if any(y.is_floating_point() or y.numel() != len(y) for y in found):
        raise Skipped("Labels are no classes, one a sample, of which an order could be seen.")
    y = torch.cat([y.flatten() for y in found])
    sizes, mixed = [len(part) for part in found], y[torch.randperm(len(y))]
    own, random = (fmean(map(classes, torch.split(whole, sizes))) for whole in (y, mixed))
    one = len(y) > 1 and classes(y) == 1 and f"The first {len(y)} samples have one label, {y[0]}."
    return Seen(100 * own / random, {"labels": y.tolist()}, wrong=one)


def determinism(case: Case) -> Seen:
    """Measure whether the same batches come again under one seed, and from one batch the same loss."""
    again, other = case.read(case.seed), case.read(case.seed + 1)
    same = [_equal(a, b) for a, b in zip_longest(again, case.batches[:3])]
    order = "another" if not all(map(_equal, other, case.batches)) else "the same"
    also, wrong = f"the data come the same again, under another in {order} order", ""
    if not all(same):
        wrong = f"Of {len(same)} batches {same.count(False)} are others when they are read again under the same seed."
    elif case.start.automatic_optimization:
        a, b = (float(case.step(case.module(), case.batches[0]).loss) for _ in range(2))
        also += f", and one batch's loss is {a:.6g} twice"
        if abs(b - a) > 1e-3 * abs(a):  # beyond what a GPU's sums differ by
            wrong = f"One batch has two losses under the same seed, {a:g} and {b:g}."
    shown = {f"batch {i}": float(is_same) for i, is_same in enumerate(same)}
    return Seen(fmean(same), shown, {"also": also}, wrong=wrong)


def input_scale(case: Case) -> Seen:
    """Measure the root mean square of what the first layer with weights is given: by feature or channel."""
    if not case.inputs(case.batches[0])[0].is_floating_point():
        raise Skipped("Samples are whole numbers, such as those of words, which have no scale.")
    rows: list[Tensor] = []
    for batch in case.batches[:4]:
        seen: list[Any] = []
        case.watch(batch, (*WEIGHTED, nn.RNNBase), lambda *call, seen=seen: seen.append(call))
        if not seen:
            raise Skipped("No linear, convolutional or recurrent layer was called.")
        name, layer, x, _ = seen[0]
        features = 1 if isinstance(layer, WEIGHTED[1:]) and x.ndim > 2 else -1
        rows.append(x.double().movedim(features, -1).flatten(0, -2))
    x = torch.cat(rows)
    sizes, whole = x.square().mean(0).sqrt(), float(x.square().mean().sqrt())
    wrong: Any = not whole >= 0.01
    if len(x) > 1 and bool((x == x[0]).all()):
        wrong = f"All samples that {name} is given are the same."
    shown = {f"{i}": float(size) for i, size in enumerate(sizes)}
    return Seen(float(sizes.max()), shown, {"name": name, "whole": whole}, wrong)


def loss_at_start(case: Case) -> Seen:
    """Measure the loss before anything is learned, against that of a net that knows nothing: ln K of K classes."""
    try:
        steps = [case.step(case.module(), batch) for batch in case.batches[:4]]
    except NoLoss as why:
        return Seen(math.nan, wrong=str(why), remedy="Return it: what is only logged is not trained on.")
    except Skipped:
        raise
    except Exception as error:
        remedy = "Let it run on one batch of the loader first."
        return Seen(math.nan, wrong=f"training_step stops with {told(error)}", remedy=remedy)
    loss, value, blind = fmean(float(s.loss) for s in steps), fmean(s.value for s in steps), math.nan
    mains = [step.main for step in steps if step.main]
    if mains:
        blind = fmean(main.blind for main in mains)
    elif case.place is not None and not case.label(case.batches[0]).is_floating_point():
        with suppress(Exception):  # of a forward that is not for samples alone, or returns more than outputs
            blind = math.log(max(2, case.outputs(case.module(), case.batches[0]).shape[1]))
    numbers, shown = bool(mains) and mains[0].of_numbers, {"at start": loss, "knowing nothing": blind}
    line = (NUMBERS if numbers else CLASSES) * blind
    also, wrong, remedy = f"and {blind:.4g} that of a net that knows nothing", "", ""
    if not math.isfinite(loss):
        wrong = f"The loss at start is {loss}, no number."
        remedy = "Look for NaN in the data, logarithms and roots of 0, and quotients by 0 in the loss."
    elif math.isnan(blind):
        also = "of neither classes nor numbers"
    elif loss < (-value / 2 if mains else 0):
        whose = "torch" if mains else "classes"
        wrong = f"The loss is negative, {loss:.4g}, though that of {whose} never is: its sign is wrong."
        remedy = "Minimize the loss: leave out the minus."
    elif value > line and blind > 1e-8:
        wrong = f"The loss at start is {loss:.4g}, {also}, {value / blind:.3g} times as much."
        remedy = "; standardize the targets, or let the last bias be their mean." * numbers or ", and normalize inputs."
        remedy = f"Make the last layer's initial weights smaller, by a rule for the activation (He, Xavier){remedy}"
    return Seen(loss, shown, {"also": also}, wrong, remedy, line)


def loss_inputs(case: Case) -> Seen:
    """Look whether the loss is given what it takes: logits, log-probabilities, or numbers in the targets' shape."""
    calls = case.step(case.module(), case.batches[0]).calls
    if not calls:
        raise Skipped("The loss is made without a loss function of torch's that could be asked.")
    wrong, remedy, names = "", "", dict.fromkeys(call.function.__name__ for call in calls)
    for call in calls:
        z, y, by = call.outputs.detach().float(), call.target, call.function
        dim, within = min(1, z.ndim - 1), bool((z >= 0).all() and (z <= 1).all())
        if by is F.cross_entropy and within and bool((z.sum(dim) - 1).abs().max() < SAME):
            given, remedy = "probabilities, after a softmax", "Leave out the softmax: cross_entropy has its own."
        elif by is F.binary_cross_entropy_with_logits and within and z.numel() > 8:
            given, remedy = "numbers within [0, 1], after a sigmoid", "Leave out the sigmoid: the loss has its own."
        elif by is F.nll_loss and not (z.exp().sum(dim) - 1).abs().max() < 10 * SAME:
            given, remedy = "no log-probabilities", "Let a log_softmax come before nll_loss, or use cross_entropy."
        elif call.of_numbers and z.shape != y.shape:
            given = f"outputs {tuple(z.shape)} and targets {tuple(y.shape)}, which it makes pairs of"
            remedy = "Give both the same shape, by squeeze(1) or unsqueeze(1)."
        else:
            continue
        wrong = f"{by.__name__} is given {given}."
        break
    shown = calls[0].outputs.detach().float().flatten()[:5000].tolist()
    return Seen(100.0 * bool(wrong), shown, {"names": ", ".join(names)}, wrong, remedy, line=math.inf)


def gradients(case: Case) -> Seen:
    """Measure how far gradients are from differences of the loss in float64, along a random direction and their own."""
    module, cut = case.module().double(), first_samples(case.batches[0], 8)
    batch = tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, cut)
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    named = named[:: math.ceil(len(named) / _PARAMETERS) or 1]
    loss = case.step(module, batch, plain=True).loss
    if not loss.requires_grad:
        raise Skipped("The loss has no gradient: see update_ratio.")
    exact = torch.autograd.grad(loss, [p for _, p in named], materialize_grads=True, allow_unused=True)

    def value(p: nn.Parameter, at: Tensor) -> float:
        p.data.copy_(at)
        return float(case.step(module, batch, plain=True).loss)

    if not math.isclose(value(named[0][1], named[0][1].detach()), float(loss), rel_tol=1e-9):
        raise Skipped("Two passes over one batch differ, and so would their differences.")
    source, errors = torch.Generator(loss.device).manual_seed(case.seed), dict[str, float]()
    for (name, p), gradient in zip(named, exact, strict=True):
        along = F.normalize(torch.randn(p.shape, generator=source, dtype=p.dtype, device=p.device).flatten(), dim=0)
        along = F.normalize(along + F.normalize(gradient.flatten(), dim=0), dim=0).view_as(p)
        kept, ours, found = p.detach().clone(), float((gradient * along).sum()), []
        for step in _STEPS:
            theirs = (value(p, kept + step * along) - value(p, kept - step * along)) / (2 * step)
            size = max(abs(ours), abs(theirs), 1e-5 * max(1.0, abs(float(loss))))
            found.append(abs(ours - theirs) / size)
        p.data.copy_(kept)
        errors[name] = min(found)
    worst = max(errors, key=lambda name: errors[name])
    return Seen(errors[worst], errors, {"n": len(errors), "worst": worst})


def train_and_eval(case: Case) -> Seen:
    """Measure how far two passes in evaluation mode differ, and evaluation from training mode, and by which layers."""
    batch, module, mixed = case.batches[0], case.module().eval(), case.module()
    plain = case.outputs(module, batch, 1)
    drawn, modes = (_apart(case.outputs(m, batch, n), plain) for m, n in ((module, 2), (case.module(), 1)))
    layers = {type(m).__name__ for m in mixed.modules() if m.training and isinstance(m, _MODAL)}
    for layer in mixed.modules():
        layer.training &= any(True for _ in layer.children())
    outside, again = (case.outputs(mixed, batch, draw) for draw in (1, 2))
    wrong, number = "", 100 * modes
    if drawn > SAME:
        wrong, number = f"Two passes in evaluation mode differ by {100 * drawn:.3g} %: something is drawn.", 100 * drawn
    elif _apart(outside, plain) > SAME >= _apart(again, outside):
        wrong = f"Training mode differs by {number:.3g} % where no layer does: by code that asks for self.training."
    why = f", by {', '.join(sorted(layers))}" if layers else ", by code of its own" if modes > SAME else ""
    return Seen(number, {"two evaluations": 100 * drawn, "training, evaluation": 100 * modes}, {"why": why}, wrong)


def sample_leak(case: Case) -> Seen:
    """Measure gradients of outputs of up to 7 samples by each other's floats, or by what embeddings make of them."""
    module, cut = case.module().eval(), first_samples(case.batches[0], 7)
    plain = [x for x in case.inputs(cut) if x.is_floating_point()]
    entries, n = [x.clone().requires_grad_() for x in plain], len(case.inputs(cut)[0])
    for part in module.modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            part.register_forward_hook(
                lambda _, __, out: entries.append(out if out.requires_grad else out.requires_grad_())
            )
    z = case.outputs(module, case.replaced(cut, plain, entries[: len(plain)]))
    entries = [x for x in entries if len(x) == n]
    if len(z) % n or not entries or not z.requires_grad:
        raise Skipped(f"Outputs {tuple(z.shape)} have no gradient by the {n} samples, one row each.")
    if case.place is None and z.shape == (n, n):
        raise Skipped("Outputs compare each sample with each, as contrastive losses do.")
    rows = [
        z.reshape(n, -1),
        z.reshape(-1, n, *z.shape[1:]).transpose(0, 1).flatten(1),
    ]  # of one sample together, or apart
    tables = [_by_sample(row, entries) for row in rows[: 1 + (len(z) > n)]]
    if not float(tables[0].max()) > 0:
        raise Skipped("No output has a gradient by its sample: see inputs_matter.")
    off = [100 * (table - table.diag().diag()).amax(1) / table.max() for table in tables]
    others = min(off, key=lambda shares: float(shares.max()))
    share = float(others.max())
    told = f"an output depends on another sample, by {share:.3g} % of the largest gradient"
    shown = {f"sample {i}": float(other) for i, other in enumerate(others)}
    return Seen(share, shown, {"told": told if share else "no output depends on another sample"})


def units(case: Case) -> Seen:
    """Measure the units of activations with slope zero for every sample, and outputs where bounded ones are flat."""
    least: dict[str, float] = defaultdict(lambda: math.inf)

    def see(name: str, layer: nn.Module, before: Tensor, _: Tensor) -> None:
        flat, dead = flatness(layer, before)
        if dead == dead:
            least[name] = min(least[name], max(dead, flat if isinstance(layer, _BOUNDED) else 0.0))

    for batch in case.batches[:4]:
        case.watch(batch, ACTIVATIONS, see)
    if not least:
        raise Skipped("No activation is a module of torch's, such as nn.ReLU(), in which units could be seen.")
    worst = max(least, key=lambda name: least[name])
    return Seen(least[worst], least, {"n": len(least), "worst": worst})


def _by_sample(z: Tensor, entries: list[Tensor]) -> Tensor:
    """Return norms of gradients (N, N): of a row's outputs, weighed at random, by each sample."""
    weights, rows = torch.randn(z.shape[1], device=z.device).to(z.dtype), []
    for row in z:
        own = (row * weights).sum()
        found = torch.autograd.grad(own, entries, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.stack([g.double().flatten(1).norm(dim=1) for g in found]).sum(0))
    return torch.stack(rows)


def _apart(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def _equal(a: Any, b: Any) -> bool:
    parts = [[leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)] for batch in (a, b)]
    return len(parts[0]) == len(parts[1]) and all(map(torch.equal, *parts))
