"""Reading a paper's committed results as they are: whole, half-finished, empty or damaged."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lightning_regs.core.names import unknown_name
from lightning_regs.core.runs import FIXED
from lightning_regs.study.paper.claims import ClaimResult, Verdict, count_verdicts
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.report.tables import versions
from lightning_regs.study.store.curves import Curves, parse_curves
from lightning_regs.study.store.judged import contradictions, parse_claims, some

if TYPE_CHECKING:
    from lightning_regs.study.paper.paper import Paper, Scale

T = TypeVar("T")
ENDINGS = (".csv", ".claims.json", ".curves.csv")
_LARGEST = 50_000_000
_WHOLE = re.compile("-?[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class Row:
    """One finished run: a cell and a seed.

    Attributes:
        cell: Name of the cell.
        seed: The seed.
        metrics: Metric name to number. NaN where the run measured that the quantity does not exist (an epoch that never
            came); names that the cell does not measure are absent.
        origin: The columns of :data:`~lightning_regs.core.runs.FIXED`, as text.
        current: Whether it was measured with the configuration that the cell has now.
    """

    cell: str
    seed: str
    metrics: dict[str, float]
    origin: dict[str, str]
    current: bool = True


@dataclass(frozen=True)
class ScaleResults:
    """Everything that a results folder holds about one scale.

    Attributes:
        name: Name of the scale.
        rows: Finished runs, in the order of the file.
        claims: Judged claims.
        curves: Learning curves.
        problems: One sentence for each file, or part of one, that could not be used or does not fit.
        files: The files that exist, whole or not.
        expected: Number of runs that the scale has when it is complete.
        finished: Number of those that have a row; seeds beyond the scale's own are not among them.
    """

    name: str
    rows: list[Row] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    curves: Curves = field(default_factory=Curves)
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    expected: int = 0
    finished: int = 0

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


def load(paper: Paper, results: Path, scales: Iterable[str] | None = None, judge: bool = False) -> list[ScaleResults]:
    """Read the results of a paper.

    Args:
        paper: The paper; gives scales, the runs that belong to each, and the claims.
        results: Folder with ``SCALE.csv``, ``SCALE.claims.json`` and ``SCALE.curves.csv``; may be missing.
        scales: Names, in the order wanted. Default: all, the one nearest to the paper's own protocol first.
        judge: Whether to judge the claims again, so that those that do not follow from the rows are among the problems.

    Raises:
        ValueError: The paper has no scale of that name, or the results are a file instead of a folder.
    """
    known = {scale.name: scale for scale in paper.scales}
    names = list(reversed(known)) if scales is None else list(scales)
    for name in names:
        if name not in known:
            raise unknown_name(f"scale of {paper.id}", name, known)
    folder = Path(results)
    with contextlib.suppress(OSError):  # what cannot be looked at is said for each file
        if folder.is_file():
            raise ValueError(f"the results {folder} are a file; give the folder that holds SCALE.csv.")
    return [_load_scale(paper, known[name], folder, judge) for name in names]


def strangers(paper: Paper, results: Path) -> list[str]:
    """Name the result files that belong to no scale of the paper: one sentence, or none."""
    names = {f"{scale.name}{ending}" for scale in paper.scales for ending in ENDINGS}
    try:
        found = sorted(path.name for path in Path(results).iterdir() if path.name.endswith(ENDINGS))
    except OSError:
        return []
    unknown = [name for name in found if name not in names and not name.startswith(".")]
    if not unknown:
        return []
    return [f"{some(unknown)} {'belong' if len(unknown) > 1 else 'belongs'} to no scale of this paper, and not shown."]


def _load_scale(paper: Paper, scale: Scale, folder: Path, judge: bool) -> ScaleResults:
    problems: list[str] = []
    files: list[Path] = []

    def read(ending: str, parse: Callable[[str, str], T], otherwise: T) -> T:
        path = folder / f"{scale.name}{ending}"
        try:
            content = _content(path)
            if content is None:
                return otherwise
            files.append(path)
            # A character that is cut at the end of the file is no more than the end of the file.
            return parse(getincrementaldecoder("utf-8-sig")().decode(content), path.name)
        except (OSError, ValueError, csv.Error, RecursionError) as error:
            problems.append(f"{path.name} could not be read and was left out: {_why(error)}.")
            return otherwise

    rows: list[Row] = read(".csv", lambda text, name: _rows(text, name, paper, scale, problems), [])
    faults = len(problems)
    claims: list[ClaimResult] = read(".claims.json", lambda text, name: parse_claims(text, name, paper, problems), [])
    found = ScaleResults(
        name=scale.name,
        rows=rows,
        claims=claims,
        curves=read(".curves.csv", lambda text, name: _curves(text, name, problems), Curves()),
        problems=problems,
        files=files,
        expected=sum(cell.seeds or scale.seeds for cell in scale.cells),
        finished=len(
            {(cell.name, str(seed)) for cell in scale.cells for seed in range(cell.seeds or scale.seeds)}
            & {(row.cell, row.seed) for row in rows}
        ),
    )
    if claims and not rows and not faults:
        problems.append(f"{scale.name}.csv is not there: no run is known from which the claims could follow.")
    elif claims and not faults and judge:
        problems += contradictions(claims, paper, found.lookup(), scale, f"{scale.name}.claims.json")
    return found


def _content(path: Path) -> bytes | None:
    """Read a file whole; None where there is none."""
    if not path.exists():
        if path.is_symlink():
            raise ValueError("it is a link to a file that is not there")
        return None
    if not path.is_file():
        raise ValueError("it is not a file")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST // 1_000_000} MB")
    return path.read_bytes()


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON (line {error.lineno})"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in UTF-8 (from byte {error.start} on)"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.rstrip(".")


def _lines(text: str, name: str, problems: list[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table's lines with their numbers; those that are cut are named and left out.

    Raises:
        ValueError: It is no table with a column for cell and seed.
    """
    if not text.strip():
        raise ValueError("it is empty")
    if "\0" in text:
        raise ValueError("it holds zero bytes")
    reader = csv.reader(io.StringIO(text), strict=True)
    header = next(reader)
    for needed in ("cell", "seed"):
        if needed not in header:
            raise ValueError(f"it has no column {needed!r}")
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise ValueError(f"it has the column {twice[0]!r} twice")
    lines, bad, stopped = [], [], ""
    while True:
        try:
            entries = next(reader, None)
        except csv.Error as error:  # a quote that is never closed swallows the rest of the file
            stopped = str(error)
            break
        if entries is None:
            break
        if not entries:
            continue
        line = dict(zip(header, entries, strict=False))
        if len(entries) != len(header) or not line["cell"] or not _WHOLE.fullmatch(line["seed"]):
            bad.append(reader.line_num)
            continue
        lines.append((reader.line_num, line | {"seed": str(int(line["seed"]))}))
    if stopped:
        problems.append(f"{name} ends within line {reader.line_num} ({stopped}).")
    elif not text.endswith("\n"):
        problems.append(f"{name} ends without the end of its last line, which may be cut.")
    if bad:
        problems.append(f"{name} has lines that are cut or have no cell and seed ({_numbered(bad)}).")
    if not (lines or bad or stopped):
        raise ValueError("it has no line below its header")
    return lines


def _numbered(lines: list[int]) -> str:
    return f"line {some(list(map(str, lines)))}"


def _rows(text: str, name: str, paper: Paper, scale: Scale, problems: list[str]) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    hashes = {cell.name: cell for cell in scale.cells}
    unread, foreign, unknown, twice = [], [], [], []
    for number, line in _lines(text, name, problems):
        cell, seed = line["cell"], line["seed"]
        if line.get("paper", paper.id) != paper.id or line.get("scale", scale.name) != scale.name:
            foreign.append(number)
            continue
        if cell not in hashes:
            unknown.append(number)
            continue
        metrics = {column: _float(entry) for column, entry in line.items() if column not in FIXED and entry != ""}
        if None in metrics.values():
            unread.append(number)
        if (cell, seed) in rows:
            twice.append(number)
        rows[cell, seed] = Row(
            cell,
            seed,
            {column: value for column, value in metrics.items() if value is not None},
            {column: line.get(column, "") for column in FIXED} | {"versions": versions(line.get("versions", ""))},
            line.get("config_hash", "") in ("", hashes[cell].hash(int(seed))),
        )
    for numbers, says in (
        (foreign, "are of another paper or scale and were left out"),
        (unknown, "are of cells that this scale does not have and were left out"),
        (twice, "repeat a cell and a seed, and the last one counts"),
        (unread, "have entries that are not numbers, which were left out"),
    ):
        if numbers:
            problems.append(f"Lines of {name} {says} ({_numbered(numbers)}).")
    return list(rows.values())


def _curves(text: str, name: str, problems: list[str]) -> Curves:
    before = len(problems)
    lines = _lines(text, name, problems)
    unread = [
        number
        for number, line in lines
        if any(entry and column != "cell" and _float(entry) is None for column, entry in line.items())
    ]
    if unread:
        problems.append(
            f"Lines of {name} have entries that are not numbers, which were left out ({_numbered(unread)})."
        )
    if len(problems) == before:
        return parse_curves(text)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0][1]) if lines else ["cell", "seed"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(line for _, line in lines)
    return parse_curves(out.getvalue())


def _numbers(origin: Mapping[str, str]) -> dict[str, float]:
    numbers = {name: _float(origin[name]) for name in ("epochs", "wall_s")}
    return {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
