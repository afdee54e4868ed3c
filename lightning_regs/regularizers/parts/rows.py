"""Some rows of a batch, as a method sees them that makes the gradient of a step in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_regs.core.lightning import pl
from lightning_regs.regularizers.parts.double_backward import outside_autocast
from lightning_regs.regularizers.parts.scaling import loss_scale
from lightning_regs.regularizers.parts.second_order import gradients_of
from lightning_regs.regularizers.parts.selection import trained

# Mean loss of some rows of a batch [x, y]; the flag says whether they count for the epoch's metrics.
LossOf = Callable[[Sequence[Tensor], slice, bool], Tensor]


@dataclass(frozen=True)
class Rows:
    """Some rows of a batch, and how their gradient enters the step."""

    module: pl.LightningModule
    loss_of: LossOf
    batch: Sequence[Tensor]  # [x, y]
    rows: slice
    share: float  # weight of these rows in the step's mean
    sync: bool  # whether gradients are reduced over the processes after these rows

    @property
    def trainer(self) -> pl.Trainer:
        """The Trainer."""
        return self.module.trainer

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that a gradient is wanted for."""
        return trained(self.trainer, self.module)

    def loss(self) -> Tensor:
        """Return the mean loss of the rows, which counts for the epoch's metrics; to be called once."""
        return self.loss_of(self.batch, self.rows, True)

    def accumulate(self, loss: Tensor, sync: bool = True) -> None:
        """Add a scalar's gradient, weighted as in the step's mean, to ``.grad``; ``sync``: the last of these rows."""
        blocked = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        with nullcontext() if sync and self.sync else blocked():
            self.module.manual_backward(loss)

    def add(self, parameters: list[nn.Parameter], gradients: list[Tensor], weight: Tensor) -> None:
        """Add ``weight`` times gradients to ``.grad``, in the scale that the precision has there; uses them up."""
        torch._foreach_mul_(gradients, weight * loss_scale(self.trainer, weight))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            elif parameter.grad.is_sparse:
                parameter.grad = gradient + parameter.grad
            else:
                parameter.grad.add_(gradient)

    def again(self, random: list[Tensor], weight: Tensor, sync: bool = True) -> None:
        """Accumulate ``weight`` times the gradient at the parameters as they are now, and leave no other trace.

        The state ``random`` is that of the generators before the first pass, whose dropout masks are used again.
        """
        with _unchanged_buffers(self.module):
            # Autocast may hold low-precision copies of the parameters from before the move.
            torch.clear_autocast_cache()
            torch.set_rng_state(random[0])
            for state in random[1:]:
                torch.cuda.set_rng_state(state, self.batch[0].device)
            loss = self.loss_of(self.batch, self.rows, False)
            with outside_autocast(loss):
                self.accumulate(loss * weight, sync)
        torch.clear_autocast_cache()

    def random_state(self) -> list[Tensor]:
        """Return the state of the generators that a pass draws from: that of the CPU first."""
        device = self.batch[0].device
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


@contextmanager
def moved(parameters: list[nn.Parameter], gradients: list[Tensor], distance: Tensor) -> Iterator[None]:
    """Move the parameters by ``distance`` times the gradients, and back to the very values that they had."""
    before = [parameter.data for parameter in parameters]
    try:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # Other tensors take the place of the old values, which nothing writes to: subtracting would drift.
            parameter.data = torch.addcmul(parameter.data, gradient, distance.to(gradient.dtype))
        yield
    finally:
        for parameter, value in zip(parameters, before, strict=True):
            parameter.data = value


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


@contextmanager
def _unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Give the module its buffers back afterwards, whether a forward pass wrote into them or replaced them."""
    before = [
        (owner, name, buffer, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for owner, name, buffer, value in before:
            buffer.copy_(value)
            owner._buffers[name] = buffer
