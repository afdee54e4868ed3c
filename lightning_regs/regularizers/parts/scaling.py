"""The scale of losses and gradients under float16, without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lightning_regs.core.lightning import pl


def loss_scale(trainer: pl.Trainer, like: Tensor) -> float | Tensor:
    """Return the factor by which the Trainer's precision scales the loss: 1.0, or a scalar on ``like``'s device."""
    scaler = scaler_of(trainer)
    return 1.0 if scaler is None else scaler.scale(torch.ones((), device=like.device))


def scale_of(module: pl.LightningModule, loss: Tensor) -> float | Tensor:
    """Return what Lightning has multiplied a loss by, for float16 and to accumulate, which it is to differentiate."""
    scale = loss_scale(module.trainer, loss)
    return scale / module.trainer.accumulate_grad_batches if module.automatic_optimization else scale


def scaler_of(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    """Return the Trainer's gradient scaler, where it has one and uses it."""
    scaler: torch.amp.GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def scale_left(trainer: pl.Trainer, optimizer: torch.optim.Optimizer, device: torch.device) -> Tensor | None:
    """Return the scale that gradients still have before an optimizer's step; None for 1."""
    scaler = scaler_of(trainer)
    # Fused optimizers divide by it within their step.
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return None
    scale: Tensor = scaler._get_scale_async()  # type: ignore[assignment]
    return scale.to(device, non_blocking=True)


@contextmanager
def unscaled(trainer: pl.Trainer, optimizer: torch.optim.Optimizer, gradients: list[Tensor]) -> Iterator[None]:
    """Take the scale off an optimizer's gradients for the while, where they have it."""
    scale = scale_left(trainer, optimizer, gradients[0].device) if gradients else None
    if scale is not None:
        torch._foreach_div_(gradients, scale)
    yield
    if scale is not None:
        torch._foreach_mul_(gradients, scale)
