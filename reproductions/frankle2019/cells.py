"""What is trained for Frankle & Carbin 2019 and its successors, at each scale, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frankle2019.ladders import CONV4_PAPER, CONV6_PAPER, LADDERS, LENET, LENET_PAPER, QUICK, Ladder
from frankle2019.searches import SEARCHES, Search

from lightning_regs.study import AGREE, Cell, resolve, variance_cells

LEVEL = "frankle2019.training:level"
SEARCH = "frankle2019.deep:search"
LEARNED = "frankle2019.supermasks:learned"
UNTRAINED = "frankle2019.supermasks:untrained"

# The nets whose weights are masked instead of trained -> passes over the training set: the paper has 2,000.
SUPERMASKS = {QUICK: 40, LENET: 50, LENET_PAPER: 2_000, CONV4_PAPER: 2_000, CONV6_PAPER: 2_000}

# Held out for early stopping.
_VALIDATION = {"quick": 1000}
_PRUNING: dict[str, dict[str, Any]] = {
    "conv2": {"rates": {"*features*": 0.1}},
    "conv4": {"rates": {"*features*": 0.1}},
    "conv6": {"rates": {"*features*": 0.15}},
}
WEIGHTS = ("initial", "signed_constant")


def config_of(ladder: Ladder) -> dict[str, Any]:
    """Return what the runs of a ladder share."""
    name = ladder.config or ladder.key
    overrides = {
        "data.val_split": _VALIDATION.get(name, 5000),
        "iterations": ladder.iterations,
        "every": ladder.every,
    }
    return resolve(f"configs/frankle2019/{name}.yaml", overrides | dict(ladder.overrides))


def ladder_cells(ladder: Ladder) -> Iterator[Cell]:
    """Make the cells of a ladder, each level's ticket before what is compared with it."""
    shared = config_of(ladder) | {"pruning": _PRUNING.get(ladder.config or ladder.key, {})}
    for kind, level in ladder.runs():
        yield Cell(
            ladder.cell(kind, level),
            LEVEL,
            shared | {"treatment": {"kind": kind, "level": level}},
            seeds=ladder.seeds(kind, level),
            needs=ladder.needs(kind, level),
            stack=ladder.stack(kind, level),
        )


def supermask(ladder: Ladder, how: str, weights: str) -> str:
    """Name the cell of a mask on weights that are never trained: how it was found, and on which weights."""
    return f"{ladder.key}/supermask/{how}-{weights.replace('_', '-')}"


def supermask_cells(ladder: Ladder) -> Iterator[Cell]:
    """Make the cells of masks without trained weights: from the trained dense net of a ladder, and learned."""
    shared, epochs = config_of(ladder), SUPERMASKS[ladder]
    for weights in WEIGHTS:
        yield Cell(
            supermask(ladder, "untrained", weights),
            UNTRAINED,
            shared
            | {
                "pruning": _PRUNING.get(ladder.config, {}) | {"criterion": "large_final_same_sign"},
                "weights": weights,
                "levels": 16,
            },
            seeds=ladder.trials,
            needs=(ladder.dense,),
        )
    # Zhou et al.'s optimizer and batch size; on the few samples of the quick scale the batch stays that of the ladder.
    batch = shared["data"]["batch_size"] if ladder.scale == "quick" else 250
    learning = {
        "model": shared["model"] | {"optimizer": {"name": "SGD", "lr": 100.0, "momentum": 0.9}},
        "data": shared["data"] | {"batch_size": batch},
        "trainer": {"max_epochs": epochs, "precision": "32-true"},
    }
    for rescale in (False, True):
        for weights in WEIGHTS:
            yield Cell(
                supermask(ladder, "rescaled" if rescale else "learned", weights),
                LEARNED,
                learning | {"supermask": {"weights": weights, "rescale": rescale}},
                seeds=ladder.other_trials,
                stack=f"{ladder.key}/supermask" if ladder.stacked else None,
            )


def search_cell(search: Search) -> Cell:
    """Make the cell of a search."""
    overrides = {"data.val_split": 5000, "model.optimizer.lr": search.lr} | dict(search.overrides)
    options = {
        "levels": search.levels,
        "rewind_to": search.rewind_to,
        "method": search.method,
        "fine_tune": search.fine_tune,
        "controls": list(search.controls),
    }
    config = resolve(f"configs/frankle2019/{search.config}.yaml", overrides) | {
        "warmup": search.warmup,
        "pruning": {"rate": 0.2, "scope": search.scope, "layers": list(search.layers)},
        "search": options,
    }
    return Cell(search.key, SEARCH, config, seeds=search.trials)


def quick() -> tuple[Cell, ...]:
    """LeNet-300-100 on MNIST-1D: minutes on two cores."""
    dense = {part: config_of(QUICK)[part] for part in ("model", "data", "trainer")}
    name = "study/agreement"
    # Of another net of the kind: a level of pruning is no plain training, and a fifth of the width stands for one.
    smaller = {"model.architecture_args.hidden": [60, 20]}
    agreement = Cell(name, AGREE, dense | {"other": smaller}, seeds=5, stack=name)
    return (*_of_scale("quick"), *variance_cells(dense), agreement)


def standard() -> tuple[Cell, ...]:
    """LeNet-300-100 on MNIST, Conv-2 on CIFAR-10, supermasks on MNIST: hours on two cores."""
    return _of_scale("standard")


def paper() -> tuple[Cell, ...]:
    """The papers' networks and lengths: one GPU."""
    return (*_of_scale("paper"), *map(search_cell, SEARCHES))


def _of_scale(scale: str) -> tuple[Cell, ...]:
    return (
        *(cell for ladder in LADDERS if ladder.scale == scale for cell in ladder_cells(ladder)),
        *(cell for ladder in SUPERMASKS if ladder.scale == scale for cell in supermask_cells(ladder)),
    )
