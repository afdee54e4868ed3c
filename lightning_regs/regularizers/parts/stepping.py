"""Every way to step: Lightning's, an optimizer's own ``step``, with a closure that is called once, twice or not at all.

Lightning's ``on_before_optimizer_step`` belongs to a call of the closure and not to a step: with an optimizer that
calls it twice (SAM) it comes twice a step, and with ``optimizer.optimizer.step()`` in manual optimization never.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

T = TypeVar("T")
_IDLE = (
    "did nothing in a whole epoch: no optimizer stepped with a gradient of the parameters that it acts on. Let an "
    "optimizer of torch step, and see that the loss depends on them, or leave the method out."
)
# What Lightning, or our Classifier, has no occasion to call in every training.
MAY_NOT_COME = (
    "backward",
    "on_before_backward",
    "on_after_backward",
    "on_before_zero_grad",
    "on_before_optimizer_step",
)
_NOT_CALLED = (
    "did nothing in a whole epoch: nothing called its {}. Use self.manual_backward(loss) and the step of what "
    "self.optimizers() gives in a training step that optimizes manually, lightning_regs.Classifier for a method with a "
    "backward of its own, or let the method act by on_gradients or on_weights."
)


class Steps:
    """Has a method act at each step of any optimizer of the program, and knows whether it did.

    A step within another one, as of the optimizer that SAM wraps, is a part of that one.
    """

    def __init__(self) -> None:
        self.acted = False  # whether an optimizer had something for the method to act on, since this was set to False
        self.idle = ""  # what to say where a whole epoch had nothing for it to act on
        self._change: Callable[[Optimizer], bool] | None = None
        self._find: Callable[[Optimizer], Sequence[Any]] | None = None
        self._after: Callable[[Optimizer], None] | None = None
        self._changed: Optimizer | None = None
        self._found: Sequence[Any] = ()
        self._outermost: FrameType | None = None
        self._handles: list[RemovableHandle] = []

    def change_gradients(self, change: Callable[[Optimizer], bool]) -> None:
        """Change gradients each time they are computed, by a function of the optimizer that tells if it has any."""
        self._change = change
        self._listen(_IDLE)

    def lightning(self, optimizer: Optimizer) -> None:
        """Change the gradients where Lightning asks to, which is before it clips them."""
        if self._change is not None:
            self.acted |= self._change(optimizer)
            self._changed = optimizer

    def act(self, find: Callable[[Optimizer], Sequence[T]], act: Callable[[Sequence[T]], None]) -> None:
        """Act once a step on what an optimizer trains.

        What to act on ``find`` returns once the gradients are there, the first of a step that computes several; they
        may be gone after it. What it found, where that is not nothing, ``act`` is given after the step.
        """
        self._find, self._after = find, lambda _: act(self._found) if self._found else None
        self._listen(_IDLE)

    def after(self, act: Callable[[Optimizer], None]) -> None:
        """Call a function with the optimizer after each step."""
        self._after = act
        self._listen("")

    def expect(self, hooks: Sequence[str]) -> None:
        """Expect that some of these hooks, which note it, are called in each epoch."""
        self.idle = _NOT_CALLED.format(" or ".join(hooks)) if hooks else ""

    def remove(self) -> None:
        """Let go of all optimizers."""
        for handle in self._handles:
            handle.remove()

    def __reduce__(self) -> Any:
        """A copy of a method that is in training acts nowhere."""
        return Steps, ()

    def _listen(self, idle: str) -> None:
        self.idle = idle
        self._handles = self._handles or [
            register_optimizer_step_pre_hook(self._begin),
            register_optimizer_step_post_hook(self._end),
        ]

    def _begin(self, optimizer: Optimizer, args: Any, options: Any) -> Any:
        # By frames, as no hook tells of a step that an error has broken off.
        step: FrameType | None = sys._getframe(1)
        outer = step if self._outermost is not None else None
        while outer is not None and outer is not self._outermost:
            outer = outer.f_back
        if outer is not None:
            return None
        self._outermost, self._found = step, ()
        by_name = "closure" in options
        closure = options["closure"] if by_name else args[1] if len(args) > 1 else None
        if closure is None:
            self._with_gradients(optimizer, first=True)
            return None
        first = True

        def then() -> Any:
            nonlocal first
            loss = closure()
            self._with_gradients(optimizer, first)
            first = False
            return loss

        return (args, options | {"closure": then}) if by_name else ((args[0], then, *args[2:]), options)

    @torch.no_grad()
    def _with_gradients(self, optimizer: Optimizer, first: bool) -> None:
        """Act when gradients are ready: after each call of the closure, or where there is none when a step begins."""
        if self._change is not None and self._changed is not optimizer:  # stepped past Lightning
            self.acted |= self._change(optimizer)
        self._changed = None
        if self._find is not None and first:
            self._found = self._find(optimizer)
            self.acted |= bool(self._found)

    def _end(self, optimizer: Optimizer, *_: Any) -> None:
        if self._outermost is sys._getframe(1):
            self._outermost = None
            if self._after is not None:
                with torch.no_grad():
                    self._after(optimizer)
            self._found = ()


def noting(cls: type) -> None:
    """Let a method's own hooks that may never be called note that they are."""
    for name in MAY_NOT_COME:
        if name in vars(cls):
            setattr(cls, name, _noting(vars(cls)[name]))


def _noting(hook: Callable[..., T]) -> Callable[..., T]:
    @wraps(hook)
    def call(method: Any, *args: Any, **options: Any) -> T:
        method.at_steps.acted = True
        return hook(method, *args, **options)

    return call


def parameters_of(optimizer: Optimizer) -> Iterator[Any]:
    """Yield all that an optimizer trains."""
    return (w for group in optimizer.param_groups for w in group["params"])


def calls_its_closure_once(optimizer: Optimizer) -> bool:
    """Whether the weights stay where the gradients were computed until they are stepped: what is torch's own does."""
    return type(optimizer).__module__.startswith("torch.optim.")
