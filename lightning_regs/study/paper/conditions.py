"""Conditions: what has to hold in the runs that a claim is about before its number says anything about the paper."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

from lightning_regs.core.checks import Name, checked, nonempty
from lightning_regs.study.paper.cells import Tuned
from lightning_regs.study.paper.criteria import Criterion
from lightning_regs.study.paper.rows import Rows


@dataclass(frozen=True)
class Condition:
    """A limit that every run of some cells has to keep; see :func:`trained`.

    Args:
        cells: Names of cells, or patterns (``"3x1024/*"``), or tuned methods, of which the chosen cell counts.
        metric: What is looked at.
        criterion: What it has to satisfy.
    """

    cells: tuple[str | Tuned, ...]
    metric: str
    criterion: Criterion

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names and patterns, those of all settings of a tuned method among them."""
        return tuple(name for each in self.cells for name in ([each] if isinstance(each, str) else each))

    def lacks(self, cells: Collection[str]) -> str | None:
        """Return the first name or pattern that none of these cells has; None where all are there."""
        return next((pattern for pattern in self.patterns if not fnmatch.filter(cells, pattern)), None)

    def broken(self, rows: Rows, cells: Collection[str] | None = None) -> dict[str, str]:
        """Return the cells some of whose runs do not keep it, each with what they have instead.

        Args:
            rows: What was measured.
            cells: Those among which patterns are looked up; None for those that were measured.

        Raises:
            MissingRows: If a cell has no rows, or none of its rows has the metric.
        """
        chosen = [each.grid[rows.chosen(each)] if isinstance(each, Tuned) else each for each in self.cells]
        among = rows.cells() if cells is None else cells
        names = [name for pattern in chosen for name in fnmatch.filter(among, pattern) or [pattern]]
        found = {}
        for name in dict.fromkeys(names):
            values = rows.metric(name, self.metric)
            worse = [v for v in values.values() if math.isnan(v) or not self.criterion.contains(v, v)]
            if worse:
                ends = dict.fromkeys((f"{min(worse):.4g}", f"{max(worse):.4g}"))
                found[name] = f"{self.metric} is {' to '.join(ends)} in {len(worse)} of {len(values)} runs of {name}"
        return found

    def failing(self, rows: Rows, cells: Collection[str] | None = None) -> str:
        """Say which runs do not keep it; empty where all do. Takes and raises as :meth:`broken`."""
        broken = self.broken(rows, cells)
        return f"{', '.join(broken.values())}; asked of every run is {self.criterion.text()}" if broken else ""

    def text(self) -> str:
        """Say it in words."""
        names = [each if isinstance(each, str) else f"{each.name} at its best" for each in self.cells]
        return f"every run of {', '.join(names)} has {self.metric} {self.criterion.text()}"


@checked
def trained(
    cells: Annotated[str | Tuned | Sequence[str | Tuned], nonempty],
    metric: Name = "train_acc",
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Condition:
    """Ask of every run of some cells that it was trained as the comparison needs it.

    Args:
        cells: A cell's name or pattern, or a tuned method; or several.
        metric: What is looked at.
        above: The metric has to be above this; the other limits are those of a claim.
        below: Or below this.
        at_least: Or at least this.
        at_most: Or at most this.

    Raises:
        ValueError: If there is no limit, or the limits leave no number.
    """
    names = (cells,) if isinstance(cells, str | Tuned) else tuple(cells)
    criterion = Criterion.of(f"the condition on {names}", above=above, below=below, at_least=at_least, at_most=at_most)
    if criterion is None or not names:
        raise ValueError(f"the condition on {names} has no limit or no cell; add at_least= or the like, and cells.")
    return Condition(names, metric, criterion)
