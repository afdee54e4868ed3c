"""What a method costs: epochs of the Classifier with it against epochs without, both through the Trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Table, alternate, ratio
from recipes import SGD, fit_seconds, write_images

from lightning_regs import (
    Classifier,
    CutMix,
    Cutout,
    GradientPenalty,
    ImageDataModule,
    LabelSmoothing,
    Mixup,
    NormPenalty,
)
from lightning_regs.regularizers import Regularizer, WeightMask

BATCH, BATCHES, ROUNDS = 128, 8, 5
NETS: dict[str, tuple[str, int]] = {"small AlexNet": ("small_alexnet", 28), "WRN 10-1": ("wide_resnet", 32)}
Make = Callable[[], Regularizer]

BATCH_METHODS: dict[str, Make] = {
    "Mixup": Mixup,
    "CutMix": CutMix,
    "Cutout": Cutout,
    "LabelSmoothing": LabelSmoothing,
    "NormPenalty": NormPenalty,
}
PENALTIES: dict[str, Make] = {
    "exact": lambda: GradientPenalty(0.05),
    "forward difference": lambda: GradientPenalty(0.05, "forward_difference"),
    "central difference": lambda: GradientPenalty(0.05, "central_difference"),
}


def epochs(folder: Path, net: str, precision: str, methods: dict[str, Make]) -> dict[str, list[float]]:
    """Return the seconds of epochs with each method, and with none under "plain"."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    path = write_images(folder, BATCH * BATCHES)
    name, size = NETS[net]

    def seconds(make: Make | None) -> float:
        data = ImageDataModule(str(path), image_size=size, batch_size=BATCH)
        model: Any = Classifier(name, optimizer=SGD, regularizers=[make()] if make else [])
        return fit_seconds(model, data, folder, precision)

    makers: dict[str, Make | None] = {"plain": None, **methods}
    return alternate({key: lambda make=make: seconds(make) for key, make in makers.items()}, ROUNDS)


@pytest.mark.parametrize("net", list(NETS))
def test_batch_methods_and_norm_penalty(table: Table, tmp_path: Path, net: str) -> None:
    times = epochs(tmp_path, net, "32-true", BATCH_METHODS)
    for name in BATCH_METHODS:
        measured = ratio(times, name, "plain")
        table.add(f"{net} step, fp32: {name} / plain", measured, 1.05, at_most=True)
        assert measured < 1.5


@pytest.mark.parametrize(
    ("net", "precision", "goals"),
    [
        ("small AlexNet", "32-true", (3.0, 2.05, 3.1)),
        ("small AlexNet", "bf16-mixed", (3.5, 2.05, 3.1)),
        ("WRN 10-1", "32-true", (3.0, 2.05, 3.1)),
        ("WRN 10-1", "bf16-mixed", (3.5, 2.05, 3.1)),
    ],
)
def test_gradient_penalty(
    table: Table, tmp_path: Path, net: str, precision: str, goals: tuple[float, float, float]
) -> None:
    times = epochs(tmp_path, net, precision, PENALTIES)
    for name, goal in zip(PENALTIES, goals, strict=True):
        measured = ratio(times, name, "plain")
        table.add(f"{net} step, {precision}: GradientPenalty, {name} / plain", measured, goal, at_most=True)
        assert measured < 1.5 * goal


@pytest.mark.parametrize("optimizer", [SGD, {"name": "Adam", "fused": True}, {"name": "Adam"}], ids=str)
@pytest.mark.parametrize("net", ["LeNet-300-100", "small AlexNet"])
def test_weight_mask(table: Table, tmp_path: Path, net: str, optimizer: dict[str, Any]) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    dense = net == "LeNet-300-100"
    name, options = ("mlp", {"hidden": [300, 100]}) if dense else ("small_alexnet", {})
    images = np.random.Generator(np.random.PCG64(0)).integers(
        0, 256, (60 * (300 if dense else 20), 28, 28, *(() if dense else (3,))), dtype=np.uint8
    )
    labels, path = np.arange(len(images), dtype=np.uint8) % 10, tmp_path / "noise.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:60], y_test=labels[:60])

    def seconds(methods: list[Regularizer]) -> float:
        model = Classifier(name, options, optimizer=optimizer, regularizers=methods)
        return fit_seconds(model, ImageDataModule(str(path), batch_size=60), tmp_path, "32-true")

    ways = {"plain": lambda: seconds([]), "masked": lambda: seconds([WeightMask(density=0.2)])}
    measured = ratio(alternate(ways, ROUNDS), "masked", "plain")
    how = f"{'fused ' if optimizer.get('fused') else ''}{optimizer['name']}"
    table.add(f"{net} step at batch 60, {how}, fp32: WeightMask / plain", measured, 1.05, at_most=True)
    # Adam that is not fused takes roots of zeros, for which MKL is slow; a mask in the forward pass costs it as much.
    assert measured < (1.5 if "Adam" not in how or optimizer.get("fused") else 3)
