"""Claims 1 to 3 of Smith et al. 2021 as tasks: modified flows and the penalty's mean over batches, in float64.

Every task is ``task(config, run) -> metrics``, on one random problem a seed: a tanh network with 2 inputs, 3 hidden
units and one output, of 13 parameters in one vector, with a squared loss on Gaussian data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_regs.core.rng import generator
from lightning_regs.core.runs import RunContext
from lightning_regs.regularizers.gradient_penalty import gradient_penalty

Samples = Sequence[int] | slice
Problem = tuple[Tensor, Tensor, Tensor]

INPUTS, HIDDEN = 2, 3
BATCHES, BATCH_SIZE = 4, 4  # all 24 orders of them are enumerated
RATES = [0.04 / 2**halved for halved in range(6)]
# Coefficient of the modified loss in units of the learning rate: lambda/4 * ||g||^2 with lambda = 0, eps and 2 eps.
PENALTIES = {"none": 0.0, "quarter": 1.0, "half": 2.0}
SAMPLES, SIZES = 10, (1, 2, 4, 5, 8)  # of which all batches are enumerated


def modified_flow(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Compare the mean end point of SGD over all orders of the batches with the flow of modified losses.

    The flow's loss is the mean of the batches' losses, each with ``lightning_regs``' own penalty of its own gradient:
    the convention of that coefficient is what is tested. The end points of SGD come from plain autograd. With
    ``config["full_batch"]`` they are those of as many steps on all batches together.

    Returns:
        For each penalty (``none``, ``quarter``: eps/4, ``half``: eps/2) ``error_NAME_I``, the distance of the mean end
        point from the flow at the learning rate of number I, and ``order_NAME``, the base-2 logarithm of the ratio of
        the last two; ``lr_I``.
    """
    run.precision = "64-true"
    problem = _problem(BATCHES * BATCH_SIZE, run.seed)
    if config["full_batch"]:
        parts = [slice(None)] * BATCHES
        orders = [parts]
    else:
        parts = [slice(start, start + BATCH_SIZE) for start in range(0, BATCHES * BATCH_SIZE, BATCH_SIZE)]
        orders = [list(order) for order in itertools.permutations(parts)]
    ends = [torch.stack([_descend(problem, order, lr) for order in orders]).mean(0) for lr in RATES]
    metrics = {f"lr_{index}": lr for index, lr in enumerate(RATES)}
    for name, multiple in PENALTIES.items():
        flows = [_flow(problem, parts, BATCHES * lr, multiple * lr) for lr in RATES]
        errors = [float((end - flow).norm()) for end, flow in zip(ends, flows, strict=True)]
        metrics |= {f"error_{name}_{index}": error for index, error in enumerate(errors)}
        metrics[f"order_{name}"] = math.log2(errors[-2] / errors[-1])
    return metrics


def batch_composition(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Average the squared norm of a batch's gradient over all batches of a size, by enumeration and plain autograd.

    Returns:
        ``error_B``, the relative difference from ``||grad C||^2 + (N - B)/(N - 1) Gamma/B`` for each batch size, with
        ``error`` the largest; ``slope``, that of the logarithm of the covariance part over ``(N - B)/(N - 1)`` against
        the logarithm of B, which is -1 where the part goes as 1/B; ``share_B``, the covariance part's share.
    """
    run.precision = "64-true"
    problem = _problem(SAMPLES, run.seed)
    full = _gradient(problem, problem[2], slice(None))
    each = torch.stack([_gradient(problem, problem[2], [row]) for row in range(SAMPLES)])
    gamma, squared = float((each - full).square().sum(1).mean()), float(full.square().sum())
    metrics, parts = {}, []
    for size in SIZES:
        batches = itertools.combinations(range(SAMPLES), size)
        norms = [float(_gradient(problem, problem[2], rows).square().sum()) for rows in map(list, batches)]
        measured, factor = math.fsum(norms) / len(norms), (SAMPLES - size) / (SAMPLES - 1)
        expected = squared + factor * gamma / size
        metrics[f"error_{size}"] = abs(measured - expected) / expected
        metrics[f"share_{size}"] = (measured - squared) / measured
        parts.append((measured - squared) / factor)
    slope = float(np.polyfit(np.log(SIZES), np.log(parts), 1)[0])
    return metrics | {"error": max(metrics[f"error_{size}"] for size in SIZES), "slope": slope}


def _problem(samples: int, seed: int) -> Problem:
    """Draw inputs, targets and the parameters at the start."""
    draw = generator(seed, "smith2021-problem")
    x = torch.randn(samples, INPUTS, generator=draw, dtype=torch.float64)
    y = torch.randn(samples, generator=draw, dtype=torch.float64)
    return x, y, 0.8 * torch.randn(HIDDEN * (INPUTS + 2) + 1, generator=draw, dtype=torch.float64)


def _loss(problem: Problem, w: Tensor, rows: Samples) -> Tensor:
    """Return the mean of half the squared errors over some samples, for parameters ``w`` (13,)."""
    x, y, _ = problem
    first, bias, second, shift = torch.split(w, [HIDDEN * INPUTS, HIDDEN, HIDDEN, 1])
    error: Tensor = torch.tanh(x[rows] @ first.view(INPUTS, HIDDEN) + bias) @ second + shift - y[rows]
    return error.square().mean() / 2


def _gradient(problem: Problem, w: Tensor, rows: Samples) -> Tensor:
    w = w.detach().requires_grad_()
    return torch.autograd.grad(_loss(problem, w, rows), w)[0]


def _descend(problem: Problem, order: Sequence[Samples], lr: float) -> Tensor:
    """Return the parameters after one step on each part."""
    w = problem[2]
    for rows in order:
        w = w - lr * _gradient(problem, w, rows)
    return w


def _flow(problem: Problem, parts: Sequence[Samples], time: float, coefficient: float) -> Tensor:
    """Return where the gradient flow of the penalised loss is after ``time``."""

    def velocity(_: float, point: Any) -> Any:
        w = torch.nn.Parameter(torch.from_numpy(point.copy()))
        losses = [_loss(problem, w, rows) for rows in parts]
        if coefficient:
            losses = [loss + gradient_penalty(loss, [w], coefficient)[0] for loss in losses]
        return -torch.autograd.grad(torch.stack(losses).mean(), w)[0].numpy()

    solved = solve_ivp(velocity, (0.0, time), problem[2].numpy(), method="DOP853", rtol=1e-12, atol=1e-14)
    if not solved.success:
        raise RuntimeError(f"the flow could not be integrated: {solved.message}")
    return torch.from_numpy(solved.y[:, -1].copy())
