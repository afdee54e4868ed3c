"""What a run of a ladder starts from: its weights, its mask, and the files that hand both from level to level."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.names import unknown_name
from lightning_regs.pruning import Mask, Pruning, random_mask

State = dict[str, Tensor]
Fresh = Callable[[int], State]

FILE = "level.pt"
TWIN = "-twin"


@dataclass(frozen=True)
class Level:
    """What a trained level hands on; tensors by their names in the network.

    Attributes:
        initial: The weights of the dense net before any training.
        start: The weights that this level was trained from.
        final: The weights after training.
        mask: Which of them were trained.
    """

    initial: State
    start: State
    final: State
    mask: Mask

    def save(self, folder: Path) -> None:
        """Write it to a run's folder, as a whole or not at all."""
        part = folder / f".{FILE}.part"
        states = {"initial": self.initial, "start": self.start, "final": self.final}
        # Most of a level's tensors are another's too: ``torch.save`` writes shared storage once.
        torch.save(states | {"mask": self.mask.state_dict()}, part)
        os.replace(part, folder / FILE)  # noqa: PTH105 (as everywhere in the engine)

    @classmethod
    def load(cls, folder: Path) -> Level:
        """Read it from a run's folder.

        Raises:
            ValueError: If the file is not there or damaged; the message names it and what to do.
        """
        path = folder / FILE
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            return cls(found["initial"], found["start"], found["final"], Mask(found["mask"]))
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {error}); remove its folder, so that the level is "
                "trained again."
            ) from error


@dataclass(frozen=True)
class Start:
    """How a run starts; tensors by their names in the network.

    Attributes:
        weights: All parameters and buffers.
        mask: Which of the prunable weights are trained.
        frozen: Whether the others keep the value they start with, instead of being zero.
    """

    weights: State
    mask: Mask
    frozen: bool = False


def make_start(
    kind: str,
    level: int,
    seed: int,
    pruning: Pruning,
    dense: Mask,
    fresh: Fresh,
    inputs: Mapping[tuple[str, int], Level],
) -> Start:
    """Return what a run starts from, which is a function of the arguments alone.

    Args:
        kind: The treatment, one of those that :meth:`Ladder.runs` yields.
        level: Number of pruning rounds.
        seed: The run's seed.
        pruning: What a round removes.
        dense: The mask that keeps everything.
        fresh: Draw -> the weights of a new network; 0 is the network of this seed.
        inputs: The levels that it needs, by kind and level.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind.endswith(TWIN):
        ((_, twin),) = inputs.items()
        return Start(twin.start, twin.mask)
    if level == 0:
        return Start(fresh(0), dense)
    if kind == "small-init":
        weights = fresh(0)
        mask = replace(pruning, criterion="large_init").one_shot(dense, weights, weights, level)
        return Start(weights, mask)
    if kind.startswith("one-shot"):
        return _one_shot(kind, level, pruning, inputs["ticket", 0])
    if kind.startswith("continued"):
        before = inputs["ticket", 0] if level == 1 else inputs["continued", level - 1]
        mask = pruning.next(before.mask, before.initial, before.final)
        return Start(before.final if kind == "continued" else before.initial, mask)
    before = inputs["ticket", level - 1]
    mask = pruning.next(before.mask, before.initial, before.final)
    if kind == "ticket":
        return Start(before.initial, mask)
    draws = rng.generator(seed, f"frankle2019 {kind}", level)
    if kind == "random":
        return Start(before.initial, random_mask(mask, draws))
    name, _, option = kind.rpartition("-")
    if name == "reinit":
        return Start(fresh(int(option)), mask)
    weights = {name: weight.clone() for name, weight in before.initial.items()}
    for layer, kept in mask.items():
        weights[layer] = _changed(kind, weights[layer], kept, draws)
    return Start(weights, mask)


def _one_shot(kind: str, level: int, pruning: Pruning, trained: Level) -> Start:
    mask = pruning.one_shot(trained.mask, trained.initial, trained.final, level)
    if kind == "one-shot":
        return Start(trained.initial, mask)
    weights = dict(trained.initial)
    if kind == "one-shot-frozen-grown":
        for name, kept in mask.items():
            initial, final = trained.initial[name], trained.final[name]
            weights[name] = torch.where(kept | (final.abs() > initial.abs()), initial, 0.0)
    return Start(weights, mask, frozen=True)


def _changed(kind: str, weight: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """Return a layer's initial weights after one of the treatments that look at signs or add noise."""
    sigma = weight.std()
    noise = torch.randn(weight.shape, generator=generator)
    name, _, option = kind.rpartition("-")
    if name == "noise":
        return weight + float(option) * sigma * noise
    if kind == "sign-reinit":
        return weight.sign() * sigma * noise.abs()
    if kind == "sign-constant":
        return weight.sign() * sigma
    if kind == "constant":
        return noise.sign() * sigma
    if kind in ("reshuffle", "sign-reshuffle"):
        survivors = weight[kept]
        moved = survivors[torch.randperm(len(survivors), generator=generator)]
        if kind == "sign-reshuffle":
            moved = moved.abs() * survivors.sign()
        return weight.masked_scatter(kept, moved)
    known = ("noise-1", "sign-reinit", "sign-constant", "constant", "reshuffle", "sign-reshuffle", "reinit-1")
    raise unknown_name("treatment", kind, [*known, "ticket", "random", "one-shot", "continued", "small-init"])
