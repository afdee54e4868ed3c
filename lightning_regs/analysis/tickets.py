"""What became of kept and pruned weights: overlap of masks, distance travelled, sign changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regs.core.checks import checked
from lightning_regs.pruning.masks import Mask

Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class Overlap:
    """How many weights two masks both keep, and how many two random masks of the same densities would.

    Attributes:
        total: Number of weights.
        kept_a: Number that the first mask keeps.
        kept_b: Number that the second keeps.
        shared: Number that both keep.
        expected: Mean of ``shared`` over random masks with these numbers in each layer (hypergeometric).
        deviation: Its standard deviation.
    """

    total: int
    kept_a: int
    kept_b: int
    shared: int
    expected: float
    deviation: float

    @property
    def jaccard(self) -> float:
        """Kept by both over kept by either; 1 where neither keeps any."""
        return _jaccard(self.shared, self.kept_a + self.kept_b)

    @property
    def random_jaccard(self) -> float:
        """The same at the number that random masks are expected to share."""
        return _jaccard(self.expected, self.kept_a + self.kept_b)

    @property
    def z_score(self) -> float:
        """Standard deviations by which more weights are shared than between random masks; NaN where these are fixed."""
        return (self.shared - self.expected) / self.deviation if self.deviation else math.nan


@dataclass(frozen=True)
class MaskOverlap:
    """The overlap of two masks: overall, against random masks that keep as many in each layer, and by layer."""

    overall: Overlap
    layers: dict[str, Overlap]


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
def mask_overlap(mask_a: Masks, mask_b: Masks) -> MaskOverlap:
    """Compare two masks of one network with what random masks of the same densities would share.

    Of n weights, random masks that keep a and b of them share a b / n on average, with the variance of the
    hypergeometric distribution. The number that is shared depends on the densities above all, and only the comparison
    with random ones says whether two masks agree.

    Args:
        mask_a: A :class:`~lightning_regs.pruning.masks.Mask`, or what one can be made of.
        mask_b: The same names and shapes.

    Raises:
        ValueError: If names or shapes differ, or values are not 0 and 1.
    """
    a, b = (mask if isinstance(mask, Mask) else Mask(mask) for mask in (mask_a, mask_b))
    a.check_same(b)
    layers = {}
    for name, mask in a.items():
        n, kept_a, kept_b = mask.numel(), a.counts[name], b.counts[name]
        expected = kept_a * kept_b / n
        variance = expected * (n - kept_a) * (n - kept_b) / (n * (n - 1)) if n > 1 else 0.0
        shared = int((mask & b[name].to(mask.device)).sum())
        layers[name] = Overlap(n, kept_a, kept_b, shared, expected, math.sqrt(variance))
    parts = layers.values()
    total, kept_a, kept_b, shared = (
        sum(getattr(part, name) for part in parts) for name in ("total", "kept_a", "kept_b", "shared")
    )
    expected = math.fsum(part.expected for part in parts)
    deviation = math.hypot(*(part.deviation for part in parts))
    return MaskOverlap(Overlap(total, kept_a, kept_b, shared, expected, deviation), layers)


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
    plain = [{name.replace("_orig_mod.", ""): w for name, w in weights.items()} for weights in (initial, final)]
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


def _jaccard(shared: float, kept: int) -> float:
    return shared / (kept - shared) if kept else 1.0


def _travelled(groups: Sequence[Tensor]) -> Travelled:
    found = []
    for count, distance, squares, changed in (group.tolist() for group in groups):
        number = count or math.nan
        found.append(Travel(int(count), distance / number, math.sqrt(squares), changed / number))
    return Travelled(*found)
