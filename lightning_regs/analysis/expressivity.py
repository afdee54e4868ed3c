"""Finite-sample expressivity: ReLU networks with 2n + d weights that fit any n labels.

Zhang et al., "Understanding deep learning requires rethinking generalization", Theorem 1 (arXiv 1611.03530):
``c(x) = sum_j w_j max(<a, x> - b_j, 0)`` can take any values on any n distinct points in d dimensions.
"""

from __future__ import annotations

import itertools
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Shape, checked, nonempty


class ReluFit(NamedTuple):
    """The network of Theorem 1.

    Attributes:
        direction: The projection a (D,), shared by all units.
        thresholds: The hinges b (N,), rising.
        weights: The output weights w (N,).
    """

    direction: Tensor
    thresholds: Tensor
    weights: Tensor

    @property
    def num_weights(self) -> int:
        """The number of free weights, 2n + d."""
        return sum(part.numel() for part in self)

    def to(self, dtype: torch.dtype) -> ReluFit:
        """Return the same network rounded to another precision."""
        return ReluFit(*(part.to(dtype) for part in self))


@checked
def fit_relu(
    x: Annotated[Tensor, Shape("N D"), nonempty],
    y: Annotated[Tensor, Shape("N")],
    direction: Annotated[Tensor, Shape("D")],
    dtype: torch.dtype = torch.float64,
) -> ReluFit:
    """Construct the network of Theorem 1 through n points.

    The points are projected on the direction and sorted, a hinge is put half way between neighbours (and as far below
    the first point), and the lower-triangular system ``max(z_i - b_j, 0) w = y`` is solved by substitution. In float32
    this is of no use beyond small n: the matrix's condition number is about 1e9 at n = 200. Float64 is the default for
    that reason; the smallest eigenvalue, which the proof bounds, says nothing about it, as the matrix is not symmetric.

    Args:
        x: Distinct points (N, D).
        y: Values to take (N,).
        direction: Projection (D,); a Gaussian one separates distinct points almost surely.
        dtype: Precision of the construction.

    Returns:
        The network; evaluate it with :func:`evaluate_relu`.

    Raises:
        ValueError: If shapes do not match or two points have the same projection.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating-point, got {dtype}.")
    direction = direction.to(dtype)
    z, order = (x.to(dtype) @ direction).sort()
    gaps = z.diff()
    if bool((gaps <= 0).any()):
        raise ValueError(
            f"{int((gaps <= 0).sum())} pairs of points have the same projection, so no network of this form tells them "
            "apart; remove duplicate points or draw another direction."
        )
    first = gaps[:1] if len(gaps) else torch.ones(1, dtype=dtype, device=z.device)
    thresholds = z - 0.5 * torch.cat([first, gaps])
    matrix = (z[:, None] - thresholds).clamp_min_(0.0)
    weights = torch.linalg.solve_triangular(matrix, y.to(dtype)[order, None], upper=False)[:, 0]
    return ReluFit(direction, thresholds, weights)


@checked
def evaluate_relu(fit: ReluFit, x: Annotated[Tensor, Shape("N D")], block: Count = 4096) -> Tensor:
    """Evaluate ``sum_j w_j max(<a, x> - b_j, 0)`` at points (N, D) in the fit's precision; returns (N,)."""
    z = x.to(fit.direction.dtype) @ fit.direction
    return torch.cat([(part[:, None] - fit.thresholds).clamp_min_(0.0) @ fit.weights for part in torch.split(z, block)])


@checked
def deep_relu(fit: ReluFit, depth: int) -> nn.Sequential:
    """Spread the network of Theorem 1 over more layers: depth k, width O(n / k), O(n + d) weights.

    The hinges are split into ``depth - 1`` groups in the order of their thresholds. Every hidden layer computes one
    group from the projection, which it passes on together with the sum so far; the sum travels as its positive and
    negative part so that the ReLU leaves it alone. The function is the same at every point, not only at those fitted.

    Args:
        fit: The network of Theorem 1.
        depth: Layers with weights, output included, at least 2; at 2 it is the network of Theorem 1.

    Returns:
        A module from (N, D) to (N, 1). Its first two linear maps, with nothing between them, are the first layer in
        the factored form that shares ``a``. :func:`num_connections` counts the weights that are not 0.

    Raises:
        ValueError: If the depth leaves a layer without a hinge.
    """
    n = len(fit.thresholds)
    if not 2 <= depth <= n + 1:
        raise ValueError(f"depth is {depth}, but {n} hinges fill a depth of 2 to {n + 1}; choose one in that range.")
    dtype, device = fit.direction.dtype, fit.direction.device
    groups = list(zip(fit.thresholds.tensor_split(depth - 1), fit.weights.tensor_split(depth - 1), strict=True))
    origin = fit.thresholds[0]

    def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device=device, dtype=dtype)
        layer.weight.data.copy_(weight)
        if bias is not None:
            layer.bias.data.copy_(bias)
        return layer

    layers: list[nn.Module] = [linear(fit.direction[None], None)]
    # Units of a hidden layer: the projection above the first hinge, this group's hinges, the sum's two parts.
    for index, (thresholds, _) in enumerate(groups):
        width = len(thresholds)
        if index == 0:
            weight = torch.ones(1 + width, 1, dtype=dtype, device=device)
            bias = -torch.cat([origin[None], thresholds])
        else:
            total = _running_sum(groups[index - 1][1], first=index == 1)
            weight = torch.zeros(width + 3, total.numel(), dtype=dtype, device=device)
            weight[: width + 1, 0] = 1.0
            weight[-2], weight[-1] = total, -total
            zero = torch.zeros(1, dtype=dtype, device=device)
            bias = torch.cat([zero, origin - thresholds, zero, zero])
        layers += [linear(weight, bias), nn.ReLU()]
    layers.append(linear(_running_sum(groups[-1][1], first=depth == 2)[None], None))
    return nn.Sequential(*layers)


def _running_sum(weights: Tensor, first: bool) -> Tensor:
    """Return the row that reads the sum so far out of a hidden layer."""
    one = torch.ones(1, dtype=weights.dtype, device=weights.device)
    return torch.cat([0 * one, weights] if first else [0 * one, weights, one, -one])


@checked
def num_connections(network: nn.Module) -> int:
    """Return the number of weights and biases of a network that are not 0."""
    return sum(int(parameter.count_nonzero()) for parameter in network.parameters())


@checked
def max_width(network: nn.Module) -> int:
    """Return the largest number of units in a hidden layer of a chain of linear maps and ReLUs."""
    layers = list(network.children())
    widths = [
        layer.out_features
        for layer, following in itertools.pairwise(layers)
        if isinstance(layer, nn.Linear) and isinstance(following, nn.ReLU)
    ]
    if not widths:
        raise ValueError("the network has no linear layer followed by a ReLU, so it has no hidden width.")
    return max(widths)
