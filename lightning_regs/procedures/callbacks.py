"""Callbacks of a level's training: the best weights so far, and weights that stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.lightning import Callback, MisconfigurationException, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.data import ImageDataModule
from lightning_regs.data.dataset import StackedArrays
from lightning_regs.pruning.masks import plain_names
from lightning_regs.training.classifier import Classifier
from lightning_regs.training.losses import losses_of_samples
from lightning_regs.training.recorder import Recorder


class BestWeights(Recorder):
    """Measures the validation loss every so many iterations, keeps each net's weights at its least, writes its curve.

    It counts iterations itself, those between validations (``every``) and those to the end: a training that validates
    by steps does not go on where it was (pytorch-lightning 2.6.6 adds a batch). The Trainer's end comes no earlier.

    Attributes:
        loss, accuracy, step: Of each net ``(R,)``: the least validation loss, its accuracy in percent, its iteration.
        weights: The ``state_dict`` there, with a dimension of nets in front.
        at_start: Each net's test accuracy before training, in percent.
    """

    def __init__(self, runs: Sequence[RunContext], data: ImageDataModule, every: int, iterations: int) -> None:
        super().__init__(runs)
        self.data = data
        self.every = every
        self.iterations = iterations
        self.loss = torch.full((len(runs),), math.inf, dtype=torch.float64)
        self.accuracy = torch.full((len(runs),), math.nan, dtype=torch.float64)
        self.step = torch.zeros(len(runs), dtype=torch.long)
        self.weights: dict[str, Tensor] = {}
        self.at_start = self.accuracy

    def state_dict(self) -> dict[str, Any]:
        """Return everything."""
        names = ("loss", "accuracy", "step", "weights", "at_start")
        return super().state_dict() | {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        super().load_state_dict(state_dict)
        for name in state_dict.keys() - {"rows"}:
            setattr(self, name, state_dict[name])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the first weights, for a net whose loss is never a number, and their test accuracy."""
        assert isinstance(pl_module, Classifier)
        if not self.weights:
            self.weights = {name: value.clone() for name, value in stacked_state(pl_module).items()}
            self.at_start = measure(trainer, pl_module, self.data, "test")[1]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, and compare with the best so far; end the training after its last iteration."""
        if trainer.global_step >= self.iterations:
            trainer.should_stop = True
        if trainer.global_step % self.every:
            return
        assert isinstance(pl_module, Classifier)
        loss, accuracy = measure(trainer, pl_module, self.data, "val")
        better = loss < self.loss
        if better.any():
            which = better.nonzero().squeeze(1)
            for name, value in stacked_state(pl_module).items():
                self.weights[name] = self.weights[name].to(value.device)
                on = which.to(value.device)
                self.weights[name][on] = value[on]
            self.loss = torch.where(better, loss, self.loss)
            self.accuracy = torch.where(better, accuracy, self.accuracy)
            self.step = torch.where(better, trainer.global_step, self.step)
        rows = zip(loss.tolist(), accuracy.tolist(), strict=True)
        self.record([{"step": trainer.global_step, "val_loss": own, "val_acc": right} for own, right in rows])
        text = f"validation loss {loss.mean():.3g}, {accuracy.mean():.1f} %"
        self.runs[0].progress(trainer.global_step, self.iterations, text)


@torch.no_grad()
def measure(trainer: pl.Trainer, module: Classifier, data: ImageDataModule, split: str) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy (in percent) of each net on a split, ``(R,)`` on the CPU, in the midst of a training."""
    module.eval()
    nets = len(module.replicas or [0])
    loss = torch.zeros(nets, dtype=torch.float64, device=module.device)
    right, number = torch.zeros_like(loss), 0
    for x, y in batches(data, split, module.device):
        with trainer.precision_plugin.forward_context():
            logits = module(x).float()
        logits = logits if module.replicas else logits[None]
        y = y.expand(nets, -1)
        loss += losses_of_samples(module.loss, logits.flatten(0, 1), y.flatten()).view_as(y).sum(1, dtype=torch.float64)
        right += (logits.argmax(-1) == y).sum(1)
        number += y.shape[1]
    module.train()
    return (loss / number).cpu(), (100 * right / number).cpu()


def batches(data: ImageDataModule, split: str, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a split as the network sees it: (N, ...) and (N,), of replicas' own samples (R, N, ...) and (R, N)."""
    held_out = data.dataset(split)
    for rows in torch.split(torch.arange(len(held_out)), data.eval_batch_size):
        if isinstance(held_out, StackedArrays):
            found = held_out[rows.expand(len(held_out.y), -1)]
        else:
            found = held_out.__getitems__(rows.tolist())
        x, y = (part.to(device) for part in found[:2])
        yield data.eval_transform(x), y


def stacked_state(module: Classifier) -> dict[str, Tensor]:
    """Return the network's ``state_dict`` with a dimension of nets in front, of a single net too."""
    network = module.network
    assert network is not None
    return {name: value if module.replicas else value[None] for name, value in network.state_dict().items()}


class FrozenWeights(Callback):
    """Leaves weights at the values that they have: what a mask prunes is kept instead of set to zero.

    Their gradients and what the optimizer has of them are zero. That is enough for Adam and momentum without weight
    decay, whose steps are then zero. By a parameter's name, ``trained`` is 1 where a weight is trained, else 0.
    """

    def __init__(self, trained: Mapping[str, Tensor]) -> None:
        self.trained = trained
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the gradients; an optimizer that decays weights is a ``ValueError``."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if self.trained and any(group.get("weight_decay") for group in groups):
            raise ValueError("frozen weights would decay; train without weight decay.")
        weights = dict(pl_module.named_parameters(remove_duplicate=False))
        actual = plain_names(weights)
        for name, trained in self.trained.items():
            weight = weights[actual[name]]
            keep = trained.to(weight)
            for state in (optimizer.state[weight] for optimizer in trainer.optimizers if weight in optimizer.state):
                for key, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape and key != "step":
                        value.mul_(keep)
            hook: Any = weight.register_hook  # not typed in torch
            self._hooks.append(hook(lambda gradient, keep=keep: gradient * keep))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go."""
        while self._hooks:
            self._hooks.pop().remove()


def only_optimizer(ours: str, trainer: pl.Trainer, module: pl.LightningModule) -> torch.optim.Optimizer:
    """Return the one optimizer of a training, whose rate ``ours`` is to drive; refuse where that is not possible."""
    name = type(module).__name__
    found = [optimizer for optimizer in trainer.optimizers if any("lr" in g for g in optimizer.param_groups)]
    if len(found) != 1:
        raise MisconfigurationException(
            f"{ours} drives the rate of one optimizer, and {name} has {len(found)}; train with one."
        )
    if not module.automatic_optimization and not isinstance(module, Classifier):
        raise MisconfigurationException(
            f"{name} optimizes manually, where Lightning steps no schedule and does not know the number of steps, "
            f"and {ours} needs both; use automatic optimization."
        )
    return found[0]
