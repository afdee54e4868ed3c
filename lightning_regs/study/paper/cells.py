"""Cells: configurations that are measured over several seeds, one by one, as a grid, or as trials of a method."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any

from lightning_regs.core.checks import Count, Name, checked, nonempty, seeds_apart
from lightning_regs.core.identity import canonical, identity, plain
from lightning_regs.core.metrics import ACCURACY
from lightning_regs.core.names import unknown_name, writable
from lightning_regs.study.paper.config import override, resolve
from lightning_regs.study.paper.estimates import UnfitError
from lightning_regs.study.paper.tasks import AGREE, AGREEMENT, OWN, TRAIN, check_read

Overrides = Mapping[str, Any]
# What is said of a best setting beyond which nothing was tried.
EDGE = "edge of its grid"
# What a tuned method was tried with: a number, or one for each of several things that vary.
Setting = float | tuple[float, ...]


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
        """Return the name of this cell's run with one seed, equal on every machine: what determines its result."""
        return identity(f'"seed":{int(seed)}'.join(self._around_seed))

    @cached_property
    def _around_seed(self) -> list[str]:
        text = canonical({"task": self.task, "config": self.config, "seed": None})
        return text.rsplit('"seed":null', 1)


class Cells(tuple[Cell, ...]):
    """Cells in order, to choose among and to change together."""

    __slots__ = ()

    @classmethod
    def of(cls, *methods: Tuned) -> Cells:
        """Return the cells of tuned methods, each once."""
        return cls({cell.name: cell for tuned in methods for cell in tuned.cells}.values())

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
@dataclass(frozen=True)
class Tuned(Sequence[str]):
    """A method at the best of its settings, which stands in a measure where a cell's name stands.

    The setting is chosen once, for all seeds: that whose mean of ``by`` over the seeds that all its cells have is the
    best, and of equals the first; one that has no finite mean is never chosen. Test data have no part in it. As all
    seeds choose, the interval of what is compared does not hold the luck of the choice. What compares two tuned methods
    asks for the same number of trials, and a number whose best setting is at an edge of its grid is invalid: a wider
    grid may hold a better one. An end at 0 is none, as there is nothing beyond it.

    Args:
        name: What the method is called.
        grid: Setting -> the cell there; a setting is a number, or one for each of several things that vary.
        by: What chooses, a metric of held-out training data (``data.val_split``): the largest where it is an accuracy
            (``_acc``), else the smallest.
        of: What varies, one name or as many as a setting has numbers.
        cells: The cells themselves, where :func:`grid_search` made them.

    Raises:
        ValueError: If a setting has not as many numbers as there are names in ``of``.
    """

    name: Name
    grid: Annotated[Mapping[Setting, Name], nonempty] = field(hash=False)
    by: Name = "val_error"
    of: Name | tuple[Name, ...] = "learning rate"
    cells: Cells = field(default=Cells(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for setting in self.grid:
            if len(_numbers(setting)) != len(self.varied):
                raise ValueError(f"the setting {setting} of {self.name} has not a number for each of {self.varied}.")

    def __getitem__(self, at: Any) -> Any:
        """Return the names of its cells."""
        return tuple(self.grid.values())[at]

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.grid)

    @property
    def varied(self) -> tuple[str, ...]:
        """What varies, a name for each number of a setting."""
        return (self.of,) if isinstance(self.of, str) else self.of

    def best(self, lines: Sequence[Sequence[float]]) -> Setting:
        """Return the best setting.

        Args:
            lines: A line a seed, in it what chooses of each cell.

        Raises:
            UnfitError: If no setting has a finite mean.
        """
        sign = -1 if self.by.endswith(ACCURACY) else 1
        means = [sign * statistics.fmean(column) for column in zip(*lines, strict=True)]
        ranked = {setting: mean for setting, mean in zip(self.grid, means, strict=True) if math.isfinite(mean)}
        if not ranked:
            raise UnfitError(f"no setting of {self.name} has a finite mean {self.by}", len(lines))
        return min(ranked, key=ranked.__getitem__)

    def edges(self, setting: Setting) -> str:
        """Say at which edges of its grid a setting is; empty where at none."""
        said, lines = [], zip(*map(_numbers, self.grid), strict=True)
        for name, number, line in zip(self.varied, _numbers(setting), lines, strict=True):
            ends = {"upper": max(line), "lower": min(line)} if len(set(line)) > 1 else {}
            said += [f"{side} {EDGE} of the {name}" for side, end in ends.items() if number == end != 0]
        return f"the best setting of {self.name} is at the {' and the '.join(said)}" if said else ""

    def told(self, setting: Setting) -> str:
        """Say what was chosen, of how many."""
        chosen = ", ".join(f"{name} {number:g}" for name, number in zip(self.varied, _numbers(setting), strict=True))
        return f"{self.name}: {chosen}, of {len(self)} trials by {self.by.replace('_', ' ')}"


def _numbers(setting: Setting) -> tuple[float, ...]:
    return setting if isinstance(setting, tuple) else (setting,)


@checked
def grid(
    name: str,
    config: str,
    overrides: Overrides | None = None,
    *,
    task: str | None = None,
    seeds: Count | None = None,
    needs: tuple[Name, ...] = (),
    stack: bool | str = False,
    **axes: Mapping[Any, Overrides],
) -> Cells:
    """Make a cell for each combination of what varies.

    Args:
        name: The cells' name, with an axis in braces for each that varies: ``"{net}/{method}"``.
        config: Configuration file of all of them, as :func:`~lightning_regs.study.paper.config.resolve` takes it.
        overrides: What all of them change in that file, by dotted path; and the task's own sections, such as
            ``{"snapshots": {"cycles": 5}}`` for :data:`SNAPSHOTS`; for a paper's own task, any key without a dot.
        task: Import path of the function that measures them; default: training as the configuration says, and of the
            cell ``"study/agreement"`` of a :class:`Scale` the study :data:`AGREE`.
        seeds: Their own number of seeds; None takes the scale's.
        needs: Names of the cells that each of them needs, with axes in braces where these vary with them.
        stack: Whether the seeds of a cell are trained together, as replicas; or as ``name``, with fewer of the axes, to
            train cells together that differ in ``lr``, ``weight_decay`` and ``momentum`` of their optimizer alone:
            ``"{optimizer}"``.
        **axes: For each axis its values: label -> what it overrides, such as ``{"none": {}, "dropout":
            {"model.architecture_args.dropout": 0.5}}``. Later axes override earlier ones, and all the common overrides.

    Returns:
        The cells, the last axis varying fastest.

    Raises:
        ValueError: If an axis does not stand in the name, a name in braces is no axis, or two cells get one name, or
            the task would ignore an override.
        TypeError: If the values of an axis are no mapping.
    """
    together = name if stack is True else stack or ""
    named = set(re.findall("{(.*?)}", name))
    for axis in axes:
        if axis not in named:
            raise ValueError(f"the grid {name!r} varies {axis!r}, which its name does not say; write {{{axis}}} in it.")
    if unknown := sorted({*named, *re.findall("{(.*?)}", " ".join((together, *needs)))} - set(axes)):
        raise ValueError(f"the grid {name!r} has {{{unknown[0]}}} in its name, which does not vary; add it.")
    if task is None:
        task = AGREE if name == AGREEMENT else TRAIN
    made = []
    for combination in itertools.product(*(values.items() for values in axes.values())):
        labels = {axis: str(label) for axis, (label, _) in zip(axes, combination, strict=True)}
        changes: dict[str, Any] = dict(overrides or {})
        for _, change in combination:
            changes |= change
        check_read(task, name, changes)
        own = OWN.get(task, tuple(changes))
        texts = (re.sub("{(.*?)}", lambda axis: labels[axis[1]], text) for text in (name, together, *needs))  # noqa: B023
        cell, label, *before = texts
        made.append(Cell(cell, task, resolve(config, changes, own), seeds, tuple(before), label or None))
    check_unique(f"the grid {name!r}", "cell", [cell.name for cell in made])
    return Cells(made)


@checked
def grid_search(
    name: str,
    config: str,
    overrides: Overrides | None = None,
    *,
    sets: str | Callable[..., Overrides] = "model.optimizer.lr",
    of: Name | tuple[Name, ...] = "learning rate",
    method: Name | None = None,
    task: str | None = None,
    stack: bool | str = False,
    **axes: Sequence[int | float],  # kept as written: 1 and 1.0 have two hashes
) -> Tuned:
    """Make a tuned method with its cells: ``grid_search("sgd/lr-{lr}", CONFIG, lr=(0.1, 0.3, 1))``.

    Its ``cells`` go into the scale; it stands itself in a claim or a figure where a cell's name stands.

    Args:
        name: The cells' name, as :func:`grid` takes it.
        config: Configuration file of all of them.
        overrides: What all of them change in that file.
        sets: What a setting changes after that: the path of its number, or a function of its numbers, by the names of
            the axes, that returns overrides.
        of: What varies, in words, one for each axis.
        method: What the method is called; default: what stands in ``name`` before the part with the first axis.
        task: As :func:`grid` takes it.
        stack: True to train all trials and seeds together, where they differ in learning rate, weight decay and
            momentum alone; otherwise as :func:`grid` takes it.
        **axes: The numbers of each axis.

    Raises:
        ValueError: As :func:`grid` and :class:`Tuned`, or if one path is to be set to several numbers.
    """
    if isinstance(sets, str) and len(axes) != 1:
        raise ValueError(f"the search {name!r} sets {sets!r} to {len(axes)} numbers; give a function of them as sets=.")
    group, found = name.partition("{")[0].rpartition("/")[0] or name, list[tuple[Setting, Cell]]()
    stack = group if stack is True else stack
    for numbers in itertools.product(*axes.values()):
        at = dict(zip(axes, numbers, strict=True))
        change = {sets: numbers[0]} if isinstance(sets, str) else sets(**at)
        labels: dict[str, Any] = {axis: {f"{number:g}": change} for axis, number in at.items()}
        [cell] = grid(name, config, overrides, task=task, stack=stack, **labels)
        found.append((numbers[0] if len(numbers) == 1 else numbers, cell))
    check_unique(f"the search {name!r}", "cell", [cell.name for _, cell in found])
    return Tuned(method or group, {at: cell.name for at, cell in found}, of=of, cells=Cells(cell for _, cell in found))


@checked
def regularized(name: Name, *more: Overrides, **options: Any) -> dict[str, Any]:
    """Return the override that trains with a regularizer, ``regularized("Mixup", alpha=1)``, and those of ``more``."""
    others = [method for override in more for method in override["model.regularizers"]]
    return {"model.regularizers": [{"class_path": f"lightning_regs.{name}", "init_args": options}, *others]}


def check_unique(owner: str, kind: str, names: Sequence[str]) -> None:
    """Refuse names of which one stands twice.

    Raises:
        ValueError: In one sentence.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{owner} has more than one {kind} named {min(twice)!r}; rename one.")
