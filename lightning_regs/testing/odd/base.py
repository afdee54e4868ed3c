"""A LightningModule in float64 that keeps what its training step has seen, for others to write it in other ways."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from lightning_regs.core.lightning import pl
from lightning_regs.regularizers.parts.targets import MixedTarget

BATCH, CLASSES, SIDE, LR = 8, 4, 6, 0.1


ODD: dict[str, type[Odd]] = {}
"""Every kind of module by its name, which is the first line of its docstring."""


def _name(cls: type[Odd]) -> str:
    line = str(cls.__doc__).partition(".\n")[0].rstrip(".")
    return line[0].lower() + line[1:]


def kind(name: str, base: type[Odd] | None = None, **other: Any) -> type[Odd]:
    """Declare a kind of module by what is other in it than in its base, methods and attributes."""
    return type("YourModule", (base or Odd,), {"__doc__": name, **other})


class Odd(pl.LightningModule):
    """An ordinary step.

    Attributes:
        seen: The samples and labels of each batch, as the training step had them.
    """

    keys: ClassVar[Any] = None  # what a method on batches is told about them, where it has to be told
    maps: ClassVar[bool] = False  # whether there is a target for each pixel
    sharp: ClassVar[bool] = False  # whether the optimizer takes its gradient at the worst of a small ball

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__name__ = "YourModule"  # as what a method says is shown to those whose module is like it
        ODD[_name(cls)] = cls

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = (
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, CLASSES, 1))
            if self.maps
            else self.flat()
        )
        self.seen: dict[int, tuple[Tensor, Tensor, int]] = {}
        self.double()

    def flat(self) -> nn.Sequential:
        """Return the network of whatever has one target a sample."""
        return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Any:
        """Return logits ``(N, K)``, of each pixel for maps."""
        return self.net(x)

    def samples(self, g: torch.Generator) -> Tensor:
        """Return two batches of samples."""
        return torch.rand(2 * BATCH, 1, SIDE, SIDE, generator=g, dtype=torch.float64)

    def labels(self, g: torch.Generator) -> Tensor:
        """Return the labels of all of them."""
        return torch.randint(CLASSES, (2 * BATCH,), generator=g)

    def collate(self, rows: Any) -> Any:
        """Return what a batch is, of (x, y) pairs."""
        return default_collate(rows)

    def loader(self) -> DataLoader[Any]:
        """Return two batches."""
        g = torch.Generator().manual_seed(3)
        rows: Any = list(zip(self.samples(g), self.labels(g), strict=True))
        return DataLoader(rows, batch_size=BATCH, collate_fn=self.collate)

    def loss(self, z: Tensor, y: Any) -> Tensor:
        """Return the loss of logits by labels."""
        return F.cross_entropy(z, y)

    def whole(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss that a method on labels promises: the mixture of those of their components, smoothed."""
        if not isinstance(y, MixedTarget):
            return self.loss(z, y)
        loss: Any = sum(share * self.loss(z, labels) for labels, share in y.components)
        every: Any = sum(self.loss(z, torch.full_like(y.parts[0], k)) for k in range(CLASSES)) if y.smoothing else 0
        mixed: Tensor = (1 - y.smoothing) * loss + y.smoothing / CLASSES * every
        return mixed

    def unpacked(self, batch: Any) -> Any:
        """Return samples and labels of a batch."""
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss."""
        x, y = self.unpacked(batch)
        return self.learn(x, y, batch_idx)

    def learn(self, x: Tensor, y: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of samples and labels, which are kept."""
        self.seen[batch_idx] = x.detach().clone(), y, self.trainer.global_step
        return self.loss(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain SGD of the network."""
        return torch.optim.SGD(self.net.parameters(), lr=LR)


ODD[_name(Odd)] = Odd
