"""What checks look at: a module as its training starts, and batches as its training step gets them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from lightning_regs.core.batch import LABELS
from lightning_regs.core.lightning import MisconfigurationException, check_forward, pl
from lightning_regs.procedures.copies import Copies, SameStart
from lightning_regs.procedures.diagnosis.findings import NoLoss, Skipped
from lightning_regs.procedures.diagnosis.step import Step, Watch

takes = pl.utilities.signature_utils.is_param_in_hook_signature
# Batches that are kept, and samples of each.
BATCHES, SAMPLES = 20, 32
# What counts as learned by heart: this share of the way from a net that knows nothing to a perfect one. What a perfect
# one has is not known of a loss with other terms, nor without labels, as in an autoencoder.
ZERO, PARTLY = 0.1, 0.5
# Learning rates of Adam at which a batch is to be fitted, and how many steps each has.
_RATES = ((1e-2, 150), (1e-3, 300))


class Fit(NamedTuple):
    """One batch learned by heart.

    Attributes:
        batch: Of up to 32 samples, of fewer where the net has few parameters.
        rate: Of Adam.
        losses: What each step returned.
        values: The value of each step.
        until: The value that counts as zero; -inf where the loss may be negative.
        span: From a net that knows nothing to a perfect one.
    """

    batch: Any
    rate: float
    losses: tuple[float, ...]
    values: tuple[float, ...]
    until: float
    span: float


@dataclass
class Case:
    """A module and its data under examination; all is about copies.

    Attributes:
        start: The module as its training starts, with what ``configure_model`` makes.
        batches: Up to 20, as the training step gets them, with up to 32 samples each.
        trainer: Of a copy, in the midst of its training.
        copies: For trainings by the module's own optimizer.
        seed: Of all that is drawn.
    """

    start: pl.LightningModule
    batches: list[Any]
    trainer: pl.Trainer
    copies: Copies
    seed: int

    @property
    def name(self) -> str:
        """The module's class."""
        return type(self.start).__name__

    def module(self) -> pl.LightningModule:
        """Return a copy as it starts, which logs nothing."""
        own: pl.LightningModule = self.copies.copied(self.start)
        own.trainer = self.trainer
        vars(own).update(dict.fromkeys(("log", "log_dict"), lambda *_, **__: None))
        return own

    def step(self, module: pl.LightningModule, batch: Any, draw: int | None = 0, plain: bool = False) -> Step:
        """Take the training step of a batch; a number seeds what is drawn in it; ``plain``: without autocast."""
        if not module.automatic_optimization:
            raise Skipped(f"{self.name} optimizes manually, and its training_step takes the steps by itself.")
        if draw is not None:
            torch.manual_seed(self.seed + draw)
        arguments = (batch, 0) if takes(module.training_step, "batch_idx", min_args=2) else (batch,)
        with nullcontext() if plain else self.trainer.precision_plugin.train_step_context(), Watch() as watch:
            made = module.training_step(*arguments)
        loss = made.get("loss") if isinstance(made, Mapping) else made
        if not isinstance(loss, Tensor):
            raise NoLoss(f"training_step of {self.name} returns no loss.")
        return Step(loss.mean(), watch.calls)

    def passed(self, module: pl.LightningModule, batch: Any) -> None:
        """Let a batch pass through the net: by a step, or where it optimizes manually by ``forward``."""
        (self.step if module.automatic_optimization else self.outputs)(module, batch)

    def outputs(self, module: pl.LightningModule, batch: Any, draw: int = 0) -> Tensor:
        """Return what the loss is given of a batch ``(N, ...)``; where that is not seen, what ``forward`` returns."""
        main = self.step(module, batch, draw).main if module.automatic_optimization else None
        if main:
            return main.outputs
        try:
            check_forward("this check", module)
        except MisconfigurationException as error:
            raise Skipped(f"The loss is not one of torch's alone, and {self.name} has no forward.") from error
        torch.manual_seed(self.seed + draw)
        with self.trainer.precision_plugin.forward_context():
            made = module(self.inputs(batch)[0])
        if not isinstance(made, Tensor):
            raise Skipped(f"The loss is not one of torch's alone, and forward returns a {type(made).__name__}.")
        return made

    @cached_property
    def place(self) -> int | None:
        """Where among the leaves of a batch the labels are; None where that is not known.

        They are what torch's loss is given. Of other losses they are the second of two or have a usual name, and the
        loss follows them.
        """
        batch, leaves, step = self.batches[0], tree_leaves(self.batches[0]), None
        with suppress(Exception):  # of the user's step, which loss_at_start tells of
            step = self.step(self.module(), batch)
        if step is not None and step.main:
            target = step.main.target
            for i, leaf in enumerate(leaves):
                alike = isinstance(leaf, Tensor) and leaf.numel() == target.numel()
                if alike and torch.equal(leaf.flatten().to(target), target.flatten()):
                    return i if i or not leaf.is_floating_point() else None  # an autoencoder's target is its input
            return None
        if isinstance(batch, Mapping):
            named = [batch[name] for name in LABELS if name in batch]
        else:
            named = [batch[1]] if isinstance(batch, (list, tuple)) and len(batch) == 2 else []
        place = next((i for i, leaf in enumerate(leaves) if len(named) == 1 and leaf is named[0]), None)
        if place is None or step is None or not isinstance(leaves[place], Tensor):
            return place
        other = self.replaced(batch, [leaves[place]], [leaves[place].roll(1, 0)])
        return None if float(self.step(self.module(), other).loss) == float(step.loss) else place

    def label(self, batch: Any) -> Tensor:
        """Return the labels of a batch."""
        if self.place is None:
            raise Skipped("Which part of a batch are labels is not known: no loss of torch's is given one alone.")
        label: Tensor = tree_leaves(batch)[self.place]
        return label

    def inputs(self, batch: Any) -> list[Tensor]:
        """Return what else is in a batch: floats, or where there are none whole numbers."""
        tensors = [t for i, t in enumerate(tree_leaves(batch)) if isinstance(t, Tensor) and i != self.place and t.ndim]
        found = [t for t in tensors if t.is_floating_point()] or tensors
        if not found:
            raise Skipped("A batch has no tensor but its labels, or none that is known.")
        return found

    def replaced(self, batch: Any, old: Sequence[Tensor], new: Sequence[Tensor]) -> Any:
        """Return a batch with other tensors in the place of some."""
        by = {id(a): b for a, b in zip(old, new, strict=True)}
        leaves, spec = tree_flatten(batch)
        return tree_unflatten([by.get(id(leaf), leaf) for leaf in leaves], spec)

    def learn(
        self, module: pl.LightningModule, batches: Sequence[Any], rate: float, steps: int, until: float = -math.inf
    ) -> list[tuple[float, float]]:
        """Train a copy by Adam; return the loss of each step and its value, up to the first below a number."""
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], rate)
        found = []
        for number in range(steps):
            step = self.step(module, batches[number % len(batches)], None if number else 0)
            found.append((float(step.loss), step.value))
            if step.value < until or not math.isfinite(found[-1][0]):
                break
            optimizer.zero_grad()
            step.loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return found

    def read(self, seed: int) -> list[Any]:
        """Return the first three batches, as the data give them under a seed."""
        collector = Collector(self.copies.copied, 3, None)
        with suppress(Collector.Enough):
            self.copies.fit(collector, seed, max_epochs=1)
        return collector.batches

    def calm(self) -> pl.LightningModule:
        """Return a copy in which layers drop nothing: they are known by their classes' names."""
        module = self.module()
        for part in module.modules():
            part.training &= "drop" not in type(part).__name__.lower()
        return module

    @cached_property
    def fitted(self) -> Fit:
        """One batch learned by heart."""
        module, first = self.module(), self.step(self.module(), self.batches[0])
        size = sum(p.numel() for p in module.parameters() if p.requires_grad)
        units = first.main.outputs[0].numel() if first.main else 1
        batch = first_samples(self.batches[0], max(2, size // (4 * units)))  # what so small a net may have learned
        first = self.step(module, batch)
        most, least = (first.main.blind, first.main.least) if first.main else (first.value, 0.0)
        share = ZERO if first.main and self.place is not None else PARTLY
        until = least + share * (max(most, first.value) - least) if most > 0 else -math.inf
        for rate, steps in _RATES:
            found = self.learn(self.calm(), [batch], rate, steps, until)
            if found[-1][1] <= until:
                break
        losses, values = zip(*found, strict=True)
        return Fit(batch, rate, losses, values, until, most - least)


def first_samples(batch: Any, number: int) -> Any:
    """Return the first samples of a batch, copied, where all its tensors have as many."""
    tensors = [t for t in tree_leaves(batch) if isinstance(t, Tensor) and t.ndim]
    alike = len({len(t) for t in tensors}) == 1
    return tree_map(
        lambda t: (t[:number] if alike and t.ndim else t).detach().clone() if isinstance(t, Tensor) else t, batch
    )


class Collector(SameStart):
    """Keeps a module as its training starts and batches, and then calls a function and stops; trains nothing."""

    class Enough(Exception):
        """Ends a training without the hooks of its end, in which a module may miss what its steps have kept."""

    def __init__(self, copied: Callable[[Any], Any], number: int, then: Callable[[pl.Trainer], None] | None) -> None:
        self.copied, self.number, self.then = copied, number, then
        self.start: pl.LightningModule
        self.batches: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the module, and let its steps do nothing, not even ask an optimizer for one."""
        self.start = self.copied(pl_module)
        vars(pl_module)["training_step"] = lambda *_, **__: None
        pl_module.automatic_optimization = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, before methods change it."""
        self.batches.append(first_samples(batch, SAMPLES))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop where there are enough."""
        if len(self.batches) == self.number:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop where there are no more."""
        if self.then:
            self.then(trainer)
        raise self.Enough
