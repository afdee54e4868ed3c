"""The training task of Smith et al. 2021: the engine's own, and the implicit regularizer's value at the end."""

from __future__ import annotations

from typing import Any

import torch

from lightning_regs.analysis import implicit_regularizer
from lightning_regs.core import rng
from lightning_regs.core.runs import RunContext
from lightning_regs.training.fit import fit

# Batches that the value is a mean over, at most; more would not change it at the precision of the figure.
MAX_BATCHES = 200


def train(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train, and measure the implicit regularizer afterwards.

    Args:
        config: That of :func:`~lightning_regs.training.fit.fit`. ``config["regulariser_batch"]``, where given, is the
            size of the batches in the regularizer's value, so that cells with different batch sizes are measured alike.
        run: The engine's run.

    Returns:
        The metrics of the training and ``regulariser``, on the training set in evaluation mode, without augmentation.
    """
    trained = fit(config, run)
    split = trained.data.dataset("train")
    size = int(config.get("regulariser_batch") or trained.data.batch_size)
    seed = (config.get("seeds") or {}).get("order", run.seed)
    order = torch.randperm(len(split), generator=rng.generator(seed, "smith2021-regulariser"))
    x, y, *_ = (part.cpu() for part in split.__getitems__(order[: size * MAX_BATCHES].tolist()))
    value = implicit_regularizer(trained.network(), trained.data.eval_transform(x), y, size)
    return trained.metrics | {"regulariser": value}
