"""Training batches one after another, without what Lightning does between them where nobody is there to see it.

Lightning spends as long on a batch of a small net as the net does: on hooks that nobody overrides, on a profiler that
is off, on loggers that are not due. :func:`run_lean` lets its training loop take the batches up to the next one at
which something is due (a validation, a logger, the last batch) in the short way of :class:`_Lean`, which calls the same
hooks of the same callbacks in the same order and counts in the same counters, so that a checkpoint or a stop between
any two batches is what it would have been. What is due happens in Lightning's own code.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor

from lightning_regs.core.lightning import Callback, only_gathers_statistics, pl

# The hooks of a training batch that are called here; Lightning's strategy calls those of the backward pass.
_HOOKS = ("on_train_batch_start", "on_before_zero_grad", "on_train_batch_end")
# Hooks of a LightningModule that stand for whole parts of a step: one that has its own gets Lightning's loop.
_WHOLE = ("optimizer_step", "optimizer_zero_grad")


def run_lean(trainer: pl.Trainer, module: pl.LightningModule | None) -> None:
    """Let a Trainer train this module without Lightning's work between batches, where that is possible.

    Args:
        trainer: The Trainer, before it trains.
        module: A module that returns the loss of a batch from ``training_step`` and logs at an epoch's end; None: the
            Trainer gets Lightning's loop back.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    vars(loop).pop("advance", None)
    if module is not None:
        loop.advance = _Lean(trainer, module, loop).advance


def _overrides(owner: Any, hook: str, base: type) -> bool:
    return hook in vars(owner) or getattr(type(owner), hook) is not getattr(base, hook)


class _Lean:
    def __init__(self, trainer: Any, module: Any, loop: Any) -> None:
        self.trainer, self.module, self.loop = trainer, module, loop
        self.as_lightning = loop.advance
        self.epoch = -1

    def start(self) -> bool:
        """Look, at an epoch's first batches, who hears what; say whether these batches can be taken here."""
        trainer, module = self.trainer, self.module
        if trainer.lightning_module is not module:
            return False  # a Trainer that goes on with another module
        if self.epoch != trainer.current_epoch:
            self.epoch = trainer.current_epoch
            self.by_step = [c for c in trainer.lr_scheduler_configs if c.interval == "step"]
            self.heard = {hook: [c for c in trainer.callbacks if _overrides(c, hook, Callback)] for hook in _HOOKS}
            self.own = {hook for hook in _HOOKS if _overrides(module, hook, pl.LightningModule)}
            self.able = (
                trainer.world_size == 1
                and isinstance(trainer.strategy, (pl.strategies.SingleDeviceStrategy, pl.strategies.DDPStrategy))
                and isinstance(trainer.profiler, pl.profilers.PassThroughProfiler)
                and len(trainer.optimizers) == 1
                and trainer.num_training_batches != float("inf")
                and trainer._val_check_time_interval is None
                and not any(config.reduce_on_plateau for config in self.by_step)
                and not any(_overrides(module, hook, pl.LightningModule) for hook in _WHOLE)
            )
        busy = self.loop.restarting or trainer.accumulate_grad_batches != 1 or trainer.fast_dev_run
        return self.able and not busy and not only_gathers_statistics(trainer)

    def advance(self, fetcher: Any) -> None:
        """Take the batches at which nothing is due, and then one as Lightning takes it."""
        for _ in range(self.uneventful()):
            self.batch(fetcher)
            if self.trainer.should_stop or self.trainer.received_sigterm:
                return  # Lightning stops after any batch
            self.loop._batches_that_stepped += 1
        self.as_lightning(fetcher)

    def uneventful(self) -> int:
        """Return how many of the next batches need nothing but their step."""
        trainer, loop = self.trainer, self.loop
        if not self.start():
            return 0
        ready = loop.batch_progress.current.ready
        ends = [trainer.num_training_batches - ready]
        if trainer.max_steps >= 0:
            ends.append(trainer.max_steps - trainer.global_step)
        if trainer.enable_validation and trainer.val_check_batch != float("inf"):
            behind = loop.total_batch_idx + 1 if trainer.check_val_every_n_epoch is None else ready
            ends.append(trainer.val_check_batch - behind % trainer.val_check_batch)
        if trainer.loggers and trainer.log_every_n_steps:
            every = trainer.log_every_n_steps
            ends.append(every - loop._batches_that_stepped % every)
        return max(0, int(min(ends)) - 1)

    def batch(self, fetcher: Any) -> None:
        """Take one batch, as ``_TrainingEpochLoop.advance`` does."""
        trainer, loop, progress = self.trainer, self.loop, self.loop.batch_progress
        batch, _, _ = next(fetcher)
        index = loop.batch_idx + 1
        progress.is_last_batch = fetcher.done
        batch = trainer.precision_plugin.convert_input(batch)
        batch = self.module._on_before_batch_transfer(batch, dataloader_idx=0)
        batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        if self.call("on_train_batch_start", batch, index) == -1:  # which skips the rest of the epoch
            progress.increment_by(0, is_last_batch=True)
            progress.increment_processed()
            for interval in ("step", "epoch"):
                loop.update_lr_schedulers(interval, update_plateau_schedulers=False)
            raise StopIteration
        progress.increment_started()
        if self.module.automatic_optimization:
            output = self.step(batch, index)
        else:
            output = loop.manual_optimization.run(OrderedDict(batch=batch, batch_idx=index))
        progress.increment_processed()
        if self.by_step:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        self.call("on_train_batch_end", output, batch, index)
        trainer._logger_connector.on_batch_end()
        progress.increment_completed()

    def step(self, batch: Any, index: int) -> dict[str, Tensor]:
        """Take one optimizer step, as ``_AutomaticOptimization.run`` does."""
        strategy, optimizer = self.trainer.strategy, self.trainer.optimizers[0]
        counts = self.loop.automatic_optimization.optim_progress.optimizer
        output: dict[str, Tensor] = {}

        def closure() -> Tensor:
            loss: Tensor = strategy.training_step(batch, index)
            counts.zero_grad.increment_ready()
            self.call("on_before_zero_grad", optimizer)
            counts.zero_grad.increment_started()
            optimizer.zero_grad()
            counts.zero_grad.increment_completed()
            # A callback may change the loss in place.
            output["loss"] = loss.detach().clone()
            strategy.backward(loss, optimizer)
            return output["loss"]

        counts.step.increment_ready()
        strategy.optimizer_step(optimizer, closure)
        counts.step.increment_completed()
        return output

    def call(self, hook: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks and the module that have one, as Lightning does: they may log."""
        state, response = vars(self.module), None  # nn.Module's own way to set an attribute takes microseconds
        for callback in self.heard[hook]:
            state["_current_fx_name"] = hook
            getattr(callback, hook)(self.trainer, self.module, *arguments)
        if hook in self.own:
            state["_current_fx_name"] = hook
            response = getattr(self.module, hook)(*arguments)
        state["_current_fx_name"] = None
        return response
