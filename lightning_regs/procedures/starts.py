"""What a level starts from, by the name of its treatment: tickets, and what tickets are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.level import LevelState, State
from lightning_regs.pruning import Mask, Pruning, random_mask

TWIN = "-twin"


@dataclass(frozen=True)
class Start:
    """How a level starts; tensors by their names in the network.

    Attributes:
        weights: All parameters and buffers.
        mask: Which of the prunable weights are trained.
        frozen: Whether the others keep the value they start with, instead of being zero.
    """

    weights: State
    mask: Mask
    frozen: bool = False


@dataclass(frozen=True)
class Given:
    """What a treatment makes its start from; the start is a function of this alone.

    Attributes:
        level: Number of pruning rounds.
        pruning: What a round removes.
        everything: The mask that keeps all.
        fresh: Draw -> the weights of a new network; 0 is the network before any training.
        draws: What is random comes from here.
        levels: The levels that it needs, by kind and number of rounds.
    """

    level: int
    pruning: Pruning
    everything: Mask
    fresh: Callable[[int], State]
    draws: torch.Generator
    levels: Mapping[tuple[str, int], LevelState]

    @property
    def dense(self) -> LevelState:
        """The trained dense net."""
        return self.levels["ticket", 0]

    @property
    def ticket(self) -> Start:
        """The start of the ticket of this level."""
        own = self.levels.get(("ticket", self.level))
        if own is not None:
            return Start(own.start, own.mask)
        before = self.levels["ticket", self.level - 1]
        return Start(before.initial, self.pruning.next(before.mask, before.initial, before.final))

    def one_shot(self) -> Mask:
        """Prune the dense net at once to what the rounds leave."""
        dense = self.dense
        return self.pruning.one_shot(dense.mask, dense.initial, dense.final, self.level)


Treatment = Callable[[Given, str], Start]
TREATMENTS: dict[str, Treatment] = {}
# Those that are written with a number, as in "noise-0.5".
_NUMBERED = ("reinit", "noise")


def treatment(function: Treatment) -> Treatment:
    """Register a treatment under the function's name."""
    TREATMENTS[function.__name__.strip("_").replace("_", "-")] = function
    return function


def check_treatment(kind: str, known: Mapping[str, Any] = TREATMENTS) -> Treatment:
    """Return the treatment of a kind.

    Raises:
        ValueError: If there is none.
    """
    name, _, number = kind.rpartition("-")
    found = TREATMENTS.get(name if name in _NUMBERED and number.replace(".", "", 1).isdigit() else kind)
    if found is None or kind in _NUMBERED:
        raise unknown_name("treatment", kind, [f"{name}-1" if name in _NUMBERED else name for name in known])
    return found


def make_start(kind: str, given: Given) -> Start:
    """Return what a level of a treatment starts from.

    Args:
        kind: One of :data:`TREATMENTS`, with its number where it takes one; or that and ``"-twin"``: where that level
            started, to be trained in another order.
        given: What it is made from.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind.endswith(TWIN):
        twin = given.levels[kind.removesuffix(TWIN), given.level]
        return Start(twin.start, twin.mask)
    if kind == "ticket" and given.level == 0:
        return Start(given.fresh(0), given.everything)
    return check_treatment(kind)(given, kind.rpartition("-")[2])


# -- masks -------------------------------------------------------------------------------------------------------------


@treatment
def ticket(given: Given, _: str) -> Start:
    """Go back to the initial weights, under the mask of the level before after one more round."""
    return given.ticket


@treatment
def random(given: Given, _: str) -> Start:
    """Keep as many in each layer, at random places."""
    ticket = given.ticket
    return replace(ticket, mask=random_mask(ticket.mask, given.draws))


@treatment
def reinit(given: Given, number: str) -> Start:
    """Draw the initial weights anew, under the ticket's mask."""
    return Start(given.fresh(int(number)), given.ticket.mask)


@treatment
def small_init(given: Given, _: str) -> Start:
    """Keep the weights that are large before any training."""
    weights = given.fresh(0)
    large = replace(given.pruning, criterion="large_init")
    return Start(weights, large.one_shot(given.everything, weights, weights, given.level))


@treatment
def one_shot(given: Given, _: str) -> Start:
    """Prune once, to what the rounds leave."""
    return Start(given.dense.start, given.one_shot())


@treatment
def one_shot_frozen(given: Given, _: str) -> Start:
    """Prune once, and leave what is pruned at its initial value (Zhou et al., 1905.01067)."""
    return replace(one_shot(given, ""), frozen=True)


@treatment
def one_shot_frozen_grown(given: Given, _: str) -> Start:
    """The same, but what training moved towards zero is set to zero."""
    start, dense = one_shot_frozen(given, ""), given.dense
    weights = dict(start.weights)
    for name, kept in start.mask.items():
        grown = dense.final[name].abs() > dense.initial[name].abs()
        weights[name] = torch.where(kept | grown, weights[name], 0.0)
    return replace(start, weights=weights)


@treatment
def continued(given: Given, _: str) -> Start:
    """Prune and train on, without going back."""
    before = given.dense if given.level == 1 else given.levels["continued", given.level - 1]
    return Start(before.final, given.pruning.next(before.mask, before.initial, before.final))


@treatment
def continued_reset(given: Given, _: str) -> Start:
    """Go back to the initial weights once, under the mask of a level that never did."""
    before = given.dense if given.level == 1 else given.levels["continued", given.level - 1]
    return replace(continued(given, ""), weights=before.initial)


# -- other weights under the ticket's mask -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer whose weights change.

    Attributes:
        weight: Its initial weights.
        kept: Which of them the ticket keeps.
        sigma: Their standard deviation.
        noise: Draws of N(0, 1), of their shape.
        draws: What else is random comes from here.
        number: That of the treatment's name.
    """

    weight: Tensor
    kept: Tensor
    sigma: Tensor
    noise: Tensor
    draws: torch.Generator
    number: str

    def shuffled(self) -> Tensor:
        """Return the survivors in another order."""
        survivors = self.weight[self.kept]
        return survivors[torch.randperm(len(survivors), generator=self.draws)]


def _of_each_layer(change: Callable[[Layer], Tensor]) -> Treatment:
    """Register the treatment that changes each layer so."""

    def changed(given: Given, number: str) -> Start:
        start = given.ticket
        weights = {name: weight.clone() for name, weight in start.weights.items()}
        for name, kept in start.mask.items():
            weight = weights[name]
            normal = torch.randn(weight.shape, generator=given.draws)
            weights[name] = change(Layer(weight, kept, weight.std(), normal, given.draws, number))
        return replace(start, weights=weights)

    changed.__name__ = change.__name__
    return treatment(changed)


@_of_each_layer
def noise(layer: Layer) -> Tensor:
    """Add noise of so many times sigma."""
    return layer.weight + float(layer.number) * layer.sigma * layer.noise


@_of_each_layer
def sign_reinit(layer: Layer) -> Tensor:
    """Draw anew, and keep the signs."""
    return layer.weight.sign() * layer.sigma * layer.noise.abs()


@_of_each_layer
def sign_constant(layer: Layer) -> Tensor:
    """Keep the signs alone: plus or minus sigma."""
    return layer.weight.sign() * layer.sigma


@_of_each_layer
def constant(layer: Layer) -> Tensor:
    """Take plus or minus sigma at random."""
    return layer.noise.sign() * layer.sigma


@_of_each_layer
def reshuffle(layer: Layer) -> Tensor:
    """Put the survivors at each other's places."""
    return layer.weight.masked_scatter(layer.kept, layer.shuffled())


@_of_each_layer
def sign_reshuffle(layer: Layer) -> Tensor:
    """Do the same with their magnitudes, and leave the signs."""
    return layer.weight.masked_scatter(layer.kept, layer.shuffled().abs() * layer.weight[layer.kept].sign())
