"""The loss around trained nets: deep ones with and without shortcuts, and the path of a training in its own plane.

Nets of twelve layers learn digits for ten epochs. Run it: ``python examples/landscape.py`` writes one picture.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.analysis import LossSurface, PathPlane, loss_surface, path_plane, random_direction

ADAM = {"name": "Adam", "lr": 0.003}


class Kept(pl.Callback):
    """Keeps the weights at the start and after each epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.states.append(copy.deepcopy(pl_module.state_dict()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.states.append(copy.deepcopy(pl_module.state_dict()))


def look(residual: bool, epochs: int = 10, points: int = 21) -> tuple[LossSurface, LossSurface, PathPlane]:
    """Return the loss on a plane of random directions and on that of the path, and the path."""
    data, kept = ImageDataModule("digits", batch_size=64, seed=0), Kept()
    options: dict[str, Any] = {"hidden": [32] * 11, "norm": "batch", "residual": residual}
    model = Classifier("mlp", options, ADAM, seed=0)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(max_epochs=epochs, callbacks=[kept], accelerator="cpu", **quiet).fit(model, data)
    train = data.dataset("train")
    x, y = data.eval_transform(train.x), train.y
    draws = torch.Generator().manual_seed(0)
    random = loss_surface(model, x, y, [random_direction(model, draws) for _ in range(2)], points)
    path = path_plane(model, kept.states)
    reach = 1.3 * float(path.path.abs().max())
    return random, loss_surface(model, x, y, path.directions, points, (-reach, reach)), path


def picture(**nets: tuple[LossSurface, LossSurface, PathPlane]) -> Figure:
    """Draw a row a net: lines of equal loss, apart by a factor, and the path."""
    figure = Figure(figsize=(8, 4 * len(nets)), layout="constrained")
    for row, (name, (*surfaces, path)) in zip(figure.subplots(len(nets), 2, squeeze=False), nets.items(), strict=True):
        for axes, surface in zip(row, surfaces, strict=True):
            low, high = surface.losses[surface.losses.isfinite()].aminmax()
            levels = torch.logspace(*torch.stack([low, high]).log10().tolist(), 14)[1:-1]
            drawn = axes.contour(*surface.at, surface.losses.T, levels, colors="0.4", linewidths=0.8)
            axes.clabel(drawn, levels[::3], fmt="%.2g", fontsize=7)
            axes.set(aspect="equal")
            axes.locator_params(nbins=5)
        row[0].set_title(f"{name}: two random directions", fontsize=9)
        share = 100 * float(path.shares[:2].sum())
        row[1].set_title(f"{name}: the training's path, {share:.0f} % of it in this plane", fontsize=9)
        row[1].plot(*path.path.T, "C0.-")
    return figure


def main() -> None:
    """Draw both nets."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--file", type=Path, default=Path("landscape.png"))
    arguments = parser.parse_args()
    picture(shortcuts=look(True), plain=look(False)).savefig(arguments.file, dpi=100)


if __name__ == "__main__":
    main()
