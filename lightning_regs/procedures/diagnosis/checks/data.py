"""Checks of what comes in: its order, whether it comes again, its scale."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lightning_regs.analysis.signal._watched import WEIGHTED, watched
from lightning_regs.procedures.diagnosis.case import Case
from lightning_regs.procedures.diagnosis.findings import Finding, Skipped, bars, curves, judged

# A random order has in a batch about as many classes as any other; sorted data have one class of two, or of ten.
MIXED = 0.6
# Rules for initial weights presume a mean square of about one. At ten times that root, outputs are ten times what the
# weights are made for and gradients of the first layer a hundred times; at a hundredth it is next to blind.
LARGE, SMALL = 10.0, 0.01


def data_order(case: Case) -> Finding:
    """Batches mix the classes as a random order does.

    Cried where all samples have one label, or a batch has less than 0.6 of the classes that it has in random order.
    """
    found = [case.label(batch).detach().cpu() for batch in case.batches]
    if any(y.is_floating_point() or y.numel() != len(y) for y in found):
        raise Skipped("Labels are no classes, one a sample, of which an order could be seen.")
    y = torch.cat([y.flatten() for y in found])
    mixed = torch.split(y[torch.randperm(len(y))], [len(y) for y in found])
    ratio = fmean(map(_classes, found)) / fmean(map(_classes, mixed))
    one = _classes(y) == 1 and len(y) > 1
    told = f"A batch has {100 * ratio:.0f} % of the classes that it has in random order."
    return judged(
        one or ratio < MIXED,
        ratio,
        f"The first {len(y)} samples have one label, {y[0]}." if one else told,
        "Shuffle the training data, DataLoader(..., shuffle=True); where they are, one class is nearly all there is.",
        curves({"labels": y.tolist()}, "sample, as the loader gives them", "label", style="."),
    )


def determinism(case: Case) -> Finding:
    """Under one seed come the same batches again, and from one batch the same loss.

    Cried where they do not: such a run cannot be repeated. That another seed gives another order is only told.
    """
    again, other = case.read(case.seed), case.read(case.seed + 1)
    same = [_equal(a, b) for a, b in zip(again, case.batches, strict=False)]
    order = "another" if not all(map(_equal, other, case.batches)) else "the same"
    told, losses = f"Under one seed the data come the same again, under another in {order} order", [0.0, 0.0]
    if not all(same):
        told = f"Of {len(same)} batches {same.count(False)} are others when they are read again under the same seed"
    elif case.start.automatic_optimization:
        losses = [float(case.step(case.module(), case.batches[0]).loss) for _ in range(2)]
        told += f", and one batch's loss is {losses[0]:.6g} twice"
    wide = abs(losses[1] - losses[0]) > 1e-3 * abs(losses[0])  # beyond what a GPU's sums differ by
    return judged(
        not all(same) or wide,
        same.count(True) / len(same),
        f"{told}." if not wide else f"One batch has two losses under the same seed, {losses[0]:g} and {losses[1]:g}.",
        "Draw from the global streams of torch, NumPy or Python, or from a generator with a seed; in workers of a "
        "loader, from torch's.",
        bars({f"batch {i}": float(is_same) for i, is_same in enumerate(same)}, "1 where it comes the same again"),
    )


def input_scale(case: Case) -> Finding:
    """What the first layer with weights is given has a root mean square of about one.

    Cried where it is above 10 in a feature or channel, below 0.01 in all, equal for all samples, or no number.
    """
    if not case.inputs(case.batches[0])[0].is_floating_point():
        raise Skipped("Samples are whole numbers, such as those of words, which have no scale.")
    rows: list[Tensor] = []
    name = ""
    for batch in case.batches[:4]:
        seen: list[tuple[str, nn.Module, Tensor]] = []
        module = case.module()
        see: Any = lambda name, layer, x, _, seen=seen: seen.append((name, layer, x))  # noqa: E731
        with watched(module, case.inputs(batch)[0], None, (*WEIGHTED, nn.RNNBase), see):
            case.passed(module, batch)
        if not seen:
            raise Skipped("No linear, convolutional or recurrent layer was called.")
        name, layer, x = seen[0]
        features = 1 if isinstance(layer, WEIGHTED[1:]) and x.ndim > 2 else -1
        rows.append(x.double().movedim(features, -1).flatten(0, -2))
    x = torch.cat(rows)
    sizes, constant = x.square().mean(0).sqrt(), len(x) > 1 and bool((x == x[0]).all())
    largest, whole = float(sizes.max()), float(x.square().mean().sqrt())
    return judged(
        not (largest <= LARGE and whole >= SMALL) or constant,
        largest,
        f"All samples that {name} is given are the same." if constant else
        f"{name} is given numbers of a root mean square of {whole:.3g}, of {largest:.3g} in the largest feature.",
        "Standardize the inputs: subtract each feature's mean over the training set and divide by its standard "
        "deviation; of images in 0 to 255, divide by 255 first.",
        bars({f"{i}": float(v) for i, v in enumerate(sizes)}, f"root mean square by feature of {name}", LARGE),
    )  # fmt: skip


def _classes(y: Tensor) -> int:
    return len(set(y.flatten().tolist()))


def _equal(a: Any, b: Any) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=False)
    return all(not isinstance(x, Tensor) or torch.equal(x, y) for x, y in pairs)
