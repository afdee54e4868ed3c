"""Pruning: which of the surviving weights go."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lightning_regs.core.names import unknown_name
from lightning_regs.pruning.masks import Mask, plain_names

SCOPES = ("layer", "global")


def prune(scores: Mapping[str, Tensor], mask: Mask, rate: float | Mapping[str, float], scope: str = "layer") -> Mask:
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
    check_scope(scope)
    mask.check(scores)
    if isinstance(rate, Mapping):
        if scope == "global":
            raise ValueError("scope='global' compares all layers, so it has one rate; give a number or scope='layer'.")
        for name in rate:
            if name not in mask:
                raise unknown_name("weight", name, mask)
    elif scope == "global":
        return remove(mask, scores, [(list(mask), number_to_remove(mask.kept, check_rate("rate", rate)))])
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(mask, rate)
    groups = [([n], number_to_remove(mask.counts[n], check_rate(f"the rate of {n!r}", r))) for n, r in rates.items()]
    return remove(mask, scores, groups)


def remove(mask: Mask, scores: Mapping[str, Tensor], groups: Sequence[tuple[list[str], int]]) -> Mask:
    """Remove from each group of names a number of survivors, those with the least score."""
    found = plain_names(scores)
    masks = dict(mask)
    for names, number in groups:
        kept = [mask[name].flatten().to(scores[found[name]].device) for name in names]
        values = [scores[found[name]].detach().flatten()[m] for name, m in zip(names, kept, strict=True)]
        for name, value in zip(names, values, strict=True):
            if value.isnan().any():
                raise ValueError(f"{name!r} has a weight with the score NaN; prune a network that has not diverged.")
        # Adding 0 makes -0 to 0, so that a sort by bits takes them for equal too.
        order = torch.cat(values).add(0).sort(stable=True).indices
        stays = torch.ones(len(order), dtype=torch.bool, device=order.device)
        stays[order[:number]] = False
        for name, m, part in zip(names, kept, torch.split(stays, [len(v) for v in values]), strict=True):
            left = torch.zeros_like(m).masked_scatter_(m, part)
            masks[name] = left.view(mask[name].shape).to(mask[name].device)
    return Mask(masks)


def number_to_remove(kept: int, rate: float) -> int:
    """Return how many of the survivors a round removes."""
    return round(rate * kept)


def left_after(kept: int, rate: float, rounds: int) -> int:
    """Return how many survive a number of rounds."""
    for _ in range(rounds):
        kept -= number_to_remove(kept, rate)
    return kept


def check_rate(name: str, rate: object) -> float:
    """Return a rate as a float.

    Raises:
        TypeError: If it is no real number.
        ValueError: If it is outside (0, 1).
    """
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
        raise TypeError(f"{name} must be a number, got {rate!r}.")
    share = float(rate)
    if not 0 < share < 1:
        raise ValueError(
            f"{name} must be above 0 and below 1, got {rate}: it is the share of the surviving weights that a round "
            "removes."
        )
    return share


def check_scope(scope: str) -> None:
    """Refuse an unknown scope.

    Raises:
        ValueError: That suggests the nearest.
    """
    if scope not in SCOPES:
        raise unknown_name("scope", scope, SCOPES)


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
