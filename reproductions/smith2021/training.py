"""The training task of Smith et al. 2021: the engine's own, and the implicit regularizer's value at the end."""

from __future__ import annotations

from typing import Any

import torch

from lightning_regs.analysis import implicit_regularizer
from lightning_regs.core import rng
from lightning_regs.core.runs import RunContext
from lightning_regs.training.fit import fit

MOST = 200  # batches that the value is a mean over; more would not change it at the precision of the figure


def train(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train, and measure ``regulariser`` afterwards: on the training set in evaluation mode, without augmentation.

    The configuration is that of :func:`~lightning_regs.training.fit.fit`; in ``"regulariser_batch"``, where given, it
    has the size of the batches, so that cells with different batch sizes are measured alike.
    """
    trained = fit(config, run)
    split = trained.data.dataset("train")
    size = int(config.get("regulariser_batch") or trained.data.batch_size)
    seed = (config.get("seeds") or {}).get("order", run.seed)
    order = torch.randperm(len(split), generator=rng.generator(seed, "smith2021-regulariser"))
    x, y, *_ = (part.cpu() for part in split.__getitems__(order[: size * MOST].tolist()))
    value = implicit_regularizer(trained.network(), trained.data.eval_transform(x), y, size)
    return trained.metrics | {"regulariser": value}
