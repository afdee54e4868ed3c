"""Callbacks of a ladder's trainings: the best weights so far, and weights that stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core.lightning import Callback, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.data.dataset import StackedArrays
from lightning_regs.training.replicas import Replicated


def results(model: Classifier, stage: str) -> list[dict[str, float]]:
    """Return what a stage measured, one entry a net."""
    return [model.results[stage]] if model.replicas is None else model.replica_results[stage]


def validation_batches(data: ImageDataModule, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the validation split as the network sees it: (N, ...) and (N,), of replicas (R, N, ...) and (R, N)."""
    held_out = data.dataset("val")
    for rows in torch.split(torch.arange(len(held_out)), data.eval_batch_size):
        if isinstance(held_out, StackedArrays):
            x, y = (part.to(device) for part in held_out[rows.expand(len(held_out.y), -1)][:2])
            flat = data.eval_transform(x.flatten(0, 1))
            yield flat.view(*y.shape, *flat.shape[1:]), y
        else:
            x, y = (part.to(device) for part in held_out.__getitems__(rows.tolist())[:2])
            yield data.eval_transform(x), y


class BestWeights(Callback):
    """Measures the validation loss every so many iterations, keeps each net's weights at its least, writes its curve.

    All of it travels in the checkpoint, so a resumed training goes on with that of the iterations before it. It counts
    iterations itself, both those between validations and those to the end: a training of ``max_steps``, or one that
    validates by steps, does not go on where it was (pytorch-lightning 2.6.6 repeats an epoch's end, or adds a batch).

    Args:
        runs: One a net, stacked or alone.
        data: Whose validation split is measured.
        every: Iterations between two measurements.
        iterations: Length of the training; the Trainer's is to be at least as long.
    """

    def __init__(self, runs: Sequence[RunContext], data: ImageDataModule, every: int, iterations: int) -> None:
        self.runs = runs
        self.data = data
        self.every = every
        self.iterations = iterations
        self.loss = torch.full((len(runs),), math.inf, dtype=torch.float64)
        self.accuracy = torch.full((len(runs),), math.nan, dtype=torch.float64)
        self.step = torch.zeros(len(runs), dtype=torch.long)
        self.weights: dict[str, Tensor] = {}
        self.curves: list[list[dict[str, float]]] = [[] for _ in runs]

    def state_dict(self) -> dict[str, Any]:
        """Return everything."""
        names = ("loss", "accuracy", "step", "weights", "curves")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back, and write the curves anew."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        for run, rows in zip(self.runs, self.curves, strict=True):
            run.restore_curves(rows)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the first weights, for a net whose loss is never a number."""
        if not self.weights:
            self.weights = {name: value.clone() for name, value in self._current(pl_module).items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, and compare with the best so far; end the training after its last iteration."""
        if trainer.global_step >= self.iterations:
            trainer.should_stop = True
        if trainer.global_step % self.every:
            return
        assert isinstance(pl_module, Classifier)
        loss, accuracy = self._measure(trainer, pl_module)
        better = loss < self.loss
        if better.any():
            which = better.nonzero().squeeze(1)
            for name, value in self._current(pl_module).items():
                self.weights[name] = self.weights[name].to(value.device)
                on = which.to(value.device)
                self.weights[name][on] = value[on]
            self.loss = torch.where(better, loss, self.loss)
            self.accuracy = torch.where(better, accuracy, self.accuracy)
            self.step = torch.where(better, trainer.global_step, self.step)
        for run, rows, own_loss, own in zip(self.runs, self.curves, loss.tolist(), accuracy.tolist(), strict=True):
            rows.append({"step": trainer.global_step, "val_loss": own_loss, "val_acc": own})
            run.log_curve(rows[-1])
        text = f"validation loss {loss.mean():.3g}, {accuracy.mean():.1f} %"
        self.runs[0].progress(trainer.global_step, self.iterations, text)

    @torch.no_grad()
    def _measure(self, trainer: pl.Trainer, module: Classifier) -> tuple[Tensor, Tensor]:
        """Return loss and accuracy (in percent) of each net, on the CPU."""
        module.eval()
        loss = torch.zeros(len(self.runs), dtype=torch.float64, device=module.device)
        right, number = torch.zeros_like(loss), 0
        for x, y in validation_batches(self.data, module.device):
            with trainer.precision_plugin.forward_context():
                logits = module(x).float()
            if module.replicas is None:
                logits, y = logits[None], y[None]
            each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y)
            loss += each.sum(1, dtype=torch.float64)
            right += (logits.argmax(-1) == y).sum(1)
            number += y.shape[1]
        module.train()
        return (loss / number).cpu(), (100 * right / number).cpu()

    @staticmethod
    def _current(module: pl.LightningModule) -> dict[str, Tensor]:
        assert isinstance(module, Classifier)
        network = module.network
        assert network is not None
        state = network.state_dict()
        return state if isinstance(network, Replicated) else {name: value[None] for name, value in state.items()}


class FrozenWeights(Callback):
    """Leaves weights at the values that they have: what a mask prunes is kept instead of set to zero.

    Their gradients are zero. That is enough for Adam and momentum without weight decay, whose steps are then zero.

    Args:
        trained: Parameter name in the module -> 1 where a weight is trained, 0 where it is frozen.
    """

    def __init__(self, trained: Mapping[str, Tensor]) -> None:
        self.trained = trained
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the gradients.

        Raises:
            ValueError: If the optimizer decays weights.
        """
        if any(group.get("weight_decay") for optimizer in trainer.optimizers for group in optimizer.param_groups):
            raise ValueError("frozen weights would decay; train without weight decay.")
        for name, trained in self.trained.items():
            weight = pl_module.get_parameter(name)
            keep = trained.to(weight)
            hook: Any = weight.register_hook  # not typed in torch
            self._hooks.append(hook(lambda gradient, keep=keep: gradient * keep))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go."""
        while self._hooks:
            self._hooks.pop().remove()
