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
    if scope == "global":
        groups = [(list(mask), check_rate("rate", rate))]
    else:
        rates = rate if isinstance(rate, Mapping) else dict.fromkeys(mask, rate)
        groups = [([name], check_rate(f"the rate of {name!r}", share)) for name, share in rates.items()]
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


def check_rate(name: str, rate: object) -> float:
    """Return a rate as a float, or refuse it: a ``TypeError`` if it is no number, a ``ValueError`` outside (0, 1)."""
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
    """Refuse an unknown scope with a ``ValueError`` that suggests the nearest."""
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
