"""Deep Compression of a net: prune in levels, let weights share values, and write a small file.

Run it: ``python examples/compress.py [FOLDER]``. Killed and repeated with the same folder, it goes on where it was.
"""

import sys
import tempfile
from pathlib import Path

import pytorch_lightning as pl
import torch

from lightning_regs import Classifier, ImageDataModule, Pruning, find_ticket
from lightning_regs.pruning import compress, decompress, share_weights


def make(seed: int) -> Classifier:
    """Make the net; the same seed gives the same initial weights."""
    adam = {"name": "Adam", "lr": 1e-3}
    return Classifier("mlp", {"hidden": [128]}, optimizer=adam, input_shape=(1, 8, 8), num_classes=10, seed=seed)


def main(folder: Path) -> tuple[float, bool]:
    """Return how many times smaller the file is than the dense net, and whether it predicts as the net in it does."""
    data = ImageDataModule("digits", seed=0)
    options = {"max_epochs": 10, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    # Prune, and train on from what is left, until an eighth of the weights is there.
    rounds = {"levels": 3, "method": "fine_tuning", "fine_tune": "5ep", "pruning": Pruning(rate=0.5)}
    pruned = find_ticket(make, data, folder=folder, trainer=options, seed=0, **rounds)

    net = make(seed=0)
    net.load_state_dict(pruned.level(3).weights("final"))
    share_weights(net, bits=4)  # what is zero stays so; what is not takes 15 values a layer
    pl.Trainer(**{**options, "max_epochs": 3}, enable_progress_bar=False).fit(net, data)
    written = compress(net, folder / "net.compressed")
    print({stage: f"{bits / 8:,.0f} bytes" for stage, bits in written.stages.items()}, f"file {written.file:,} bytes")

    same = make(seed=1)
    decompress(folder / "net.compressed", same)
    images = data.eval_transform(data.dataset("test").x)
    with torch.no_grad():
        return written.rates["file"], torch.equal(net.eval()(images), same.eval()(images))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp()) / "levels"))
