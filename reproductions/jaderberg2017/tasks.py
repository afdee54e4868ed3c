"""The task of a cell: train, and see which hidden layers have taken their step when the last layer runs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lightning_regs.core.lightning import Callback, pl
from lightning_regs.core.runs import RunContext
from lightning_regs.training.fit import fit

WATCHED = 5  # the batch of each epoch that is looked at; in the first of a training models predict nothing yet


class Trace(Callback):
    """Compares the hidden layers' weights, when the last layer runs, with those that the batch began with."""

    def __init__(self) -> None:
        self.stepped = math.nan

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the weights, and look at them once the last layer runs."""
        if batch_idx == WATCHED:
            hidden = [part.weight for part in pl_module.network.body if isinstance(part, nn.Linear)]
            before = [weight.detach().clone() for weight in hidden]

            def look(*_: Any) -> None:
                moved = [not torch.equal(now, old) for now, old in zip(hidden, before, strict=True)]
                self.stepped = 100 * sum(moved) / len(moved)
                handle.remove()

            handle = pl_module.network.head.register_forward_pre_hook(look)


def traced(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Return the metrics of a training, and ``stepped_first``: hidden layers that step before the last one runs, in %.

    Args:
        config: As for :func:`~lightning_regs.training.fit.fit`, of an MLP.
        run: The engine's.
    """
    trained = fit(config, run, [trace := Trace()])
    return trained.metrics | {"stepped_first": trace.stepped}
