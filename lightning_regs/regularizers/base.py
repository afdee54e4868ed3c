"""What every regularization method is."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import MISSING, dataclass, field
from enum import Enum
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import dataclass_transform

from lightning_regs.core import rng
from lightning_regs.core.batch import Keys, describe, find_keys, notes, replace, take, with_notes
from lightning_regs.core.checks import NoEffectWarning, Seed, check, warn
from lightning_regs.core.lightning import (
    Callback,
    MisconfigurationException,
    check_trainer,
    check_whole_weights,
    current_batch,
    datamodule_of,
    only_gathers_statistics,
    pl,
    replicas_of,
    takes_its_batches,
    warn_if_other_came_later,
)
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.parameters import GIVEN, check_order, come, declared, give, hints, meet
from lightning_regs.regularizers.parts.rows import Rows
from lightning_regs.regularizers.parts.scaling import scaler_of, unscaled
from lightning_regs.regularizers.parts.selection import select
from lightning_regs.regularizers.parts.stepping import MAY_NOT_COME, Steps, noting, parameters_of


class Acts(Enum):
    """What a method changes, which decides with what it is tested together."""

    BATCH = "the batch"
    LOSS = "the loss"
    GRADIENTS = "gradients before the step"
    WEIGHTS = "weights after the step"


def example(*values: Any, default: Any = MISSING) -> Any:
    """Declare a parameter of a method with the values that the contract tests run, in all combinations with others'.

    Its default is the first of them where none is given.
    """
    return field(default=values[0] if default is MISSING else default, metadata={"examples": values})


@dataclass_transform(field_specifiers=(field,))
class Regularizer(Callback):
    """A regularization method as a Lightning callback.

    Passed to ``Trainer(callbacks=[...])`` it acts on any LightningModule. Passed to ``Classifier(regularizers=[...])``
    it is the same object, which the module hands to the trainer, and ``load_from_checkpoint`` makes it again; one that
    a Trainer was given belongs to no module, like all callbacks. Methods act in the order of the list.

    A subclass declares its parameters as annotated attributes, as in a dataclass, whose annotations are checked (see
    ``lightning_regs.core.checks``), and acts at exactly one hook: one of Lightning's, or the shorter :meth:`on_batch`,
    :meth:`on_gradients` or :meth:`on_weights`::

        class Darken(Regularizer, acts=Acts.BATCH):
            factor: Share = 0.5

            def on_batch(self, x, y, at):
                return x * self.factor, y

    One that acts on batches also takes ``p``, ``from_epoch`` and ``until_epoch``, by keyword, which say on which.

    What it draws is a function of (seed, class, epoch, batch, rank), so nothing has to be saved for a resumed run to
    draw the same; what it must remember beyond that goes into ``state_dict`` as plain types and tensors.

    Attributes:
        acts: What the method changes, named by the subclass: ``class Mixup(Regularizer, acts=Acts.BATCH)``.
        acts_on_replicas: Whether it acts on each net of ``Classifier(replicas=...)`` as on a net of its own.
        in_graph: Whether all it does within a step are operations on tensors, the same in each step, which
            ``Classifier(cuda_graph=True)`` can capture; a method on batches acts before the step.

    Args:
        seed: Seed of its draws, which a method that draws declares; None: what ``seed_everything`` was given, else 0.
        batch: ``("image", "label")`` or ``(0, 1)``; None finds them in ``[x, y]`` and in dicts with the usual keys.
    """

    acts: ClassVar[Acts | None] = None
    acts_on_replicas: bool = False
    in_graph: bool = False
    seed: Seed | None
    batch: Keys = None
    given: ClassVar[frozenset[str]] = frozenset()  # which of the parameters it has that every method on batches has
    twice: ClassVar[str] = ""  # why two of the class do not go together, and what to do; empty where they do
    unless: ClassVar[tuple[str, ...]] = ()  # the attributes of which one differs where they do

    def __init_subclass__(cls, acts: Acts | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        given: object = acts
        if not isinstance(given, Acts | None):
            raise TypeError(f"{cls.__name__} has acts={given!r}; write one of {', '.join(map(str, Acts))}.")
        cls.acts = cls.acts if acts is None else acts
        noting(cls)
        on_batches = cls.on_batch is not Regularizer.on_batch
        if "__init__" not in vars(cls) and (on_batches or vars(cls).get("__annotations__")):
            give(cls, tuple(GIVEN) if on_batches else ("batch",) if cls.acts is Acts.BATCH else ())
            dataclass(eq=False, repr=False)(cls)

    def __init__(self, seed: Seed | None = None, batch: Keys = None) -> None:
        super().__init__()
        self.seed, self.batch = check("seed", seed, Seed | None), check("batch", batch, Keys)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the declared parameters; a method that has more to check calls this first."""
        warn_if_other_came_later()
        cls: Any = type(self)
        for name in declared(cls):
            setattr(self, name, check(name, getattr(self, name), hints(cls)[name]))
        self.seed = rng.run_seed(getattr(self, "seed", None))
        check_order(self)
        self._warned: set[str] = set()
        self.at_steps = Steps()
        self._selected: dict[int, str] = {}  # by id, the names of the parameters that this training has it act on
        self._trained: set[int] = set()  # the ids of what this training trains, and no other one of the program

    # -- for the contract tests and for composition ------------------------------------------------------------------

    @classmethod
    def variants(cls) -> list[Regularizer]:
        """Return the instances that the contract tests run: every combination of the parameters' examples."""
        given = {name: values for name, values in declared(cls).items() if values}
        return [cls(**dict(zip(given, values, strict=True))) for values in product(*given.values())]

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Say why this method cannot go together with another that acts in the same epochs, and the remedy; else None.

        ``before`` is whether this one stands before ``other`` in the list.
        """
        alike = isinstance(other, type(self)) and all(getattr(self, n) == getattr(other, n) for n in self.unless)
        return self.twice if self.twice and alike else None

    # -- what a subclass may do --------------------------------------------------------------------------------------

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Return the samples and the labels to train on, at the start of each training batch.

        Args:
            x: Samples ``(N, ...)``.
            y: Labels ``(N, ...)``.
            at: The moment, with its generator.
        """
        return x, y

    def on_gradients(self, gradients: list[Tensor], at: Moment) -> None:
        """Change gradients in place, before they are clipped and an optimizer steps; each time they are computed.

        Args:
            gradients: Those of an optimizer's parameters, of this training alone: accumulated, averaged over processes
                and not scaled.
            at: The moment, with its generator, which is the same in all processes.
        """

    def on_weights(self, weights: list[Tensor], at: Moment) -> None:
        """Change weights in place, after each optimizer step.

        Args:
            weights: What the optimizer has just trained of the method's ``parameters``, or of all weights where it
                declares none. Units are counted by the first dimension, the nets of replicas among them.
            at: The moment, with its generator, which is the same in all processes.
        """

    def backward(self, rows: Rows) -> Tensor:
        """Accumulate the gradient of some rows of a batch in the method's own way, and return their mean loss.

        A method that overrides it drives the steps of :class:`~lightning_regs.Classifier`: ``rows``, all of a batch or
        a micro-batch, gives the loss, at other parameters too, and takes gradients of whatever is made of it.
        """
        raise NotImplementedError

    @property
    def drives(self) -> bool:
        """Whether it makes the gradient in its own way."""
        return self._has("backward")

    # -- Lightning's hooks -------------------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a Trainer of the other Lightning, methods that do not go together, and batches that no hook sees."""
        check_trainer(type(self).__name__, trainer)
        if stage == "fit" and self._has("on_batch") and takes_its_batches(pl_module):
            raise MisconfigurationException(
                f"{type(self).__name__} changes each batch before the training step, and {type(pl_module).__name__}."
                "training_step(self, dataloader_iter) fetches it within; use training_step(self, batch, batch_idx)."
            )
        methods = regularizers_of(trainer)
        if self is methods[0]:
            for reason in conflicts(methods):
                raise MisconfigurationException(reason)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See to it that gradients, or weights, are changed at each step, whoever steps."""
        self.release()
        if "from_epoch" in self.given and (first := vars(self)["from_epoch"]) >= (trainer.max_epochs or 0) > 0:
            self.warn_once(f"does nothing: from_epoch={first}, and max_epochs={trainer.max_epochs}; begin earlier.")
        self.at_steps.expect([] if self._has("on_batch") else [hook for hook in MAY_NOT_COME if self._has(hook)])
        if self._has("on_gradients"):
            held = (w for optimizer in trainer.optimizers for w in parameters_of(optimizer))
            self._trained = {id(w) for w in (*pl_module.parameters(), *held)}
            self.at_steps.change_gradients(lambda optimizer: self._on_gradients(trainer, pl_module, optimizer))
        if not self._has("on_weights"):
            return
        check_whole_weights(type(self).__name__, trainer)
        units = 2 if replicas_of(pl_module) else 1  # how many leading dimensions count them
        chosen = select(pl_module, getattr(self, "parameters", None))
        selected: set[Any] = {w for _, w in chosen if w.ndim > units}

        def act(trained: Sequence[Tensor]) -> None:
            self.on_weights([w.data.view(-1, *w.shape[units:]) for w in trained], self.moment(trainer, pl_module))

        self.at_steps.act(lambda o: [w for w in parameters_of(o) if w in selected and w.grad is not None], act)
        self.check_found(trainer, selected, f"weight to act on in {type(pl_module).__name__}")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Expect the method to act in this epoch."""
        self.at_steps.acted = only_gathers_statistics(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let a method that acts on batches change this one; what is known about the samples stays with them."""
        if self._has("on_batch") and come(self, at := self.moment(trainer, pl_module, batch_idx)):
            name = type(self).__name__
            keys = find_keys(batch, self.batch, name)
            y = take(batch, keys[1])
            made: object = self.on_batch(take(batch, keys[0]), y, at)
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(f"{name}.on_batch returned {describe(made)}; use `return x, y`.")
            samples, labels = made
            labels = labels if labels is y or notes(labels) else with_notes(labels, notes(y))
            replace(batch, keys, samples, labels, name)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Let a method that acts on gradients change those of this optimizer, before they are clipped."""
        self.at_steps.lightning(optimizer)
        if scaler_of(trainer) is not None:  # which may skip the step, and that is no fault
            self.at_steps.acted = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn, once, if the method had an epoch to act in, and did not."""
        if self.at_steps.idle and not self.at_steps.acted and not only_gathers_statistics(trainer):
            self.warn_once(self.at_steps.idle)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of this training."""
        self.release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let go of this training."""
        self.release()

    # -- what a subclass uses ----------------------------------------------------------------------------------------

    def position(self, trainer: pl.Trainer, batch_idx: int) -> tuple[int, int, int]:
        """Return where the training is, as the draws count it: (epoch, batch, rank); repeats of a batch are one."""
        repeats = getattr(datamodule_of(trainer), "batch_repeats", 1)
        return trainer.current_epoch, batch_idx // repeats, trainer.global_rank

    def moment(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch_idx: int | None = None) -> Moment:
        """Return the moment of a batch, in this process; without its number that of the current one, in all of them."""
        epoch, batch, rank = self.position(trainer, current_batch(trainer) if batch_idx is None else batch_idx)
        rank = 0 if batch_idx is None else rank
        return Moment(trainer, pl_module, epoch, batch, rank, rng.run_seed(self.seed), type(self).__name__)

    def check_found(self, trainer: pl.Trainer, selected: Container[Any], what: str, why: str = "") -> None:
        """Warn where no optimizer trains what the method acts on; silent where the module keeps them to itself."""
        held = [w for optimizer in trainer.optimizers for w in parameters_of(optimizer)]
        if held and not any(w in selected and w.requires_grad for w in held):
            self.warn_once(f"found no {what}: none that an optimizer trains{why}.")
            self.at_steps.idle = ""

    def release(self) -> None:
        """Let go of what belongs to one training."""
        self.at_steps.remove()
        self.at_steps, self._selected, self._trained = Steps(), {}, set()

    def warn_once(self, text: str) -> None:
        """Warn, once a method, that it had no effect."""
        if text not in self._warned:
            self._warned.add(text)
            warn(f"{type(self).__name__} {text}", NoEffectWarning)

    def _has(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(Regularizer, hook)

    def _on_gradients(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> bool:
        found = [w.grad for w in parameters_of(optimizer) if w.grad is not None and id(w) in self._trained]
        if not found:
            return False
        with torch.no_grad(), unscaled(trainer, optimizer, found):
            self.on_gradients(found, self.moment(trainer, pl_module))
        return True


def regularizers_of(trainer: pl.Trainer) -> list[Regularizer]:
    """Return the Trainer's methods, in the order in which they act."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, Regularizer)]


def conflicts(methods: Sequence[Regularizer]) -> Iterator[str]:
    """Yield a sentence for each two methods of the list that do not go together."""
    for i, first in enumerate(methods):
        for second in methods[i + 1 :]:
            reason = first.refuses(second, before=True) or second.refuses(first, before=False)
            if reason and meet(first, second):
                yield f"{type(first).__name__} and {type(second).__name__} do not go together in this order: {reason}."
