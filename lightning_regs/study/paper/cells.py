"""Cells: configurations that are measured over several seeds, one by one or as a grid."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from lightning_regs.core.checks import Count, checked, seeds_apart
from lightning_regs.core.identity import plain
from lightning_regs.core.names import unknown_name, writable
from lightning_regs.study.paper.config import override, resolve, run_hash, seedless

TRAIN = "lightning_regs.study.train:train"
"""The task of most cells: train as the configuration says, and return the metrics."""
AGREE = "lightning_regs.study.studies.agreement:agree"
"""The task that trains two nets and measures whether they are right on the same test samples."""
SNAPSHOTS = "lightning_regs.procedures.snapshots.cells:snapshots"
"""The task that averages snapshots of one training; its docstring says the configuration and the columns."""
ATTACKED = "lightning_regs.study.studies.robustness:attacked"
"""The task that measures a net on adversarial examples; its docstring says the configuration and the columns."""
_READ = ("callbacks", "fitted", "seeds")  # what training reads beside the sections
Overrides = Mapping[str, Any]


@checked
@dataclass(frozen=True)
class Cell:
    """One configuration, measured over several seeds.

    Args:
        name: Unique in its scale; what ``--cells`` matches.
        task: Import path of the function that measures it, ``"module:function"``.
        config: Plain data, resolved. Where it trains, ``config["seeds"]`` sets seeds apart from the run's: with
            ``{"weights": 0, "split": 0}`` its runs differ in the order of the data alone.
        seeds: Its own number of seeds; None takes the scale's. A cell never runs more seeds than its own number, nor
            do those that need it.
        needs: Names of cells of the same scale that are complete, with the same seed, before a run of this one starts;
            its task finds their folders in ``run.inputs``. What this cell takes from them has to follow from ``config``
            alone, because the run's hash knows nothing else.
        stack: Label that runs share which can be trained together in one process, as replicas; None: each alone. The
            task is then also called as ``task.stacked(configs, runs)``, with a list of metrics to return.

    Raises:
        ValueError: If the name is empty, the task is no import path, the number of seeds is below 1, or the cell needs
            itself.
        TypeError: If the config is not plain data.
    """

    name: str
    task: str
    config: dict[str, Any] = field(default_factory=dict)
    seeds: Count | None = None
    needs: tuple[str, ...] = ()
    stack: str | None = None

    def __post_init__(self) -> None:
        if self.name in self.needs:
            raise ValueError(f"cell {self.name!r} needs itself; name the cells that come before it.")
        if not self.name.strip():
            raise ValueError("a cell needs a name; give it one that says what it varies.")
        if not writable(self.name):
            raise ValueError(f"cell {self.name!r} has a name that no file can hold; give it another.")
        if self.task.count(":") != 1 or not all(self.task.split(":")):
            raise ValueError(f"cell {self.name!r} has the task {self.task!r}; write it as 'module:function'.")
        if "trainer" in self.config:
            try:
                seeds_apart(self.config)
            except (TypeError, ValueError) as error:
                raise type(error)(f"cell {self.name!r}: {error}") from None
        object.__setattr__(self, "config", plain(self.config, f"config of cell {self.name!r}"))

    def hash(self, seed: int) -> str:
        """Return the name of this cell's run with one seed."""
        return run_hash(*self._seedless, seed)

    @cached_property
    def _seedless(self) -> tuple[str, str]:
        return seedless(self.task, self.config)


class Cells(tuple[Cell, ...]):
    """Cells in order, to choose among and to change together."""

    __slots__ = ()

    def only(self, *patterns: str) -> Cells:
        """Return those whose name is one of the names or globs, in their own order.

        Raises:
            ValueError: If a pattern matches nothing; the message suggests the nearest name.
        """
        names = [cell.name for cell in self]
        chosen: set[str] = set()
        for pattern in patterns:
            hits = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
            if not hits:
                below = f"{pattern.rstrip('/')}/"
                if number := sum(name.startswith(below) for name in names):
                    raise ValueError(f"no cell is {pattern!r}, and {number} are '{below}*'; give that, or one of them.")
                raise unknown_name("cell", pattern, names)
            chosen |= hits
        return Cells(cell for cell in self if cell.name in chosen)

    def at(self, overrides: Overrides) -> Cells:
        """Return the same cells with overrides to the configurations of those that train."""
        return Cells(
            replace(cell, config=override(cell.config, overrides)) if "trainer" in cell.config else cell
            for cell in self
        )

    def __add__(self, other: Iterable[Cell]) -> Cells:  # type: ignore[override]
        return Cells((*self, *other))


@checked
def grid(
    name: str,
    config: str,
    overrides: Overrides | None = None,
    *,
    task: str = TRAIN,
    seeds: Count | None = None,
    **axes: Mapping[Any, Overrides],
) -> Cells:
    """Make a cell for each combination of what varies.

    Args:
        name: The cells' name, with an axis in braces for each that varies: ``"{net}/{method}"``.
        config: Configuration file of all of them, as :func:`~lightning_regs.study.paper.config.resolve` takes it.
        overrides: What all of them change in that file, by dotted path.
        task: Import path of the function that measures them; default: training as the configuration says.
        seeds: Their own number of seeds; None takes the scale's.
        **axes: For each axis its values: label -> what it overrides, such as ``{"none": {}, "dropout":
            {"model.architecture_args.dropout": 0.5}}``. Later axes override earlier ones, and all the common overrides.

    Returns:
        The cells, the last axis varying fastest.

    Raises:
        ValueError: If an axis does not stand in the name, a name in braces is no axis, or two cells get one name, or
            training would ignore an override.
        TypeError: If the values of an axis are no mapping.
    """
    named = set(re.findall("{(.*?)}", name))
    for axis in axes:
        if axis not in named:
            raise ValueError(f"the grid {name!r} varies {axis!r}, which its name does not say; write {{{axis}}} in it.")
    if unknown := sorted(named - set(axes)):
        raise ValueError(f"the grid {name!r} has {{{unknown[0]}}} in its name, which does not vary; add it.")
    made = []
    for combination in itertools.product(*(values.items() for values in axes.values())):
        labels = {axis: str(label) for axis, (label, _) in zip(axes, combination, strict=True)}
        changes: dict[str, Any] = dict(overrides or {})
        for _, change in combination:
            changes |= change
        if task == TRAIN:
            _check_read(name, changes)
        cell = re.sub("{(.*?)}", lambda found: labels[found[1]], name)  # noqa: B023  # called at once
        made.append(Cell(cell, task, resolve(config, changes), seeds))
    check_unique(f"the grid {name!r}", "cell", [cell.name for cell in made])
    return Cells(made)


def _check_read(name: str, overrides: Overrides) -> None:
    """Refuse a single value beside the sections that training does not read."""
    for path, value in overrides.items():
        if "." not in path and not isinstance(value, Mapping) and path not in _READ:
            raise ValueError(
                f"the grid {name!r} overrides {path!r}, which training does not read; write its section as well, such "
                f"as 'trainer.{path}', or name a task that reads it."
            )


def check_unique(owner: str, kind: str, names: Sequence[str]) -> None:
    """Refuse names of which one stands twice.

    Raises:
        ValueError: In one sentence.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{owner} has more than one {kind} named {min(twice)!r}; rename one.")
