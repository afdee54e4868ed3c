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

    Attributes:
        acted: Whether an optimizer had something for the method to act on, since this was last set to False.
        idle: What to say where a whole epoch had nothing for it to act on; empty for nothing.
    """

    def __init__(self) -> None:
        self.acted, self.idle = False, ""
        self._change: Callable[[Optimizer], bool] | None = None
        self._changed: Optimizer | None = None
        self._hooks: list[_Hooks] = []

    def change_gradients(self, change: Callable[[Optimizer], bool]) -> None:
        """Change gradients each time they are computed.

        Args:
            change: Is called with the optimizer whose gradients they are; returns whether there were any.
        """

        def with_gradients(optimizer: Optimizer, first: bool) -> None:
            if self._changed is not optimizer:  # stepped past Lightning
                self.acted |= change(optimizer)
            self._changed = None

        self._change, self.idle = change, _IDLE
        self._hooks.append(_Hooks(with_gradients, lambda _: None))

    def lightning(self, optimizer: Optimizer) -> None:
        """Change the gradients where Lightning asks to, which is before it clips them."""
        if self._change is not None:
            self.acted |= self._change(optimizer)
            self._changed = optimizer

    def act(self, find: Callable[[Optimizer], Sequence[T]], act: Callable[[Sequence[T]], None]) -> None:
        """Act once a step on what an optimizer trains.

        Args:
            find: Is called with the optimizer once its gradients are there, the first where it computes several a step;
                they may be gone after it.
            act: Is called after the step with what was found, where that is not nothing.
        """
        found: Sequence[T] = ()

        @torch.no_grad()
        def with_gradients(optimizer: Optimizer, first: bool) -> None:
            nonlocal found
            if first:
                found = find(optimizer)
                self.acted |= bool(found)

        @torch.no_grad()
        def after(optimizer: Optimizer) -> None:
            nonlocal found
            if found:
                act(found)
            found = ()

        self.idle = _IDLE
        self._hooks.append(_Hooks(with_gradients, after))

    def expect(self, hooks: Sequence[str]) -> None:
        """Expect that some of these hooks, which note it, are called in each epoch."""
        self.idle = _NOT_CALLED.format(" or ".join(hooks)) if hooks else ""

    def after(self, act: Callable[[Optimizer], None]) -> None:
        """Call a function with the optimizer after each step."""
        self.idle = ""
        self._hooks.append(_Hooks(lambda *_: None, act))

    def remove(self) -> None:
        """Let go of all optimizers."""
        for hooks in self._hooks:
            hooks.remove()

    def __reduce__(self) -> Any:
        """A copy of a method that is in training acts nowhere."""
        return Steps, ()


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


class _Hooks:
    """Calls functions around each step.

    Args:
        with_gradients: Called with the optimizer whenever its gradients are ready: after each call of its closure, or
            where there is none when it steps; and whether that is the first time in this step.
        after: Called with the optimizer after each step.
    """

    def __init__(self, with_gradients: Callable[[Optimizer, bool], None], after: Callable[[Optimizer], None]) -> None:
        self._with_gradients, self._after = with_gradients, after
        self._outermost: FrameType | None = None
        self._handles = [register_optimizer_step_pre_hook(self._begin), register_optimizer_step_post_hook(self._end)]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, optimizer: Optimizer, args: Any, options: Any) -> Any:
        # By frames, as no hook tells of a step that an error has broken off.
        step = sys._getframe(1)
        if self._outermost is not None and _is_within(step, self._outermost):
            return None
        self._outermost = step
        by_name = "closure" in options
        closure = options["closure"] if by_name else args[1] if len(args) > 1 else None
        if closure is None:
            self._with_gradients(optimizer, True)
            return None
        first = True

        def then() -> Any:
            nonlocal first
            loss = closure()
            self._with_gradients(optimizer, first)
            first = False
            return loss

        return (args, options | {"closure": then}) if by_name else ((args[0], then, *args[2:]), options)

    def _end(self, optimizer: Optimizer, *_: Any) -> None:
        if self._outermost is sys._getframe(1):
            self._outermost = None
            self._after(optimizer)


def _is_within(frame: FrameType | None, outer: FrameType) -> bool:
    while frame is not None and frame is not outer:
        frame = frame.f_back
    return frame is outer


def parameters_of(optimizer: Optimizer) -> Iterator[Any]:
    """Yield all that an optimizer trains."""
    return (w for group in optimizer.param_groups for w in group["params"])


def calls_its_closure_once(optimizer: Optimizer) -> bool:
    """Whether the weights stay where the gradients were computed until they are stepped: what is torch's own does."""
    return type(optimizer).__module__.startswith("torch.optim.")
