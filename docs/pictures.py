"""A picture a method, drawn from a training on digits: what a batch becomes, or what becomes of the weights."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from generated import methods
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from lightning_regs import ImageDataModule
from lightning_regs.core.lightning import Callback, pl
from lightning_regs.regularizers import Acts, MixedTarget

SHOWN, EPOCHS = 6, 7  # a batch at which the weights of mixtures are far from 0 and 1


class Net(pl.LightningModule):
    """A small net that remembers the last batch that it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen = batch
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def trained(*callbacks: Callback) -> Net:
    """Train the net, always from the same weights and in the same order."""
    net, data = Net(), ImageDataModule("digits", batch_size=64, seed=0)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=list(callbacks), **quiet).fit(net, datamodule=data)
    return net


def write(folder: Path) -> None:
    """Draw the picture of each method that has none yet in the folder; delete one to have it drawn again."""
    missing = [cls for cls in methods() if not (folder / f"{cls.__name__}.svg").exists()]
    if not missing:
        return
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    plain = trained()
    for cls in missing:
        method = cls.variants()[0]
        pair = {"without": plain, f"with {cls.__name__}": trained(method)}
        figure = _batches(pair) if cls.acts is Acts.BATCH else _weights(pair)
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": cls.__name__}):
            figure.savefig(folder / f"{cls.__name__}.svg", metadata={"Date": None})


def _batches(pair: dict[str, Net]) -> Figure:
    """Draw the same samples without and with a method, and below each the weights of its target's classes."""
    figure = Figure(figsize=(6.4, 3.3), layout="constrained")
    grid = figure.subplots(4, SHOWN, gridspec_kw={"height_ratios": [3, 1, 3, 1]})
    for (label, net), images, bars in zip(pair.items(), grid[::2], grid[1::2], strict=True):
        x, y = net.seen
        targets = y.probabilities(10) if isinstance(y, MixedTarget) else one_hot(y, 10) if y.ndim == 1 else y
        for image, bar, sample, target in zip(images, bars, x, targets, strict=False):
            image.imshow(sample.squeeze(), cmap="gray_r")
            bar.bar(range(10), target.tolist(), color="#3b6ea5")
            bar.set(ylim=(0, 1.05), yticks=[], xticks=range(10))
            bar.tick_params(labelsize=5, length=0, pad=1)
            image.set(xticks=[], yticks=[])
        images[0].set_ylabel(label, fontsize=8)
        bars[0].set_ylabel("target", fontsize=7)
    return figure


def _weights(pair: dict[str, Net]) -> Figure:
    """Draw the incoming weights of the first units without and with a method, and the sizes of all weights."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, 2])
    grid = left.subplots(2, SHOWN)
    axes = right.subplots()
    weights = {label: net.net[1].weight.detach() for label, net in pair.items()}
    most = max(float(w.abs().max()) for w in weights.values())
    for (label, w), row in zip(weights.items(), grid, strict=True):
        for unit, place in zip(w, row, strict=False):
            place.imshow(unit.view(8, 8), cmap="RdBu", vmin=-most, vmax=most)
            place.set(xticks=[], yticks=[])
        row[0].set_ylabel(label, fontsize=8)
        axes.plot(w.abs().flatten().sort(descending=True).values.tolist(), label=label)
    axes.set_xlabel("weights of the first layer, by size", fontsize=8)
    axes.set_ylabel("absolute value", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
    return figure
