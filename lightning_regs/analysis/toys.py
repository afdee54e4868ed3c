"""Toy problems for optimizers: a long valley, a saddle, Beale's function, and Wilson's linear problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_regs.core.checks import Count, Positive, Range, Shape, Whole, checked

Point = Annotated[Tensor, Shape("2 ...", "floating-point")]


class WilsonProblem(NamedTuple):
    """Samples of Wilson's linear problem, in float64.

    Attributes:
        x: Training samples ``(N, 3 + 5 N)``.
        y: Their labels ``(N,)``, 1 or -1.
        x_test: Test samples ``(M, 3 + 5 N)``, on the coordinates that training samples have.
        y_test: Their labels ``(M,)``.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


@checked
def long_valley(point: Point, condition: Positive = 100.0) -> Tensor:
    r"""Return :math:`(x^2 + \kappa y^2) / 2`, an ill-conditioned quadratic: 0 at its minimum (0, 0).

    A rate above :math:`2 / \kappa` leaves the valley across, and one below it takes :math:`\kappa` steps along.

    Args:
        point: x and y, ``(2, ...)``.
        condition: The condition number :math:`\kappa`.
    """
    x, y = point.unbind()
    return (x**2 + condition * y**2) / 2


@checked
def saddle(point: Point) -> Tensor:
    """Return (x² - y²) / 2 of points ``(2, ...)``: its gradient is 0 at (0, 0), from where it falls along y."""
    x, y = point.unbind()
    return (x**2 - y**2) / 2


@checked
def beale(point: Point) -> Tensor:
    """Return Beale's function of points ``(2, ...)``: flat, with steep walls, and 0 at its minimum (3, 1/2).

    It is (1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)², Beale 1958.
    """
    x, y = point.unbind()
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


@checked
def wilson_problem(
    rows: Count,
    generator: torch.Generator,
    positive: Annotated[float, Range(above=0, below=1)] = 0.6,
    test_rows: Count = 1000,
) -> WilsonProblem:
    """Draw the linear problem on which adaptive methods fit all and learn nothing.

    Wilson, Roelofs, Stern, Srebro, Recht, "The Marginal Value of Adaptive Gradient Methods in Machine Learning"
    (1705.08292), Section 3.3. A label is 1 with probability ``positive``, else -1. The first coordinate of a sample is
    its label, the next two are 1, and five are its own: the first of them 1, the others 1 where the label is -1. All
    else is 0; a test sample's own coordinates are none of training's, so that they are left out.

    With squared loss from zero, gradient descent with or without momentum goes to the solution of least norm, which is
    right on every test sample. Where most training labels are 1, AdaGrad, RMSProp and Adam go to a multiple of the
    signs of ``x.T @ y``, 1/4 in each of the first three coordinates, and call every test sample positive.

    Args:
        rows: Training samples N.
        generator: Draws the labels, on the CPU.
        positive: Probability of the label 1, in (0, 1); above 1/2 in the paper.
        test_rows: Test samples M.
    """

    def labels(number: int) -> Tensor:
        return 1 - 2 * (torch.rand(number, generator=generator, dtype=torch.float64) >= positive).double()

    def shared(y: Tensor) -> Tensor:
        x = torch.zeros(len(y), 3 + 5 * rows, dtype=y.dtype)
        x[:, 0], x[:, 1:3] = y, 1
        return x

    y, y_test = labels(rows), labels(test_rows)
    x = shared(y)
    own = x[:, 3:].view(rows, rows, 5).diagonal()  # (5, N)
    own[0] = 1
    own[1:] = (y < 0).double()
    return WilsonProblem(x, y, shared(y_test), y_test)


@checked
def descent(
    function: Callable[[Tensor], Tensor],
    start: Annotated[Tensor, Shape("...", "floating-point")],
    optimizer: Callable[[list[nn.Parameter]], Optimizer],
    steps: Whole,
) -> Iterator[Tensor]:
    """Yield the points that an optimizer goes through on a function, from the start on: ``steps + 1`` copies.

    Args:
        function: From a point to the value that is to fall.
        start: The first point, of any shape.
        optimizer: Makes the optimizer of a list with the point.
        steps: Number of steps.

    Example:
        >>> path = descent(saddle, torch.ones(2), lambda point: torch.optim.SGD(point, lr=0.5), steps=2)
        >>> torch.stack(list(path))
        tensor([[1.0000, 1.0000],
                [0.5000, 1.5000],
                [0.2500, 2.2500]])
    """
    point = nn.Parameter(start.detach().clone())
    made = optimizer([point])
    yield point.detach().clone()

    def closure() -> Tensor:
        made.zero_grad()
        with torch.enable_grad():
            value = function(point)
            torch.autograd.backward(value)
        return value

    for _ in range(steps):
        made.step(closure)  # type: ignore[arg-type]
        yield point.detach().clone()
