"""``SCALE.csv``, one row a finished run: its one reader and its one writer."""

from __future__ import annotations

import csv
import io
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lightning_regs.core.runs import FIXED, LEADING, TRAILING

T = TypeVar("T")
Tell = Callable[[str], object]
"""Receives what is wrong with a file: the rest of a sentence that begins with its name."""

_LARGEST = 50_000_000
_WHOLE = re.compile("-?[0-9]{1,9}", re.ASCII)


class DamagedTable(ValueError):
    """Raised when a file in the place of a results table is none, or not whole."""


@dataclass(frozen=True)
class Row:
    """One finished run: a cell and a seed.

    Attributes:
        cell: Name of the cell.
        seed: The seed.
        metrics: Metric name to number. NaN where the run measured that the quantity does not exist (an epoch that never
            came); names that the cell does not measure are absent.
        origin: The columns of :data:`~lightning_regs.core.runs.TRAILING` as text, empty where one is not known.
        current: Whether it was measured with the configuration that the cell has now.
    """

    cell: str
    seed: int
    metrics: dict[str, float]
    origin: dict[str, str]
    current: bool = True

    @property
    def run(self) -> str:
        """The hash of the run that measured it."""
        return self.origin["config_hash"]

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> Row:
        """Make one of a flat mapping of all columns; numbers under other names than those of columns are metrics."""
        metrics = {k: v for k, v in entries.items() if k not in FIXED and isinstance(v, (int, float))}
        origin = {name: "" if (value := entries.get(name)) is None else str(value) for name in TRAILING}
        return cls(entries["cell"], entries["seed"], metrics, origin)

    def as_dict(self) -> dict[str, Any]:
        """Return all its columns in one flat mapping, ``epochs`` and ``wall_s`` as numbers where they are."""
        costs = {name: value for name in ("epochs", "wall_s") if (value := number(self.origin[name])) is not None}
        return {"cell": self.cell, "seed": self.seed, **self.metrics, **self.origin, **costs}

    def text(self, paper: str, scale: str, columns: Iterable[str]) -> str:
        """Write it as a line of the table of a paper's scale, with these columns."""
        entries = {**self.as_dict(), **self.origin, "paper": paper, "scale": scale}
        return csv_line(entries.get(name, "") for name in columns)


def read_table(path: Path, paper: str, scale: str) -> list[Row]:
    """Read the table of a paper's scale that is to be added to; no file means no rows.

    Raises:
        DamagedTable: If the file is no table, or not whole; the message names file and line.
    """

    def refuse(what: str) -> None:
        raise DamagedTable(f"{path} {what}; restore it from git, or delete it to have it made.")

    return read(path, refuse, lambda text, tell: parse(text, tell, paper, scale, (*LEADING, "config_hash"))) or []


def read(path: Path, tell: Tell, using: Callable[[str, Tell], T]) -> T | None:
    """Read a file of results.

    Args:
        path: The file.
        tell: Receives what is damaged.
        using: Reads its text; what it raises as a ValueError is told.

    Returns:
        What ``using`` gives; None where there is no file, or where it cannot be read at all.
    """
    try:
        if not path.exists() and not path.is_symlink():
            return None
        if not path.is_file():
            raise ValueError("it is not a file" if path.exists() else "it is a link to a file that is not there")
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST // 1_000_000} MB")
        # A character that is cut at the end of the file is no more than the end of the file.
        return using(getincrementaldecoder("utf-8-sig")().decode(path.read_bytes()), tell)
    except DamagedTable:
        raise
    except UnicodeDecodeError as error:
        tell(f"could not be read: it is not text in UTF-8 (from byte {error.start} on)")
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        tell(f"could not be read: {why.rstrip('.')}")
    return None


def parse(text: str, tell: Tell, paper: str, scale: str, needed: Collection[str] = ("cell", "seed")) -> list[Row]:
    """Read the rows of a table that are whole.

    Args:
        text: The table.
        tell: Receives what is damaged.
        paper: Id of the paper that it should belong to.
        scale: Name of the scale.
        needed: The columns without which it is no table.

    Raises:
        ValueError: It is no table; the message says why.
    """
    rows, unread, foreign = [], [], []
    for at, line in lines(text, tell, needed):
        if (line.get("paper", paper), line.get("scale", scale)) != (paper, scale):
            foreign.append(at)
            continue
        metrics = {name: number(entry) for name, entry in line.items() if name not in FIXED and entry}
        if None in metrics.values():
            unread.append(at)
        measured = {name: value for name, value in metrics.items() if value is not None}
        origin = {name: line.get(name, "") for name in TRAILING}
        rows.append(Row(line["cell"], int(line["seed"]), measured, origin))
    if foreign:
        tell(f"has lines of another paper or scale ({numbered(foreign)})")
    if unread:
        tell(f"has entries that are not numbers ({numbered(unread)})")
    return rows


def lines(text: str, tell: Tell, needed: Collection[str] = ("cell", "seed")) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the lines of a table of cells and seeds, with their numbers; the arguments are those of :func:`parse`.

    Raises:
        ValueError: It is no table; the message says why.
    """
    if not text.strip():
        raise ValueError("it is empty")
    if "\0" in text:
        raise ValueError("it holds zero bytes")
    reader = csv.reader(io.StringIO(text), strict=True)
    header = next(reader)
    if missing := [name for name in needed if name not in header]:
        raise ValueError(f"it has no column {missing[0]!r}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise ValueError(f"it has the column {min(twice)!r} twice")
    found, bad, stopped = 0, [], ""
    try:
        for entries in reader:
            line = dict(zip(header, entries, strict=False))
            if len(entries) == len(header) and line["cell"] and _WHOLE.fullmatch(line["seed"]):
                found += 1
                yield reader.line_num, line
            elif entries:
                bad.append(reader.line_num)
    except csv.Error as error:  # a quote that is never closed swallows the rest of the file
        stopped = str(error)
    if stopped:
        tell(f"ends within line {reader.line_num} ({stopped})")
    elif not text.endswith("\n"):
        tell(f"ends without the end of its last line, {reader.line_num}, which may be cut")
    if bad:
        tell(f"has lines that are cut or have no cell and seed ({numbered(bad)})")
    if not (found or bad or stopped):
        raise ValueError("it has no line below its header")


def number(entry: str) -> float | None:
    """Read a number, whole ones exactly; None for what is none."""
    try:
        value = float(entry)
    except ValueError:
        return None
    return int(entry) if entry.lstrip("-").isdecimal() and math.isfinite(value) else value


def numbered(at: Sequence[int]) -> str:
    """Name lines, the first few of many."""
    return f"line {some(list(map(str, at)))}"


def some(names: Sequence[str], most: int = 5) -> str:
    """List names, the first few of many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def table(paper: str, scale: str, rows: Sequence[Row]) -> str:
    """Write rows as the text of ``SCALE.csv``; floats keep all their digits."""
    columns = header({name for row in rows for name in row.metrics})
    return csv_line(columns) + "".join(row.text(paper, scale, columns) for row in rows)


def header(metrics: Iterable[str]) -> list[str]:
    """Return the columns of a table with these metrics."""
    return [*LEADING, *sorted(metrics), *TRAILING]


def csv_line(entries: Iterable[object]) -> str:
    """Write one line of a table."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(entries)
    return out.getvalue()
