"""``SCALE.csv``, one row a finished run: its one reader and its one writer."""

from __future__ import annotations

import csv
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any, TypeVar

from lightning_regs.core.runs import FIXED, LEADING, TRAILING, csv_text

T = TypeVar("T")
Tell = Callable[[str], object]
"""Receives what is wrong with a file: the rest of a sentence that begins with its name."""

_SHARED = ("epochs", "device", "precision", "commit", "versions")
_WHOLE = re.compile("-?[0-9]{1,10}", re.ASCII)


class DamagedTable(ValueError):
    """Raised when a file in the place of a results table is none, or not whole."""


@dataclass(frozen=True, slots=True)
class Row:
    """One finished run: a cell and a seed.

    Attributes:
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


def table(rows: Collection[Row], paper: str, scale: str) -> str:
    """Write rows as the table of a paper's scale; floats keep all their digits."""
    metrics = sorted({name for row in rows for name in row.metrics})
    own = {"paper": paper, "scale": scale}
    flat = (own | {"cell": row.cell, "seed": row.seed} | row.metrics | row.origin for row in rows)
    return csv_text((*LEADING, *metrics, *TRAILING), flat)


def read_table(path: Path, paper: str, scale: str) -> list[Row]:
    """Read the table of a paper's scale that is to be added to; no file means no rows.

    Raises:
        DamagedTable: If the file is no table, or not whole; the message names file and line.
    """

    def refuse(what: str) -> None:
        raise DamagedTable(f"{path} {what}; restore it from git, or delete it to have it made.")

    return read(path, refuse, lambda text, tell: parse(text, tell, paper, scale, (*LEADING, "config_hash"))) or []


def read(path: Path, tell: Tell, using: Callable[[str, Tell], T]) -> T | None:
    """Read a file of results, and tell what is damaged.

    Returns:
        What ``using`` gives for its text; None where there is no file, it cannot be read at all, or ``using`` raises a
        ValueError, which is told.
    """
    try:
        if not path.exists() and not path.is_symlink():
            return None
        if not path.is_file():
            raise ValueError("it is no file, and no link to one")
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


def parse(text: str, tell: Tell, paper: str, scale: str, needed: Collection[str] = ()) -> list[Row]:
    """Read the rows that are whole of a table of a paper's scale; see :func:`lines`."""
    return [
        Row(intern(line["cell"]), int(line["seed"]), metrics, _origin(line))
        for line, metrics in lines(text, tell, needed, paper=paper, scale=scale)
    ]


def _origin(line: Mapping[str, str]) -> dict[str, str]:
    """Return what a line says of its run; most of it is the same text in many lines, and kept once."""
    given = ((name, line.get(name, "")) for name in TRAILING)
    return {name: intern(text) if name in _SHARED else text for name, text in given}


def lines(
    text: str, tell: Tell, needed: Collection[str] = (), **own: str
) -> Iterator[tuple[dict[str, str], dict[str, float]]]:
    """Read the lines that are whole of a table of cells and seeds.

    Args:
        text: The table.
        tell: Receives what is damaged.
        needed: Columns without which it is no table, beside ``cell`` and ``seed``.
        **own: What columns hold, where they are, in lines that belong here.

    Yields:
        A line's entries as text, and the numbers among those that are not columns of every table.

    Raises:
        ValueError: It is no table; the message says why.
    """
    if not text.strip():
        raise ValueError("it is empty")
    reader = csv.reader((line[0] for line in re.finditer(".*\n|.+", text)), strict=True)
    names = next(reader)
    if missing := [name for name in ("cell", "seed", *needed) if name not in names]:
        raise ValueError(f"it has no column {missing[0]!r}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"it has the column {min(twice)!r} twice")
    faults: dict[str, list[str]] = {}
    whole = ended = False
    try:
        for entries in filter(None, reader):
            at = str(reader.line_num)
            line = dict(zip(names, entries, strict=False))
            if len(entries) != len(names) or not line["cell"] or not _WHOLE.fullmatch(line["seed"]):
                faults.setdefault("that are cut or have no cell and seed", []).append(at)
                continue
            if any(line.get(name, value) != value for name, value in own.items()):
                faults.setdefault("of another paper or scale", []).append(at)
                continue
            numbers = {name: number(entry) for name, entry in line.items() if entry and name not in FIXED}
            if None in numbers.values():
                faults.setdefault("with entries that are not numbers", []).append(at)
            whole = True
            yield line, {name: value for name, value in numbers.items() if value is not None}
        ended = text.endswith("\n")
        why = "without the end of it, which may be cut"
    except csv.Error as error:  # a quote that is never closed swallows the rest of the file
        why = str(error)
    if not ended:
        tell(f"ends within line {reader.line_num} ({why})")
    for what, at_lines in faults.items():
        tell(f"has lines {what} (line {some(at_lines)})")
    if ended and not whole and not faults:
        raise ValueError("it has no line below its header")


def number(entry: str) -> float | None:
    """Read a number, whole ones exactly; None for what is none."""
    try:
        value = float(entry)
    except ValueError:
        return None
    return int(entry) if entry.lstrip("-").isdecimal() and math.isfinite(value) else value


def some(names: Collection[str]) -> str:
    """List different names, the first few of many."""
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
