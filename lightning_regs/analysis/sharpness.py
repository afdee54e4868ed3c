"""How sharp a minimum is: how far the loss rises within a small box around the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis._points import (
    Loss,
    Samples,
    Targets,
    batch_losses,
    joined,
    looking,
    origin,
    split,
)
from lightning_regs.core.checks import Count, Positive, checked

# Share of the box within which the ascent starts: at an exact minimum the gradient says nothing.
_START = 1e-3


@checked
def sharpness(
    network: nn.Module,
    x: Samples,
    y: Targets,
    epsilon: Positive = 1e-3,
    dimensions: Count | None = None,
    generator: torch.Generator | None = None,
    loss: Loss = F.cross_entropy,
    steps: Count = 10,
    batch_size: Count = 1000,
) -> float:
    r"""Return how far the loss can rise near the weights, in percent: Keskar's sharpness.

    Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning: Generalization Gap and
    Sharp Minima" (1609.04836), Metric 2.1: with the weights w and the loss f on all samples,
    :math:`\phi = 100 \, (\max_{z \in C} f(w + A z) - f(w)) / (1 + f(w))`, where
    :math:`C = \{z : |z_i| \le \epsilon (|(A^+ w)_i| + 1)\}`. A is the identity, or has ``dimensions`` columns at
    random, here of standard normal numbers, as the paper leaves open which. The maximum is what so many iterations of
    L-BFGS-B find, 10 in the paper: a lower bound. Here they go in the units of the box, with the objective scaled to a
    mean gradient of 1, start within a thousandth of the box, always at the same place, and do not stop early at a small
    gradient: what a small loss hides from an optimizer's tolerances is what is measured.

    The network is in evaluation mode and left as it was: dropout is off, and batch norm has the statistics of the
    training, which do not follow the weights; its scales and shifts move as all parameters do.

    Does not help: to compare nets of different scale. Where a layer can be divided by a number and the next one
    multiplied by it the function stays, and the sharpness does not (Dinh et al. 2017, 1703.04933).

    Args:
        network: Maps ``(N, ...)`` to what the loss takes.
        x: Samples ``(N, ...)`` as the network sees them: in the paper the training set.
        y: Their targets ``(N, ...)``.
        epsilon: Half the side of the box, above 0; 1e-3 and 5e-4 in the paper.
        dimensions: Of the random subspace, 100 in the paper; None for the full space.
        generator: Draws the subspace.
        loss: Mean loss of outputs and targets, above -1.
        steps: Iterations.
        batch_size: Samples at a time; the result does not depend on it but for rounding.

    Returns:
        A number of at least 0; NaN where the loss is.

    Raises:
        ValueError: If no parameter can move, or one is in less than float32; the loss is not one number, or not above
            -1; there are fewer parameters than ``dimensions``, or there is no generator for them.

    Example:
        >>> net = nn.Linear(1, 1, bias=False).double()
        >>> _ = nn.init.constant_(net.weight, 1.0)
        >>> x, y = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
        >>> round(sharpness(net, x, y, 0.5, loss=F.mse_loss), 6)  # the weight goes from 1 to 2, and the loss to 4
        150.0
    """
    named, center = origin(network)
    dtype = torch.promote_types(next(iter(named.values())).dtype, torch.float32)
    basis = None if dimensions is None else _subspace(dimensions, center, generator, dtype)
    # The least-squares solution, as the columns are independent.
    at = center if basis is None else torch.linalg.solve(basis.T @ basis, basis.T @ center.to(basis)).double()
    box = epsilon * (at.abs() + 1)

    def measured(z: Tensor) -> tuple[float, Tensor]:
        """Return the loss at a point of the box, whose sides are from -1 to 1, and its gradient there."""
        step = box * z
        point = center + (step if basis is None else (basis @ step.to(basis)).double())
        moved = split(named, point)
        total, gradient = 0.0, torch.zeros_like(center)
        for value in batch_losses(network, moved, x, y, loss, batch_size):
            found = torch.autograd.grad(value, list(moved.values()), materialize_grads=True)
            total += value.item()
            gradient += joined(found)
        return total, box * (gradient if basis is None else (basis.T @ gradient.to(basis)).double())

    with looking(network, x, y):
        first = measured(torch.zeros_like(box))[0]
        if first <= -1:
            raise ValueError(f"the loss is {first:g}, and the rise is a share of 1 + the loss; give one above -1.")
        rise = max(_highest(measured, box, steps) - first, 0.0) if math.isfinite(first) else math.nan
    return 100 * rise / (1 + first)


def _subspace(dimensions: int, center: Tensor, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    if generator is None or dimensions > len(center):
        raise ValueError(
            f"dimensions={dimensions} needs a generator, which draws the subspace, and at least as many parameters, of "
            f"which there are {len(center)}; give both, or leave dimensions out for the full space."
        )
    drawn = torch.randn(len(center), dimensions, generator=generator, device=generator.device, dtype=dtype)
    return drawn.to(center.device)


def _highest(measured: Callable[[Tensor], tuple[float, Tensor]], box: Tensor, steps: int) -> float:
    """Return the highest value that an ascent from about the middle of the box finds."""
    from scipy.optimize import Bounds, minimize

    draws = torch.rand(len(box), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = _START * (2 * draws - 1)
    scale = float(measured(start.to(box))[1].abs().mean()) or 1.0

    def descended(z: Any) -> tuple[float, Any]:
        value, gradient = measured(torch.from_numpy(z).to(box))
        return -value / scale, -gradient.cpu().numpy() / scale

    options: Any = {"maxiter": steps, "ftol": 0.0, "gtol": 0.0}
    found = minimize(descended, start.numpy(), jac=True, method="L-BFGS-B", bounds=Bounds(-1, 1), options=options)
    return -scale * float(found.fun)
