"""Splits of the data as nets see them, and how good nets are on them, in the midst of a training too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regs.core import rng
from lightning_regs.core.lightning import pl
from lightning_regs.core.undisturbed import undisturbed
from lightning_regs.data import ImageDataModule
from lightning_regs.data.dataset import StackedArrays
from lightning_regs.training.classifier import Classifier
from lightning_regs.training.losses import losses_of_samples


@torch.no_grad()
def measure(trainer: pl.Trainer, module: Classifier, split: str) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy (in percent) of each net on a split, ``(R,)`` on the CPU, in the midst of a training.

    The data are the ``ImageDataModule`` of the training.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    nets = len(module.replicas or [0])
    loss = torch.zeros(nets, dtype=torch.float64, device=module.device)
    right, number = torch.zeros_like(loss), 0
    with undisturbed(module):
        for x, y in batches(data, split, module.device):
            with trainer.precision_plugin.forward_context():
                logits = module(x).float()
            logits = logits if module.replicas else logits[None]
            y = y.expand(nets, -1)
            each = losses_of_samples(module.loss, logits.flatten(0, 1), y.flatten())
            loss += each.view_as(y).sum(1, dtype=torch.float64)
            right += (logits.argmax(-1) == y).sum(1)
            number += y.shape[1]
    return (loss / number).cpu(), (100 * right / number).cpu()


def batches(data: ImageDataModule, split: str, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a split as the network sees it: (N, ...) and (N,), of replicas' own samples (R, N, ...) and (R, N)."""
    held_out = data.dataset(split)
    for rows in torch.split(torch.arange(len(held_out)), data.eval_batch_size):
        if isinstance(held_out, StackedArrays):
            found = held_out[rows.expand(len(held_out.y), -1)]
        else:
            found = held_out.__getitems__(rows.tolist())
        x, y = (part.to(device) for part in found[:2])
        yield data.eval_transform(x), y


def samples(
    data: ImageDataModule,
    split: str,
    number: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    replica: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return all samples of a split as the network sees them, in their order, or a ``number`` that ``seed`` draws.

    The first would not do, as an archive may hold class after class. Samples are (N, ...) and labels (N,); where
    replicas have samples of their own, those of ``replica``, or of the first.
    """
    whole = batches(data, split, torch.device(device))
    own = [pair if pair[1].ndim == 1 else tuple(part[replica or 0] for part in pair) for pair in whole]
    x, y = (torch.cat(parts) for parts in zip(*own, strict=True))
    if number is None or number >= len(y):
        return x, y
    rows = torch.randperm(len(y), generator=rng.generator(seed, "samples"))[:number].to(y.device)
    return x[rows], y[rows]


@torch.no_grad()
def correct(network: nn.Module, data: ImageDataModule, split: str) -> Tensor:
    """Return whether a single net, on the CPU and in evaluation mode, is right on each sample of a split, bool (N,).

    All replicas share the split, and labels are as they are there.
    """
    return torch.cat([network(x).argmax(1) == y for x, y in batches(data, split, torch.device("cpu"))])
