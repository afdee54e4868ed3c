"""The factories that a search is given: each level has a module and data of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning_regs.core.lightning import pl
from lightning_regs.core.rng import derive_seed
from lightning_regs.procedures.tickets.data import Data
from lightning_regs.procedures.tickets.randomness import remember, seed_all


@dataclass(frozen=True)
class Factories:
    """Makes the modules and data of a search.

    Args:
        module: Makes the module.
        data: As in ``find_ticket``.
        seed: Of what does not depend on the level.

    Raises:
        TypeError: If ``module`` is no factory.
    """

    module: Callable[..., pl.LightningModule]
    data: Any
    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.module, pl.LightningModule) or not callable(self.module):
            raise TypeError(
                "each level has a module of its own: give find_ticket the class or a function that makes the module, "
                f"not {'the object' if isinstance(self.module, pl.LightningModule) else repr(self.module)}."
            )

    def make(self, seed: int) -> tuple[Data, pl.LightningModule]:
        """Make the data and the module of a level; what each draws does not depend on the other.

        Args:
            seed: Of the module.

        Raises:
            TypeError: If they are something else.
        """
        remember(self.seed)
        seed_all(derive_seed(self.seed, "ticket data"))
        data = Data.make(self.data)
        remember(seed)
        seed_all(derive_seed(seed, "ticket module"))
        module = self.module(seed=seed) if _takes_seed(self.module) else self.module()
        if not isinstance(module, pl.LightningModule):
            raise TypeError(f"the module's factory must return a LightningModule, got {type(module).__name__}.")
        remember(self.seed)
        seed_all(derive_seed(self.seed, "ticket data"))  # for setup(), where data are split
        return data, module


def overrides(module: pl.LightningModule, name: str) -> bool:
    """Whether the module's class has a hook of its own."""
    return getattr(type(module), name) is not getattr(pl.LightningModule, name)


def _takes_seed(factory: Callable[..., Any]) -> bool:
    try:
        return "seed" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
