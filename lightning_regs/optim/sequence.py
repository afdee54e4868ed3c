"""Schedules one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regs.optim.length import times_of, warn_of_other_times

# What schedules set in the groups of an optimizer.
_SET = ("lr", "momentum", "betas")


class SequenceLR(LRScheduler):
    """Let schedules follow each other, each as if the training began with it.

    A schedule is made where its part begins, with the optimizer's own rates and momentum. torch's ``SequentialLR``
    makes all of them at the start: there the rates of ``OneCycleLR`` and ``CyclicLR`` become those of all, and one that
    multiplies the rate that it finds goes on from where the one before it ended.

    The ``parts`` make the schedules. In steps of this one, each begins after its ``starts`` and steps at its ``paces``.
    """

    def __init__(
        self, optimizer: Optimizer, parts: Sequence[Callable[[], Any]], starts: Sequence[int], paces: Sequence[int]
    ) -> None:
        self.optimizer, self.parts, self.starts, self.paces = optimizer, parts, list(starts), list(paces)
        self.own = [{name: deepcopy(group[name]) for name in _SET if name in group} for group in optimizer.param_groups]
        self.last_epoch = 0
        for part in (*range(len(parts)), self._at()):  # all of them, so that a mistake in a later one shows now
            self._begin(part)

    def _at(self) -> int:
        return bisect_right(self.starts, self.last_epoch) - 1

    def _begin(self, part: int) -> None:
        for group, own in zip(self.optimizer.param_groups, self.own, strict=False):
            group.pop("initial_lr", None)
            _give(group, own)
        self.current = self.parts[part]()
        self._last_lr = self.current.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Take a step of the schedule whose turn it is, or begin with the next."""
        self.last_epoch += 1
        part = self._at()
        since = self.last_epoch - self.starts[part]
        if since == 0:
            self._begin(part)
        elif since % self.paces[part] == 0:
            self.current.step()
            self._last_lr = self.current.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return where it is, as plain data."""
        return {
            **{name: getattr(self, name) for name in ("last_epoch", "starts", "paces", "own", "_last_lr")},
            "current": self.current.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, if it is this schedule's; the rates of the optimizer are those that it has."""
        if len(state_dict.get("starts", ())) != len(self.parts):
            raise ValueError(
                f"the state is of another schedule, and this one has {len(self.parts)} parts; go on with the schedule "
                "that the training began with."
            )
        groups = self.optimizer.param_groups
        had = [{name: deepcopy(value) for name, value in group.items() if name != "params"} for group in groups]
        vars(self).update({name: value for name, value in state_dict.items() if name != "current"})
        self._begin(self._at())
        planned = times_of(self.current)
        self.current.load_state_dict(state_dict["current"])
        warn_of_other_times([self.current], [planned])
        for group, values in zip(groups, had, strict=True):
            _give(group, values)
        self._last_lr = state_dict["_last_lr"]


def _give(group: dict[str, Any], values: dict[str, Any]) -> None:
    """Set values of a group; those in tensors, which a graph may know, where they are."""
    for name, value in values.items():
        if isinstance(group.get(name), Tensor):
            group[name].copy_(value)
        else:
            group[name] = value
