"""Manual optimization of penalised losses, with everything that automatic optimization gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.regularizers.gradient_penalty import GradientPenalty, gradient_penalty, loss_scale
from lightning_regs.regularizers.second_order import gradients_of, twice_differentiable

Batch = Sequence[Tensor]
# Mean loss of some rows of a batch [x, y]; the flag says whether they count for the epoch's metrics.
LossOf = Callable[[Batch, slice, bool], Tensor]


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of a batch, and how their penalised gradient enters the step.

    Args:
        module: The module that optimizes.
        batch: ``[x, y]``.
        rows: Which samples.
        strength: Coefficient of the penalty.
        share: Weight of these rows in the step's mean.
        sync: Whether gradients are reduced over the processes after these rows.
    """

    module: pl.LightningModule
    batch: Batch
    rows: slice
    strength: float
    share: float
    sync: bool


class ManualOptimization:
    """Optimizes ``loss + penalty`` over micro-batches: one optimizer step a batch, or every so many batches.

    Gradients are averaged over the micro-batches (by size) and the accumulated batches, reduced over the processes once
    a step, unscaled and clipped before it. Schedules step as they do in automatic optimization. Each batch ends in at
    most one step of Lightning's own optimizer, so ``global_step``, ``max_steps`` and checkpoints count as usual.

    Args:
        penalty: What is added to the loss, and how steps are made.
        network: Its buffers and parameters are what a difference of gradients restores.
        loss_of: See ``LossOf``; called once a pass.
    """

    def __init__(self, penalty: GradientPenalty, network: nn.Module, loss_of: LossOf) -> None:
        self.penalty = penalty
        self.network = network
        self.loss_of = loss_of
        self._backward = {
            "exact": self._exact,
            "forward_difference": self._forward_difference,
            "central_difference": self._central_difference,
        }[penalty.estimator]

    @staticmethod
    def check(trainer: pl.Trainer) -> None:
        """Refuse what Lightning refuses in manual optimization, and say which argument takes its place.

        Raises:
            MisconfigurationException: For ``gradient_clip_val``, ``accumulate_grad_batches`` and
                ``GradientAccumulationScheduler``.
        """
        clip: dict[str, Any] = {"gradient_clip_val": trainer.gradient_clip_val}
        if trainer.gradient_clip_algorithm is not None:
            clip["gradient_clip_algorithm"] = str(getattr(trainer.gradient_clip_algorithm, "value", "norm"))
        flags = [clip] if trainer.gradient_clip_val else []
        if trainer.accumulate_grad_batches != 1:
            flags.append({"accumulate_grad_batches": trainer.accumulate_grad_batches})
        for flag in flags:
            arguments = ", ".join(f"{name}={value!r}" for name, value in flag.items())
            raise MisconfigurationException(
                f"Trainer({arguments}) does not reach manual optimization, which the gradient penalty needs; "
                f"use GradientPenalty({arguments}) instead."
            )
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, pl.callbacks.GradientAccumulationScheduler) for callback in callbacks):
            raise MisconfigurationException(
                "GradientAccumulationScheduler does not reach manual optimization, which the gradient penalty needs; "
                "use GradientPenalty(accumulate_grad_batches=...), one number for the whole training, instead."
            )

    def training_step(self, module: pl.LightningModule, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take one batch: penalised gradients of its micro-batches and, where one is due, a step.

        Returns:
            ``{"loss": ...}``, the mean loss of the batch without the penalties, as callbacks get it.
        """
        if module.trainer.fit_loop._skip_backward:  # an epoch that only gathers batch-norm statistics
            return {"loss": self.loss_of(batch, slice(None), True).detach()}
        optimizer: Any = module.optimizers()
        if isinstance(optimizer, list) or isinstance(optimizer.optimizer, torch.optim.LBFGS):
            raise MisconfigurationException("GradientPenalty steps one optimizer without a closure; LBFGS needs one.")
        trainer, every = module.trainer, self.penalty.accumulate_grad_batches
        last_batch = batch_idx + 1 >= trainer.num_training_batches or trainer.is_last_batch
        stepping = last_batch or (batch_idx + 1) % every == 0
        if batch_idx % every == 0:
            optimizer.zero_grad()
        strength, number = self.penalty.strength(trainer), len(batch[0])
        mean = torch.zeros((), device=batch[0].device)
        for rows in micro_batches(number, self.penalty.micro_batch_size):
            share = (rows.stop - rows.start) / number
            part = MicroBatch(module, batch, rows, strength, share / every, stepping and rows.stop == number)
            mean += share * self._backward(part)
        if stepping:
            optimizer.step()
            self._step_schedules(module, "step", batch_idx)
        if last_batch:
            self._step_schedules(module, "epoch", trainer.current_epoch)
        return {"loss": mean}

    def clip(self, module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Clip unscaled gradients; to be called in ``on_before_optimizer_step``."""
        if self.penalty.gradient_clip_val is not None:
            module.clip_gradients(optimizer, self.penalty.gradient_clip_val, self.penalty.gradient_clip_algorithm)

    def num_steps(self, trainer: pl.Trainer) -> float:
        """Return the number of optimizer steps of the whole training, infinity where it has no end."""
        steps = trainer.estimated_stepping_batches  # loads the data, and counts a step a batch
        if trainer.max_epochs in (None, -1) or trainer.num_training_batches == math.inf:
            return steps
        an_epoch = math.ceil(trainer.num_training_batches / self.penalty.accumulate_grad_batches)
        return min(steps, an_epoch * max(trainer.max_epochs, 1))

    @staticmethod
    def _step_schedules(module: pl.LightningModule, interval: str, index: int) -> None:
        for config in module.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                raise MisconfigurationException(
                    "ReduceLROnPlateau follows a metric, which Lightning takes out of the schedule in manual "
                    "optimization; use a schedule of the epoch or the step with GradientPenalty."
                )
            if config.interval == interval and (index + 1) % config.frequency == 0:
                module.lr_scheduler_step(config.scheduler, None)

    # -- estimators --------------------------------------------------------------------------------------------------

    def _exact(self, part: MicroBatch) -> Tensor:
        with twice_differentiable():
            loss = self.loss_of(part.batch, part.rows, True)
        scale = loss_scale(part.module.trainer, loss)
        with outside_autocast(loss):
            penalty, norm = gradient_penalty(loss * scale, self.network.parameters(), part.strength, scale)
            self.penalty.record(loss.detach(), penalty.detach(), norm)
            self._accumulate(part, (loss + penalty) * part.share, part.sync)
        return loss.detach()

    def _forward_difference(self, part: MicroBatch) -> Tensor:
        # g + strength / 2 * (g(w + d g) - g) / d, with d |g| = step_size.
        random = random_state(part.batch[0])
        loss, trained, gradients, distance = self._gradients(part)
        weight = part.strength / (2 * distance)
        with moved(trained, gradients, distance):
            add_gradients(trained, gradients, part.share * (1 - weight), part.module.trainer)
            self._again(part, random, part.share * weight, part.sync)
        return loss

    def _central_difference(self, part: MicroBatch) -> Tensor:
        # g + strength / 2 * (g(w + d/2 g) - g(w - d/2 g)) / d, with d |g| = step_size.
        random = random_state(part.batch[0])
        loss, trained, gradients, distance = self._gradients(part)
        weight = part.share * part.strength / (2 * distance)
        with moved(trained, gradients, distance / 2):
            self._again(part, random, weight, sync=False)
        with moved(trained, gradients, -distance / 2):
            add_gradients(trained, gradients, distance.new_full((), part.share), part.module.trainer)
            self._again(part, random, -weight, part.sync)
        return loss

    def _gradients(self, part: MicroBatch) -> tuple[Tensor, list[nn.Parameter], list[Tensor], Tensor]:
        """Return the loss, the parameters that it depends on, their gradients, and how far to move along these."""
        loss = self.loss_of(part.batch, part.rows, True)
        scale = loss_scale(part.module.trainer, loss)
        wanted = [p for p in self.network.parameters() if p.requires_grad]
        with outside_autocast(loss):
            found = gradients_of(loss * scale, wanted)
        pairs = [(p, g) for p, g in zip(wanted, found, strict=True) if g is not None]
        trained, gradients = [p for p, _ in pairs], [g for _, g in pairs]
        if isinstance(scale, Tensor):
            torch._foreach_div_(gradients, scale)
        norm = torch.nn.utils.get_total_norm(gradients)
        self.penalty.record(loss.detach(), part.strength / 4 * norm.square(), norm)
        return loss.detach(), trained, gradients, self.penalty.step_size / norm.clamp_min(1e-12)

    def _again(self, part: MicroBatch, random: list[Tensor], weight: Tensor, sync: bool) -> None:
        """Accumulate ``weight`` times the gradient at the parameters as they are now, and leave no other trace."""
        with unchanged_buffers(self.network):
            # Autocast may hold low-precision copies of the parameters from before the move.
            torch.clear_autocast_cache()
            restore_random_state(random, part.batch[0])
            loss = self.loss_of(part.batch, part.rows, False)
            with outside_autocast(loss):
                self._accumulate(part, loss * weight, sync)
        torch.clear_autocast_cache()

    @staticmethod
    def _accumulate(part: MicroBatch, loss: Tensor, sync: bool) -> None:
        blocked = getattr(part.module.trainer.strategy, "block_backward_sync", nullcontext)
        with nullcontext() if sync else blocked():
            part.module.manual_backward(loss)


def micro_batches(number: int, size: int | None) -> Iterator[slice]:
    """Yield the rows of each micro-batch of ``size`` samples, the last one perhaps smaller; None: all in one."""
    size = size or max(number, 1)
    for start in range(0, number, size):
        yield slice(start, min(start + size, number))


def add_gradients(parameters: list[nn.Parameter], gradients: list[Tensor], weight: Tensor, trainer: pl.Trainer) -> None:
    """Add ``weight`` times the gradients to ``.grad``, in the scale that the precision has there; uses them up."""
    torch._foreach_mul_(gradients, weight * loss_scale(trainer, weight))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad.add_(gradient)


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


@contextmanager
def unchanged_buffers(network: nn.Module) -> Iterator[None]:
    """Give the network its buffers back afterwards, whether a forward pass wrote into them or replaced them."""
    before = [
        (owner, name, buffer, buffer.clone())
        for owner in network.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for owner, name, buffer, value in before:
            buffer.copy_(value)
            owner._buffers[name] = buffer


def outside_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Leave autocast, as a backward pass has to."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def random_state(like: Tensor) -> list[Tensor]:
    """Return the state of the generators that a pass on the device of ``like`` draws from: CPU first."""
    states = [torch.get_rng_state()]
    if like.device.type == "cuda":
        states.append(torch.cuda.get_rng_state(like.device))
    return states


def restore_random_state(states: list[Tensor], like: Tensor) -> None:
    """Set the generators to what :func:`random_state` returned."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], like.device)
