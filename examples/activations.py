"""Activations by layer and initialization, as lecture notes draw them: too small weights fade, too large ones saturate.

Histograms of the activations of a net of five hidden layers of 100 on digits, before training, a row a rule and a
column a layer; above each its standard deviation. Run it: ``python examples/activations.py`` writes one picture.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_regs import ImageDataModule
from lightning_regs.analysis import layer_outputs
from lightning_regs.init import initialize
from lightning_regs.models import build

LAYERS, WIDTH = 5, 100


def gaussian(deviation: float) -> object:
    """Return the rule that draws N(0, deviation^2)."""

    def draw(weight: Tensor, generator: torch.Generator | None) -> None:
        nn.init.normal_(weight, 0, deviation, generator=generator)

    return draw


RULES = {"N(0, 0.01²)": gaussian(0.01), "N(0, 0.28²)": gaussian(0.28), "torch's default": None,
         "Xavier": "xavier_normal", "He": "kaiming_normal", "orthogonal": "orthogonal"}  # fmt: skip


def outputs(rule: object, activation: str, x: Tensor) -> list[Tensor]:
    """Return the activations of each hidden layer."""
    torch.manual_seed(0)
    net = build("mlp", x.shape[1:], 10, hidden=[WIDTH] * LAYERS, activation=activation)
    initialize(net, rule)
    found = layer_outputs(net, x, [f"body.{2 * layer}" for layer in range(1, LAYERS + 1)])
    return list(found.values())


def picture(activation: str, x: Tensor) -> Figure:
    """Draw all rules."""
    figure = Figure(figsize=(2.2 * LAYERS, 1.5 * len(RULES)), layout="constrained")
    for row, (name, rule) in zip(figure.subplots(len(RULES), LAYERS), RULES.items(), strict=True):
        for layer, (axes, values) in enumerate(zip(row, outputs(rule, activation, x), strict=True), 1):
            axes.hist(values.flatten().numpy(), bins=40, color="0.4")
            axes.set_title(f"layer {layer}: sd {values.std():.2g}", fontsize=8)
            axes.set(yticks=[])
            axes.tick_params(labelsize=7)
        row[0].set_ylabel(name, fontsize=9)
    figure.suptitle(f"{activation} activations by layer and initialization")
    return figure


def main() -> None:
    """Draw on digits."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--file", type=Path, default=Path("activations.png"))
    arguments = parser.parse_args()
    data = ImageDataModule("digits")
    data.setup()
    x = data.eval_transform(data.dataset("train").x)
    picture(arguments.activation, x).savefig(arguments.file, dpi=100)


if __name__ == "__main__":
    main()
