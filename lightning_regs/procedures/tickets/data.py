"""The data of a level: a DataModule, loaders, or the module's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.tickets.replay import Replay, ReplayedLoader, replaying


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

    @property
    def described(self) -> Any:
        """What a description of the data is to be made of; None if the module has them."""
        return self.datamodule or self.loaders

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
        if not _overrides(module, pl.LightningModule, "test_step"):
            return {}
        if self.loaders is not None:
            if self.loaders[2] is None:
                return {}
            results = trainer.test(module, self.loaders[2], verbose=False)
        elif _has_test(self.datamodule, pl.LightningDataModule) or _has_test(module, pl.LightningModule):
            results = trainer.test(module, datamodule=self.datamodule, verbose=False)
        else:
            return {}
        return {name: float(value) for result in results for name, value in result.items()}


def _has_test(owner: Any, base: type) -> bool:
    return owner is not None and _overrides(owner, base, "test_dataloader")


def _overrides(thing: Any, base: type, name: str) -> bool:
    method: Callable[..., Any] | None = getattr(type(thing), name, None)
    return name in vars(thing) or method is not getattr(base, name)
