"""The tasks of Gaier & Ha 2019: images sheared upright, what is measured of a champion, its training, its picture."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.loading import load_paper

load_paper("gaier2019")
tasks = importlib.import_module("gaier2019.tasks")


def test_an_image_is_sheared_by_its_moments_as_scipy_shears_it() -> None:
    draws = np.random.Generator(np.random.PCG64(0))
    image = np.zeros((16, 16))
    for row in range(2, 14):
        image[row, (13 - row) // 2 + 3 : (13 - row) // 2 + 6] = draws.random(3) + 0.5
    down, across = np.indices(image.shape)
    y, x = (np.average(axis, weights=image) for axis in (down, across))
    skew = np.average((across - x) * (down - y), weights=image) / np.average((down - y) ** 2, weights=image)
    assert skew < -0.3
    # A pixel is what was at (x + skew (y - 8), y), as the authors' code has it.
    places = np.stack([down, across + skew * (down - 8)])
    expected = ndimage.map_coordinates(image, places, order=1, mode="constant")
    found = tasks.Deskew(16)(torch.from_numpy(image)[None, None])
    torch.testing.assert_close(found.view(16, 16), torch.from_numpy(expected))
    blank = tasks.Deskew(16)(torch.zeros(2, 1, 28, 28))
    assert torch.equal(blank, torch.zeros(2, 256))


def test_a_champion_is_measured_trained_and_drawn(tmp_path: Path) -> None:
    search = {"population": 12, "generations": 6, "batch_size": 100, "tournament": 4, "enabled": 0.2}
    config: dict[str, Any] = {
        "model": {"architecture": "mlp", "optimizer": {"name": "Adam", "lr": 0.01}}, "size": None, "search": search,
        "data": {"source": "digits", "whiten": False, "train_size": 200}, "trainer": {"max_epochs": 2},
    }  # fmt: skip
    runs = [RunContext(tmp_path / name, 3) for name in ("wann", "trained", "linear")]
    row = tasks.searched(config, runs[0])
    assert row["least_acc"] <= row["random_acc"] <= row["most_acc"]
    curve = runs[0].curves
    edges = [point for point in curve if "activation" in point]
    assert len(edges) == row["connections"]
    assert [point["step"] for point in curve if "train_loss" in point] == list(range(1, 7))
    by_weight = [point["test_acc"] for point in curve if "test_acc" in point]
    assert sum(by_weight) / 64 == pytest.approx(row["random_acc"])
    runs[1].inputs = {"wann": runs[0].folder}
    for run in runs[1:]:
        assert 0 <= tasks.trained(config, run)["test_acc"] <= 100
    assert tasks.searched(config, runs[0]) == row  # once more, from where it was kept
    rows = SimpleNamespace(metric=lambda cell, name: {3: row[name]})
    drawn = importlib.import_module("gaier2019.figures").champion(rows, SimpleNamespace(data={"wann": {3: edges}}))
    assert len(drawn.axes[0].collections[0].get_segments()) == len(edges)
