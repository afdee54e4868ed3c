"""ResNet-18 for CIFAR as the papers train it: padded crops, flips and channel normalization, through our stack.

Against a hand-written channels_last loop over images that are normalized already, and against the usual recipe.
``LIGHTNING_REGS_BENCH_WIDTH`` makes the net narrower or wider than 16 filters, of the paper's 64.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness import Table, alternate, ratio
from recipes import BATCH, SGD, PILImages, UsualModule, by_hand, fit_seconds, write_images
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.models.resnet import BasicBlock

from lightning_regs import Classifier, ImageDataModule

WIDTH = int(os.environ.get("LIGHTNING_REGS_BENCH_WIDTH", "16"))
IMAGES = 640
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
TITLE = f"ResNet-18 of width {WIDTH}, fp32"


def ours(path: Path, folder: Path, size: int, **options: Any) -> float:
    """Trainer + Classifier + ImageDataModule."""
    normalize = {"mean": MEAN, "std": STD}
    data = ImageDataModule(str(path), image_size=size, batch_size=BATCH, normalize=normalize, **options)
    return fit_seconds(Classifier("resnet18", {"width": WIDTH}, SGD), data, folder, "32-true")


def usual_resnet() -> nn.Module:
    """ResNet-18 with the CIFAR stem from torchvision's parts."""

    def stage(inputs: int, outputs: int, stride: int) -> nn.Module:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        first = BasicBlock(inputs, outputs, stride, None if stride == 1 else shortcut)
        return nn.Sequential(first, BasicBlock(outputs, outputs))

    w = WIDTH
    return nn.Sequential(
        nn.Conv2d(3, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        stage(w, w, 1), stage(w, 2 * w, 2), stage(2 * w, 4 * w, 2), stage(4 * w, 8 * w, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, 10),
    )  # fmt: skip


def usual(path: Path, folder: Path) -> float:
    """PIL transforms in a DataLoader with two workers, plain Lightning."""
    data = PILImages(path)
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    data.transform = transforms.Compose([*crop, transforms.Normalize(MEAN, STD)])
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return fit_seconds(UsualModule(usual_resnet()), loader, folder, "32-true")


def test_against_a_loop_by_hand(table: Table, tmp_path: Path) -> None:
    """Our stack normalizes in each step what the loop finds normalized."""
    path = write_images(tmp_path, IMAGES)
    times = alternate(
        {
            "hand": lambda: by_hand(path, "resnet18", {"width": WIDTH}, "32-true"),
            "ours": lambda: ours(path, tmp_path, 28),
        },
        rounds=3,
    )
    measured = ratio(times, "hand", "ours")
    table.add(f"{TITLE}: our throughput over a hand-written loop's", measured, 0.95)
    assert measured > 0.5 * 0.95


def test_against_the_usual_recipe(table: Table, tmp_path: Path) -> None:
    path = write_images(tmp_path, IMAGES)
    augmented = {"random_crop": True, "random_flip": True, "padding": 4}
    times = alternate(
        {"usual": lambda: usual(path, tmp_path), "ours": lambda: ours(path, tmp_path, 32, **augmented)}, rounds=3
    )
    measured = ratio(times, "usual", "ours")
    table.add(f"{TITLE}: our throughput over the usual recipe's", measured, 1.3)
    assert measured > 0.5 * 1.3
