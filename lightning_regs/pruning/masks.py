"""Masks: which weights of a network are kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import torch
from torch import Tensor

from lightning_regs.core.checks import checked, nonempty
from lightning_regs.core.names import uncompiled, unknown_name

Generators = torch.Generator | Sequence[torch.Generator]


class Mask(Mapping[str, Tensor]):
    """Which weights are kept, by the parameter's name in the ``state_dict``: an ordered, immutable mapping.

    Frankle & Carbin, "The Lottery Ticket Hypothesis" (1803.03635): ``m`` of the subnetwork ``f(x; m * w)``. Each value
    is a bool tensor of the parameter's shape, True where the weight is kept; do not write to it. Parameters that have
    no entry are not pruned, and do not count. Two masks are equal if names, order aside, and tensors are.

    A stacked mask holds those of R networks: shapes are ``(R, *shape)``, see :meth:`stack`.

    It does not hold weights at zero in training: :class:`~lightning_regs.regularizers.weight_mask.WeightMask` does.

    Args:
        masks: Name -> tensor, bool or of the values 0 and 1 alone; copied.

    Raises:
        TypeError: If a value is no tensor, or a name no string.
        ValueError: If there are no entries, or one is empty, or has other values than 0 and 1.
    """

    @checked
    def __init__(self, masks: Annotated[Mapping[str, Tensor], nonempty]) -> None:
        self._masks = {name: _checked(name, mask) for name, mask in masks.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        same_names = self._masks.keys() == other._masks.keys()
        return same_names and all(torch.equal(m, other[name].to(m.device)) for name, m in self.items())

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.kept} of {self.total} weights kept, {100 * self.density:.3g} %)"

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of kept weights, by name."""
        return {name: int(mask.sum()) for name, mask in self.items()}

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """Number of weights, kept and pruned."""
        return sum(mask.numel() for mask in self.values())

    @property
    def density(self) -> float:
        """Kept over total, in [0, 1]; times 100 it is P_m."""
        return self.kept / self.total

    @classmethod
    def dense(cls, weights: Mapping[str, Tensor]) -> Mask:
        """Return the mask that keeps all of these weights."""
        return cls({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()})

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the bool tensors, for ``torch.load(weights_only=True)``; ``Mask(state)`` reads them."""
        return {name: mask.clone() for name, mask in self.items()}

    def to(self, device: torch.device | str) -> Mask:
        """Return this mask on a device; itself where it is there already."""
        if all(mask.device == torch.empty(0, device=device).device for mask in self.values()):
            return self
        return Mask({name: mask.to(device) for name, mask in self.items()})

    @staticmethod
    @checked
    def stack(masks: Annotated[Sequence[Mask], nonempty]) -> Mask:
        """Return the mask of R stacked networks from theirs: shapes ``(R, *shape)``.

        Raises:
            ValueError: If there are none, or names or shapes differ.
        """
        for mask in masks[1:]:
            masks[0].check_same(mask)
        return Mask({name: torch.stack([mask[name] for mask in masks]) for name in masks[0]})

    def unstack(self) -> list[Mask]:
        """Return the masks that :meth:`stack` put together.

        Raises:
            ValueError: If the tensors have no common leading dimension.
        """
        first = next(iter(self))
        number = len(self[first]) if self[first].ndim else 0
        for name, mask in self.items():
            if not mask.ndim or len(mask) != number:
                raise ValueError(
                    f"the mask is not stacked: {name!r} has the shape {tuple(mask.shape)}, and all would need "
                    f"the leading dimension {number} of {first!r}; make it with Mask.stack."
                )
        return [Mask({name: mask[r] for name, mask in self.items()}) for r in range(number)]

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse weights that this is not the mask of; more than it masks are fine, and those of a compiled module.

        Raises:
            ValueError: If a name is missing there, or a shape differs.
        """
        known = plain_names(weights)
        for name, mask in self.items():
            if name not in known:
                raise unknown_name("weight in the mask", name, known)
            if (shape := weights[known[name]].shape) != mask.shape:
                raise ValueError(
                    f"the mask of {name!r} has the shape {tuple(mask.shape)}, and the weight {tuple(shape)}; "
                    "use the mask of this network."
                )

    def apply(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of the weights, with the pruned entries exactly +0.0; those without a mask as they are.

        A shared weight is masked under each of its names; they are known by their memory, so not in copies.

        Raises:
            ValueError: As :meth:`check`, and if a shared weight has two masks that differ.
        """
        self.check(weights)
        copies = {name: weight.detach().clone() for name, weight in weights.items()}
        known = plain_names(weights)
        shared = {_place(weights[known[name]]): name for name in self}
        for name, actual in known.items():
            owner = shared.get(_place(weights[actual]), name)
            if owner not in self:
                continue
            kept = self[owner]
            if name in self and not torch.equal(self[name].to(kept.device), kept):
                raise ValueError(
                    f"{name!r} and {owner!r} are one weight, and their masks differ; leave one of them out."
                )
            copies[actual].masked_fill_(~kept.to(copies[actual].device), 0.0)
        return copies

    def tie(self, weights: Mapping[str, Tensor], module: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights that were copied with those one again that are one in the ``module``, whose state this is.

        A shared weight that has a mask is the one of the mask's name; :meth:`apply` then masks it under all its names.
        """
        known, places = plain_names(module), {name: _place(value) for name, value in module.items()}
        owners = {place: name for name, place in reversed(places.items())}
        owners |= {places[known[name]]: known[name] for name in self if name in known}
        owner = {name: owners[place] for name, place in places.items()}
        return {name: weights.get(owner.get(name, name), value) for name, value in weights.items()}

    def check_same(self, other: Mask) -> None:
        """Refuse the mask of another network: one of other names or shapes is a ``ValueError``."""
        for name in itertools.chain(self, other):
            if name not in self or name not in other:
                raise ValueError(f"the masks are of different networks: one of them lacks {name!r}.")
            if self[name].shape != other[name].shape:
                raise ValueError(
                    f"the masks are of different networks: {name!r} has the shapes {tuple(self[name].shape)} and "
                    f"{tuple(other[name].shape)}."
                )


@checked
def random_mask(mask: Mask, generator: torch.Generator) -> Mask:
    """Return a mask that keeps as many in each layer, at places drawn uniformly: "random sparsity".

    Args:
        mask: Whose counts to keep.
        generator: Where they are drawn from.
    """
    drawn = {}
    for name, count in mask.counts.items():
        order = torch.randperm(mask[name].numel(), generator=generator, device=generator.device)
        flat = torch.zeros(mask[name].numel(), dtype=torch.bool, device=mask[name].device)
        flat[order[:count].to(flat.device)] = True
        drawn[name] = flat.view(mask[name].shape)
    return Mask(drawn)


def each(generator: Generators, number: int) -> list[torch.Generator]:
    """Return one generator for each of ``number`` networks, or a ``ValueError`` where there are not as many."""
    generators = [generator] * number if isinstance(generator, torch.Generator) else list(generator)
    if len(generators) != number:
        raise ValueError(f"give one generator, or one for each of the {number} networks; got {len(generators)}.")
    return generators


def plain_names(weights: Mapping[str, Any]) -> dict[str, str]:
    """Return each name without what ``torch.compile`` puts into it -> the name as it is."""
    return {uncompiled(name): name for name in weights}


def _place(weight: Tensor) -> tuple[object, ...]:
    """Return what two weights have in common if they are one and the same memory."""
    if weight.layout != torch.strided or weight.is_meta or not weight.numel():
        return (id(weight),)
    return weight.device, weight.dtype, weight.data_ptr(), weight.shape, weight.stride()


def _checked(name: str, mask: Tensor) -> Tensor:
    if not mask.numel():
        raise ValueError(f"the mask of {name!r} is empty, of shape {tuple(mask.shape)}; leave it out.")
    mask = mask.detach()
    if mask.dtype == torch.bool:
        return mask.clone()
    kept = mask == 1
    wrong = ~(kept | (mask == 0))
    if wrong.any():
        raise ValueError(f"a mask has the values 0 and 1 alone, and that of {name!r} has {mask[wrong][0].item()!r}.")
    return kept
