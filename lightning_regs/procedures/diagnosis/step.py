"""A training step that is watched: what it returned, and how it called torch's losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Call(NamedTuple):
    """A call of one of torch's losses."""

    function: Callable[..., Tensor]
    outputs: Tensor
    target: Tensor
    options: dict[str, Any]
    value: Tensor

    @property
    def name(self) -> str:
        """As users know it."""
        return self.function.__name__

    @property
    def of_numbers(self) -> bool:
        """Whether it is a regression's."""
        return self.function in Watch.NUMBERS

    @property
    def blind(self) -> float:
        """Its value for a net that knows nothing: all classes alike, or of numbers their mean."""
        z, y = self.outputs.detach(), self.target
        if self.function in (F.cross_entropy, F.binary_cross_entropy_with_logits):
            guess = torch.zeros_like(z)
        elif self.function is F.nll_loss:
            guess = torch.full_like(z, -math.log(z.shape[min(1, z.ndim - 1)]))
        else:
            guess = torch.full_like(z, 0.5) if self.function is F.binary_cross_entropy else y.to(z).mean().expand_as(z)
        return float(self.function(guess, y, **self.options))

    @property
    def least(self) -> float:
        """The lowest value that outputs can have: above 0 where the targets of a cross-entropy are soft or smoothed."""
        if self.function is not F.cross_entropy or not (
            self.target.is_floating_point() or self.options.get("label_smoothing")
        ):
            return 0.0
        z, y = self.outputs.detach().double(), self.target
        q = y.to(z) if y.is_floating_point() else F.one_hot(y.clamp_min(0), z.shape[1]).movedim(-1, 1).to(z)
        smoothing = self.options.get("label_smoothing") or 0.0
        best = ((1 - smoothing) * q + smoothing / z.shape[1]).clamp_min(1e-12).log()
        options = self.options | {name: w.double() for name, w in self.options.items() if isinstance(w, Tensor)}
        return float(F.cross_entropy(best, q if y.is_floating_point() else y, **options))


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

    CLASSES = (F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
    NUMBERS = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        if func in self.CLASSES + self.NUMBERS and value.requires_grad and value.numel() == 1:
            # torch hands these on with outputs and target by place, and all else by name.
            self.calls.append(Call(func, args[0], args[1], kwargs or {}, value))
        return value
