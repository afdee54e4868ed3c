"""Measured rows, looked up by cell, or by what is chosen of several cells, and paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

from lightning_regs.core.checks import nonempty
from lightning_regs.core.metrics import ACCURACY, ERROR
from lightning_regs.study.paper.cells import Setting, Tuned
from lightning_regs.study.paper.tasks import AGREEMENT

Names = Annotated[str | Sequence[str], nonempty]


class MissingRows(LookupError):
    """Raised by :class:`Rows` when what a claim or a figure needs has not been measured."""


class Rows:
    """Measured rows, looked up by cell and paired by seed.

    Args:
        rows: One mapping a run, with at least ``cell`` and ``seed``; the other entries are metrics and provenance.
        test_items: Number of test samples, where they are a sample themselves; 0 where they are what is asked about.
        planned: Names of all cells that the scale has, measured or not; none where that is not known.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], test_items: int = 0, planned: Collection[str] = ()) -> None:
        self.test_items, self.planned = test_items, planned
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
