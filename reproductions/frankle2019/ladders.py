"""The pruning experiments of Frankle & Carbin 2019 as plain data: one ladder of levels a network and data set.

A level is one round of pruning and training to the full length: level 0 is the dense net, level n has been pruned n
times. Every other treatment (the same mask with new weights, another mask, kept signs ...) is measured at some of the
levels beside the ticket. Data, network, lengths and levels of the quick scale were fixed on held-out training data
before the first reported run; see the card.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

# Iterations of one level, in one place: the paper has 50,000 for LeNet and 20,000 for Conv-2.
QUICK_ITERATIONS = 2_000
LENET_ITERATIONS = 15_000
CONV2_ITERATIONS = 4_000
CONV2_TRIALS = 3

Layers = tuple[tuple[int, float], ...]

LENET_LAYERS: Layers = ((235_200, 0.2), (30_000, 0.2), (1_000, 0.1))
MNIST1D_LAYERS: Layers = ((12_000, 0.2), (30_000, 0.2), (1_000, 0.1))
CONV2_LAYERS: Layers = ((1_728, 0.1), (36_864, 0.1), (4_194_304, 0.2), (65_536, 0.2), (2_560, 0.1))
CONV2_QUARTER_LAYERS: Layers = ((432, 0.1), (2_304, 0.1), (262_144, 0.2), (4_096, 0.2), (640, 0.1))
CONV4_LAYERS: Layers = (
    *((weights, 0.1) for weights in (1_728, 36_864, 73_728, 147_456)),
    *((2_097_152, 0.2), (65_536, 0.2), (2_560, 0.1)),
)
CONV6_LAYERS: Layers = (
    *((weights, 0.15) for weights in (1_728, 36_864, 73_728, 147_456, 294_912, 589_824)),
    *((1_048_576, 0.2), (65_536, 0.2), (2_560, 0.1)),
)

SIGN_KEPT = ("sign-reinit", "sign-reshuffle", "sign-constant")
SIGN_FREE = ("reinit-1", "reshuffle", "constant")
CHAINS = ("ticket", "continued")


@dataclass(frozen=True)
class Ladder:
    """One network on one data set, pruned level by level.

    Attributes:
        key: Start of its cells' names, end of its claims', and its configuration file's name.
        title: Network and data.
        scale: The scale that has it.
        layers: Weights and rate of each layer, the output layer last.
        iterations: Length of the training of a level.
        every: Iterations between validations.
        last: The last level.
        trials: Seeds of the tickets, their reinitialisations, random masks and one-shot pruning; None for the scale's.
        later_trials: Seeds of the latter three beyond the levels of ``speed``; None for the scale's.
        detail_trials: Seeds of the experiments of ``details`` and of what they are compared with there; None for those
            of everything else.
        other_trials: Seeds of everything else; None for the scale's.
        reinits: Reinitialisations of each ticket.
        reinit: Levels that are reinitialised, in ascending order.
        random: Levels with a random mask of as many weights a layer.
        one_shot: Levels reached by pruning the dense net once.
        details: Levels with the experiments on why tickets train: noise, signs, frozen weights, weights that are
            small at the start, pruning without rewinding.
        twins: Levels trained a second time from the same weights in another order.
        stacked: Whether the runs of a level are trained together, as replicas.
        speed: Levels at which the ticket should stop early; the last is the paper's.
        accuracy: The level at which the ticket's accuracy should be above the dense net's.
        small: The level at which the ticket is back at the dense net's accuracy and speed; None where it is not looked
            at.
        reinit_small: A level beyond the paper's, at which reinitialised nets should be below the dense net too.
        one_shot_small: The level to which one-shot tickets stay above the dense net.
        fraction: The share of the paper's effect that counts as its number; 0 asks for the direction only.
        config: Its configuration file in ``configs/frankle2019``; default: the key.
        overrides: What it changes in that file.
    """

    key: str
    title: str
    scale: str
    layers: Layers
    iterations: int
    every: int
    last: int
    trials: int | None = None
    later_trials: int | None = None
    detail_trials: int | None = None
    other_trials: int | None = None
    reinits: int = 3
    reinit: tuple[int, ...] = ()
    random: tuple[int, ...] = ()
    one_shot: tuple[int, ...] = ()
    details: tuple[int, ...] = ()
    twins: tuple[int, ...] = ()
    stacked: bool = True
    speed: tuple[int, ...] = ()
    accuracy: int | None = None
    small: int | None = None
    reinit_small: int | None = None
    one_shot_small: int | None = None
    fraction: float = 0.5
    config: str = ""
    overrides: tuple[tuple[str, Any], ...] = ()

    # -- names -------------------------------------------------------------------------------------------------------

    def cell(self, kind: str, level: int) -> str:
        """Name a cell."""
        return f"{self.key}/{kind}/{level:02d}"

    @property
    def dense(self) -> str:
        """Name the cell of the dense net."""
        return self.cell("ticket", 0)

    def reinit_cells(self, level: int) -> tuple[str, ...]:
        """Name the cells of a level's reinitialisations."""
        return tuple(self.cell(f"reinit-{draw}", level) for draw in range(1, self.reinits + 1))

    def seeds(self, kind: str, level: int) -> int | None:
        """Return the seeds of a cell; None for the scale's."""
        if kind == "ticket":
            return self.trials
        if self.detail_trials and not kind.endswith("-twin") and (level in self.details or kind == "continued"):
            return self.detail_trials
        if kind.endswith("-twin") or not (kind in ("random", "one-shot") or kind.startswith("reinit-")):
            return self.other_trials
        return self.later_trials if level > max(self.speed) else self.trials

    # -- the grid ----------------------------------------------------------------------------------------------------

    def p_m(self, level: int) -> float:
        """Return the percent of the weights that is left at a level, by exact counts."""
        kept = [weights for weights, _ in self.layers]
        for _ in range(level):
            kept = [count - round(rate * count) for count, (_, rate) in zip(kept, self.layers, strict=True)]
        return 100 * sum(kept) / sum(weights for weights, _ in self.layers)

    # -- the runs ----------------------------------------------------------------------------------------------------

    def runs(self) -> Iterator[tuple[str, int]]:
        """Yield kind and level of every cell, the chain of tickets first."""
        for level in range(self.last + 1):
            yield "ticket", level
        for level in range(1, max(self.details, default=0)):
            yield "continued", level
        for level in range(1, self.last + 1):
            if level in self.reinit:
                yield from ((f"reinit-{draw}", level) for draw in range(1, self.reinits + 1))
            if level in self.random:
                yield "random", level
            if level in self.one_shot:
                yield "one-shot", level
        for level in self.details:
            yield from ((kind, level) for kind in ("noise-0.5", "noise-3", "small-init", "continued-reset"))
            yield from ((kind, level) for kind in (*SIGN_KEPT, *SIGN_FREE[1:]))
            yield from ((kind, level) for kind in ("one-shot-frozen", "one-shot-frozen-grown"))
        for level in self.twins:
            yield "ticket-twin", level
            if level in self.reinit:
                yield "reinit-1-twin", level

    def needs(self, kind: str, level: int) -> tuple[str, ...]:
        """Name the cells whose weights a run starts from."""
        if kind.endswith("-twin"):
            return (self.cell(kind.removesuffix("-twin"), level),)
        if level == 0 or kind == "small-init":
            return ()
        if kind.startswith("one-shot"):
            return (self.dense,)
        if kind in ("continued", "continued-reset"):
            return (self.cell("continued", level - 1) if level > 1 else self.dense,)
        # The dense net too, for how far its weights have moved.
        before = self.cell("ticket", level - 1)
        return tuple(dict.fromkeys((before, self.dense))) if kind == "ticket" else (before,)

    def stack(self, kind: str, level: int) -> str | None:
        """Name the runs that can be trained together: they wait for the same levels, and take as many steps."""
        if not self.stacked:
            return None
        if kind in CHAINS:
            return f"{self.key}/{kind}/{level:02d}"
        return f"{self.key}/{'twins' if kind.endswith('-twin') else f'level-{level:02d}'}"


QUICK = Ladder(
    key="mnist1d",
    config="quick",
    title="LeNet-300-100 on MNIST-1D",
    scale="quick",
    layers=MNIST1D_LAYERS,
    iterations=QUICK_ITERATIONS,
    every=25,
    last=8,
    reinit=(3, 5, 7),
    random=(3, 7),
    one_shot=(3, 7),
    details=(7,),
    twins=(0, 7),
    speed=(3, 7),
    accuracy=5,
    fraction=0.0,
)

LENET = Ladder(
    key="lenet",
    title="LeNet-300-100 on MNIST",
    scale="standard",
    layers=LENET_LAYERS,
    iterations=LENET_ITERATIONS,
    every=100,
    last=16,
    trials=10,
    detail_trials=8,
    other_trials=3,
    reinit=(3, 7, 9, 12, 15),
    random=(7, 12),
    one_shot=(3, 7, 9, 13, 15),
    details=(9,),
    twins=(0, 9),
    speed=(3, 7),
    accuracy=9,
    small=15,
    reinit_small=12,
    one_shot_small=13,
)

CONV2 = Ladder(
    key="conv2",
    title="Conv-2 at a quarter of its width on CIFAR-10",
    scale="standard",
    layers=CONV2_QUARTER_LAYERS,
    iterations=CONV2_ITERATIONS,
    every=100,
    last=12,
    trials=CONV2_TRIALS,
    later_trials=CONV2_TRIALS,
    reinits=1,
    reinit=(7, 11),
    stacked=False,
    speed=(11,),
    accuracy=11,
    overrides=(
        ("data.train_size", 20_000),
        ("model.architecture_args.width", 0.25),
        # With a quarter of the channels the paper's 2e-4 is still improving at the end (held-out training images).
        ("model.optimizer.lr", 6e-4),
        ("trainer.precision", "bf16-mixed"),
    ),
)

LENET_PAPER = replace(
    LENET,
    key="lenet-50k",
    config="lenet",
    scale="paper",
    iterations=50_000,
    last=24,
    trials=5,
    detail_trials=None,
    other_trials=5,
    reinit=(*range(1, 17), 18, 20),
    random=(3, 7, 9, 12, 15),
    one_shot=(1, 2, 3, 5, 7, 9, 12, 13, 15, 16),
    details=(9, 15),
    twins=(0, 9, 15),
)
CONV2_PAPER = replace(
    CONV2,
    later_trials=5,
    key="conv2-20k",
    title="Conv-2 on CIFAR-10",
    layers=CONV2_LAYERS,
    overrides=(),
    accuracy=14,
    config="conv2",
    scale="paper",
    iterations=20_000,
    last=18,
    trials=5,
    reinits=3,
    reinit=(3, 7, 11, 14),
    random=(7, 11),
)
CONV4_PAPER = replace(
    CONV2_PAPER,
    key="conv4-25k",
    config="conv4",
    title="Conv-4 on CIFAR-10",
    layers=CONV4_LAYERS,
    iterations=25_000,
    last=20,
    reinit=(3, 8, 11, 12, 15),
    random=(8, 12),
    speed=(12,),
    accuracy=11,
)
CONV6_PAPER = replace(
    CONV2_PAPER,
    key="conv6-30k",
    config="conv6",
    title="Conv-6 on CIFAR-10",
    layers=CONV6_LAYERS,
    iterations=30_000,
    last=21,
    reinit=(3, 7, 10, 15),
    random=(7, 10),
    speed=(10,),
    accuracy=7,
)


def _with_dropout(ladder: Ladder, lr: float) -> Ladder:
    """Return the paper's run with dropout: three times as long, at another learning rate, three trials."""
    return replace(
        ladder,
        key=f"{ladder.config}-dropout",
        title=f"{ladder.title} with dropout 0.5",
        iterations=3 * ladder.iterations,
        trials=3,
        reinit=(),
        random=(),
        overrides=(("model.architecture_args.dropout", 0.5), ("model.optimizer.lr", lr)),
    )


DROPOUT = tuple(
    _with_dropout(ladder, lr) for ladder, lr in ((CONV2_PAPER, 3e-4), (CONV4_PAPER, 2e-4), (CONV6_PAPER, 2e-4))
)

LADDERS = (QUICK, LENET, CONV2, LENET_PAPER, CONV2_PAPER, CONV4_PAPER, CONV6_PAPER, *DROPOUT)
