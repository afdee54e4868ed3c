"""The training task of Smith et al. 2021: the engine's own, and the implicit regulariser's value at the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core import rng
from lightning_regs.core.runs import RunContext
from lightning_regs.training import fit as engine

# Batches that the value is a mean over, at most; more would not change it at the precision of the figure.
MAX_BATCHES = 200


def train(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Train as :func:`lightning_regs.training.fit.train` does, and measure the implicit regulariser afterwards.

    Args:
        config: The engine's configuration. ``config["regulariser_batch"]``, where given, is the size of the batches in
            the regulariser's value, so that cells with different batch sizes are measured alike.
        run: The engine's run.

    Returns:
        The engine's metrics and ``regulariser``, the mean of ``||grad C_k||^2`` over batches of the training set, in
        evaluation mode and without augmentation.
    """
    options = {key: value for key, value in config.items() if key != "regulariser_batch"}
    data = ImageDataModule(**config["data"], seed=run.seed)
    data.prepare_data()
    data.setup()
    # The engine takes a network as an object too: built here, as it would build it, the trained one is at hand.
    model = {key: value for key, value in config["model"].items() if key != "regularizers"}
    shapes = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    network = Classifier(**(model | shapes), seed=run.seed).network
    assert network is not None
    options["model"] = {k: v for k, v in config["model"].items() if k != "architecture_args"} | {
        "architecture": network
    }
    metrics = engine.train(options, run)
    split = data.dataset("train")
    size = int(config.get("regulariser_batch") or config["data"]["batch_size"])
    order = torch.randperm(len(split), generator=rng.generator(run.seed, "smith2021-regulariser"))
    x, y, *_ = split.__getitems__(order[: size * MAX_BATCHES].tolist())
    return metrics | {"regulariser": implicit_regulariser(network.cpu(), data.eval_transform(x), y, size)}


def implicit_regulariser(network: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> float:
    """Return the mean over full batches of the squared norm of the batch's gradient of the mean cross entropy.

    Args:
        network: Maps ``(N, ...)`` to logits ``(N, K)``.
        x: Samples ``(N, ...)``.
        y: Classes ``(N,)``.
        batch_size: Samples a batch; samples that fill no batch are left out, unless there is no other.
    """
    network.eval()
    parameters = [p for p in network.parameters() if p.requires_grad]
    size = min(batch_size, len(y))
    values = []
    for start in range(0, len(y) - size + 1, size):
        loss = F.cross_entropy(network(x[start : start + size]), y[start : start + size])
        gradients = torch.autograd.grad(loss, parameters)
        values.append(torch.stack([g.square().sum() for g in gradients]).sum())
    return float(torch.stack(values).mean())
