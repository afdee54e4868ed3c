"""What became of kept and pruned weights: distance travelled, sign changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regs.core.checks import checked
from lightning_regs.core.names import uncompiled
from lightning_regs.pruning.masks import Mask

Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class Travel:
    """How far a group of weights went from their initial values; NaN for a group of none, but for ``l2``.

    Attributes:
        count: Number of weights.
        mean: Mean of ``|w_f - w_i|``.
        l2: Euclidean length of ``w_f - w_i``.
        sign_changes: Share, in [0, 1], whose final sign is another; 0 is a sign of its own.
    """

    count: int
    mean: float
    l2: float
    sign_changes: float


@dataclass(frozen=True)
class Travelled:
    """The travels of kept and of pruned weights."""

    kept: Travel
    pruned: Travel


@dataclass(frozen=True)
class Distances:
    """How far weights went: of all under the mask, and of each layer by name."""

    overall: Travelled
    layers: dict[str, Travelled]


@checked
def distance_travelled(initial: Mapping[str, Tensor], final: Mapping[str, Tensor], mask: Masks) -> Distances:
    """Measure how far kept and pruned weights went in the training that the mask was made from.

    Frankle & Carbin, arXiv 1803.03635: the weights of winning tickets move further than the others. Zhou et al.,
    arXiv 1905.01067: they move away from zero, and what counts of their initial values is the sign. Take as final
    weights those before pruning: afterwards a pruned weight's distance is that to zero.

    Args:
        initial: Weights before training by name, usually a ``state_dict``.
        final: Those after it.
        mask: Which of them are kept: a :class:`~lightning_regs.pruning.masks.Mask`, or what one can be made of.
            Weights without an entry are left out.

    Raises:
        ValueError: If one of the mask's names is missing, or two shapes differ.
    """
    kept = mask if isinstance(mask, Mask) else Mask(mask)
    for weights in (initial, final):
        kept.check(weights)
    plain = [{uncompiled(name): w for name, w in weights.items()} for weights in (initial, final)]
    sums: dict[str, list[Tensor]] = {}
    for name, chosen in kept.items():
        before, after = (weights[name].detach() for weights in plain)
        before, chosen = before.to(after.device), chosen.to(after.device)
        distance = (after.double() - before.double()).abs()
        changed = before.sign() != after.sign()
        sums[name] = [
            torch.stack([group.sum(), distance[group].sum(), distance[group].square().sum(), changed[group].sum()])
            for group in (chosen, ~chosen)
        ]
    overall = [torch.stack([part[group].cpu() for part in sums.values()]).sum(0) for group in (0, 1)]
    return Distances(_travelled(overall), {name: _travelled(groups) for name, groups in sums.items()})


def _travelled(groups: Sequence[Tensor]) -> Travelled:
    found = []
    for count, distance, squares, changed in (group.tolist() for group in groups):
        number = count or math.nan
        found.append(Travel(int(count), distance / number, math.sqrt(squares), changed / number))
    return Travelled(*found)
