"""Pruning: which of the surviving weights go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from lightning_regs.core.checks import Range, checked, warn
from lightning_regs.core.names import unknown_name
from lightning_regs.pruning.masks import Mask, plain_names

Scope = Literal["layer", "global"]
Groups = Sequence[tuple[list[str], float]]  # names of weights that are compared with each other, and their rate
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
        groups: Groups = [([name], share) for name, share in rate.items()]
    else:
        groups = [(list(mask), rate)] if scope == "global" else [([name], rate) for name in mask]
    found = {name: scores[key] for name, key in plain_names(scores).items()}
    return remove(mask, groups, lambda names: survivors(found, mask, names))


def survivors(weights: Mapping[str, Tensor], mask: Mask, names: Sequence[str]) -> Tensor:
    """Return the entries that a mask keeps (M,), of some of its names, one after the other."""
    return torch.cat([weights[name].detach()[mask[name].to(weights[name].device)] for name in names])


def remove(mask: Mask, groups: Groups, score: Callable[[list[str]], Tensor], rounds: int = 1) -> Mask:
    """Return the mask without what so many rounds remove of each group; ``score`` gives that of its survivors (M,)."""
    left = dict(mask)
    for names, rate in groups:
        scores, sizes = score(names), [mask.counts[name] for name in names]
        for name, part in zip(names, torch.split(scores, sizes), strict=True):
            if part.isnan().any():
                raise ValueError(f"{name!r} has a weight with the score NaN; prune a network that has not diverged.")
        stays = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
        # Adding 0 makes -0 to 0, so that a sort by bits takes them for equal too.
        order = scores.add(0).sort(stable=True).indices
        stays[order[: len(order) - left_after(len(order), rate, rounds)]] = False
        for name, part in zip(names, torch.split(stays, sizes), strict=True):
            kept = mask[name].flatten()
            left[name] = torch.zeros_like(kept).masked_scatter_(kept, part.to(kept.device)).view(mask[name].shape)
    return Mask(left)


def left_after(kept: int, rate: float, rounds: int) -> int:
    """Return how many survive a number of rounds."""
    for _ in range(rounds):
        kept -= round(rate * kept)
    return kept


def emptied(before: Mask, after: Mask) -> list[str]:
    """Return the names of which something was kept, and nothing is."""
    return [name for name, count in before.counts.items() if count and not after.counts[name]]


def warn_of_emptied(names: Iterable[str]) -> None:
    """Warn of layers that global pruning has emptied; others may lead around them, so it is no error."""
    if listed := ", ".join(repr(name) for name in dict.fromkeys(names)):
        warn(
            f"all weights were compared with each other, and nothing is left of {listed}: unless other layers lead "
            "around it, the network's output no longer depends on its input; use scope='layer', or choose `layers`."
        )
