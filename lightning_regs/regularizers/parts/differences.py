"""The gradient penalty by differences of gradients, without a graph of second order."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regs.regularizers.parts.rows import Rows, moved, outside_autocast
from lightning_regs.regularizers.parts.scaling import loss_scale
from lightning_regs.regularizers.parts.second_order import gradients_of


def by_difference(rows: Rows, strength: float, step_size: float, central: bool) -> tuple[Tensor, Tensor]:
    """Accumulate the penalised gradient by a difference of gradients; return the loss and its gradient's norm.

    With g the gradient and d |g| = step_size it is g + strength / 2 * (g(w + d g) - g) / d, or, central,
    g + strength / 2 * (g(w + d/2 g) - g(w - d/2 g)) / d.
    """
    random = rows.random_state()
    loss = rows.loss()
    scale, wanted = loss_scale(rows.trainer, loss), rows.trained
    with outside_autocast(loss):
        found = gradients_of(loss * scale, wanted)
    pairs = [(p, g) for p, g in zip(wanted, found, strict=True) if g is not None]
    trained, gradients = [p for p, _ in pairs], [g for _, g in pairs]
    if isinstance(scale, Tensor):
        torch._foreach_div_(gradients, scale)
    norm = torch.nn.utils.get_total_norm(gradients)
    distance = step_size / norm.clamp_min(1e-12)
    if central:
        weight = rows.share * strength / (2 * distance)
        with moved(trained, gradients, distance / 2):
            rows.again(random, weight, sync=False)
        with moved(trained, gradients, -distance / 2):
            rows.add(trained, gradients, distance.new_full((), rows.share))
            rows.again(random, -weight)
    else:
        weight = strength / (2 * distance)
        with moved(trained, gradients, distance):
            rows.add(trained, gradients, rows.share * (1 - weight))
            rows.again(random, rows.share * weight)
    return loss, norm
