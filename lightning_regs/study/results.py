"""Reading a paper's committed results as they are: whole, half-finished, empty or damaged."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lightning_regs._names import unknown_name
from lightning_regs.study.claims import VERDICTS, ClaimResult, Rows, Verdict, count_verdicts
from lightning_regs.study.curves import Curves, parse_curves
from lightning_regs.study.store import FIXED

if TYPE_CHECKING:
    from lightning_regs.study.paper import Paper, Scale

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One finished run: a cell and a seed.

    Attributes:
        cell: Name of the cell.
        seed: The seed, as written.
        metrics: Metric name to number. NaN where the run measured that the quantity does not exist (an epoch that never
            came); names that the cell does not measure are absent.
        origin: The columns of :data:`~lightning_regs.study.store.FIXED`, as text.
    """

    cell: str
    seed: str
    metrics: dict[str, float]
    origin: dict[str, str]


@dataclass(frozen=True)
class ScaleResults:
    """Everything that a results folder holds about one scale.

    Attributes:
        name: Name of the scale.
        rows: Finished runs, in the order of the file.
        claims: Judged claims.
        limits: Claim id to the lowest and highest value for which it counts as reproduced, from the paper's module.
        curves: Learning curves.
        problems: One sentence for each file, or part of one, that could not be used.
        files: The files that exist, whole or not.
        expected: Number of runs that the scale has when it is complete.
    """

    name: str
    rows: list[Row] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    curves: Curves = field(default_factory=Curves)
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    expected: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show: no row, no claim."""
        return not self.rows and not self.claims

    def lookup(self) -> Rows:
        """Return the rows as claims and figures look them up."""
        return Rows({**row.origin, **_numbers(row.origin), **row.metrics} for row in self.rows)

    def counts(self) -> dict[Verdict, int]:
        """Return the number of claims with each verdict, in the order of the verdicts."""
        return count_verdicts(self.claims)


def load(paper: Paper, results: Path, scales: Iterable[str] | None = None) -> list[ScaleResults]:
    """Read the results of a paper.

    Args:
        paper: The paper; gives scales, the number of runs that belong to each, and the claims' limits.
        results: Folder with ``SCALE.csv``, ``SCALE.claims.json`` and ``SCALE.curves.csv``; may be missing.
        scales: Names, in the order wanted. Default: all, the one nearest to the paper's own protocol first.

    Raises:
        ValueError: The paper has no scale of that name.
    """
    known = {scale.name: scale for scale in paper.scales}
    names = list(reversed(known)) if scales is None else list(scales)
    for name in names:
        if name not in known:
            raise unknown_name(f"scale of {paper.id}", name, known)
    return [_load_scale(paper, known[name], Path(results)) for name in names]


def _load_scale(paper: Paper, scale: Scale, folder: Path) -> ScaleResults:
    problems: list[str] = []
    files: list[Path] = []

    def read(ending: str, parse: Callable[[str], T], otherwise: T) -> T:
        path = folder / f"{scale.name}{ending}"
        try:
            text = path.read_text(encoding="utf-8")
            files.append(path)
            return parse(text)
        except FileNotFoundError:
            return otherwise
        except (OSError, ValueError, csv.Error) as error:
            problems.append(f"{path.name} could not be read and was left out: {_why(error)}.")
            return otherwise

    return ScaleResults(
        name=scale.name,
        rows=read(".csv", lambda text: _rows(text, problems), []),
        claims=read(".claims.json", lambda text: _claims(text, problems), []),
        limits={claim.id: claim.holds for claim in paper.claims},
        curves=read(".curves.csv", parse_curves, Curves()),
        problems=problems,
        files=files,
        expected=sum(cell.seeds or scale.seeds for cell in scale.cells),
    )


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON (line {error.lineno})"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.rstrip(".")


def _rows(text: str, problems: list[str]) -> list[Row]:
    if not text.strip():
        raise ValueError("it is empty")
    reader = csv.DictReader(io.StringIO(text.replace("\0", "")), strict=True)
    missing = [name for name in ("cell", "seed") if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"it has no column {missing[0]!r}")
    rows, bad = [], []
    for line in reader:
        if None in line or None in line.values() or not line["cell"] or not _whole(line["seed"]):
            bad.append(reader.line_num)
            continue
        metrics, unread = {}, False
        for name, entry in line.items():
            if name in FIXED or entry == "":
                continue
            try:
                metrics[name] = float(entry)
            except ValueError:
                unread = True
        if unread:
            bad.append(reader.line_num)
        rows.append(Row(line["cell"], line["seed"], metrics, {name: line.get(name) or "" for name in FIXED}))
    if bad:
        lines = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        problems.append(f"The table of runs has lines that are cut or are not numbers (line {lines}).")
    return rows


def _numbers(origin: Mapping[str, str]) -> dict[str, float]:
    numbers = {name: _number(origin[name]) for name in ("epochs", "wall_s")}
    return {name: value for name, value in numbers.items() if value is not None}


def _whole(text: str) -> bool:
    return text.lstrip("-").isdecimal()


def _claims(text: str, problems: list[str]) -> list[ClaimResult]:
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError("it is not a list of claims")
    claims = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not entry.get("sentence"):
            problems.append(f"Claim {number} of the claims file has no sentence and was left out.")
            continue
        claims.append(_claim(entry))
        if entry.get("verdict") not in VERDICTS:
            problems.append(f"Claim {claims[-1].id} has the unknown verdict {entry.get('verdict')!r}.")
    return claims


def _claim(entry: Mapping[str, Any]) -> ClaimResult:
    value = entry.get("paper_value")
    return ClaimResult(
        id=str(entry.get("id") or ""),
        sentence=str(entry["sentence"]),
        paper_value=value if value is None or isinstance(value, str) else _number(value),
        provenance=str(entry.get("provenance") or ""),
        ours=_number(entry.get("ours")),
        low=_number(entry.get("low")),
        high=_number(entry.get("high")),
        n=int(_number(entry.get("n")) or 0),
        verdict=next((verdict for verdict in VERDICTS if verdict == entry.get("verdict")), "not decided"),
        unit=str(entry.get("unit") or ""),
        reason=str(entry.get("reason") or ""),
    )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
