"""Training batches one after another, without what Lightning does between them where nobody is there to see it.

Lightning spends as long on a batch of a small net as the net does: on hooks that nobody overrides, on a profiler that
is off, on loggers that are not due. :func:`run_lean` lets its training loop take the batches up to the next one at
which something is due (a validation, a logger, the last batch) in the short way of :class:`_Lean`, which calls the same
hooks of the same callbacks in the same order and counts in the same counters, so that a checkpoint or a stop between
any two batches is what it would have been. What is due happens in Lightning's own code.

It is made of Lightning's private parts throughout, so it stands here as a whole and not in ``core.lightning``; its
canary is ``tests/training/test_lean.py``, which compares each thing that can be observed with Lightning's loop.
"""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.checks import NoEffectWarning
from lightning_regs.core.lightning import (
    Callback,
    MisconfigurationException,
    datamodule_of,
    only_gathers_statistics,
    pl,
)
from lightning_regs.data import ImageDataModule
from lightning_regs.training.captured import TOLD, WITHIN, Captured, check_captured, class_of_ours

_HOOKS = ("on_train_batch_start", *WITHIN, "on_train_batch_end")
# Hooks of a LightningModule that stand for whole parts of a step: one that has its own gets Lightning's loop.
_WHOLE = ("optimizer_step", "optimizer_zero_grad")
_MOVES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_BARS = (pl.callbacks.RichProgressBar, pl.callbacks.TQDMProgressBar)
_SHOWS_EVERY = 0.05  # seconds: a bar that is drawn ten times a second takes longer to be told than a small net to learn


def run_lean(trainer: pl.Trainer, module: pl.LightningModule | None) -> None:
    """Let a Trainer train this module without Lightning's work between batches, where that is possible.

    It returns the loss of a batch from ``training_step`` and logs at an epoch's end. By None Lightning's loop is back.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    if isinstance(getattr(vars(loop).get("advance"), "__self__", None), _Lean):
        del loop.advance
    if module is not None and "advance" not in vars(loop):
        loop.advance = _Lean(trainer, module, loop).advance


def hears(owner: Any, hook: str, base: type) -> bool:
    """Whether an object has a hook of its own, and not that of a base class."""
    own = hook in vars(owner) or getattr(type(owner), hook, None) is not getattr(base, hook)
    return own and callable(getattr(owner, hook))


class _Lean:
    def __init__(self, trainer: Any, module: Any, loop: Any) -> None:
        self.trainer, self.module, self.loop = trainer, module, loop
        self.as_lightning = loop.advance
        self.captured: Captured | None = None
        self.raw = False  # whether this batch is prepared within its step
        self.shown = 0.0
        self.as_ever = 0  # batches that Lightning took where graphs were asked for

    def advance(self, fetcher: Any) -> None:
        """Take the batches at which nothing is due, and then one as Lightning takes it."""
        settings = self.settings()
        for _ in range(self.uneventful(fetcher)):
            self.batch(fetcher)
            if self.settings() != settings:  # a stop, or a callback that changed the Trainer: what is due now?
                self.trainer._logger_connector.update_train_step_metrics()
                return
            self.loop._batches_that_stepped += 1
        self.as_ever += self.captured is None and getattr(self.module, "cuda_graph", False)
        if self.as_ever == TOLD and self.captured is None:
            warnings.warn(
                f"cuda_graph=True captured none of the first {TOLD} steps: at each something is due, or it is not one "
                "that we can take; raise log_every_n_steps and val_check_interval, or leave cuda_graph out.",
                NoEffectWarning,
                stacklevel=2,
            )
        self.as_lightning(fetcher)

    def settings(self) -> tuple[Any, ...]:
        """Return what tells when something is due, all of which a callback may change at any batch."""
        t = self.trainer
        validation = t.val_check_batch, t.check_val_every_n_epoch, t.limit_val_batches
        steps = t.accumulate_grad_batches, self.loop.max_steps, t.fit_loop.max_batches, t.profiler
        return t.should_stop, t.received_sigterm, t.log_every_n_steps, len(t.loggers), validation, steps

    def uneventful(self, fetcher: Any) -> int:
        """Return how many of the next batches need nothing but their step."""
        trainer, loop = self.trainer, self.loop
        if trainer.lightning_module is not self.module:  # a Trainer that goes on with another module
            run_lean(trainer, None)
            return 0
        timed = trainer._val_check_time_interval is not None
        if loop.restarting or trainer.should_stop or trainer.fast_dev_run or timed:
            return 0
        ready = loop.batch_progress.current.ready
        # A loader may have become shorter, or not know its length.
        ends = [trainer.num_training_batches - ready, (fetcher.length or 0) - fetcher.fetched]
        if trainer.max_steps >= 0:
            ends.append(trainer.max_steps - trainer.global_step)
        if trainer.enable_validation and trainer.val_check_batch != float("inf"):
            behind = loop.total_batch_idx + 1 if trainer.check_val_every_n_epoch is None else ready
            ends.append(trainer.val_check_batch - behind % trainer.val_check_batch)
        if trainer.loggers and trainer.log_every_n_steps:
            every = trainer.log_every_n_steps
            ends.append(every - loop._batches_that_stepped % every)
        batches = max(0, int(min(ends)) - 1)
        return batches if batches and self.start() else 0

    def start(self) -> bool:
        """Look who hears what; say whether the next batches can be taken here."""
        trainer, module = self.trainer, self.module
        # Who is deaf, not who hears, and the callbacks themselves beside their ids: others may come in between.
        self.deaf = {hook: {id(c): c for c in trainer.callbacks if not hears(c, hook, Callback)} for hook in _HOOKS}
        self.own = {hook for hook in _HOOKS if hears(module, hook, pl.LightningModule)}
        # One that is not refreshed at each batch counts those that it is told of.
        self.bars = {id(c): c for c in trainer.callbacks if type(c) in _BARS and c.refresh_rate == 1}
        plugin, strategy = trainer.precision_plugin, trainer.strategy
        # Of these we know that a step is a backward pass and the optimizer's, with the hooks around them.
        self.plain = type(strategy) is pl.strategies.SingleDeviceStrategy and (
            type(plugin) is pl.plugins.Precision or (type(plugin) is pl.plugins.MixedPrecision and not plugin.scaler)
        )
        data = datamodule_of(trainer)
        others = (data is not None and hears(data, hook, pl.LightningDataModule) for hook in _MOVES[:2])
        moved = any(hears(module, hook, pl.LightningModule) for hook in _MOVES) or any(others)
        self.transform = None if data is None or not self.plain or moved else data.on_after_batch_transfer
        # Who sees the loss may change it, or keep it: they get a tensor of their own, as from Lightning.
        self.seen = any(hears(c, "on_before_backward", Callback) for c in trainer.callbacks) or any(
            hears(module, hook, pl.LightningModule) for hook in ("on_before_backward", "backward")
        )
        # Who is given the loss of a graph may keep it, and the next step is in the same memory.
        nobody = self.bars | self.deaf["on_train_batch_end"]
        self.kept = "on_train_batch_end" in self.own or any(id(c) not in nobody for c in trainer.callbacks)
        if module.cuda_graph:
            check_captured(trainer, module, hears)
            self.captured = self.captured or Captured(trainer, module, self.take, self.count)
            before = any(id(c) not in self.deaf[_HOOKS[0]] for c in trainer.callbacks)
            self.captured.watched = self.kept or before or hears(module, _HOOKS[0], class_of_ours(module))
            self.captured.look()
        # What nobody sees before the step, and nothing is drawn for, can be prepared within it.
        alike = isinstance(data, ImageDataModule) and not data.augments and not hears(data, _MOVES[2], ImageDataModule)
        self.within = alike and self.transform is not None and self.captured is not None and not self.captured.watched
        return (
            trainer.world_size == 1
            and trainer.accumulate_grad_batches == 1
            and type(trainer.strategy) in (pl.strategies.SingleDeviceStrategy, pl.strategies.DDPStrategy)
            and isinstance(trainer.profiler, pl.profilers.PassThroughProfiler)
            and len(trainer.optimizers) == 1
            and "training_step" not in vars(module)  # wrapped: it may return anything
            and not any(
                config.interval == "step" and config.reduce_on_plateau for config in trainer.lr_scheduler_configs
            )
            and not any(hears(module, hook, pl.LightningModule) for hook in _WHOLE)
            and not only_gathers_statistics(trainer)
        )

    def batch(self, fetcher: Any) -> None:
        """Take one batch, as ``_TrainingEpochLoop.advance`` does."""
        trainer, loop, progress = self.trainer, self.loop, self.loop.batch_progress
        batch, _, _ = next(fetcher)
        index = loop.batch_idx + 1
        progress.is_last_batch = fetcher.done
        batch = trainer.precision_plugin.convert_input(batch)
        device = trainer.strategy.root_device
        here = type(batch) is list and all(isinstance(t, Tensor) and t.device == device for t in batch)
        if self.captured and self.raw != (here and self.within):
            self.captured.clear()
        self.raw = here and self.within
        if here and self.transform:
            batch = batch if self.raw else self.transform(batch, 0)
        else:
            batch = self.module._on_before_batch_transfer(batch, dataloader_idx=0)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        progress.increment_ready()
        # As the connector's on_batch_start and on_batch_end, which look up the results in ways that take longer.
        connector, results = trainer._logger_connector, loop._results
        connector._first_loop_iter = connector._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        output: dict[str, Any] | None = None
        if batch is None:
            loop._warning_cache.warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
        elif self.call("on_train_batch_start", batch, index) == -1:  # which skips the rest of the epoch
            progress.increment_by(0, is_last_batch=True)
            progress.increment_processed()
            for interval in ("step", "epoch"):
                loop.update_lr_schedulers(interval, update_plateau_schedulers=False)
            raise StopIteration
        else:
            progress.increment_started()
            if self.module.automatic_optimization:
                output = self.step(batch, index)
            else:
                output = loop.manual_optimization.run(OrderedDict(batch=batch, batch_idx=index))
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        self.call("on_train_batch_end", output, batch, index)
        if any(results.valid_items()):
            connector.on_batch_end()
        results.batch = results.batch_size = None
        progress.increment_completed()

    def step(self, batch: Any, index: int) -> dict[str, Tensor]:
        """Take one optimizer step, as ``_AutomaticOptimization.run`` does; as a graph where that was asked for."""
        if self.captured is None:
            return {"loss": self.take(batch, True, index)}
        loss = self.captured.step(batch)
        return {"loss": loss.clone() if self.kept else loss}

    def count(self) -> None:
        """Count a step that was taken without."""
        counts = self.loop.automatic_optimization.optim_progress.optimizer
        for part in (counts.zero_grad, counts.step):
            part.increment_ready()
            part.increment_completed()
        counts.zero_grad.increment_started()

    def take(self, batch: Any, counted: bool, index: int = 0) -> Tensor:
        """Take one optimizer step and return its loss; its number is for who optimizes in their own way."""
        trainer, state = self.trainer, vars(self.module)
        strategy, plugin, optimizer = trainer.strategy, trainer.precision_plugin, trainer.optimizers[0]
        counts = self.loop.automatic_optimization.optim_progress.optimizer
        counts = counts if counted else type(counts)()
        output: dict[str, Tensor] = {}
        batch = self.transform(batch, 0) if self.raw and self.transform else batch

        def closure() -> Tensor:
            with torch.enable_grad():  # not every optimizer does
                state["_current_fx_name"] = "training_step"  # so that it may log
                loss: Tensor = strategy.training_step(batch, index)
                state["_current_fx_name"] = "optimizer_step"
                # A callback may change the loss in place.
                output["loss"] = loss.detach().clone()
                counts.zero_grad.increment_ready()
                self.call("on_before_zero_grad", optimizer)
                counts.zero_grad.increment_started()
                optimizer.zero_grad()
                counts.zero_grad.increment_completed()
                state["_current_fx_name"] = "backward"
                loss = loss / 1 if self.seen else loss
                if self.plain and "backward" not in vars(plugin):  # put there by a method that replaces the loss
                    self.call("on_before_backward", loss)
                    self.module.backward(loss)
                    self.call("on_after_backward")
                else:
                    strategy.backward(loss, optimizer)
                state["_current_fx_name"] = "optimizer_step"
                return output["loss"]

        def whole() -> Tensor:
            loss = closure()
            self.call("on_before_optimizer_step", optimizer)
            clip, how = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            plugin._clip_gradients(self.module, optimizer, clip, gradient_clip_algorithm=how)
            return loss

        counts.step.increment_ready()
        before, state["_current_fx_name"] = state["_current_fx_name"], "optimizer_step"
        if self.plain:
            strategy._lightning_optimizers[0]._optimizer.step(closure=whole)
        else:
            strategy._lightning_optimizers[0].step(closure)
        state["_current_fx_name"] = before
        counts.step.increment_completed()
        if not output:
            raise MisconfigurationException(f"{type(optimizer).__name__}.step did not call the closure it was given.")
        return output["loss"]

    def call(self, hook: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks and the module that have one, as Lightning does: they may log."""
        state, response = vars(self.module), None  # nn.Module's own way to set an attribute takes microseconds
        before, state["_current_fx_name"] = state["_current_fx_name"], hook
        deaf = self.deaf[hook]
        for callback in self.trainer.callbacks:
            if id(callback) in self.bars and hook == "on_train_batch_end" and not self.trainer.should_stop:
                if (now := time.monotonic()) < self.shown + _SHOWS_EVERY:
                    continue
                self.shown = now
            if id(callback) not in deaf:
                getattr(callback, hook)(self.trainer, self.module, *arguments)
        if hook in self.own:
            response = getattr(self.module, hook)(*arguments)
        state["_current_fx_name"] = before
        return response
