"""Measured rows, looked up by cell, or by what is chosen of several cells, and paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, overload

from lightning_regs.core.checks import Name, checked, nonempty
from lightning_regs.core.metrics import ACCURACY, ERROR
from lightning_regs.study.paper.estimates import UnfitError

Names = Annotated[str | Sequence[str], nonempty]
# The cell that measures how far trained nets are right on the same test samples.
AGREEMENT = "study/agreement"
# What is said of a best setting beyond which nothing was tried.
EDGE = "edge of its grid"
# What a tuned method was tried with: a number, or one for each of several things that vary.
Setting = float | tuple[float, ...]


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

    Raises:
        ValueError: If a setting has not as many numbers as there are names in ``of``.
    """

    name: Name
    grid: Annotated[Mapping[Setting, Name], nonempty] = field(hash=False)
    by: Name = "val_error"
    of: Name | tuple[Name, ...] = "learning rate"

    def __post_init__(self) -> None:
        for setting in self.grid:
            if len(_numbers(setting)) != len(self._of):
                raise ValueError(f"the setting {setting} of {self.name} has not a number for each of {self._of}.")

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        """Return the names of its cells."""
        return tuple(self.grid.values())[at]

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.grid)

    @property
    def _of(self) -> tuple[str, ...]:
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
        for name, number, line in zip(self._of, _numbers(setting), lines, strict=True):
            ends = {"upper": max(line), "lower": min(line)} if len(set(line)) > 1 else {}
            said += [f"{side} {EDGE} of the {name}" for side, end in ends.items() if number == end != 0]
        return f"the best setting of {self.name} is at the {' and the '.join(said)}" if said else ""

    def told(self, setting: Setting) -> str:
        """Say what was chosen, of how many."""
        chosen = ", ".join(f"{name} {number:g}" for name, number in zip(self._of, _numbers(setting), strict=True))
        return f"{self.name}: {chosen}, of {len(self)} trials by {self.by.replace('_', ' ')}"


def _numbers(setting: Setting) -> tuple[float, ...]:
    return setting if isinstance(setting, tuple) else (setting,)


class MissingRows(LookupError):
    """Raised by :class:`Rows` when what a claim or a figure needs has not been measured."""


class Rows:
    """Measured rows, looked up by cell and paired by seed.

    Args:
        rows: One mapping a run, with at least ``cell`` and ``seed``; the other entries are metrics and provenance.
        test_items: Number of test samples, where they are a sample themselves; 0 where they are what is asked about.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], test_items: int = 0) -> None:
        self.test_items = test_items
        self._rows: dict[str, dict[int, Mapping[str, Any]]] = {}
        for row in rows:
            self._rows.setdefault(str(row["cell"]), {})[int(row["seed"])] = row

    def cells(self) -> list[str]:
        """Return the names of the cells that have at least one row, in the order of the rows."""
        return list(self._rows)

    @property
    def agreement(self) -> tuple[float, float]:
        """How far two seeds of one net, and two nets, are right on the same test samples.

        Both are correlations; where they were not measured, the worst that can be: 1 and 0.
        """
        try:
            pairs = self.paired((AGREEMENT, "agreement_within"), (AGREEMENT, "agreement"))
        except MissingRows:
            return 1.0, 0.0
        known = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if not known:
            return 1.0, 0.0
        within, between = (min(max(statistics.fmean(column), 0.0), 1.0) for column in zip(*known, strict=True))
        return within, min(between, within)

    def without_items(self) -> Rows:
        """Return the same rows, as if the test samples were what is asked about."""
        return Rows(row for seeds in self._rows.values() for row in seeds.values())

    def metric(self, cells: Names, name: str) -> dict[int, float]:
        """Return one number per seed.

        Args:
            cells: A cell's name, or several, whose mean over cells is taken for each seed that all of them have; of a
                tuned method the chosen cell, at the seeds that all of its cells have.
            name: A metric, or another numeric column such as ``epochs`` or ``wall_s``. Where there is no ``test_error``
                it is 100 minus ``test_acc``, and so are its like.

        Returns:
            Seed -> value, seeds in ascending order.

        Raises:
            MissingRows: If a cell has no rows, or none of its rows has the metric.
        """
        if isinstance(cells, Tuned):
            seeds = set.intersection(*(set(self.metric(cell, cells.by)) for cell in cells))
            column = self.metric(cells.grid[self.chosen(cells)], name)
            return {seed: number for seed, number in column.items() if seed in seeds}
        if not isinstance(cells, str):
            columns = [self.metric(cell, name) for cell in cells]
            seeds = set.intersection(*map(set, columns))
            return {seed: statistics.fmean(column[seed] for column in columns) for seed in sorted(seeds)}
        found = self._column(cells, name)
        if not found and name.endswith(ERROR):
            return {seed: 100 - acc for seed, acc in self.metric(cells, name.removesuffix(ERROR) + ACCURACY).items()}
        if not found:
            raise MissingRows(f"the rows of cell {cells!r} have no metric {name!r}")
        return found

    def chosen(self, tuned: Tuned) -> Setting:
        """Return the best setting of a tuned method.

        Raises:
            MissingRows: If a cell or metric has no rows, or the cells have no seed in common.
            UnfitError: If no setting has a finite mean.
        """
        return tuned.best(self.paired(*((cell, tuned.by) for cell in tuned)))

    def _column(self, cell: str, name: str) -> dict[int, float]:
        """Return the numbers of a column by seed, none where a cell lacks it."""
        if cell not in self._rows:
            raise MissingRows(f"cell {cell!r} has no rows")
        rows = self._rows[cell]
        return {seed: float(rows[seed][name]) for seed in sorted(rows) if _is_number(rows[seed].get(name))}

    def paired(self, *parts: tuple[Names, str]) -> list[tuple[float, ...]]:
        """Return, for each seed that all parts have, their values in order.

        Args:
            *parts: Cell or cells, and metric, as :meth:`metric` takes them.

        Raises:
            MissingRows: As :meth:`metric`, or if there is no seed that all of them have.
        """
        columns = [self.metric(cells, name) for cells, name in parts]
        seeds = sorted(set.intersection(*map(set, columns)))
        if not seeds:
            raise MissingRows(f"{' and '.join(repr(cells) for cells, _ in parts)} have no seed in common")
        return [tuple(column[seed] for column in columns) for seed in seeds]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
