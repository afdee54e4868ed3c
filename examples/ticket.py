"""Find a lottery ticket, and use it: a net with a tenth of its weights that predicts.

Run it: ``python examples/ticket.py [FOLDER]``. Killed and repeated with the same folder, it goes on where it was.
"""

import sys
import tempfile
from pathlib import Path

import torch

from lightning_regs import Classifier, ImageDataModule, Pruning, find_ticket


def make(seed: int) -> Classifier:
    """Make the net of one level; the same seed gives the same initial weights."""
    adam = {"name": "Adam", "lr": 2e-3}
    return Classifier("mlp", {"hidden": [128]}, optimizer=adam, input_shape=(1, 8, 8), num_classes=10, seed=seed)


def main(folder: Path) -> tuple[float, float]:
    """Search, load the last ticket into a plain net, and return its share of weights and its accuracy in percent."""
    data = ImageDataModule("digits", seed=0)
    options = {"max_epochs": 10, "accelerator": "cpu"}
    tickets = find_ticket(make, data, folder=folder, trainer=options, levels=4, pruning=Pruning(rate=0.45), seed=0)
    print(tickets.table())

    ticket = tickets.level(4)
    net = make(seed=0)
    net.load_state_dict(ticket.weights("final"))  # pruned weights are zeros: no mask is needed to predict
    net.eval()
    data.setup()
    images = data.eval_transform(data.dataset("test").x)
    with torch.no_grad():
        right = net(images).argmax(1) == data.dataset("test").y
    return ticket.density, 100 * right.float().mean().item()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp()) / "tickets"))
