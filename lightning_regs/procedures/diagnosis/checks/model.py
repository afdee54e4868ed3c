"""Checks of the net before it has learned: its loss, gradients, modes and units."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from lightning_regs.analysis.signal.layer_signals import layer_signals
from lightning_regs.procedures.diagnosis.case import Case, first_samples
from lightning_regs.procedures.diagnosis.findings import Finding, NoLoss, Skipped, bars, histogram, judged

# Logits of unit variance, as usual rules for initial weights give them at most, cost about half a nat above ln K. 2.5
# times ln K takes a standard deviation of about three. The squared error of a net that says 0 is that of the best
# constant, plus the square of the targets' mean: ten times it stands for a mean of three standard deviations.
CLASSES, NUMBERS = 2.5, 10.0
# In float64 a difference of losses agrees with the gradient to 1e-6 or so; kinks of ReLUs on the way may add a little.
APART = 0.01
# Sums of float32 differ by less between two kernels; dropout makes outputs differ by a third and more.
SAME = 1e-3
# Exactly zero where samples are apart; what a normalization over the batch leaks is 1 / N and more.
LEAK = 1e-6
# Half of a layer's units doing nothing for any sample, or half of its outputs where a slope is below 5 % of its
# steepest: of usual initial weights on standardized data it is under a fifth.
HALF = 50.0
_BOUNDED = (nn.Tanh, nn.Sigmoid, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid, nn.LogSigmoid)
_PARAMETERS = 30
_STEPS = (1e-7, 1e-3)  # the second for what is float32 on the way, where the first is lost in rounding


def loss_at_start(case: Case) -> Finding:
    """Before it has learned, a net loses what one does that knows nothing: ln K of K classes.

    Cried where the step fails or returns no loss, the loss is no number, or negative though it is one of torch's or one
    of classes, or far above: 2.5 times ln K, or 10 times what the best constant gives of numbers. Below is not cried: a
    net may have been trained.
    """
    try:
        steps = [case.step(case.module(), batch) for batch in case.batches[:4]]
    except NoLoss as why:
        return judged(True, math.nan, str(why), "Return it: what is only logged is not trained on.", None)
    except Skipped:
        raise
    except Exception as error:
        told = f"training_step stops with {type(error).__name__}: {' '.join(str(error).split())[:200]}."
        return judged(True, math.nan, told, "Let it run on one batch of the loader first.", None)
    loss, value = fmean(float(s.loss) for s in steps), fmean(s.value for s in steps)
    mains = [s.main for s in steps if s.main]
    classes, blind = not mains or not mains[0].of_numbers, math.nan
    if mains:
        blind = fmean(main.blind for main in mains)
    elif case.place is not None and not case.label(case.batches[0]).is_floating_point():
        blind = math.log(max(2, case.outputs(case.module(), case.batches[0]).shape[1]))
    draw = bars({"at start": loss, "knowing nothing": blind}, "loss", CLASSES * blind)
    if not math.isfinite(loss):
        told = f"The loss at start is {loss}, no number."
        remedy = "Look for NaN in the data, logarithms and roots of 0, and quotients by 0 in the loss."
        return judged(True, loss, told, remedy, draw)
    if math.isnan(blind):
        return judged(False, loss, f"The loss at start is {loss:.4g}, of neither classes nor numbers.", "", draw)
    told = f"The loss at start is {loss:.4g}, and {blind:.4g} that of a net that knows nothing"
    if loss < (-value / 2 if mains else 0):
        told = f"The loss is negative, {loss:.4g}, though that of {'torch' if mains else 'classes'} never is"
        return judged(True, loss, f"{told}: its sign is wrong.", "Minimize the loss: leave out the minus.", draw)
    far = value > (CLASSES if classes else NUMBERS) * blind and blind > 1e-8
    return judged(
        far,
        loss,
        f"{told}{f', {value / blind:.3g} times as much' if far else ''}.",
        "Make the last layer's initial weights smaller, by a rule for the activation (He, Xavier)"
        + (", and normalize inputs." if classes else "; standardize the targets, or let the last bias be their mean."),
        draw,
    )


def loss_inputs(case: Case) -> Finding:
    """The loss is given what it takes: logits no probabilities, log-probabilities such, numbers in the targets' shape.

    Cried where a cross-entropy, or one with logits, is given rows that are all probabilities: its softmax or sigmoid
    would be a second one, and its least value far above 0. Ordinary logits in a batch are never all within [0, 1].
    """
    calls = case.step(case.module(), case.batches[0]).calls
    if not calls:
        raise Skipped("The loss is made without a loss function of torch's that could be asked.")
    wrong, remedy, share = "", "", 0.0
    for call in calls:
        z, rows = call.outputs.detach().float(), call.outputs.shape
        within = bool((z >= 0).all() and (z <= 1).all())
        if call.function is F.cross_entropy and within and bool((z.sum(min(1, z.ndim - 1)) - 1).abs().max() < SAME):
            wrong, remedy = "probabilities, after a softmax", "Leave out the softmax: cross_entropy has its own."
        elif call.function is F.binary_cross_entropy_with_logits and within and z.numel() > 8:
            wrong, remedy = "numbers within [0, 1], after a sigmoid", "Leave out the sigmoid: the loss has its own."
        elif call.function is F.nll_loss and not (z.exp().sum(min(1, z.ndim - 1)) - 1).abs().max() < 10 * SAME:
            wrong, remedy = "no log-probabilities", "Let a log_softmax come before nll_loss, or use cross_entropy."
        elif call.of_numbers and rows != call.target.shape:
            wrong = f"outputs {tuple(rows)} and targets {tuple(call.target.shape)}, which it makes pairs of"
            remedy = "Give both the same shape, by squeeze(1) or unsqueeze(1)."
        share = 100.0 * bool(wrong)
        if wrong:
            wrong = f"{call.name} is given {wrong}."
            break
    names = ", ".join(dict.fromkeys(call.name for call in calls))
    shown = calls[0].outputs.detach().float().flatten()[:5000].tolist()
    return judged(
        wrong, share, wrong or f"What {names} is given fits it.", remedy, histogram(shown, "what the loss is given")
    )


def gradients(case: Case) -> Finding:
    """Gradients by autograd are those of the loss: in float64 they agree with its differences.

    Of up to 30 parameters each, on 8 samples, along a random direction and the gradient's own. Cried where they differ
    by more than 1 %: something is detached, or a backward pass of one's own is wrong.
    """
    module: Any = case.module().double()
    cut = first_samples(case.batches[0], 8)
    batch = tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, cut)
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    named = named[:: math.ceil(len(named) / _PARAMETERS) or 1]
    loss = case.step(module, batch, plain=True).loss
    if not loss.requires_grad:
        raise Skipped("The loss has no gradient: see update_ratio.")
    exact = torch.autograd.grad(loss, [p for _, p in named], materialize_grads=True, allow_unused=True)

    def value() -> float:
        return float(case.step(module, batch, plain=True).loss)

    if not math.isclose(value(), float(loss), rel_tol=1e-9):
        raise Skipped("Two passes over one batch differ, and so would their differences.")
    source, errors = torch.Generator(loss.device).manual_seed(case.seed), dict[str, float]()
    for (name, p), gradient in zip(named, exact, strict=True):
        along = F.normalize(torch.randn(p.shape, generator=source, dtype=p.dtype, device=p.device).flatten(), dim=0)
        along = F.normalize(along + F.normalize(gradient.flatten(), dim=0), dim=0).view_as(p)
        kept, ours, errors[name] = p.detach().clone(), float((gradient * along).sum()), math.inf
        for step in _STEPS:
            if not errors[name] < APART:
                ends = []
                for sign in (1, -1):
                    p.data.copy_(kept + sign * step * along)
                    ends.append(value())
                theirs = (ends[0] - ends[1]) / (2 * step)
                size = max(abs(ours), abs(theirs), 1e-5 * max(1.0, abs(float(loss))))
                errors[name] = min(errors[name], abs(ours - theirs) / size)
        p.data.copy_(kept)
    worst = max(errors, key=lambda name: errors[name])
    return judged(
        not errors[worst] < APART,
        errors[worst],
        f"Gradients of {len(errors)} parameters differ from differences of the loss in float64 by a share of "
        f"{errors[worst]:.1e} at most, in {worst}.",
        "Look for detach(), .data, .item() or a backward of your own on the way to it; a straight-through gradient is "
        "no mistake where it is meant.",
        bars(errors, "relative difference", APART, log=True),
    )


def train_and_eval(case: Case) -> Finding:
    """Evaluation draws nothing, and differs from training in what layers such as dropout and batch norm do.

    Cried where two passes in evaluation mode differ, or where the modes differ though every layer is in evaluation mode
    and nothing is drawn: by code that asks for ``self.training``.
    """
    batch, module = case.batches[0], case.module().eval()
    plain = case.outputs(module, batch, 1)
    drawn = _apart(case.outputs(module, batch, 2), plain)
    modes = _apart(case.outputs(case.module(), batch, 1), plain)
    mixed = case.module()
    layers = {type(m).__name__ for m in mixed.modules() if m.training and isinstance(m, _MODAL)}
    for layer in mixed.modules():
        layer.training &= any(True for _ in layer.children())
    outside = case.outputs(mixed, batch, 1)
    own = _apart(outside, plain) > SAME
    fixed = own and not _apart(case.outputs(mixed, batch, 2), outside) > SAME
    why = f", by {', '.join(sorted(layers))}" if layers else ", by code of its own" if modes > SAME else ""
    told = f"In evaluation mode nothing is drawn; training mode differs by {100 * modes:.3g} %{why}."
    if fixed:
        told = f"Training mode differs by {100 * modes:.3g} % where no layer does: by code that asks for self.training."
    if drawn > SAME:
        told = f"Two passes in evaluation mode differ by {100 * drawn:.3g} %: something is drawn."
    return judged(
        drawn > SAME or fixed,
        100 * (drawn if drawn > SAME else modes),
        told,
        "Use nn.Dropout, or F.dropout(x, p, training=self.training), and look for a `not` before self.training; a net "
        "that samples by design is no mistake.",
        bars({"two evaluations": 100 * drawn, "training, evaluation": 100 * modes}, "outputs differ by (%)"),
    )


def sample_leak(case: Case) -> Finding:
    """A sample's output depends on no other sample, in evaluation mode; in training mode batch norm may mix them.

    By gradients of the outputs of up to 7 samples with respect to their floats, or what embeddings make of them. Cried
    where one of another sample is above a millionth of the largest: for independent samples it is exactly 0.
    """
    module, cut = case.module().eval(), first_samples(case.batches[0], 7)
    plain = [x for x in case.inputs(cut) if x.is_floating_point()]
    entries = [x.clone().requires_grad_() for x in plain]
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            part.register_forward_hook(
                lambda _, __, out: entries.append(out if out.requires_grad else out.requires_grad_())
            )
    z = case.outputs(module, case.replaced(cut, plain, entries[: len(plain)]))
    n = len(case.inputs(cut)[0])
    entries = [x for x in entries if len(x) == n]
    if len(z) % n or not entries or not z.requires_grad:
        raise Skipped(f"Outputs {tuple(z.shape)} have no gradient by the {n} samples, one row each.")
    if case.place is None and z.shape == (n, n):
        raise Skipped("Outputs compare each sample with each, as contrastive losses do.")
    parts = (
        z.reshape(n, -1, *z.shape[1:]),
        z.reshape(-1, n, *z.shape[1:]).transpose(0, 1),
    )  # rows of one sample together, or apart
    tables = [_by_sample(part.flatten(1), entries) for part in parts[: 1 + (len(z) > n)]]
    if not float(tables[0].max()) > 0:
        raise Skipped("No output has a gradient by its sample: see inputs_matter.")
    off = [(table - table.diag().diag()).amax(1) / table.max() for table in tables]
    others = min(off, key=lambda shares: float(shares.max()))
    share = 100 * float(others.max())
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    told = f"In evaluation mode {'an output depends' if share else 'no output depends'} on another sample"
    return judged(
        share > 100 * LEAK,
        share,
        f"{told}{f', by {share:.3g} % of the largest gradient' if share else ''}"
        f"{'; in training mode batch norm mixes samples, as it should' if norms else ''}.",
        "Look for a mean, softmax, normalization, reshape or attention over dimension 0, that of samples; a loss that "
        "compares samples, as contrastive ones do, is no mistake.",
        bars({f"sample {i}": 100 * float(v) for i, v in enumerate(others)},
             "gradient by other samples (% of the largest)"),
    )  # fmt: skip


def units(case: Case) -> Finding:
    """Units of activations are alive, and not saturated, on the first batches.

    Of activations that are modules. Cried where half of a layer's units have slope zero for every sample, or where half
    of the outputs of a bounded one, such as tanh, have a slope below 5 % of its steepest.
    """
    least: dict[str, float] = defaultdict(lambda: math.inf)
    for batch in case.batches[:4]:
        net = _Passed(case, batch)
        for name, signal in layer_signals(net, torch.zeros(1)).items():
            bounded = isinstance(
                dict(net.module.named_modules()).get(name.removeprefix("module.").partition("#")[0]), _BOUNDED
            )
            bad = max(signal.dead, signal.saturation if bounded else 0.0)
            if bad == bad:
                least[name.removeprefix("module.")] = min(least[name.removeprefix("module.")], bad)
    if not least:
        raise Skipped("No activation is a module of torch's, such as nn.ReLU(), in which units could be seen.")
    worst = max(least, key=lambda name: least[name])
    return judged(
        least[worst] > HALF,
        least[worst],
        f"Of {len(least)} activations, {worst} has the most units that are dead or outputs that are saturated, "
        f"{least[worst]:.3g} %.",
        "Standardize the inputs, use initial weights for the activation (He for ReLU, Xavier for tanh), or normalize.",
        bars(least, "dead or saturated (%)", HALF),
    )


def _by_sample(z: Tensor, entries: list[Tensor]) -> Tensor:
    """Return norms of gradients (N, N): of a row's outputs, weighed at random, by each sample."""
    weights, rows = torch.randn(z.shape[1], device=z.device).to(z.dtype), []
    for row in z:
        own = (row * weights).sum()
        found = torch.autograd.grad(own, entries, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.stack([g.double().flatten(1).norm(dim=1) for g in found]).sum(0))
    return torch.stack(rows)


class _Passed(nn.Module):
    """Lets a batch pass through a case's module, whatever it is called with."""

    def __init__(self, case: Case, batch: Any) -> None:
        super().__init__()
        self.case, self.batch, self.module = case, batch, case.module()

    def forward(self, x: Tensor) -> Tensor:
        self.case.passed(self.module, self.batch)
        return x


_MODAL = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)


def _apart(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-12))
