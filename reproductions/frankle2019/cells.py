"""What is trained for Frankle & Carbin 2019 and its successors, as plain data.

A level is one round of pruning and training to the full length: level 0 is the dense net, level n has been pruned n
times. A :class:`Ladder` has a cell for each level and for each treatment that is measured beside its ticket: the same
mask with new weights, another mask, kept signs. Of a deep net, a :class:`Net`, all levels are one cell. Data, network,
lengths and levels of the quick scale were fixed on held-out training data before the first reported run; see the card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import product
from operator import itemgetter
from typing import Any

from lightning_regs.study import Cells, grid, resolve, variance_cells

REINITS = ("reinit-1", "reinit-2", "reinit-3")
# The experiments on why tickets train.
DETAILS = ("noise-0.5", "noise-3", "small-init", "continued-reset", "sign-reinit", "sign-reshuffle", "sign-constant",
           "reshuffle", "constant", "one-shot-frozen", "one-shot-frozen-grown")  # fmt: skip
# Treatments in the order of their cells, in groups that go level by level -> which runs are stacked: they wait for the
# same levels, and take as many steps.
GROUPS = {
    ("ticket",): "ticket/{:02d}", ("continued",): "continued/{:02d}", ("reinit", "random", "one-shot"): "level-{:02d}",
    ("details",): "level-{:02d}", ("ticket-twin", "reinit-1-twin"): "twins",
}  # fmt: skip
# How masks on weights that are never trained are found, the last with dynamic weight rescaling, and on which weights.
HOW, ON = ("untrained", "learned", "rescaled"), ("initial", "signed-constant")


@dataclass(frozen=True, kw_only=True)
class Net:
    """One network on one data set, pruned level by level.

    Attributes:
        key: Its cell's name, or the start of its cells' names.
        config: Its configuration file in ``configs/frankle2019``.
        title: Network, data and what is special, for the claims.
        layers: Weights that are compared with each other and the share of them that a round prunes, as of each layer.
        overrides: What it changes in the file, and in what all have.
    """

    key: str
    config: str
    title: str
    layers: tuple[tuple[int, float], ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """How sentences about it begin."""
        return self.title

    def p_m(self, level: int) -> float:
        """Return the percent of the weights that is left at a level, by exact counts, up to the rounding of layers."""
        kept = [weights for weights, _ in self.layers]
        for _ in range(level):
            kept = [count - round(rate * count) for count, (_, rate) in zip(kept, self.layers, strict=True)]
        return 100 * sum(kept) / sum(weights for weights, _ in self.layers)

    def cells(self) -> Cells:
        """Make its cell, a search for tickets by ``find_ticket``."""
        common = {
            "data.val_split": 5000, "warmup": 0, "pruning": {"rate": 0.2, "scope": "global"},
            "search": {"rewind_to": "0it", "method": "weight_rewinding", "fine_tune": None, "controls": []},
        }  # fmt: skip
        changes = {**common, **self.overrides}
        return grid(self.key, f"frankle2019/{self.config}", changes, task="frankle2019.deep:search", seeds=3)


@dataclass(frozen=True, kw_only=True)
class Ladder(Net):
    """A network each of whose levels is a cell.

    Attributes:
        iterations: Length of the training of a level.
        every: Iterations between validations.
        pruning: What a round prunes, where it is not a fifth of each layer and a tenth of the last.
        levels: The levels of each treatment, and of those that are called ``reinit`` and ``details`` together.
        fast: The paper's level at which the ticket should stop early.
        best: The level at which the ticket's accuracy should be above the dense net's.
        draws: Reinitialisations of each ticket.
        seeds: Glob of names of cells -> their seeds, the first that matches; None, as without a match, is the scale's.
        stacked: Whether the runs of a level are trained together, as replicas.
        mask_epochs: Passes over the training set that learn masks on weights which are never trained; 0 for no masks.
    """

    iterations: int
    every: int = 100
    pruning: Mapping[str, Any] = field(default_factory=dict)
    levels: Mapping[str, Sequence[int]]
    fast: int
    best: int
    draws: int = 3
    seeds: Mapping[str, int | None] = field(default_factory=dict)
    stacked: bool = True
    mask_epochs: int = 0

    @property
    def told(self) -> str:
        """How sentences about it begin."""
        return f"{self.title}, {self.iterations:,} iterations"

    @property
    def dense(self) -> str:
        """Name the cell of the dense net."""
        return self.cell("ticket", 0)

    def cell(self, kind: str, level: int) -> str:
        """Name the cell of a treatment at a level."""
        return f"{self.key}/{kind}/{level:02d}"

    def reinits(self, level: int) -> tuple[str, ...]:
        """Name the cells of a level's reinitialisations."""
        return tuple(self.cell(kind, level) for kind in REINITS[: self.draws])

    def masked(self, how: str, weights: str) -> str:
        """Name the cell of a mask on weights that are never trained: how it was found, and on which weights."""
        return f"{self.key}/supermask/{how}-{weights}"

    def needs(self, kind: str, level: int) -> tuple[str, ...]:
        """Name the cells whose weights a run starts from."""
        if kind.endswith("-twin"):
            return (self.cell(kind.removesuffix("-twin"), level),)
        if level == 0 or kind == "small-init":
            return ()
        if kind.startswith("one-shot"):
            return (self.dense,)
        if kind.startswith("continued"):
            return (self.cell("continued", level - 1) if level > 1 else self.dense,)
        # The dense net too, for how far its weights have moved.
        before = self.cell("ticket", level - 1)
        return tuple(dict.fromkeys((before, self.dense))) if kind == "ticket" else (before,)

    def cells(self) -> Cells:
        """Make the cells of its levels, each after those that it needs."""
        found, several = Cells(), {"reinit": REINITS[: self.draws], "details": DETAILS}
        for group, stack in GROUPS.items():
            runs = [(kind, level) for name in group for level in self.levels.get(name, ())
                    for kind in several.get(name, (name,))]  # fmt: skip
            for kind, level in sorted(runs, key=itemgetter(1)):
                own = self._trained | {"treatment": {"kind": kind, "level": level}}
                name, together = self.cell(kind, level), stack.format(level)
                found += self._made(name, "training:level", own, together, self.needs(kind, level))
        return found

    def masks(self) -> Cells:
        """Make the cells of masks on weights that are never trained: from the trained dense net, and learned."""
        found, pruning = Cells(), {**self.pruning, "criterion": "large_final_same_sign"}
        # Zhou et al.'s optimizer and batch size; on the few samples of the quick scale the batch stays that of levels.
        optimizer = {"name": "SGD", "lr": 100.0, "momentum": 0.9}
        learning = {"model.optimizer": optimizer, "trainer.max_epochs": self.mask_epochs}
        learning |= {} if self is QUICK else {"data.batch_size": 250}
        for how, weights in product(HOW, ON) if self.mask_epochs else ():
            name, on = self.masked(how, weights), weights.replace("-", "_")
            if how == "untrained":
                own = self._trained | {"pruning": pruning, "levels": 16, "weights": on}
                found += self._made(name, "supermasks:untrained", own, needs=(self.dense,))
            else:
                own = learning | {"supermask": {"weights": on, "rescale": how == "rescaled"}}
                found += self._made(name, "supermasks:learned", own, "supermask")
        return found

    @property
    def _trained(self) -> dict[str, Any]:
        return {"iterations": self.iterations, "every": self.every, "pruning": self.pruning}

    def _made(self, name: str, task: str, own: dict[str, Any], stack: str = "", needs: tuple[str, ...] = ()) -> Cells:
        changes = {"data.val_split": 5000, **self.overrides, **own}
        seeds = next((number for glob, number in self.seeds.items() if fnmatchcase(name, glob)), None)
        together = f"{self.key}/{stack}" if stack and self.stacked else False
        return grid(name, f"frankle2019/{self.config}", changes, task=f"frankle2019.{task}", seeds=seeds, needs=needs,
                    stack=together)  # fmt: skip


def of_ladders(*ladders: Ladder) -> Cells:
    """Make the cells of ladders: all of their levels, then all of their masks."""
    made = [*(ladder.cells() for ladder in ladders), *(ladder.masks() for ladder in ladders)]
    return Cells(cell for cells in made for cell in cells)


QUICK = Ladder(
    key="mnist1d", config="quick", title="LeNet-300-100 on MNIST-1D", iterations=2_000, fast=7, best=5, mask_epochs=40,
    layers=((12_000, 0.2), (30_000, 0.2), (1_000, 0.1)), overrides={"data.val_split": 1000}, every=25,
    levels={"ticket": range(9), "continued": range(1, 7), "reinit": (3, 5, 7), "random": (3, 7), "one-shot": (3, 7),
            "details": (7,), "ticket-twin": (0, 7), "reinit-1-twin": (7,)},
)  # fmt: skip
# Of another net of the kind: a level of pruning is no plain training, and a fifth of the width stands for one.
_OTHER = {**QUICK.overrides, "other": {"model.architecture_args.hidden": [60, 20]}}
STUDIES = variance_cells(resolve("frankle2019/quick", QUICK.overrides)) + grid(
    "study/agreement", "frankle2019/quick", _OTHER, seeds=5, stack=True
)

LENET = Ladder(
    key="lenet", config="lenet", title="LeNet-300-100 on MNIST", iterations=15_000, fast=7, best=9, mask_epochs=50,
    layers=((235_200, 0.2), (30_000, 0.2), (1_000, 0.1)),
    levels={"ticket": range(17), "continued": range(1, 9), "reinit": (3, 7, 9, 12, 15), "random": (7, 12),
            "one-shot": (3, 7, 9, 13, 15), "details": (9,), "ticket-twin": (0, 9), "reinit-1-twin": (9,)},
    seeds={"*/ticket/*": 10, "*/untrained-*": 10, "*/supermask/*": 3, "*-twin/*": 3, "*/continued/*": 8, "*/09": 8,
           "*/0[37]": 10},
)  # fmt: skip
LENET_PAPER = replace(
    LENET, key="lenet-50k", iterations=50_000, mask_epochs=2_000,
    seeds={"*/0[1-7]": 5, "*/reinit-?/*": None, "*/random/*": None, "*/one-shot/*": None, "*": 5},
    levels={"ticket": range(25), "continued": range(1, 15), "reinit": (*range(1, 17), 18, 20),
            "random": (3, 7, 9, 12, 15), "one-shot": (1, 2, 3, 5, 7, 9, 12, 13, 15, 16), "details": (9, 15),
            "ticket-twin": (0, 9, 15), "reinit-1-twin": (9, 15)},
)  # fmt: skip

CONV2_PAPER = Ladder(
    key="conv2-20k", config="conv2", title="Conv-2 on CIFAR-10", iterations=20_000, fast=11, best=14, stacked=False,
    layers=((1_728, 0.1), (36_864, 0.1), (4_194_304, 0.2), (65_536, 0.2), (2_560, 0.1)),
    levels={"ticket": range(19), "reinit": (3, 7, 11, 14), "random": (7, 11)},
    pruning={"rates": {"*features*": 0.1}}, seeds={"*/learned-*": None, "*/rescaled-*": None, "*": 5},
)  # fmt: skip
CONV4_PAPER = replace(
    CONV2_PAPER, key="conv4-25k", config="conv4", title="Conv-4 on CIFAR-10", iterations=25_000, fast=12, best=11,
    layers=(*((count, 0.1) for count in (1_728, 36_864, 73_728, 147_456)), (2_097_152, 0.2), (65_536, 0.2),
            (2_560, 0.1)),
    levels={"ticket": range(21), "reinit": (3, 8, 11, 12, 15), "random": (8, 12)}, mask_epochs=2_000,
)  # fmt: skip
CONV6_PAPER = replace(
    CONV4_PAPER, key="conv6-30k", config="conv6", title="Conv-6 on CIFAR-10", iterations=30_000, fast=10, best=7,
    layers=(*((count, 0.15) for count in (1_728, 36_864, 73_728, 147_456, 294_912, 589_824)), (1_048_576, 0.2),
            (65_536, 0.2), (2_560, 0.1)),
    levels={"ticket": range(22), "reinit": (3, 7, 10, 15), "random": (7, 10)},
    pruning={"rates": {"*features*": 0.15}},
)  # fmt: skip
CONVS = (CONV2_PAPER, CONV4_PAPER, CONV6_PAPER)
CONV2 = replace(
    CONV2_PAPER, key="conv2", title="Conv-2 at a quarter of its width on CIFAR-10", iterations=4_000, best=11,
    layers=((432, 0.1), (2_304, 0.1), (262_144, 0.2), (4_096, 0.2), (640, 0.1)), seeds={"*": 3},
    levels={"ticket": range(13), "reinit": (7, 11)}, draws=1,
    overrides={
        "data.train_size": 20_000, "model.architecture_args.width": 0.25, "trainer.precision": "bf16-mixed",
        # With a quarter of the channels the paper's 2e-4 is still improving at the end (held-out training images).
        "model.optimizer.lr": 6e-4,
    },
)  # fmt: skip
# The paper's runs with dropout: three times as long, at another learning rate, three trials.
DROPOUT = tuple(
    replace(
        ladder, key=f"{ladder.config}-dropout", title=f"{ladder.title} with dropout 0.5", seeds={"*": 3}, mask_epochs=0,
        iterations=3 * ladder.iterations, levels={"ticket": ladder.levels["ticket"]},
        overrides={"model.architecture_args.dropout": 0.5, "model.optimizer.lr": lr},
    )
    for ladder, lr in zip(CONVS, (3e-4, 2e-4, 2e-4), strict=True)
)  # fmt: skip
LADDERS = (QUICK, LENET, CONV2, LENET_PAPER, *CONVS, *DROPOUT)


def _deep(net: Net, lr: float, warmup: int, late: Sequence[int]) -> dict[str, Net]:
    """Return searches of a net: at two rates, with a warm-up to ``lr``, layer by layer, rewound to late iterations."""
    warm, said = {"model.optimizer.lr": lr, "warmup": warmup}, f"lr {lr}, warm-up {warmup:,}"
    alone: dict[str, Any] = {"search.controls": []}

    def made(key: str, said: str, changes: Mapping[str, Any]) -> Net:
        changes = {**net.overrides, **changes}
        return replace(net, key=f"{net.key}/{key}", title=f"{net.title}, {said}", overrides=changes)

    return {
        "high": made("lr0.1", "lr 0.1", {}),
        "low": made("lr0.01", "lr 0.01", {"model.optimizer.lr": 0.01}),
        "warm": made(f"warmup{lr}", said, warm),
        "layers": made(f"warmup{lr}-layerwise", said, warm | alone | {"pruning.scope": "layer"}),
        **{str(k): made(f"lr0.1-rewind-{k}", "lr 0.1", alone | {"search.rewind_to": f"{k}it"}) for k in late},
    }


# Only convolutions are pruned.
RESNET = _deep(
    Net(key="resnet20", config="resnet20", title="ResNet-20 on CIFAR-10", layers=((267_696, 0.2), (3_200, 0)),
        overrides={"pruning.layers": ["*.conv?"], "search.levels": 12, "search.controls": ["reinitialise:1"]}),
    lr=0.03, warmup=20_000, late=(100, 500, 2000),
)  # fmt: skip
VGG = _deep(
    Net(key="vgg19", config="vgg19", title="VGG-19 on CIFAR-10", layers=((20_018_880, 0.2), (5_120, 0)),
        overrides={"pruning.layers": ["*features*"], "search.levels": 19, "search.controls": ["reinitialise:1"]}),
    lr=0.1, warmup=10_000, late=(100, 1000),
)  # fmt: skip

# Renda et al.: 182 epochs at batch 128, drops at epochs 91 and 136. They choose the length of retraining on validation
# data; here it is 130 epochs, the same for all three, so both kinds of rewinding go back to epoch 52.
_RENDA = Net(
    key="renda/weight-rewinding", config="resnet20", title="ResNet-20 on CIFAR-10, 182 epochs",
    layers=((270_896, 0.2),),
    overrides={
        "pruning.layers": ["*"], "search.levels": 10, "search.rewind_to": "52ep",
        "model.optimizer.weight_decay": 2e-4, "trainer.max_epochs": 182, "trainer.max_steps": -1,
        "model.schedule": {"name": "MultiStepLR", "milestones": [91, 136], "gamma": 0.1, "interval": "epoch"},
    },
)  # fmt: skip
_TUNED = {"search.method": "fine_tuning", "search.rewind_to": "0it", "search.fine_tune": "130ep"}
RENDA = {
    "weight": _RENDA,
    "lr": replace(_RENDA, key="renda/lr-rewinding", overrides={**_RENDA.overrides, "search.method": "lr_rewinding"}),
    "tuned": replace(_RENDA, key="renda/fine-tuning", overrides={**_RENDA.overrides, **_TUNED}),
}
SEARCHES = (*RESNET.values(), *VGG.values(), *RENDA.values())
SEARCHED = Cells(cell for net in SEARCHES for cell in net.cells())
