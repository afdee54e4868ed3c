"""How a net's loss curves: eigenvalues at both ends of its Hessian, its trace, and a map of the eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis._points import (
    Directions,
    Ends,
    Loss,
    Points,
    Samples,
    Targets,
    batch_losses,
    check_directions,
    grid,
    joined,
    looking,
    moved,
    origin,
    split,
)
from lightning_regs.core.checks import Count, Positive, Range, checked, warn
from lightning_regs.regularizers.parts.second_order import twice_differentiable

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HessianEnds:
    """Eigenvalues at both ends of a Hessian.

    Attributes:
        largest: The largest ``(K,)``, falling, in float64; of equal ones one.
        smallest: The smallest ``(K,)``, rising: most negative first.
        error: An eigenvalue lies within this of each of them.
    """

    largest: Tensor
    smallest: Tensor
    error: float

    @property
    def ratio(self) -> float:
        r"""How far from convex, :math:`|\lambda_{min} / \lambda_{max}|`; 0 where the loss is flat."""
        return float(_ratio(self.smallest[0], self.largest[0]))


@dataclass(frozen=True)
class EigenvalueMap:
    """Eigenvalues of the Hessian on a line or a plane; see :class:`LossSurface`.

    Attributes:
        at: Positions along each direction ``(points,)``; 0 is the network.
        largest: The largest eigenvalue ``(points,)`` or ``(points, points)``.
        smallest: The smallest, of the same shape.
    """

    at: tuple[Tensor, ...]
    largest: Tensor
    smallest: Tensor

    @property
    def ratios(self) -> Tensor:
        r"""How far from convex each point is, :math:`|\lambda_{min} / \lambda_{max}|`; 0 where the loss is flat."""
        return _ratio(self.smallest, self.largest)


@checked
def hessian_eigenvalues(
    network: nn.Module,
    x: Samples,
    y: Targets,
    number: Count = 1,
    loss: Loss = F.cross_entropy,
    steps: Count = 100,
    tolerance: Positive = 1e-4,
    batch_size: Count = 1000,
) -> HessianEnds:
    r"""Return the largest and the smallest eigenvalues of the Hessian of the loss, by Lanczos' iteration.

    Each step takes one product of the Hessian with a vector, two gradients' work; basis vectors are kept in float64 and
    orthogonalized in full, so that no eigenvalue comes twice. The start is always the same. The network is in
    evaluation mode and left as it was, as :func:`loss_surface` says.

    Does not help: to compare nets of different scale, as with :func:`sharpness`: where a layer can be divided by a
    number and the next multiplied by it, eigenvalues change and the function does not.

    Args:
        network: Maps ``(N, ...)`` to what the loss takes.
        x: Samples ``(N, ...)`` as the network sees them.
        y: Their targets ``(N, ...)``.
        number: K, how many at each end; fewer where there are not as many different ones.
        loss: Mean loss of outputs and targets.
        steps: Products at most; each keeps a vector of 8 bytes a parameter.
        tolerance: It ends when :attr:`HessianEnds.error` is at most this share of the largest eigenvalue in size. The
            error is a bound: eigenvalues are usually much nearer.
        batch_size: Samples at a time; the result does not depend on it but for rounding.

    Raises:
        ValueError: If no parameter requires a gradient, or one is in less than 32 bits; or the loss is not one number.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> found = hessian_eigenvalues(net, torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1), loss=F.mse_loss)
        >>> float(found.largest), float(found.smallest)  # of the mean of w² and 4 v²
        (4.0, 1.0)
    """
    named, center = origin(network)
    with looking(network, x, y), twice_differentiable():
        product = _product(network, named, center, {}, x, y, loss, batch_size)
        found = _lanczos(product, center, steps, tolerance, number)
    if found.error > tolerance * _size(found):
        warn(
            f"the ends of the spectrum are within {found.error:.3g} of an eigenvalue after steps={steps}, of a size of "
            f"{_size(found):.3g}, and may not be the last; give more steps, or a larger tolerance."
        )
    return found


@checked
def hessian_trace(
    network: nn.Module,
    x: Samples,
    y: Targets,
    generator: torch.Generator,
    draws: Annotated[int, Range(2, why="the error is that of their mean")] = 100,
    loss: Loss = F.cross_entropy,
    batch_size: Count = 1000,
) -> tuple[float, float]:
    r"""Estimate the trace of the Hessian of the loss, by Hutchinson's method.

    The mean of :math:`v^\top H v` over draws of signs v is the trace, without bias, and exact where H is diagonal.

    Args:
        network: Maps ``(N, ...)`` to what the loss takes; in evaluation mode, and left as it was.
        x: Samples ``(N, ...)`` as the network sees them.
        y: Their targets ``(N, ...)``.
        generator: Draws the signs.
        draws: At least 2; the error falls with their square root.
        loss: Mean loss of outputs and targets.
        batch_size: Samples at a time.

    Returns:
        The estimate, and its standard error.

    Raises:
        ValueError: If no parameter requires a gradient, or one is in less than 32 bits; or the loss is not one number.
    """
    named, center = origin(network)
    with looking(network, x, y), twice_differentiable():
        product = _product(network, named, center, {}, x, y, loss, batch_size)
        found = []
        for _ in range(draws):
            bits = torch.randint(2, (len(center),), generator=generator, device=generator.device)
            signs = (2 * bits - 1).to(center)
            found.append(signs @ product(signs))
    values = torch.stack(found)
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


@checked
def eigenvalue_map(
    network: nn.Module,
    x: Samples,
    y: Targets,
    directions: Directions,
    points: Points = 11,
    ends: Ends = (-1.0, 1.0),
    loss: Loss = F.cross_entropy,
    steps: Count = 100,
    tolerance: Positive = 1e-2,
    batch_size: Count = 1000,
) -> EigenvalueMap:
    r"""Return the ends of the Hessian's spectrum on a line or a plane through a net's weights.

    Li et al., "Visualizing the Loss Landscape of Neural Nets" (1712.09913), section 6: where
    :math:`|\lambda_{min} / \lambda_{max}|` is near 0 the loss is as good as convex in all directions, not only in those
    that :func:`loss_surface` shows.

    Args:
        network: Maps ``(N, ...)`` to what the loss takes; in evaluation mode, and left as it was.
        x: Samples ``(N, ...)`` as the network sees them.
        y: Their targets ``(N, ...)``.
        directions: One or two, as of :func:`loss_surface`.
        points: On each side of the grid, at least 2.
        ends: First and last position along each direction.
        loss: Mean loss of outputs and targets.
        steps: As of :func:`hessian_eigenvalues`, at each point; it warns where that was too few.
        tolerance: As there.
        batch_size: Samples at a time.

    Raises:
        ValueError: If a direction is of another net, the grid has one point, or as :func:`hessian_eigenvalues`.
    """
    check_directions(network, directions)
    named, _ = origin(network)
    at, places = grid(points, ends, len(directions))
    lows, highs, worst = [], [], 0.0
    with looking(network, x, y), twice_differentiable():
        for place in places:
            weights = {name: w[0] for name, w in moved(network, directions, place[None]).items()}
            others = {name: w for name, w in weights.items() if name not in named}
            center = joined([weights.get(name, p) for name, p in named.items()])
            product = _product(network, named, center, others, x, y, loss, batch_size)
            found = _lanczos(product, center, steps, tolerance, 1)
            worst = max(worst, found.error / (_size(found) or 1.0))
            lows.append(found.smallest[0])
            highs.append(found.largest[0])
    if worst > tolerance:
        warn(
            f"the ends of a spectrum are within a share of {worst:.2g} of an eigenvalue after steps={steps}, and may "
            "not be the last; give more steps, or a larger tolerance."
        )
    shape = [points] * len(directions)
    return EigenvalueMap(at, torch.stack(highs).view(shape), torch.stack(lows).view(shape))


def _ratio(smallest: Tensor, largest: Tensor) -> Tensor:
    return torch.where((smallest == 0) & (largest == 0), 0.0, (smallest / largest).abs())


def _size(found: HessianEnds) -> float:
    return max(abs(float(found.largest[0])), abs(float(found.smallest[0])))


def _product(
    network: nn.Module,
    named: Mapping[str, nn.Parameter],
    point: Tensor,
    others: Mapping[str, Tensor],
    x: Any,
    y: Tensor,
    loss: Loss,
    batch_size: int,
) -> Product:
    """Return the function that multiplies a vector with the Hessian at a point; its graph is kept where it is one.

    It goes backward twice: torch.func's forward mode has no weight norm, and its derivative of layer norm's gradient is
    not symmetric (torch 2.15).
    """
    leaves = split(named, point)
    parameters, weights = list(leaves.values()), leaves | dict(others)

    def slopes() -> Iterator[tuple[Tensor, ...]]:  # of one batch after another, whose graphs would fill the memory
        for value in batch_losses(network, weights, x, y, loss, batch_size):
            yield torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)

    kept = list(slopes()) if len(y) <= batch_size else None

    def product(vector: Tensor) -> Tensor:
        along = list(split(named, vector).values())
        total = torch.zeros_like(point)
        for slope in kept or slopes():
            with torch.enable_grad():
                rate = torch.stack([(g * v.detach()).sum() for g, v in zip(slope, along, strict=True)]).sum()
            if rate.requires_grad:
                found = torch.autograd.grad(rate, parameters, retain_graph=True, materialize_grads=True)
                total += joined(found)
        return total

    return product


def _lanczos(product: Product, like: Tensor, steps: int, tolerance: float, number: int) -> HessianEnds:
    """Return Ritz values at both ends, when an eigenvalue is near enough to each of them."""
    drawn = torch.randn(len(like), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector = (drawn / drawn.norm()).to(like)
    basis = like.new_empty(min(steps, len(like)), len(like))
    tridiagonal = torch.zeros(len(basis), len(basis), dtype=torch.float64)
    for k in range(len(basis)):
        basis[k] = vector
        rest = product(vector)
        tridiagonal[k, k] = vector @ rest
        for _ in range(2):  # the second takes away what rounding left
            rest = rest - basis[: k + 1].T @ (basis[: k + 1] @ rest)
        gap = float(rest.norm())
        if not math.isfinite(gap):
            nothing = torch.full((1,), math.nan, dtype=torch.float64)
            return HessianEnds(nothing, nothing, math.nan)
        values, vectors = torch.linalg.eigh(tridiagonal[: k + 1, : k + 1])
        ends = torch.arange(k + 1)
        ends = torch.cat([ends[:number], ends[-number:]])
        error = gap * float(vectors[-1, ends].abs().max())
        size = float(values.abs().max())
        enough = k + 1 >= 2 * number and error <= tolerance * size
        if enough or gap <= 1e-12 * size or k + 1 == len(basis):
            return HessianEnds(values.flip(0)[:number], values[:number], error)
        tridiagonal[k, k + 1] = tridiagonal[k + 1, k] = gap
        vector = rest / gap
    raise AssertionError("a basis has a vector")
