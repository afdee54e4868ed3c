"""Claims 1 to 3 of Smith et al. 2021 as tasks: modified flows and the penalty's mean over batches, in float64.

Every task is ``task(config, run) -> metrics``, on one random problem a seed: a small tanh network with a squared loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_regs.core.names import unknown_name
from lightning_regs.core.rng import generator
from lightning_regs.core.runs import RunContext
from lightning_regs.regularizers.gradient_penalty import gradient_penalty

Vector = NDArray[np.float64]
Samples = Sequence[int] | slice

FLOW = {
    "num_batches": 4,  # all orders are enumerated: 24
    "batch_size": 4,
    "full_batch": False,  # True: as many steps of gradient descent on all batches together
    "lr": 0.04,  # the largest; halved `halvings` times
    "halvings": 5,
}
COMPOSITION = {"n": 10, "batch_sizes": [1, 2, 4, 5, 8]}

# Coefficient of the modified loss in units of the learning rate: lambda/4 * ||g||^2 with lambda = 0, eps and 2 eps.
PENALTIES = {"none": 0.0, "quarter": 1.0, "half": 2.0}

_INPUTS, _HIDDEN = 2, 3


class Problem:
    """A tanh network with 2 inputs, 3 hidden units and one output, 13 parameters in one vector, on Gaussian data.

    Args:
        n: Number of samples.
        seed: Seed of data, targets and parameters.
    """

    def __init__(self, n: int, seed: int) -> None:
        draw = generator(seed, "smith2021-problem")
        self.x = torch.randn(n, _INPUTS, generator=draw, dtype=torch.float64)
        self.y = torch.randn(n, generator=draw, dtype=torch.float64)
        self.start = 0.8 * torch.randn(_HIDDEN * (_INPUTS + 2) + 1, generator=draw, dtype=torch.float64)

    def loss(self, w: Tensor, rows: Samples) -> Tensor:
        """Return the mean of half the squared errors over some samples, for parameters ``w`` (13,)."""
        first, bias, second, shift = torch.split(w, [_HIDDEN * _INPUTS, _HIDDEN, _HIDDEN, 1])
        hidden = torch.tanh(self.x[rows] @ first.view(_INPUTS, _HIDDEN) + bias)
        error: Tensor = hidden @ second + shift - self.y[rows]
        return error.square().mean() / 2

    def gradient(self, w: Tensor, rows: Samples) -> Tensor:
        """Return the gradient (13,) of :meth:`loss` by autograd."""
        w = w.detach().requires_grad_()
        return torch.autograd.grad(self.loss(w, rows), w)[0]


def modified_flow(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Compare the mean end point of SGD over all orders of the batches with the flow of modified losses.

    The flow's loss is the mean of the batches' losses, each with ``lightning_regs``' own penalty of its own gradient:
    the convention of that coefficient is what is tested. The end points of SGD come from plain autograd.

    Returns:
        For each penalty (``none``, ``quarter``: eps/4, ``half``: eps/2) ``error_NAME_I``, the distance of the mean end
        point from the flow at learning rate ``lr / 2^I``, and ``order_NAME``, the base-2 logarithm of the ratio of
        the last two; ``lr_I``.
    """
    options = _options(config, FLOW)
    batches, size = options["num_batches"], options["batch_size"]
    problem = Problem(batches * size, run.seed)
    parts = [slice(None) if options["full_batch"] else slice(k * size, (k + 1) * size) for k in range(batches)]
    orders = [parts] if options["full_batch"] else list(itertools.permutations(parts))
    run.precision = "64-true"
    metrics: dict[str, float] = {}
    errors: dict[str, list[float]] = {name: [] for name in PENALTIES}
    for index in range(options["halvings"] + 1):
        lr = options["lr"] / 2**index
        metrics[f"lr_{index}"] = lr
        mean = _mean_end_point(problem, orders, lr)
        for name, multiple in PENALTIES.items():
            end = _flow(problem, parts, time=batches * lr, coefficient=multiple * lr)
            errors[name].append(float((mean - end).norm()))
            metrics[f"error_{name}_{index}"] = errors[name][-1]
        run.progress(index + 1, options["halvings"] + 1, f"learning rate {lr:g}")
    return metrics | {f"order_{name}": math.log2(found[-2] / found[-1]) for name, found in errors.items()}


def batch_composition(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Average the squared norm of a batch's gradient over all batches of a size, by enumeration and plain autograd.

    Returns:
        ``error_B``, the relative difference from ``||grad C||^2 + (N - B)/(N - 1) Gamma/B`` for each batch size, with
        ``error`` the largest; ``slope``, that of the logarithm of the covariance part over ``(N - B)/(N - 1)`` against
        the logarithm of B, which is -1 where the part goes as 1/B; ``share_B``, the covariance part's share.
    """
    options = _options(config, COMPOSITION)
    n, sizes = options["n"], options["batch_sizes"]
    problem = Problem(n, run.seed)
    run.precision = "64-true"
    full = problem.gradient(problem.start, slice(None))
    each = torch.stack([problem.gradient(problem.start, [i]) for i in range(n)])
    gamma = float((each - full).square().sum(1).mean())
    squared = float(full.square().sum())
    metrics: dict[str, float] = {}
    parts: list[float] = []
    for done, size in enumerate(sizes, 1):
        norms = [
            float(problem.gradient(problem.start, list(rows)).square().sum())
            for rows in itertools.combinations(range(n), size)
        ]
        measured = math.fsum(norms) / len(norms)
        factor = (n - size) / (n - 1)
        expected = squared + factor * gamma / size
        metrics[f"error_{size}"] = abs(measured - expected) / expected
        metrics[f"share_{size}"] = (measured - squared) / measured
        parts.append((measured - squared) / factor)
        run.progress(done, len(sizes), f"batch size {size}")
    metrics["error"] = max(metrics[f"error_{size}"] for size in sizes)
    metrics["slope"] = float(np.polyfit(np.log(sizes), np.log(parts), 1)[0])
    return metrics


def _mean_end_point(problem: Problem, orders: Iterable[Sequence[Samples]], lr: float) -> Tensor:
    """Return the mean over orders of the parameters after one step on each part."""
    ends = []
    for order in orders:
        w = problem.start
        for rows in order:
            w = w - lr * problem.gradient(w, rows)
        ends.append(w)
    return torch.stack(ends).mean(0)


def _flow(problem: Problem, parts: Sequence[Samples], time: float, coefficient: float) -> Tensor:
    """Return where the gradient flow of the penalised loss is after ``time``."""

    def velocity(_: float, point: Vector) -> Vector:
        w = torch.nn.Parameter(torch.from_numpy(point.copy()))
        losses = []
        for rows in parts:
            loss = problem.loss(w, rows)
            losses.append(loss + gradient_penalty(loss, [w], coefficient)[0] if coefficient else loss)
        found: Vector = -torch.autograd.grad(torch.stack(losses).mean(), w)[0].numpy()
        return found

    solved = solve_ivp(velocity, (0.0, time), problem.start.numpy(), method="DOP853", rtol=1e-12, atol=1e-14)
    if not solved.success:
        raise RuntimeError(f"the flow could not be integrated: {solved.message}")
    return torch.from_numpy(solved.y[:, -1].copy())


def _options(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    for name in config:
        if name not in defaults:
            raise unknown_name("theory option", name, defaults)
    return {**defaults, **config}
