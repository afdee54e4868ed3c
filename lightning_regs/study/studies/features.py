"""Least squares on random Fourier features, as a task: solved exactly, of infinitely many solutions the smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lightning_regs.analysis import error_rate, fourier_features, min_norm_solution, one_hot
from lightning_regs.core import rng
from lightning_regs.core.checks import Count, Positive, checked
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.splits import samples
from lightning_regs.training.fit import data_of
from lightning_regs.training.options import looks, section


@checked
@dataclass(frozen=True)
class _Options:
    count: Count
    scale: Positive


@looks(lambda config: section(config, "features", _Options))
@torch.no_grad()
def features(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Fit one-hot labels on random Fourier features by least squares; of many solutions that of least norm.

    Args:
        config: The ``data`` of :func:`~lightning_regs.training.fit.fit`, and in ``"features"`` their ``count`` and
            ``scale``, the standard deviation of their Gaussian frequencies. Of equal seeds fewer features are the first
            of more.
        run: The engine's.

    Returns:
        ``train_error`` and ``test_error`` in percent, by the largest real part; ``train_loss`` and ``test_loss``, mean
        squared distances from one-hot labels; and ``norm``, that of the coefficients.

    Raises:
        ValueError: If an option is unknown, missing or has no such value.
    """
    options = section(config, "features", _Options)
    data = data_of(config, run)
    splits = {split: samples(data, split) for split in ("train", "test")}
    x = splits["train"][0].flatten(1)
    draws = torch.randn(options.count, x.shape[1], generator=rng.generator(run.seed, "features"), dtype=torch.float64)
    waves = {split: fourier_features(x.flatten(1), options.scale * draws.T) for split, (x, _) in splits.items()}
    targets = {split: one_hot(y, data.num_classes) for split, (_, y) in splits.items()}
    weights = min_norm_solution(waves["train"], targets["train"])
    run.precision = "64-true"
    found = {"norm": float(torch.linalg.matrix_norm(weights))}
    for split, (_, y) in splits.items():
        scores = (waves[split] @ weights).real
        found |= {f"{split}_error": error_rate(scores, y),
                  f"{split}_loss": float((scores - targets[split]).square().sum(1).mean())}  # fmt: skip
    return found
