"""Replicas that one optimizer trains, each with numbers of its own: learning rate, weight decay, momentum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_regs.core.checks import NotNegative, Range, nonempty
from lightning_regs.optim.around import Around

# What may be a list, of one number a replica.
NUMBERS = {
    "lr": Annotated[Sequence[Annotated[float, Range(above=0)]], nonempty],
    "weight_decay": Annotated[Sequence[NotNegative], nonempty],
    "momentum": Annotated[Sequence[NotNegative], nonempty],
}
# Optimizers whose step is the rate times something that does not depend on it.
_PROPORTIONAL = ("Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD")


def replica_numbers(config: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Return by name the numbers of a configuration, of Lookahead its base's, of which it has one a replica."""
    base = config.get("base")
    found = replica_numbers(base) if isinstance(base, Mapping) else {}
    return found | {name: config[name] for name in NUMBERS if isinstance(config.get(name), (list, tuple))}


def together(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the configurations of optimizers with lists of the numbers in which they differ, one a replica."""
    bases = [config["base"] for config in configs if isinstance(config.get("base"), Mapping)]
    made = [dict(config) for config in configs]
    if len(bases) == len(configs):
        made = [config | {"base": base} for config, base in zip(made, together(bases), strict=True)]
    given = {name: [config.get(name) for config in configs] for name in NUMBERS}
    apart = {name: all_ for name, all_ in given.items() if None not in all_ and any(n != all_[0] for n in all_)}
    return [config | apart for config in made]


def with_numbers(optimizer: Optimizer, numbers: Mapping[str, Sequence[float]]) -> Optimizer:
    """Return an optimizer at the largest of such numbers as one of replicas, each at its own; itself where none is."""
    return _PerReplica(optimizer, numbers) if numbers else optimizer


class _PerReplica(Around):
    """An optimizer of parameters ``(R, ...)`` with R numbers a list: to rounding, that of each replica alone.

    The base is at the largest numbers, which schedules change for all. It steps at the largest rate, of which each
    replica keeps its share, where a step is the rate times what does not depend on it. Before that a replica's buffer
    is scaled so that the largest momentum makes of it what its own would. Weight decay comes before the step too, as
    torch has it: decoupled, off the weights, or else into the gradients; the base's is 0 meanwhile.
    """

    def __init__(self, base: Optimizer, numbers: Mapping[str, Sequence[float]]) -> None:
        self.numbers = {name: tuple(given) for name, given in numbers.items()}
        super().__init__(base)
        self.before: list[Tensor] = []

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as torch does."""
        super().add_param_group(param_group)  # which makes its parameters a list, and fills in the rest
        cls = type(self.base).__name__
        for name, given in self.numbers.items():
            many, why = len(given), ""
            if cls not in _PROPORTIONAL:
                why = f"a step of {cls} is not proportional to its rate; use one of {', '.join(_PROPORTIONAL)}"
            elif own := [w for w in param_group["params"] if not w.ndim or len(w) != many]:
                why = f"a parameter has the shape {tuple(own[0].shape)}; train nets with Classifier(replicas={many})"
            elif param_group[name] != max(given):
                why = f"a group of parameters has {param_group[name]}; leave that out"
            elif name == "momentum" and (of_all := [o for o in ("nesterov", "dampening") if param_group.get(o)]):
                why = f"{of_all[0]} takes one momentum for all; leave it out"
            if why:
                raise ValueError(f"{name} has {many} numbers, one a replica, and {why}, or give one number.")
        param_group["numbers"] = self.numbers  # with which checkpoints go on, as with the largest

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what ``state_dict`` returned, the numbers too."""
        super().load_state_dict(state_dict)
        self.numbers = self.param_groups[0].setdefault("numbers", self.numbers)

    def _advance(self) -> None:
        """Take one step of each replica."""
        moved = [(group, w, w.grad) for group in self.param_groups for w in group["params"] if w.grad is not None]
        decays = [(group, group["weight_decay"]) for group in self.param_groups if "weight_decay" in self.numbers]
        for group, w, _ in moved:
            self._prepare(group, w)
        weights = [w.data for _, w, _ in moved] if "lr" in self.numbers else []
        if [(w.shape, w.device) for w in weights] != [(w.shape, w.device) for w in self.before]:
            self.before = [torch.empty_like(w) for w in weights]  # kept: new ones take longer than to fill these
        for start, w in zip(self.before, weights, strict=True):
            start.copy_(w)
        try:
            for group, _ in decays:
                group["weight_decay"] = 0.0
            self.base.step()
        finally:
            for group, decay in decays:
                group["weight_decay"] = decay
            for _, w, gradient in moved:
                w.grad = gradient
        for start, w in zip(self.before, weights, strict=True):
            torch.lerp(start, w, self._shares("lr", w), out=w)

    def _prepare(self, group: dict[str, Any], w: Any) -> None:
        """Have a step of one momentum and without decay be that of each replica, but for its rate."""
        if "momentum" in self.numbers and (buffer := self.state.get(w, {}).get("momentum_buffer")) is not None:
            buffer.mul_(self._shares("momentum", w))
        if "weight_decay" in self.numbers:
            decay = group["weight_decay"] * self._shares("weight_decay", w)
            if group.get("decoupled_weight_decay", isinstance(self.base, torch.optim.AdamW)):
                w.mul_(1 - group["lr"] * self._shares("lr", w) * decay)
            else:  # a gradient of this step alone
                w.grad = torch.addcmul(w.grad, w, decay, value=-1 if group["maximize"] else 1)

    def _shares(self, name: str, like: Tensor) -> Any:
        """Return the replicas' shares of the largest number, to multiply with such a tensor; 1 where all have it."""
        given = self.numbers.get(name)
        return 1.0 if given is None else _column(given, like.ndim, like.dtype, like.device)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"numbers": self.numbers, "before": []}


@cache
def _column(numbers: tuple[float, ...], ndim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    shares = torch.tensor(numbers, dtype=torch.float64) / (max(numbers) or 1)
    return shares.to(device, dtype).view(-1, *(1,) * (ndim - 1))
