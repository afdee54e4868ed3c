"""Least squares on random Fourier features: against numpy's solver, and what interpolates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_regs.core.rng import generator
from lightning_regs.core.runs import RunContext
from lightning_regs.data.sources import load
from lightning_regs.study import FEATURES
from lightning_regs.study.paper.tasks import import_task


def row(folder: Path, **options: Any) -> dict[str, float]:
    data = {"source": "mnist1d", "train_size": 60, "whiten": False, "seed": None}
    config = {"data": {key: value for key, value in data.items() if key != "seed"}, "features": options}
    found: dict[str, float] = import_task(FEATURES)(config, RunContext(folder, 3))
    return found


@pytest.mark.parametrize("count", [20, 200])
def test_the_solution_is_numpy_s(tmp_path: Path, count: int) -> None:
    from lightning_regs.data import ImageDataModule

    found = row(tmp_path, count=count, scale=0.5)
    data = ImageDataModule("mnist1d", train_size=60, whiten=False, seed=3)
    data.setup()
    own, source = data.dataset("train"), load("mnist1d")
    v = 0.5 * torch.randn(count, 40, generator=generator(3, "features"), dtype=torch.float64).numpy()
    waves, test = (np.exp(1j * (np.asarray(x, float) @ v.T)) for x in (own.x, source.x_test))
    weights, *_ = np.linalg.lstsq(waves, np.eye(10)[np.asarray(own.y)], rcond=1e-14)
    scores, truth = (test @ weights).real, np.asarray(source.y_test)
    assert found["norm"] == pytest.approx(np.linalg.norm(weights), rel=1e-6)
    assert found["test_error"] == pytest.approx(100 * np.mean(scores.argmax(1) != truth))
    assert found["test_loss"] == pytest.approx(np.square(scores - np.eye(10)[truth]).sum(1).mean(), rel=1e-6)
    assert (found["train_loss"] < 1e-12) == (count > 60)


def test_an_option_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match="scale"):
        row(tmp_path, count=3)
