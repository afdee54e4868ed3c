"""Optimizers that do something beside each step of another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class Around(Optimizer, ABC):
    """An optimizer around another one, its base, whose parameters, groups and state it has.

    Schedules, scalers and checkpoints see a single optimizer; copies and pickles hold both.
    """

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        super().__init__(base.param_groups, base.defaults)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as torch does."""
        if "state" in vars(self) and self.state is self.base.state:
            self.base.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of the base, and do what there is to do beside it; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance()
        return loss

    @abstractmethod
    def _advance(self) -> None:
        """Take the step, for gradients that are there."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what ``state_dict`` returned."""
        self.base.load_state_dict(state_dict)
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"base": self.base}
