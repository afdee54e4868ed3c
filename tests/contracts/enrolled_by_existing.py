"""Methods that are enrolled in the contracts by being imported: one that keeps them, and one for each way not to.

``test_contract_enrolment.py`` runs the suite with this module as a plugin; nothing else imports it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from lightning_regs import Regularizer
from lightning_regs.core.lightning import pl


class _Brightens(Regularizer):
    """What they have in common; private, so not enrolled itself."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        x, _ = self.pair(batch)
        batch[0] = x * self.factor(trainer, batch_idx)

    def factor(self, trainer: pl.Trainer, batch_idx: int) -> Any:
        return 0.5 + torch.rand((), generator=self.generator(trainer, batch_idx))


class KeepsAllContracts(_Brightens):
    """Draws from its own generator and saves nothing."""


class DrawsFromTheGlobalGenerator(_Brightens):
    """Its draws move the module's."""

    def factor(self, trainer: pl.Trainer, batch_idx: int) -> Any:
        return 0.5 + torch.rand(())


class DrawsTheSameOnEachRank(_Brightens):
    """Its generator knows the batch alone."""

    def factor(self, trainer: pl.Trainer, batch_idx: int) -> Any:
        return 0.5 + torch.rand((), generator=torch.Generator().manual_seed(self.seed + batch_idx))


class SavesAnObject(_Brightens):
    """Its state is no plain type."""

    def state_dict(self) -> dict[str, Any]:
        return {"factor": Fraction(1, 2)}


class ForgetsItsState(_Brightens):
    """What it does depends on what it did, which it does not save."""

    seen = 0

    def factor(self, trainer: pl.Trainer, batch_idx: int) -> Any:
        self.seen += 1
        return 1 + 0.1 * self.seen


class PenaltyLostToScaling(Regularizer):
    """Adds to a loss that is scaled, and divided by the number of accumulated batches, as if it were neither."""

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        loss.add_(0.1 * torch.stack([p.square().sum() for p in pl_module.parameters()]).sum())


class ActsAfterClipping(Regularizer):
    """Changes the gradient when the last word on it has been said."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        clip = pl_module.configure_gradient_clipping

        def then_add(optimizer: Any, *args: Any, **options: Any) -> None:
            clip(optimizer, *args, **options)
            for p in pl_module.parameters():
                p.grad.add_(p.detach(), alpha=0.1)

        pl_module.configure_gradient_clipping = then_add


class DoesNothing(Regularizer):
    """Has no effect."""
