"""Wilson's linear problem as a task: an optimizer by its configuration, and what it learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_regs.analysis import descent, wilson_problem
from lightning_regs.core import rng
from lightning_regs.core.checks import Whole, call, check
from lightning_regs.core.runs import RunContext
from lightning_regs.optim import make_optimizer


def wilson(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Minimise the squared error of a linear model from zero, on all samples of Wilson's problem at each step.

    Args:
        config: ``{"optimizer": {"name": "Adam", "lr": 0.01}, "steps": 2000, "rows": 200}``; it may also have
            ``positive`` and ``test_rows``, see :func:`~lightning_regs.analysis.wilson_problem`, which draws another
            problem for each seed.
        run: The engine's run.

    Returns:
        ``train_error`` and ``test_error`` in percent, of the sign of the model's output; ``negatives``, the share of
        negative labels in the test set in percent, which is the error of a model that knows the larger class alone; and
        ``train_loss``, the mean squared error.

    Raises:
        ValueError: If an option is unknown, missing or has no such value.
    """
    options = dict(config)
    optimizer, steps = options.pop("optimizer", {}), check("steps", options.pop("steps", None), Whole)
    draw: Any = wilson_problem
    made = call("toy", draw, generator=rng.generator(run.seed, "wilson"), **options)

    def loss(w: Tensor) -> Tensor:
        return F.mse_loss(made.x @ w, made.y)

    w = start = torch.zeros(made.x.shape[1], dtype=torch.float64)
    for point in descent(loss, start, lambda weights: make_optimizer(weights, optimizer), steps):
        w = point

    def error(x: Tensor, y: Tensor) -> float:
        return 100 * float((~(y * (x @ w) > 0)).double().mean())  # of NaN as well

    errors = {"train_error": error(made.x, made.y), "test_error": error(made.x_test, made.y_test)}
    return errors | {"negatives": 100 * float((made.y_test < 0).double().mean()), "train_loss": float(loss(w))}
