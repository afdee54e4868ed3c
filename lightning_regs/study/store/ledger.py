"""The tables of one scale, kept up to date while its runs finish."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_regs.core.files import lock, renew
from lightning_regs.core.runs import Store
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.store.curves import PLACES, Curves, finite, parse_curves
from lightning_regs.study.store.results import ENDINGS, check_claims, claims_text
from lightning_regs.study.store.tables import DamagedTable, Row, read, read_table, table

_MINUTE = 60.0


class Ledger:
    """The tables of one scale, made from the store and from the rows that only tables have.

    A run that several scales of the paper have is measured once: its row in the table of one is a row of the others.
    They are in ``folder``; None is the default of :func:`~lightning_regs.study.run.runner.reproduce`.

    Raises:
        DamagedTable: If the table that is there is damaged.
    """

    def __init__(self, paper: Paper, scale: Scale, store: Store, folder: str | os.PathLike[str] | None = None) -> None:
        self.paper, self.scale, self.store = paper, scale, store
        self.folder = Path(folder).expanduser() if folder is not None else store.results(paper.id)
        self.csv, self.claims_json, self.curves_csv = (self.folder / f"{scale.name}{end}" for end in ENDINGS)
        self.runs: dict[str, Mapping[str, Any]] = {}  # the rows of run folders, by hash
        self._places: dict[str, list[tuple[int, int]]] = {}  # by hash: number of the cell and seed, of all it measures
        self._rows: dict[tuple[int, int], Row] = {}
        self._new, self._written = 0, time.monotonic()  # rows since the table was written, and when that was
        self._judged: list[ClaimResult] | None = None
        self._seen: tuple[int, ...] | None = None
        self._seeds: set[int] = set()
        self._fresh: set[str] = set()  # runs whose rows are newer than the table: read or finished since that was read
        self.measured(seed for cell in scale.cells for seed in range(max(cell.seeds or 0, scale.seeds)))
        self._merge()
        self._share()
        self._fresh = set()

    def measured(self, seeds: Iterable[int]) -> None:
        """Take the rows that the store has for these seeds, of all cells of the scale."""
        for seed in set(seeds) - self._seeds:
            self._seeds.add(seed)
            for at, cell in enumerate(self.scale.cells):
                run = cell.hash(seed)
                self._places.setdefault(run, []).append((at, seed))
                row = self.runs.get(run) or self.store.run(run).row()
                if row is not None:
                    self.add(run, row)

    def add(self, run: str, row: Mapping[str, Any]) -> None:
        """Take the row of a finished run, for every cell that it measures."""
        self.runs[run] = row
        self._fresh.add(run)
        for at, seed in self._places[run]:
            self._put((at, seed), Row.of({**row, "cell": self.scale.cells[at].name, "seed": seed}))

    def rows(self) -> list[Row]:
        """Return all rows, in the order of the cells, then of the seeds.

        Those of another configuration than a cell has now are marked, and end with the cell's first new row.
        """
        anew = {cell for (cell, _), row in self._rows.items() if row.current}
        return [row for place, row in sorted(self._rows.items()) if row.current or place[0] not in anew]

    def claims(self) -> list[ClaimResult]:
        """Check the claims on all rows."""
        if self._judged is None:
            self._judged = check_claims(self.paper, self.scale, self.rows())
        return self._judged

    def finished(self, run: str, row: Mapping[str, Any]) -> None:
        """Take the row of a finished run as :meth:`add` does, and write the table where it has become old.

        It is written when a hundredth of its rows is new, or a minute has passed, so that all that is written grows
        with the rows and not with their square. Nothing is lost by a kill meanwhile: the runs have their rows.
        """
        self.add(run, row)
        if self._new * 100 >= len(self._rows) or time.monotonic() - self._written > _MINUTE:
            self.write()

    def write(self, finish: bool = False) -> None:
        """Bring ``SCALE.csv`` up to date; a file that is so already is not touched.

        To ``finish`` judges the claims as well, and brings ``SCALE.claims.json`` and ``SCALE.curves.csv`` up to date,
        keeping the curves of rows that only the table has.
        """
        if not self._rows:
            return
        with lock(self.folder, file=""):
            self._merge()
            renew(self.csv, table(self.rows(), self.paper.id, self.scale.name))
            self._seen, self._new, self._written = self._state(), 0, time.monotonic()
            if finish:
                renew(self.claims_json, claims_text(self.claims()))
                if curves := self._curves():
                    renew(self.curves_csv, curves.to_csv())

    def _merge(self) -> None:
        """Take the rows that only the table has, if another command has written it since."""
        if (state := self._state()) == self._seen:
            return
        numbers = {cell.name: at for at, cell in enumerate(self.scale.cells)}
        for row in read_table(self.csv, self.paper.id, self.scale.name):
            self.measured([row.seed])
            run, place = row.run, (numbers.get(row.cell, -1), row.seed)
            if place in self._places.get(run, ()):
                if run not in self._fresh:
                    self._put(place, row)
            elif row.cell in numbers and place not in self._rows:
                self._put(place, replace(row, current=False))
        self._seen = state

    def _share(self) -> None:
        """Take the rows of runs that another scale's table has, and neither this one nor the store: the first's."""
        for other in (scale.name for scale in self.paper.scales if scale.name != self.scale.name):
            with contextlib.suppress(DamagedTable):  # which is told where that scale is read
                for row in read_table(self.folder / f"{other}.csv", self.paper.id, other):
                    for place in self._places.get(row.run, ()):
                        if place not in self._rows:
                            self._put(place, replace(row, cell=self.scale.cells[place[0]].name))

    def _put(self, place: tuple[int, int], row: Row) -> None:
        self._rows[place] = row
        self._new += 1
        self._judged = None

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self.csv.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _curves(self) -> Curves:
        """Gather the curves that are drawn; of rows that only the table has, those that were committed beside them.

        Without figures, or where one does not say what it shows, that is all that was logged.
        """
        committed = (read(self.curves_csv, lambda what: None, parse_curves) or Curves()).data
        figures = self.paper.figures_at(self.scale.name)
        drawn = [panel for figure in figures for panel in figure.panels if panel.kind == "curve"]
        known = bool(figures) and all(figure.panels for figure in figures)
        cells = {name for panel in drawn for name in panel.cells}
        columns = {*PLACES, *(name for panel in drawn for name in panel.metrics)}
        data: dict[str, dict[int, Sequence[Mapping[str, float]]]] = {}
        for row in (row for row in self.rows() if row.cell in cells or not known):
            own = row.run in self.runs
            logged = self.store.run(row.run).curves() if own else committed.get(row.cell, {}).get(row.seed, ())
            kept = [{name: point[name] for name in point if name in columns or not known} for point in logged]
            if points := [point for each in kept if (point := finite(each))]:
                data.setdefault(row.cell, {})[row.seed] = points
        return Curves(data)
