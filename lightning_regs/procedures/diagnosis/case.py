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
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from lightning_regs.analysis.signal._hooks import watched
from lightning_regs.core.batch import LABELS
from lightning_regs.core.lightning import pl
from lightning_regs.procedures.copies import Copies
from lightning_regs.procedures.diagnosis.findings import NoLoss, Skipped

takes = pl.utilities.signature_utils.is_param_in_hook_signature
# Batches that are kept, and samples of each.
BATCHES, SAMPLES = 20, 32
# What counts as learned by heart: this share of the way from a net that knows nothing to a perfect one. What a perfect
# one has is not known of a loss with other terms, nor without labels, as in an autoencoder.
ZERO, PARTLY = 0.1, 0.5
# Learning rates of Adam at which a batch is to be fitted, and how many steps each has.
_RATES = ((1e-2, 150), (1e-3, 300))
_CLASSES = (F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
_NUMBERS = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)


class Call(NamedTuple):
    """A call of one of torch's losses."""

    function: Callable[..., Tensor]
    outputs: Tensor
    target: Tensor
    options: dict[str, Any]
    value: Tensor

    @property
    def of_numbers(self) -> bool:
        """Whether it is a regression's."""
        return self.function in _NUMBERS

    @property
    def blind(self) -> float:
        """Its value for a net that knows nothing: all classes alike, or of numbers their mean."""
        z, y = self.outputs.detach(), self.target
        guess = y.to(z).mean().expand_as(z) if self.of_numbers else torch.zeros_like(z)
        if self.function is F.nll_loss:
            guess = guess - math.log(z.shape[min(1, z.ndim - 1)])
        elif self.function is F.binary_cross_entropy:
            guess = guess + 0.5
        return float(self.function(guess, y, **self.options))

    @property
    def least(self) -> float:
        """The lowest value that outputs can have: above 0 where the targets of a cross-entropy are soft or smoothed."""
        soft, smoothing = self.target.is_floating_point(), self.options.get("label_smoothing") or 0.0
        if self.function is not F.cross_entropy or not (soft or smoothing):
            return 0.0
        z, y = self.outputs.detach().double(), self.target
        q = y.to(z) if soft else F.one_hot(y.clamp_min(0), z.shape[1]).movedim(-1, 1).to(z)
        best = ((1 - smoothing) * q + smoothing / z.shape[1]).clamp_min(1e-12).log()
        options = self.options | {name: w.double() for name, w in self.options.items() if isinstance(w, Tensor)}
        return float(F.cross_entropy(best, q if soft else y, **options))


class Step(NamedTuple):
    """What a training step returned, and the calls of torch's losses that it made."""

    loss: Tensor
    calls: list[Call]

    @property
    def main(self) -> Call | None:
        """The one call of a loss of torch's; None where there is none, or several."""
        return self.calls[0] if len(self.calls) == 1 else None

    @property
    def value(self) -> float:
        """That loss's value, without what the module adds to it; else what the step returned."""
        return float(self.main.value if self.main else self.loss)


class Watch(TorchFunctionMode):
    """Sees the calls of torch's losses that have a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        if func in _CLASSES + _NUMBERS and value.requires_grad and value.numel() == 1:
            # torch hands these on with outputs and target by place, and all else by name.
            self.calls.append(Call(func, args[0], args[1], kwargs or {}, value))
        return value


class Fit(NamedTuple):
    """One batch learned by heart: of up to 32 samples, of fewer where the net has few parameters."""

    batch: Any
    rate: float  # of Adam
    losses: tuple[float, ...]  # what each step returned
    values: tuple[float, ...]
    until: float  # the value that counts as zero; -inf where the loss may be negative
    span: float  # from a net that knows nothing to a perfect one


@dataclass
class Case:
    """A module and its data under examination; all is about copies."""

    start: pl.LightningModule  # as its training starts, with what ``configure_model`` makes
    batches: list[Any]  # up to 20, as the training step gets them, with up to 32 samples each
    trainer: pl.Trainer  # of a copy, in the midst of its training
    copies: Copies  # for trainings by the module's own optimizer
    seed: int  # of all that is drawn

    def __post_init__(self) -> None:
        self.name = type(self.start).__name__

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
        module.on_train_batch_start(batch, 0)
        arguments = (batch, 0) if takes(module.training_step, "batch_idx", min_args=2) else (batch,)
        with nullcontext() if plain else self.trainer.precision_plugin.train_step_context(), Watch() as watch:
            made = module.training_step(*arguments)
        loss = made.get("loss") if isinstance(made, Mapping) else made
        if not isinstance(loss, Tensor):
            raise NoLoss(f"training_step of {self.name} returns no loss.")
        return Step(loss.mean(), watch.calls)

    def watch(self, batch: Any, kinds: tuple[type, ...], see: Callable[..., None]) -> None:
        """Show layers, with what they are given and return, while a batch passes, by a step or else by ``forward``."""
        module = self.module()
        if any(isinstance(layer, kinds) for layer in module.modules()):
            with watched(module, self.inputs(batch)[0], None, kinds, see):
                (self.step if module.automatic_optimization else self.outputs)(module, batch)

    def outputs(self, module: pl.LightningModule, batch: Any, draw: int = 0) -> Tensor:
        """Return what the loss is given of a batch ``(N, ...)``; where that is not seen, what ``forward`` returns."""
        main = self.step(module, batch, draw).main if module.automatic_optimization else None
        if main:
            return main.outputs
        if type(module).forward is pl.LightningModule.forward:
            raise Skipped(f"The loss is not one of torch's alone, and {self.name} has no forward.")
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
        found: list[Any] = []
        collect(self.copies, seed, 3, lambda _, __, batches: found.extend(batches))
        return found

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


def classes(y: Tensor) -> int:
    """Return how many values labels have."""
    return len(set(y.flatten().tolist()))


def first_samples(batch: Any, number: int) -> Any:
    """Return the first samples of a batch, copied, where all its tensors have as many."""
    tensors = [t for t in tree_leaves(batch) if isinstance(t, Tensor) and t.ndim]
    alike = len({len(t) for t in tensors}) == 1
    return tree_map(
        lambda t: (t[:number] if alike and t.ndim else t).detach().clone() if isinstance(t, Tensor) else t, batch
    )


class Enough(Exception):
    """Ends a training without the hooks of its end, in which a module may miss what its steps have kept."""


def collect(
    copies: Copies, seed: int, number: int, then: Callable[[pl.Trainer, pl.LightningModule, list[Any]], Any]
) -> None:
    """Call a function in the midst of a training that trains nothing: with a module as it starts, and its batches."""
    starts, batches = list[pl.LightningModule](), list[Any]()

    def see(trainer: pl.Trainer, module: pl.LightningModule, *batch: Any) -> None:
        if not starts:
            starts.append(copies.copied(module))
            vars(module)["training_step"] = lambda *_, **__: None  # nor does it ask an optimizer for a step
            module.automatic_optimization = False
        batches.extend(first_samples(each, SAMPLES) for each in batch[:1])
        if not batch or len(batches) == number:
            then(trainer, starts[0], batches)
            raise Enough

    with suppress(Enough):
        shown = pl.callbacks.LambdaCallback(on_train_batch_start=see, on_train_epoch_end=see)
        copies.fit(shown, seed, max_epochs=1, limit_train_batches=number)
