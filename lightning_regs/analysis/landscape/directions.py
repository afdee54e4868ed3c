"""Directions in the space of a net's weights: random ones of its own size, to another net, along a training's path."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from lightning_regs.analysis._points import trainable
from lightning_regs.core.checks import checked
from lightning_regs.core.files import load
from lightning_regs.core.names import uncompiled
from lightning_regs.regularizers.parts.selection import select

# A net, its state dict, a checkpoint, or the path of one.
Source = nn.Module | Mapping[str, Any] | str | os.PathLike[str]
_LEAST = 1e-10  # added to the norm of a filter's draws, as Li et al.'s code does


def _three(name: str, path: Sequence[Source]) -> Sequence[Source]:
    if len(path) < 3:
        raise ValueError(f"{name} has {len(path)} weights, and two directions need three; give one an epoch.")
    return path


@dataclass(frozen=True)
class PathPlane:
    """The plane in which a training went, as nearly as a plane can hold it.

    Attributes:
        directions: Two orthogonal directions of length 1, for :func:`loss_surface`.
        shares: Of the variance of the path, for each principal component of it, falling, with the sum 1.
        path: Where the path went ``(T, 2)``, in steps of these directions from the network's own weights.
    """

    directions: tuple[dict[str, Tensor], dict[str, Tensor]]
    shares: Tensor
    path: Tensor


@checked
@torch.no_grad()
def random_direction(network: nn.Module, generator: torch.Generator, normalized: bool = True) -> dict[str, Tensor]:
    r"""Draw a direction in which each filter moves as far as it is long: filter normalization.

    Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets" (1712.09913), section 4: standard
    normal numbers, of which each filter :math:`d_i` becomes :math:`d_i \, \lVert w_i \rVert / \lVert d_i \rVert`, with
    the weights :math:`w_i` that lead to one map or unit, the first dimension of a weight. Biases, parameters of
    normalization layers and what is frozen do not move. Without that, a net with small weights looks sharp and one with
    large ones flat, though both may be the same function.

    Args:
        network: Any module.
        generator: Draws the direction.
        normalized: Whether filters are normalized; else they stay standard normal.

    Returns:
        A direction: tensors with names and shapes of the parameters that require a gradient, for :func:`loss_surface`.

    Raises:
        ValueError: If no weight of at least two dimensions requires a gradient.

    Example:
        >>> net = nn.Linear(3, 2)
        >>> direction = random_direction(net, torch.Generator().manual_seed(0))
        >>> torch.allclose(direction["weight"].norm(dim=1), net.weight.norm(dim=1)), direction["bias"].tolist()
        (True, [0.0, 0.0])
    """
    weights = {id(weight) for _, weight in select(network, None)}
    direction = {}
    for name, p in trainable(network).items():
        drawn = torch.zeros_like(p)
        if id(p) in weights:
            drawn = torch.randn(p.shape, generator=generator, device=generator.device).to(p)
            if normalized:
                filters = drawn.flatten(1)
                scale = p.flatten(1).norm(dim=1) / (filters.norm(dim=1) + _LEAST)
                drawn = (scale[:, None] * filters).view_as(p)
        direction[name] = drawn
    if not weights & {id(p) for p in trainable(network).values()}:
        raise ValueError(
            f"{type(network).__name__} has no weight of two dimensions that requires a gradient, such as a linear "
            "layer's, so that no filter can move; weights that share values are looked at before they do."
        )
    return direction


@checked
@torch.no_grad()
def direction_to(network: nn.Module, other: Source) -> dict[str, Tensor]:
    """Return the direction from a net to another: :func:`loss_surface` along it is the interpolation of both.

    Parameters and running statistics of batch norm move, as Li et al. (1712.09913) interpolate whole state dicts.
    Beyond the ends the statistics stay those of the nearer net, as a variance would soon be negative there.

    Args:
        network: Where it starts: position 0.
        other: Where it goes, position 1: a module, its state dict, a checkpoint, or the path of one.

    Raises:
        ValueError: If the other lacks something of the network's, or has it in another shape.

    Example:
        >>> start, end = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> direction = direction_to(start, end.state_dict())
        >>> torch.allclose(start.weight + direction["weight"], end.weight)
        True
    """
    own, state = network.state_dict(), _state_of(network, other)
    moving = {n for n in state if own[n].is_floating_point() or own[n].is_complex()}
    return {n: t.to(own[n]) - own[n] for n, t in state.items() if n in moving}


@checked
@torch.no_grad()
def path_plane(network: nn.Module, path: Annotated[Sequence[Source], _three]) -> PathPlane:
    r"""Find the plane in which a training went, by PCA of its weights.

    Li et al. (1712.09913), section 7: principal components of :math:`\theta_i - \theta_n` over the epochs i. In their
    nets the first two hold 40 to 90 % of the variance, and two random directions next to none. A random walk also has
    most of its variance in two components (Antognini & Sohl-Dickstein 2018, 1806.08805: about 76 %), so that a large
    share alone does not say that a landscape is simple.

    Args:
        network: The net after the training.
        path: Its weights on the way, at least three, usually one an epoch with the last, as :func:`direction_to` takes
            them: of a ``ModelCheckpoint(save_top_k=-1)`` the paths of its files.

    Raises:
        ValueError: If there are fewer than three, or one is not of this network; if none differs from the others, or
            one has a weight that is no finite number.
    """
    named = trainable(network)
    states = [_state_of(network, source) for source in path]
    gaps = {name: torch.stack([s[name].to(p) - p for s in states]).flatten(1).double() for name, p in named.items()}
    gram = torch.stack([gap @ gap.T for gap in gaps.values()]).sum(0)
    centered = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    if not 1e-12 * float(gram.trace()) < float(centered.trace()) < torch.inf:
        raise ValueError(
            f"path has {len(path)} weights with the variance {float(centered.trace()):.3g}, which no plane can hold; "
            "give weights that differ, and are finite numbers."
        )
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(centered))
    values = values[:-1].clamp(min=0)  # of T points, and T - 1 dimensions
    lengths = values[:2].sqrt()
    # A path on a line has no second direction, only rounding.
    first = torch.where(lengths > 1e-6 * lengths[0], vectors[:, :2] / lengths, 0)
    places = gram @ first
    first = first * torch.where(places.gather(0, places.abs().argmax(0)[None]) < 0, -1, 1)
    one, two = ({n: (gaps[n].T @ column).view_as(p).to(p) for n, p in named.items()} for column in first.T)
    return PathPlane((one, two), values / values.sum(), gram @ first)


def _state(source: Source) -> Mapping[str, Any]:
    if isinstance(source, nn.Module):
        return source.state_dict()
    if isinstance(source, Mapping):
        return source
    if not Path(source).is_file():
        raise ValueError(f"{str(source)!r} is no file; give the path of a checkpoint, a state dict or a module.")
    try:
        return load(Path(source))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{source} holds more than tensors and plain types; give torch.load(path, weights_only=False)['state_dict']"
            " if you trust where it is from."
        ) from error


def _state_of(network: nn.Module, source: Source) -> dict[str, Tensor]:
    """Return parameters and saved buffers of a network, by its names, as a source has them; a shared one comes once."""
    found, own = _state(source), network.state_dict()
    found = {uncompiled(str(key)): value for key, value in found.get("state_dict", found).items()}
    what = type(source).__name__ if isinstance(source, nn.Module | Mapping) else str(source)
    name_of, state = type(network).__name__, dict[str, Tensor]()
    for name, _ in [*network.named_parameters(), *network.named_buffers()]:
        plain = uncompiled(name)
        if name in own and not isinstance(found.get(plain), Tensor):
            longer = next((key for key in found if key.endswith(f".{plain}")), None)
            why = f"it has {longer!r}: give the module that has this name" if longer else f"give one of a {name_of}"
            raise ValueError(f"{what} has no {plain!r}, as {name_of} has; {why}.")
        if name in own and found[plain].shape != own[name].shape:
            raise ValueError(
                f"{what} has {plain!r} of the shape {tuple(found[plain].shape)}, and {name_of} of "
                f"{tuple(own[name].shape)}; give one of this {name_of}."
            )
        state |= {name: found[plain]} if name in own else {}
    return state
