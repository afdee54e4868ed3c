"""The loss on the line between two networks: linear mode connectivity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.checks import Range, checked

State = Mapping[str, Tensor]
Points = Annotated[int, Range(3)]  # one of them between the ends


@dataclass(frozen=True)
class ErrorBarrier:
    """Errors on the line between two networks.

    Attributes:
        alphas: Positions on the line, rising from 0 (the first network) to 1 (the second).
        errors: The error at each position, in the unit of the function that measured it.
    """

    alphas: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def barrier(self) -> float:
        """The largest error on the line minus the mean of those at its ends; never negative."""
        return max(self.errors) - (self.errors[0] + self.errors[-1]) / 2

    @property
    def position(self) -> float:
        """The first position of the largest error."""
        return self.alphas[self.errors.index(max(self.errors))]


@checked
def interpolate(state_a: State, state_b: State, alpha: float) -> dict[str, Tensor]:
    r"""Return the point :math:`(1 - \alpha) a + \alpha b` on the line between two state dicts.

    Args:
        state_a: Parameters and buffers by name, shapes of any kind.
        state_b: The same names and shapes.
        alpha: Any finite number; exactly ``state_a`` at 0 and ``state_b`` at 1.

    Returns:
        Copies. What is not floating-point, as batch norm's count of batches, is ``state_a``'s.

    Raises:
        ValueError: If alpha is not finite, a name is missing on one side, or two shapes differ.
    """
    for name in (*state_a, *state_b):
        if name not in state_a or name not in state_b:
            raise ValueError(f"{name!r} is in one of the two states alone; interpolate two states of one network.")
        if state_a[name].shape != state_b[name].shape:
            raise ValueError(
                f"{name!r} has the shapes {tuple(state_a[name].shape)} and {tuple(state_b[name].shape)}; interpolate "
                "two states of one network."
            )
    point = {}
    for name, a in state_a.items():
        a = a.detach()
        b = state_b[name].detach().to(a.device)
        # lerp is exact at both ends, and has no other rounding where a and b are equal.
        point[name] = torch.lerp(a, b.to(a.dtype), alpha) if a.is_floating_point() or a.is_complex() else a.clone()
    return point


@checked
def error_barrier(
    evaluate: Callable[[dict[str, Tensor]], float], state_a: State, state_b: State, points: Points = 30
) -> ErrorBarrier:
    r"""Measure the error on the line between two networks.

    Frankle, Dziugaite, Roy, Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (1912.05671): two
    networks are linearly connected when :math:`\sup_\alpha E((1 - \alpha) a + \alpha b) - (E(a) + E(b)) / 2`, here over
    evenly spaced positions with both ends, is close to 0: below 2 % error there.

    Args:
        evaluate: State dict -> its error, the smaller the better: a rate, percents, or a loss.
        state_a: One end of the line, see :func:`interpolate`.
        state_b: The other end.
        points: Number of positions, at least 3; the paper takes 30. Default 30.

    Raises:
        TypeError: If ``points`` is no integer.
        ValueError: If there are fewer than 3 points, the states do not fit each other, or an error is NaN.
    """
    alphas = [index / (points - 1) for index in range(points)]
    errors = []
    for alpha in alphas:
        error = float(evaluate(interpolate(state_a, state_b, alpha)))
        if math.isnan(error):
            raise ValueError(f"the error at alpha = {alpha:.3g} is NaN; measure a rate, or networks that converged.")
        errors.append(error)
    return ErrorBarrier(tuple(alphas), tuple(errors))
