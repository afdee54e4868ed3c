"""What each level of a procedure has of its own: a module, and data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from lightning_regs.core.lightning import pl
from lightning_regs.core.rng import derive_seed
from lightning_regs.procedures.randomness import remember, seed_all
from lightning_regs.procedures.replay import Replay, ReplayedLoader, replaying


@dataclass(frozen=True)
class Data:
    """What one level trains, validates and tests on.

    Attributes:
        datamodule: A DataModule, or None.
        loaders: Training, validation and test loaders, None where there are none; None for a DataModule, or where the
            module has the loaders.
    """

    datamodule: pl.LightningDataModule | None = None
    loaders: tuple[Any, Any, Any] | None = None

    @classmethod
    def make(cls, source: Any) -> Data:
        """Make the data of a level out of the argument of ``find_ticket``.

        Raises:
            TypeError: If it is no data.
            ValueError: If it has more than three loaders.
        """
        made = source() if callable(source) and not isinstance(source, pl.LightningDataModule) else source
        if made is None and source is None:
            return cls()
        if isinstance(made, pl.LightningDataModule):
            return cls(made)
        loaders = list(made) if isinstance(made, tuple) else [made]
        if not 1 <= len(loaders) <= 3:
            raise ValueError(f"data are (training, validation, test) loaders or fewer, got {len(loaders)}.")
        for loader in loaders:
            if isinstance(loader, (Dataset, type)) or not hasattr(loader, "__iter__"):
                raise TypeError(
                    "data must be a LightningDataModule, a function that makes one, or one that returns loaders, got "
                    f"{type(loader).__name__}; put a data set into a DataLoader."
                )
        return cls(None, (*loaders, *[None] * (3 - len(loaders))))

    def fit(self, trainer: pl.Trainer, module: pl.LightningModule, replay: Replay, ckpt_path: str | None) -> None:
        """Train, with an order that is a function of the epoch."""
        if self.loaders is not None:
            train, val, _ = self.loaders
            trainer.fit(module, ReplayedLoader(train, replay), val, ckpt_path=ckpt_path, weights_only=True)
            return
        with replaying(self.datamodule or module, replay):
            trainer.fit(module, datamodule=self.datamodule, ckpt_path=ckpt_path, weights_only=True)

    def test(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """Return what the module's test gives, nothing if it has none."""
        owners = (self.datamodule, pl.LightningDataModule), (module, pl.LightningModule)
        has_loader = any(owner is not None and overrides(owner, "test_dataloader", base) for owner, base in owners)
        loader = None if self.loaders is None else self.loaders[2]
        if not overrides(module, "test_step") or (loader is None and (self.loaders is not None or not has_loader)):
            return {}
        results = trainer.test(module, loader, datamodule=self.datamodule, verbose=False)
        return {name: float(value) for result in results for name, value in result.items()}


@dataclass(frozen=True)
class Factories:
    """Makes the modules and data of a procedure.

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


def overrides(owner: Any, name: str, base: type = pl.LightningModule) -> bool:
    """Whether an object, or its class, has a hook of its own."""
    return name in vars(owner) or getattr(type(owner), name, None) is not getattr(base, name)


def _takes_seed(factory: Callable[..., Any]) -> bool:
    try:
        return "seed" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
