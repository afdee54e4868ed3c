"""The information that noisy layers let through, as a term of the loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.checks import NotNegative
from lightning_regs.core.lightning import MisconfigurationException, log_epoch, pl, replace_loss
from lightning_regs.layers.information_dropout import InformationDropout
from lightning_regs.regularizers.base import Acts, Regularizer, example
from lightning_regs.regularizers.parts.scaling import scale_of


class InformationPenalty(Regularizer, acts=Acts.LOSS):
    r"""Adds to the loss what layers of information dropout tell about the samples: :math:`\beta \sum_l I_l`.

    Achille & Soatto, "Information Dropout", arXiv:1611.01353. :math:`I_l` is what the output of the l-th
    :class:`~lightning_regs.layers.InformationDropout` tells about its sample, in nats: the sum over units, and the mean
    over a batch. The authors' code divides :math:`\beta` by the number of training samples: 3 on 50,000 is 6e-5 here.

    It acts wherever Lightning differentiates a loss of any LightningModule, in ``manual_backward`` too, on all
    training passes since the last time: right under accumulation, in 16 bits and in several processes. The logged loss
    does not contain it; ``train/information`` is its mean over an epoch, and over replicas, without :math:`\beta`.

    Does not help: with a small :math:`\beta` the net removes the noise, with a large one it tells nothing. Not with a
    method that makes the gradient in its own way, such as GradientPenalty, nor with ``cuda_graph``.

    Args:
        beta: :math:`\beta`, at least 0.

    Raises:
        ValueError: At construction, if ``beta`` is out of range.
        MisconfigurationException: Where a loss is not one number, or there are several optimizers.
    """

    beta: NotNegative = example(1e-2, default=6e-5)
    acts_on_replicas = True  # as their loss is the sum of each one's
    twice = "both add the information of the same layers; use one with the sum of the betas"

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse methods whose gradient is of a loss without the information."""
        if other.drives:
            return "the gradient that is made in its own way would be of a loss without the information; leave one out"
        return super().refuses(other, before)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the layers say what they let through, and add it to what is differentiated."""
        super().on_train_start(trainer, pl_module)
        if len(trainer.optimizers) > 1:
            raise MisconfigurationException(
                f"InformationPenalty adds what layers let through to the next loss, and {type(pl_module).__name__} has "
                f"{len(trainer.optimizers)} optimizers, whose losses are of different passes; train with one."
            )
        self._layers = [layer for layer in pl_module.modules() if isinstance(layer, InformationDropout)]
        for layer in self._layers:
            layer.passes = []
        self._sums = torch.zeros(2, device=pl_module.device)
        self._undo = replace_loss(trainer, partial(self._penalised, pl_module))
        self.at_steps.idle = (
            "did nothing in a whole epoch: Lightning differentiated no loss of its layers in training mode; use "
            "self.manual_backward(loss) where the training step optimizes."
        )
        held = {w for layer in self._layers for w in layer.parameters()}
        where = f"InformationDropout layer in {type(pl_module).__name__}"
        self.check_found(trainer, held, where, "; put some in by lightning_regs.layers.replace_layers")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Forget passes that no loss came of."""
        self._taken()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's mean."""
        super().on_train_epoch_end(trainer, pl_module)
        total, count = trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        self._sums.zero_()
        if count:
            log_epoch(pl_module, {"train/information": total / count})

    def release(self) -> None:
        """Leave the layers and the precision as they were."""
        super().release()
        for layer in getattr(self, "_layers", ()):
            layer.passes = None
        getattr(self, "_undo", lambda: None)()

    def _taken(self) -> list[Tensor]:
        found = [nats for layer in self._layers for nats in layer.passes or ()]
        for layer in self._layers:
            layer.passes = []
        return found

    def _penalised(self, pl_module: pl.LightningModule, loss: Tensor) -> Tensor:
        if not (found := self._taken()):
            return loss
        if loss.numel() != 1:
            raise MisconfigurationException(
                f"InformationPenalty adds to a loss of one number, got shape {tuple(loss.shape)}; use its mean."
            )
        each = torch.stack([part.to(loss.device) for part in found]).sum(0)
        nats = each.sum()
        self._sums += torch.stack([each.detach().mean(), torch.ones_like(nats)]).to(self._sums)
        self.at_steps.acted = True
        return loss + (nats * (self.beta * scale_of(pl_module, loss))).to(loss.dtype)
