"""What a level starts from, by the name of its treatment: tickets, and what tickets are compared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.level import LevelState, State
from lightning_regs.pruning import Mask, Pruning, random_mask
from lightning_regs.regularizers.weight_mask import WeightMask

TWIN = "-twin"


@dataclass(frozen=True)
class Start:
    """How a level starts: all parameters and buffers by their names in the network, and which weights are trained.

    Where it is ``frozen``, the others keep the value they start with, instead of being zero.
    """

    weights: State
    mask: Mask
    frozen: bool = False


@dataclass(frozen=True)
class Given:
    """What a treatment makes its start from; the start is a function of this alone."""

    level: int  # number of pruning rounds
    pruning: Pruning
    everything: Mask  # which keeps all
    fresh: Callable[[int], State]  # draw -> the weights of a new network; 0 is the network before any training
    draws: torch.Generator  # what is random comes from here
    levels: Mapping[tuple[str, int], LevelState]  # those that it needs, by kind and number of rounds

    @property
    def ticket(self) -> Start:
        """The ticket: initial weights, under the mask of the level before after one more round."""
        own = self.levels.get(("ticket", self.level))
        if own is not None:
            return Start(own.start, own.mask)
        if self.level == 0:
            return Start(self.fresh(0), self.everything)
        before = self.levels["ticket", self.level - 1]
        return Start(before.initial, self.pruning.next(before.mask, before.initial, before.final))

    def random(self) -> Start:
        """As many weights in each layer as the ticket has, at random places."""
        ticket = self.ticket
        return replace(ticket, mask=random_mask(ticket.mask, self.draws))

    def one_shot(self, frozen: bool = False, grown: bool = False) -> Start:
        """The dense net pruned once, to what the rounds leave; ``grown``: what training moved to zero is set to it."""
        dense = self.levels["ticket", 0]
        mask, weights = self.pruning.one_shot(dense.mask, dense.initial, dense.final, self.level), dict(dense.start)
        for name, kept in mask.items() if grown else ():
            outwards = dense.final[name].abs() > dense.initial[name].abs()
            weights[name] = torch.where(kept | outwards, weights[name], 0.0)
        return Start(weights, mask, frozen)

    def small_init(self) -> Start:
        """The weights that are large before any training."""
        weights, large = self.fresh(0), replace(self.pruning, criterion="large_init")
        return Start(weights, large.one_shot(self.everything, weights, weights, self.level))

    def continued(self, reset: bool = False) -> Start:
        """Pruned again and trained on, without going back; ``reset``: gone back once, at the end."""
        before = self.levels["continued" if self.level > 1 else "ticket", self.level - 1]
        mask = self.pruning.next(before.mask, before.initial, before.final)
        return Start(before.initial if reset else before.final, mask)

    def changed(self, change: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Start:
        """The ticket with what is made of each layer's weights, of which of them it keeps, and of noise N(0, 1)."""
        start = self.ticket
        weights = dict(start.weights)
        for name, kept in start.mask.items():
            noise = torch.randn(kept.shape, generator=self.draws)
            weights[name] = change(weights[name], kept, noise)
        return replace(start, weights=weights)

    def shuffled(self, values: Tensor) -> Tensor:
        """The values in another order."""
        return values[torch.randperm(len(values), generator=self.draws)]


# Of Frankle & Carbin (1803.03635), and, where signs, constants and what is frozen come in, Zhou et al. (1905.01067).
TREATMENTS: dict[str, Callable[[Given, float], Start]] = {
    "ticket": lambda given, _: given.ticket,
    "random": lambda given, _: given.random(),
    "reinit": lambda given, draw: replace(given.ticket, weights=given.fresh(int(draw))),
    "small-init": lambda given, _: given.small_init(),
    "one-shot": lambda given, _: given.one_shot(),
    "one-shot-frozen": lambda given, _: given.one_shot(frozen=True),
    "one-shot-frozen-grown": lambda given, _: given.one_shot(frozen=True, grown=True),
    "continued": lambda given, _: given.continued(),
    "continued-reset": lambda given, _: given.continued(reset=True),
    "noise": lambda given, times: given.changed(lambda w, _, noise: w + times * w.std() * noise),
    "sign-reinit": lambda given, _: given.changed(lambda w, _, noise: w.sign() * w.std() * noise.abs()),
    "sign-constant": lambda given, _: given.changed(lambda w, *_: w.sign() * w.std()),
    "constant": lambda given, _: given.changed(lambda w, _, noise: noise.sign() * w.std()),
    "reshuffle": lambda given, _: given.changed(lambda w, kept, _: w.masked_scatter(kept, given.shuffled(w[kept]))),
    "sign-reshuffle": lambda given, _: given.changed(
        lambda w, kept, _: w.masked_scatter(kept, given.shuffled(w[kept]).abs() * w[kept].sign())
    ),
}
# Those that are written with a number: which draw, and how many times sigma.
NUMBERED = ("reinit", "noise")


def make_start(kind: str, given: Given) -> Start:
    """Return what a level starts from whose treatment is one of :data:`TREATMENTS`, or raise a ``ValueError``.

    It has its number where there is one, as in ``"noise-0.5"``. Or it is that and ``"-twin"``: where that level
    started, to be trained in another order.
    """
    if kind.endswith(TWIN):
        twin = given.levels[kind.removesuffix(TWIN), given.level]
        return Start(twin.start, twin.mask)
    found = re.fullmatch(rf"({'|'.join(NUMBERED)})-(\d+(?:\.\d+)?)", kind)
    if found:
        return TREATMENTS[found[1]](given, float(found[2]))
    if kind not in TREATMENTS or kind in NUMBERED:
        raise unknown_name("treatment", kind, [f"{name}-1" if name in NUMBERED else name for name in TREATMENTS])
    return TREATMENTS[kind](given, 0.0)


def held(starts: Sequence[Start]) -> WeightMask:
    """Return what trains nets as they start: of a Classifier one alone, of several one a replica."""
    mask = starts[0].mask if len(starts) == 1 else Mask.stack([start.mask for start in starts])
    method = WeightMask({f"network.{name}": kept for name, kept in mask.items()})
    # What is pruned in others of them starts at zero, and stays there too.
    method.frozen = any(start.frozen for start in starts)
    return method
