"""Replicas that one optimizer trains, each at a learning rate of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# Optimizers whose step is the rate times something that does not depend on it.
_PROPORTIONAL = ("Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD")


def listed_rates(config: Mapping[str, Any]) -> Sequence[float]:
    """Return the learning rates of a configuration, of Lookahead its base's, that has one a replica; else none."""
    rates = config.get("lr")
    if isinstance(base := config.get("base"), Mapping) and rates is None:
        return listed_rates(base)
    return rates if isinstance(rates, (list, tuple)) else ()


class ReplicaRates:
    """Has an optimizer train replicas at rates of their own: it steps at the largest, and each keeps its share.

    In these optimizers a step is the learning rate times what the gradients say, weight decay included, so that the
    share of it that a replica keeps is its step at its own rate, to rounding. A schedule of the optimizer's rate
    is one of all rates. A copy of the optimizer, or one from a pickle, has them as well.

    Args:
        optimizer: One of torch's, whose parameters are ``(R, ...)``.
        rates: R learning rates, above 0.

    Raises:
        ValueError: If the optimizer's steps are not proportional to its rate, or a parameter is not stacked.
    """

    def __init__(self, optimizer: Optimizer, rates: Sequence[float]) -> None:
        name = type(optimizer).__name__
        if name not in _PROPORTIONAL:
            raise ValueError(
                f"lr is a list, and a step of {name} is not proportional to its rate; give one number, or use one of "
                f"{', '.join(_PROPORTIONAL)}."
            )
        for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
            if not weight.ndim or len(weight) != len(rates):
                raise ValueError(
                    f"lr has {len(rates)} learning rates, one a replica, and a parameter has the shape "
                    f"{tuple(weight.shape)}; give one number, or train stacked nets, Classifier(replicas={len(rates)})."
                )
        self.rates = tuple(rates)
        self.shares = torch.tensor(rates, dtype=torch.float64) / max(rates)
        self.before: list[Tensor] = []
        optimizer.register_step_pre_hook(self._keep)
        optimizer.register_step_post_hook(self._share)
        # An optimizer leaves its hooks out of its state.
        vars(optimizer)["__reduce_ex__"] = lambda _: (
            _at_rates,
            (type(optimizer), self.rates),
            optimizer.__getstate__(),
        )

    def _weights(self, optimizer: Optimizer) -> list[Tensor]:
        return [weight.data for group in optimizer.param_groups for weight in group["params"] if weight.requires_grad]

    def _keep(self, optimizer: Optimizer, *_: Any) -> None:
        weights = self._weights(optimizer)
        if [w.shape for w in weights] != [w.shape for w in self.before]:
            self.before = [torch.empty_like(weight) for weight in weights]
        torch._foreach_copy_(self.before, weights)

    def _share(self, optimizer: Optimizer, *_: Any) -> None:
        for before, weight in zip(self.before, self._weights(optimizer), strict=True):
            share = self.shares.to(weight).view(-1, *(1,) * (weight.ndim - 1))
            torch.lerp(before, weight, share, out=weight)


def _at_rates(cls: type[Optimizer], rates: tuple[float, ...]) -> Optimizer:
    """Return an optimizer that has no state yet, and hooks already."""
    made = cls.__new__(cls)
    made._optimizer_step_pre_hooks, made._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
    made.param_groups = []
    ReplicaRates(made, rates)
    return made
