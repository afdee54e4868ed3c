"""A paper's committed results as they are: whole, half-finished, empty or damaged; and its claims, judged on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from lightning_regs.core.files import lock, renew
from lightning_regs.core.names import unknown_name
from lightning_regs.study.lock.lock import marks
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import ClaimResult, evaluate
from lightning_regs.study.store.curves import Curves, parse_curves
from lightning_regs.study.store.tables import Row, Tell, parse, read, read_table, some

T = TypeVar("T")
ENDINGS = (".csv", ".claims.json", ".curves.csv")


@dataclass(frozen=True)
class ScaleResults:
    """Everything that a results folder holds about one scale, and what follows from it.

    Attributes:
        rows: Finished runs, in the order of the file.
        claims: The paper's claims, judged on the rows; none without a row.
        problems: One sentence for each file, or part of one, that could not be used or does not fit.
        downloads: Names of the files that a reader can have: tables, whole or not, and the claims.
        expected: Number of runs that the scale has when it is complete.
        finished: Number of those that have a row; seeds beyond the scale's own are not among them.
        cells: Names of the cells that the scale has.
    """

    name: str
    rows: list[Row] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    curves: Curves = field(default_factory=Curves)
    problems: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    expected: int = 0
    finished: int = 0
    cells: tuple[str, ...] = ()

    def lookup(self) -> Rows:
        """Return the rows as claims and figures look them up."""
        return Rows((row.as_dict() for row in self.rows), planned=self.cells)


def default_results(paper: Paper) -> Path:
    """Return where the committed tables of a paper are: beside it, in a checkout or in what the wheel carries."""
    return (paper.folder or Path.cwd() / paper.id) / "results"


def check_claims(paper: Paper, scale: Scale, rows: Iterable[Row]) -> list[ClaimResult]:
    """Check the claims of a paper on the rows of a scale, as they were frozen."""
    rows, cells = list(rows), {cell.name for cell in scale.cells}
    frozen = marks(paper, scale, (row.cell for row in rows))
    found = Rows((row.as_dict() for row in rows), scale.test_samples)
    return evaluate(paper.claims, found, scale.name, cells, frozen)


def measured(paper: Paper, *more: Path) -> dict[str, Rows]:
    """Return the rows of every scale that has some, of scales too that the paper has no more.

    They are those of the committed tables, and of those in ``more`` folders.

    Raises:
        DamagedTable: If a table is not whole, so that nobody knows what was measured.
    """
    tables: dict[str, list[Row]] = {}
    for folder in (*more, default_results(paper)):
        for path in sorted(folder.glob("*.csv")):
            if "." not in path.stem:
                tables.setdefault(path.stem, []).extend(read_table(path, paper.id, path.stem))
    return {name: Rows(row.as_dict() for row in rows) for name, rows in tables.items() if rows}


def claims_text(claims: Iterable[ClaimResult]) -> str:
    """Write claims as the text of ``SCALE.claims.json``, which is made for other programs: nothing here reads it."""
    text = json.dumps([claim.as_dict() for claim in claims], indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()  # as JSON writes half a character, which no file can hold


def load(
    paper: Paper, results: Path, scales: Iterable[str] | None = None, *, curves: bool = True
) -> list[ScaleResults]:
    """Read the results of a paper: ``SCALE.csv`` and ``SCALE.curves.csv`` of a folder, which may be missing.

    The scales are in the order in which they are named; by default all, the one nearest to the paper's protocol first.
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
    return [_load(paper, known[name], folder, curves) for name in names]


def export_claims(paper: Paper, results: Path) -> list[Path]:
    """Bring ``SCALE.claims.json`` of every scale that has rows up to date, and return those that changed."""
    judged = [part for part in load(paper, results, curves=False) if part.claims]
    files = {Path(results) / f"{part.name}{ENDINGS[1]}": claims_text(part.claims) for part in judged}
    if not files:
        return []
    with lock(results, file=""):  # a command that ends there sweeps the parts of files away
        return [file for file, text in files.items() if renew(file, text)]


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


def _load(paper: Paper, scale: Scale, folder: Path, curves: bool) -> ScaleResults:
    problems: list[str] = []
    table, exported, learning = (folder / f"{scale.name}{ending}" for ending in ENDINGS)

    def read_as(path: Path, using: Callable[[str, Tell], T]) -> T | None:
        return read(path, lambda what: problems.append(f"{path.name} {what}."), using)

    found = read_as(table, lambda text, tell: _fitting(parse(text, tell, paper.id, scale.name), scale, tell))
    rows = found or []
    claims = check_claims(paper, scale, rows) if rows else []
    runs = {(cell.name, seed) for cell in scale.cells for seed in range(cell.seeds or scale.seeds)}
    return ScaleResults(
        name=scale.name,
        rows=rows,
        claims=claims,
        curves=(read_as(learning, parse_curves) if curves else None) or Curves(),
        problems=problems,
        downloads=[
            path.name for path in (table, exported, learning) if (claims if path == exported else path.exists())
        ],
        expected=len(runs),
        finished=len(runs & {(row.cell, row.seed) for row in rows}),
        cells=tuple(cell.name for cell in scale.cells),
    )


def _fitting(rows: Iterable[Row], scale: Scale, tell: Tell) -> list[Row]:
    """Return the rows of cells of the scale, one a cell and seed, and tell of the others."""
    cells = {cell.name: cell for cell in scale.cells}
    kept: dict[tuple[str, int], Row] = {}
    unknown, twice = [], []
    for row in rows:
        if row.cell not in cells:
            unknown.append(row.cell)
            continue
        if (row.cell, row.seed) in kept:
            twice.append(f"{row.cell} seed {row.seed}")
        current = row.run in ("", cells[row.cell].hash(row.seed))
        kept[row.cell, row.seed] = row if current else replace(row, current=False)
    if unknown:
        tell(f"has cells that this scale does not have, which were left out: {some(unknown)}")
    if twice:
        tell(f"has more than one row for a run, of which the last one counts: {some(twice)}")
    return list(kept.values())
