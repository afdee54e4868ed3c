"""What is shared by who looks at a net's loss at other weights than its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map_only

from lightning_regs.core.checks import Number, Range, Shape, nonempty, shown
from lightning_regs.core.undisturbed import eager, undisturbed

Loss = Callable[[Any, Tensor], Tensor]
Samples = Annotated[Tensor | Sequence[Any] | Mapping[str, Any], Shape("N ...")]
Targets = Annotated[Tensor, Shape("N ..."), nonempty]
Direction = Mapping[str, Tensor]


def _one_or_two(name: str, directions: Sequence[Direction]) -> Sequence[Direction]:
    if not 1 <= len(directions) <= 2:
        raise ValueError(f"{name} must be one direction or two, got {len(directions)}; give a list of them.")
    return directions


def _rising(name: str, ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise ValueError(f"{name} must be (first, last) with first below last, got {shown(ends)}.")
    return ends


Directions = Annotated[Sequence[Direction], "a list of one direction or two", _one_or_two]
Points = Annotated[int, Range(2, why="a grid has a point at each of its ends; take 51, or 25 for a first look")]
Ends = Annotated[tuple[Number, Number], "(first, last) with first below last", _rising]


def grid(points: int, ends: tuple[float, float], dimensions: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the positions along each direction, and all points of the grid ``(points ** dimensions, dimensions)``."""
    at = torch.linspace(*ends, points, dtype=torch.float64)
    return (at,) * dimensions, torch.cartesian_prod(*[at] * dimensions).view(-1, dimensions)


def check_directions(network: nn.Module, directions: Sequence[Direction]) -> None:
    """Refuse directions of another net."""
    if not any(map(len, directions)):
        raise ValueError("directions are empty, so that nothing moves; make them by random_direction or direction_to.")
    known = dict([*network.named_parameters(), *network.named_buffers()])
    moving = [name for name, p in network.named_parameters() if p.requires_grad]
    for direction in directions:
        for name in (*moving, *direction):
            other = tuple(direction[name].shape) if name in direction else None
            own = tuple(known[name].shape) if name in known else None
            if own is None or other != own:
                raise ValueError(
                    f"a direction has {_said(name, other)}, and {type(network).__name__} has {_said(name, own)}; make "
                    "the direction of this network, by random_direction, direction_to or path_plane."
                )


def _said(name: str, shape: tuple[int, ...] | None) -> str:
    return f"no {name!r}" if shape is None else f"{name!r} of the shape {shape}"


def moved(network: nn.Module, directions: Sequence[Direction], at: Tensor) -> dict[str, Tensor]:
    """Return what moves of a network, by name, at points ``(R, dimensions)``, each stacked ``(R, ...)``.

    Buffers, of a direction to another net, stay between both: a variance beyond the ends could be negative.
    """
    statistics = dict(network.named_buffers())
    own = dict(network.named_parameters()) | statistics
    found = {}
    for name in dict.fromkeys(name for direction in directions for name in direction):
        tensor = own[name].detach()
        dtype = torch.promote_types(tensor.dtype, torch.float32)
        place = tensor.to(dtype).expand(len(at), *tensor.shape).clone()
        for k, direction in enumerate(directions):
            if name in direction:
                step = at[:, k].clamp(0, 1) if name in statistics else at[:, k]
                step = step.to(place).view(-1, *[1] * tensor.ndim)
                place += step * direction[name].detach().to(place)
        found[name] = place.to(tensor.dtype)
    return found


@contextmanager
def looking(network: nn.Module, x: Any, y: Tensor) -> Iterator[None]:
    """Compute as Python runs a network in evaluation mode, without gradients, and leave it and random streams as is.

    Samples that are not as many as targets are a ``ValueError``.
    """
    shapes = [tuple(part.shape) for part in tree_leaves(x) if isinstance(part, Tensor) and part.ndim]
    if {shape[0] for shape in shapes} != {len(y)}:
        said = ", ".join(map(str, shapes)) or shown(x)
        raise ValueError(f"x must have as many samples (N, ...) as y, which has {len(y)}; its tensors are {said}.")
    with torch.inference_mode(False), torch.no_grad(), undisturbed(network, y), eager(network):
        yield


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name, or raise a ``ValueError`` where there is none."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not named:
        raise ValueError(
            f"{type(network).__name__} has no parameter that requires a gradient, so that none can move; set "
            "requires_grad where they were frozen."
        )
    return named


def outputs_at(network: nn.Module, weights: Mapping[str, Tensor], x: Any) -> Any:
    """Call a network at other weights, on copies of its other buffers and of the samples, which it may change.

    Of the samples, a sequence is several arguments, and a mapping named ones.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers() if name not in weights}
    x = tree_map_only(Tensor, Tensor.clone, x)
    args, named = ((), dict(x)) if isinstance(x, Mapping) else ((x,) if isinstance(x, Tensor) else tuple(x), {})
    return torch.func.functional_call(network, (dict(weights), buffers), args, named)


def origin(network: nn.Module) -> tuple[dict[str, nn.Parameter], Tensor]:
    """Return what can move of a network, by name, and where it is; refuse what rounds small steps away."""
    named = trainable(network)
    for name, p in named.items():
        if p.element_size() < 4 or p.is_complex():
            raise ValueError(
                f"{name!r} is {p.dtype}, and small steps need real numbers of 32 bits or more; give network.float(), "
                "or freeze it."
            )
    return named, joined(list(named.values()))


def batches(x: Any, y: Tensor, batch_size: int) -> Iterator[tuple[Any, Tensor]]:
    """Yield samples and targets a batch at a time."""
    for rows in (slice(first, first + batch_size) for first in range(0, len(y), batch_size)):
        yield tree_map_only(Tensor, lambda part: part[rows] if part.ndim else part, x), y[rows].clone()  # noqa: B023


def split(named: Mapping[str, nn.Parameter], point: Tensor) -> dict[str, Tensor]:
    """Return leaves of a graph with the names and shapes of parameters, and the numbers of one long vector."""
    parts = torch.split(point, [p.numel() for p in named.values()])
    return {
        name: part.view_as(p).to(p).clone().requires_grad_()
        for (name, p), part in zip(named.items(), parts, strict=True)
    }


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors as one long vector in float64."""
    return torch.cat([t.detach().flatten().double() for t in tensors])


def one_number(value: Tensor, differentiable: bool = True) -> Tensor:
    """Return a loss, or raise a ``ValueError`` where it is not one number, or has no gradient and needs one."""
    if not isinstance(value, Tensor) or value.numel() != 1 or (differentiable and not value.requires_grad):
        raise ValueError(
            f"the loss has to be one number that depends on the parameters, got {shown(value)}; give a mean that is "
            "not detached, such as torch.nn.functional.cross_entropy."
        )
    return value


def loss_of(loss: Loss, output: Any, targets: Tensor, differentiable: bool = True) -> Tensor:
    """Return the loss as one number; say what to give where a network returns what the usual loss does not take."""
    if loss is F.cross_entropy and not isinstance(output, Tensor):
        raise TypeError(f"the network returns {type(output).__name__}, which cross_entropy does not take; give loss=, "
                        "a mean over samples of what it returns and y.")  # fmt: skip
    return one_number(loss(output, targets), differentiable)


def batch_losses(
    network: nn.Module, weights: Mapping[str, Tensor], x: Any, y: Tensor, loss: Loss, batch_size: int
) -> Iterator[Tensor]:
    """Yield what each batch adds to the mean loss at these weights, with its graph."""
    for some, targets in batches(x, y, batch_size):
        with torch.enable_grad():
            value = loss_of(loss, outputs_at(network, weights, some), targets) * (len(targets) / len(y))
        yield value
