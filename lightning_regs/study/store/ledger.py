"""The committed tables of one scale: its rows, its claims and its learning curves."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_regs.core.files import atomic_write, lock
from lightning_regs.core.runs import FIXED, LEADING, TRAILING, Store
from lightning_regs.study.paper.claims import ClaimResult
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import evaluate
from lightning_regs.study.store.curves import Curves, collect_curves, parse_curves

Row = dict[str, Any]


class DamagedTable(ValueError):
    """Raised when a file in the place of a results table is none."""


class Ledger:
    """The committed tables of one scale, made from the store and from the rows that only the table has.

    Args:
        paper: The paper.
        scale: The scale.
        store: Where the runs are.
        folder: Where the tables are; None for the default of
            :func:`~lightning_regs.study.run.runner.reproduce`.

    Raises:
        DamagedTable: If the table that is there is damaged.
    """

    def __init__(self, paper: Paper, scale: Scale, store: Store, folder: str | os.PathLike[str] | None = None) -> None:
        self.paper, self.scale, self.store = paper, scale, store
        self.folder = Path(folder).expanduser() if folder is not None else default_results(paper)
        self.csv = self.folder / f"{scale.name}.csv"
        self.claims_json = self.folder / f"{scale.name}.claims.json"
        self.curves_csv = self.folder / f"{scale.name}.curves.csv"
        self.runs: dict[str, Row] = {}
        self._seeds: set[int] = set()
        self._table = self._kept()
        self.measured(range(scale.seeds))
        for cell in scale.cells:
            self.measured(range(cell.seeds or 0))
        self.measured(seed for _, seed in self._table)

    def measured(self, seeds: Iterable[int]) -> None:
        """Take the rows that the store has for these seeds, of all cells of the scale."""
        for seed in set(seeds) - self._seeds:
            self._seeds.add(seed)
            for cell in self.scale.cells:
                run = cell.hash(seed)
                if run not in self.runs and (row := self.store.run(run).row()) is not None:
                    self.runs[run] = row

    def rows(self) -> list[Row]:
        """Return all rows, in the order of the cells, then of the seeds."""
        found = []
        for cell in self.scale.cells:
            for seed in sorted(self._seeds):
                row = self.runs.get(cell.hash(seed)) or self._table.get((cell.name, seed))
                if row is not None:
                    found.append(row | {"paper": self.paper.id, "scale": self.scale.name, "cell": cell.name})
        return found

    def claims(self) -> list[ClaimResult]:
        """Check the claims on all rows."""
        cells = {cell.name for cell in self.scale.cells}
        return evaluate(self.paper.claims, Rows(self.rows()), self.scale.name, cells)

    def write(self) -> None:
        """Bring ``SCALE.csv`` and ``SCALE.claims.json`` up to date; files that are so already are not touched.

        Raises:
            OSError: If one cannot be written; what was there is still there.
        """
        if not self.runs and not self._table:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(self.folder, file=""):
            # Another command may have added rows since this one read the table.
            self._table = self._kept()
            self._seeds |= {seed for _, seed in self._table}
            _replace(self.csv, table(self.rows()))
            claims = [claim.as_dict() for claim in self.claims()]
            _replace(self.claims_json, json.dumps(claims, indent=1, ensure_ascii=False) + "\n")

    def write_curves(self) -> None:
        """Bring ``SCALE.curves.csv`` up to date, keeping the curves of rows that only the table has.

        Raises:
            OSError: If it cannot be written.
        """
        rows = self.rows()
        if not rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(self.folder, file=""):
            try:
                old = parse_curves(self.curves_csv.read_text(encoding="utf-8")).data
            except (OSError, ValueError, csv.Error):
                old = {}
            # A curve has no hash of its own: one is kept only beside the row that it was committed with.
            kept: dict[str, dict[int, Any]] = {}
            for row in rows:
                cell, seed = row["cell"], row["seed"]
                if row["config_hash"] not in self.runs and seed in old.get(cell, {}):
                    kept.setdefault(cell, {})[seed] = old[cell][seed]
            if curves := collect_curves(rows, self.store, Curves(kept)):
                _replace(self.curves_csv, curves.to_csv())

    def _kept(self) -> dict[tuple[str, int], Row]:
        cells = {cell.name: cell for cell in self.scale.cells}
        return {
            (row["cell"], row["seed"]): row
            for row in read_table(self.csv)
            if row["cell"] in cells and row.get("config_hash") == cells[row["cell"]].hash(row["seed"])
        }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as the text of ``SCALE.csv``; floats keep all their digits."""
    metrics = sorted({name for row in rows for name in row if name not in FIXED})
    columns = [*LEADING, *metrics, *TRAILING]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row.get(name) is None else row[name] for name in columns])
    return out.getvalue()


def read_table(path: Path) -> list[Row]:
    """Read ``SCALE.csv`` as :func:`table` wrote it; no file means no rows.

    Raises:
        DamagedTable: If the file is something else; the message names the line.
    """
    rows: list[Row] = []
    line = 1
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)
        if missing := [name for name in (*LEADING, "config_hash") if name not in (reader.fieldnames or ())]:
            raise ValueError(f"no column {missing[0]!r}")
        for entries in reader:
            line = reader.line_num
            if None in entries or None in entries.values():
                raise ValueError("wrong number of entries")
            rows.append({name: _parse(name, entry) for name, entry in entries.items() if entry != ""})
    except FileNotFoundError:
        return []
    except (ValueError, csv.Error) as error:
        raise DamagedTable(
            f"{path} is not a results table (line {line}: {error}); restore it from git, or delete it to have it made."
        ) from error
    return rows


def default_results(paper: Paper) -> Path:
    """Return where the tables of a paper are when nobody says otherwise."""
    if paper.folder is None or "_bundled" in paper.folder.parts:
        return Path.cwd() / "results" / paper.id
    return paper.folder / "results"


def _parse(name: str, entry: str) -> Any:
    if name == "seed":
        return int(entry)
    if name in LEADING or name in TRAILING[2:]:
        return entry
    number = float(entry)
    return int(entry) if entry.lstrip("-").isdigit() else number


def _replace(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic_write(path, text)
