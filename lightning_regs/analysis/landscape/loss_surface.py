"""Loss and accuracy of a net on a line or a plane through its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from lightning_regs.analysis._points import (
    Directions,
    Ends,
    Loss,
    Points,
    Samples,
    Targets,
    batches,
    check_directions,
    grid,
    looking,
    loss_of,
    moved,
    outputs_at,
)
from lightning_regs.core.checks import Count, checked
from lightning_regs.models.stacked import OneCallForAll

# Samples times points of the grid in one call: what a layer makes of them stays in a cache. Numbers of their weights.
_ROWS, _MAPS, _NUMBERS = 10_000, 500, 2**26
_NARROW = 16


@dataclass(frozen=True)
class LossSurface:
    """Loss and accuracy on a line or a plane; of a plane the first dimension goes along the first direction.

    Attributes:
        at: Positions along each direction ``(points,)``; 0 is the network.
        losses: ``(points,)`` or ``(points, points)``.
        accuracies: In percent, of the same shape; NaN where outputs are not logits ``(N, K)``, or targets not classes.
    """

    at: tuple[Tensor, ...]
    losses: Tensor
    accuracies: Tensor


@checked
def loss_surface(
    network: nn.Module,
    x: Samples,
    y: Targets,
    directions: Directions,
    points: Points = 51,
    ends: Ends = (-1.0, 1.0),
    loss: Loss = F.cross_entropy,
    batch_size: Count | None = None,
    together: Count | None = None,
) -> LossSurface:
    r"""Return the loss on a grid of points :math:`w + \alpha d` or :math:`w + \alpha d + \beta e` around the weights w.

    Li et al., "Visualizing the Loss Landscape of Neural Nets" (1712.09913). Directions are random
    (:func:`random_direction`), lead to another net (:func:`direction_to`, which interpolates: ends of -0.5 and 1.5 show
    both minima) or lie where a training went (:func:`path_plane`).

    The network is in evaluation mode, so dropout is off and batch norm takes its running statistics. These stay as they
    are, unless a direction has them, as that to another net does. The network is left as it was.

    Args:
        network: Maps ``(N, ...)`` to what the loss takes.
        x: Samples ``(N, ...)`` as the network sees them: in the paper the training set, without augmentation. A
            sequence is several arguments of the network, and a mapping named ones.
        y: Their targets ``(N, ...)``.
        directions: One or two, with names and shapes of the network's parameters.
        points: On each side of the grid, at least 2; 51 in the paper. An odd number has the network itself among them
            where the ends are symmetric.
        ends: First and last position along each direction.
        loss: Mean loss of outputs and targets.
        batch_size: Samples at a time; the result does not depend on it but for rounding. Default: 1,000, and on a CPU
            250 for nets with convolutions.
        together: Points of the grid at a time, in one call of ``torch.vmap``. Default: 10,000 samples' worth, 500 for
            nets with convolutions, and one after another where these are wide, or cannot be mapped.

    Raises:
        ValueError: If a direction is of another net, the grid has one point, there are not as many targets as samples,
            or the loss is not one number.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)  # the loss is the square of its weight
        >>> _ = nn.init.constant_(net.weight, 1.0)
        >>> along = [{"weight": torch.ones(1, 1)}]
        >>> loss_surface(net, torch.ones(1, 1), torch.zeros(1, 1), along, 3, (-1, 1), F.mse_loss).losses.tolist()
        [0.0, 1.0, 4.0]
    """
    check_directions(network, directions)
    at, places = grid(points, ends, len(directions))
    widths = [len(m.weight) for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    batch_size = batch_size or (250 if widths and y.device.type == "cpu" else 1000)
    most = (_MAPS if widths else _ROWS) // min(batch_size, len(y))
    # Grouped convolutions are faster only where they are narrow.
    most = most if max(widths, default=0) <= _NARROW else 1
    size = together or max(1, min(most, _NUMBERS // max(1, sum(p.numel() for p in network.parameters()))))
    found: list[Tensor] = []
    with looking(network, x, y):
        for some in torch.split(places, size):
            weights = moved(network, directions, some)
            found += _measured(network, weights, x, y, loss, batch_size, mapped=size > 1)
    losses, accuracies = torch.stack(found).view(*[points] * len(directions), 2).unbind(-1)
    return LossSurface(at, losses, accuracies)


def _measured(
    network: nn.Module, weights: Mapping[str, Tensor], x: Any, y: Tensor, loss: Loss, batch_size: int, mapped: bool
) -> Tensor:
    """Return loss and accuracy ``(R, 2)`` at stacked weights."""
    total = torch.zeros(len(next(iter(weights.values()))), 2, dtype=torch.float64, device=y.device)
    for some, targets in batches(x, y, batch_size):
        for row, output in zip(total, _outputs(network, weights, some, mapped), strict=True):
            row[0] += loss_of(loss, output, targets, differentiable=False).double() * len(targets)
            row[1] += _right(output, targets)
    return total.cpu() / len(y) * torch.tensor([1.0, 100.0], dtype=torch.float64)


def _outputs(network: nn.Module, weights: Mapping[str, Tensor], x: Any, mapped: bool) -> Iterator[Any]:
    """Yield what the network makes of samples at each of the stacked weights."""

    def together(weights: Mapping[str, Tensor]) -> Any:
        with OneCallForAll(draws_apart=False):
            return outputs_at(network, weights, x)

    every, number = None, len(next(iter(weights.values())))
    if mapped:
        with suppress(Exception):  # recurrent layers, and whatever else cannot be mapped, or is too large
            every = torch.vmap(together, randomness="same")(weights)
    for i in range(number):
        if every is not None:
            yield tree_map(lambda t: t[i], every)  # noqa: B023
        else:
            yield outputs_at(network, {name: w[i] for name, w in weights.items()}, x)


def _right(output: Any, targets: Tensor) -> Tensor | float:
    """Return how many samples are right, where outputs are logits ``(N, K)`` of several classes."""
    classes = targets.ndim == 1 and not targets.is_floating_point() and not targets.is_complex()
    logits = isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1
    return (output.argmax(1) == targets).sum() if classes and logits else torch.nan
