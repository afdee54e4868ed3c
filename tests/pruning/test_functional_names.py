"""The pure functions behind pruning, by the names that the README promises."""

from __future__ import annotations

import torch

from lightning_regs import functional
from lightning_regs.pruning import Mask


def test_pruning_and_zeroing_are_functions() -> None:
    weights = {"w": torch.tensor([0.1, -3.0, 0.2, 2.0])}
    mask = functional.prune({"w": weights["w"].abs()}, Mask.dense(weights), 0.5)
    functional.zero_pruned([weights["w"]], [mask["w"].float()])
    assert weights["w"].tolist() == [0.0, -3.0, 0.0, 2.0]
    assert {"prune", "zero_pruned"} <= set(functional.__all__)
