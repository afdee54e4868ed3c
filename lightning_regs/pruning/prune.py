"""Pruning: which of the surviving weights go."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from lightning_regs.core.checks import Range, checked
from lightning_regs.core.names import unknown_name
from lightning_regs.pruning.masks import Mask, plain_names

Scope = Literal["layer", "global"]
Rate = Annotated[float, Range(above=0, below=1, why="it is the share of the surviving weights that a round removes")]


@checked
def prune(scores: Mapping[str, Tensor], mask: Mask, rate: Rate | Mapping[str, Rate], scope: Scope = "layer") -> Mask:
    """Remove the survivors with the least score.

    Per layer, or over all layers together, ``round(rate * kept)`` of them go (Python's ``round``). Among equal scores
    the one that comes first goes first: in the mask's order of names, then by flat index. What is pruned stays so.

    Args:
        scores: A tensor for each of the mask's names, of its shape.
        mask: What is there now.
        rate: Share of the survivors to remove, in (0, 1); or one for each of some names, the others staying as they
            are (``scope="layer"`` only).
        scope: ``"layer"`` or ``"global"``.

    Raises:
        TypeError: If a rate is no number.
        ValueError: If a rate is outside, a name unknown, a shape another, or the score of a survivor NaN.
    """
    mask.check(scores)
    if isinstance(rate, Mapping):
        if scope == "global":
            raise ValueError("scope='global' compares all layers, so it has one rate; give a number or scope='layer'.")
        for name in rate:
            if name not in mask:
                raise unknown_name("weight", name, mask)
    if isinstance(rate, Mapping):
        groups = [([name], share) for name, share in rate.items()]
    else:
        groups = [(list(mask), rate)] if scope == "global" else [([name], rate) for name in mask]
    found = {name: scores[key] for name, key in plain_names(scores).items()}
    masks = dict(mask)
    for names, share in groups:
        left = survivors(found, mask, names)
        masks |= remove(mask, names, left, len(left) - left_after(len(left), share, 1))
    return Mask(masks)


def survivors(weights: Mapping[str, Tensor], mask: Mask, names: Sequence[str]) -> Tensor:
    """Return the entries that a mask keeps (M,), of some of its names, one after the other."""
    return torch.cat([weights[name].detach()[mask[name].to(weights[name].device)] for name in names])


def remove(mask: Mask, names: Sequence[str], scores: Tensor, number: int) -> dict[str, Tensor]:
    """Return the masks of some names without the ``number`` survivors of least score; ``scores`` (M,) is of them all.

    Raises:
        ValueError: If a score is NaN.
    """
    sizes = [mask.counts[name] for name in names]
    for name, part in zip(names, torch.split(scores, sizes), strict=True):
        if part.isnan().any():
            raise ValueError(f"{name!r} has a weight with the score NaN; prune a network that has not diverged.")
    stays = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    # Adding 0 makes -0 to 0, so that a sort by bits takes them for equal too.
    stays[scores.add(0).sort(stable=True).indices[:number]] = False
    left = {}
    for name, part in zip(names, torch.split(stays, sizes), strict=True):
        kept = mask[name].flatten()
        left[name] = torch.zeros_like(kept).masked_scatter_(kept, part.to(kept.device)).view(mask[name].shape)
    return left


def left_after(kept: int, rate: float, rounds: int) -> int:
    """Return how many survive a number of rounds."""
    for _ in range(rounds):
        kept -= round(rate * kept)
    return kept


def emptied(before: Mask, after: Mask) -> list[str]:
    """Return the names of which something was kept, and nothing is."""
    return [name for name, count in before.counts.items() if count and not after.counts[name]]


def warn_of_emptied(names: Iterable[str], stacklevel: int) -> None:
    """Warn of layers that global pruning has emptied; others may lead around them, so it is no error."""
    listed = ", ".join(repr(name) for name in dict.fromkeys(names))
    if listed:
        warnings.warn(
            f"all weights were compared with each other, and nothing is left of {listed}: unless other layers lead "
            "around it, the network's output no longer depends on its input; use scope='layer', or choose `layers`.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
