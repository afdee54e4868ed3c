"""What a reproduction is made of (paper, scales, cells, claims, figures), and how one is found and loaded."""

from __future__ import annotations

import importlib
import math
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_regs.core.names import unknown_name
from lightning_regs.study.paper.claims import Claim
from lightning_regs.study.paper.config import PAPERS_ENV, config_hash, plain, search_folders
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.tasks import add_to_path


@dataclass(frozen=True)
class Cell:
    """One configuration, measured over several seeds.

    Args:
        name: Unique in its scale; what ``--cells`` matches.
        task: Import path of the function that measures it, ``"module:function"``.
        config: Plain data, resolved.
        seeds: Its own number of seeds; None takes the scale's. A cell never runs more seeds than its own number, nor
            do those that need it.
        needs: Names of cells of the same scale that are complete, with the same seed, before a run of this one starts;
            its task finds their folders in ``run.inputs``. What this cell takes from them has to follow from ``config``
            alone, because the run's hash knows nothing else.
        stack: Label that runs share which can be trained together in one process, as replicas; None: each alone. The
            task is then also called as ``task.stacked(configs, runs)``, with a list of metrics to return.

    Raises:
        ValueError: If the name is empty, the task is no import path, the number of seeds is below 1, or the cell needs
            itself.
        TypeError: If the config is not plain data.
    """

    name: str
    task: str
    config: dict[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    needs: tuple[str, ...] = ()
    stack: str | None = None

    def __post_init__(self) -> None:
        needs: object = self.needs
        if isinstance(needs, str):
            raise TypeError(f"cell {self.name!r} has needs={self.needs!r}; write names in a tuple: ({self.needs!r},).")
        if self.name in self.needs:
            raise ValueError(f"cell {self.name!r} needs itself; name the cells that come before it.")
        if not self.name.strip():
            raise ValueError("a cell needs a name; give it one that says what it varies.")
        if self.task.count(":") != 1 or not all(self.task.split(":")):
            raise ValueError(f"cell {self.name!r} has the task {self.task!r}; write it as 'module:function'.")
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"cell {self.name!r} has {self.seeds} seeds; give at least 1, or None for the scale's.")
        object.__setattr__(self, "config", plain(self.config, f"config of cell {self.name!r}"))

    def hash(self, seed: int) -> str:
        """Return the name of this cell's run with one seed."""
        return config_hash(self.task, self.config, seed)


@dataclass(frozen=True)
class Scale:
    """One size at which the paper is measured.

    Args:
        name: ``"quick"``, ``"standard"``, ``"paper"``, or another where the paper needs one.
        description: What is cut, and what it takes.
        cells: The configurations.
        seeds: Seeds per cell; they are 0, 1, ...
        jobs: How many cells at once; None for one per core.
        replicas: How many runs of a stack are trained together, at most.

    Raises:
        ValueError: If two cells have the same name, a number is below 1, a cell needs one that is not there, or cells
            need each other in a circle.
    """

    name: str
    description: str
    cells: tuple[Cell, ...]
    seeds: int = 3
    jobs: int | None = None
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.seeds < 1 or (self.jobs is not None and self.jobs < 1) or self.replicas < 1:
            raise ValueError(
                f"scale {self.name!r} has seeds={self.seeds}, jobs={self.jobs}, replicas={self.replicas}; "
                "each is at least 1."
            )
        _unique(f"scale {self.name!r}", "cell", [cell.name for cell in self.cells])
        self._check_needs()

    def _check_needs(self) -> None:
        needs = {cell.name: cell.needs for cell in self.cells}
        seeds = {cell.name: cell.seeds for cell in self.cells}
        for cell in self.cells:
            for name in cell.needs:
                if name not in needs:
                    raise unknown_name(f"cell that {cell.name!r} needs:", name, needs)
                least = seeds[name] or math.inf
                if (cell.seeds or self.seeds) > least:
                    raise ValueError(
                        f"cell {cell.name!r} has {cell.seeds or self.seeds} seeds, and {name!r}, which it needs, has "
                        f"{least}; give it no more."
                    )
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            raise ValueError(
                f"scale {self.name!r} has cells that need each other: {' <- '.join(error.args[1])}."
            ) from None

    def with_needs(self, cell: Cell) -> tuple[Cell, ...]:
        """Return the cells that a cell needs, those that they need among them, and the cell itself at the end."""
        by_name = {other.name: other for other in self.cells}
        found: dict[str, Cell] = {}
        for name in cell.needs:
            found |= {other.name: other for other in self.with_needs(by_name[name]) if other.name not in found}
        return (*found.values(), cell)

    def select(self, patterns: str | Sequence[str] | None) -> tuple[Cell, ...]:
        """Return the cells that match.

        Args:
            patterns: Names or globs; None for all cells.

        Returns:
            The cells in the order of the scale.

        Raises:
            ValueError: If a pattern matches nothing; the message suggests the nearest name.
        """
        if patterns is None:
            return self.cells
        names = [cell.name for cell in self.cells]
        chosen: set[str] = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            hits = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
            if not hits:
                raise unknown_name("cell", pattern, names)
            chosen |= hits
        return tuple(cell for cell in self.cells if cell.name in chosen)


@dataclass(frozen=True)
class Paper:
    """A paper with everything needed to reproduce it.

    Args:
        id: Name of its folder under ``reproductions/``.
        title: The paper's title.
        authors: Its authors, as one text.
        year: Year of publication.
        arxiv: arXiv number, ``""`` where there is none.
        scales: The sizes at which it is measured.
        claims: What it says, with checks.
        figures: What is drawn.
        summary: What the paper says, in a sentence or two, for a reader who does not know it.
        folder: Where it was loaded from; set by :func:`load_paper`.

    Raises:
        ValueError: If two scales, claims or figures share a name, or a claim names a scale that is not there.
    """

    id: str
    title: str
    authors: str
    year: int
    arxiv: str
    scales: tuple[Scale, ...]
    claims: tuple[Claim, ...] = ()
    figures: tuple[Figure, ...] = ()
    summary: str = ""
    folder: Path | None = None

    def __post_init__(self) -> None:
        _unique(f"paper {self.id!r}", "scale", [scale.name for scale in self.scales])
        _unique(f"paper {self.id!r}", "claim", [claim.id for claim in self.claims])
        _unique(f"paper {self.id!r}", "figure", [figure.id for figure in self.figures])
        for claim in self.claims:
            for name in claim.scales or ():
                self.scale(name)

    def scale(self, name: str) -> Scale:
        """Return one scale.

        Raises:
            ValueError: If there is none of that name; the message suggests the nearest.
        """
        for scale in self.scales:
            if scale.name == name:
                return scale
        raise unknown_name("scale", name, [scale.name for scale in self.scales])


def find_papers() -> dict[str, Path]:
    """Find every paper without importing any.

    Returns:
        Id -> folder, sorted by id; where two folders hold the same id, the first of :func:`search_folders` wins.
    """
    found: dict[str, Path] = {}
    for folder in search_folders("reproductions"):
        for module in sorted(folder.glob("*/paper.py")):
            found.setdefault(module.parent.name, module.parent)
    return dict(sorted(found.items()))


def load_paper(paper_id: str) -> Paper:
    """Load one paper.

    Args:
        paper_id: Name of its folder.

    Returns:
        The ``PAPER`` of its ``paper.py``, with ``folder`` set.

    Raises:
        ValueError: If there is no such paper (the message suggests the nearest), or its module is broken (the message
            names the file, the line and the error).
    """
    papers = find_papers()
    if paper_id not in papers:
        if not papers:
            where = f"run it in a checkout, or set {PAPERS_ENV}"
            raise ValueError(f"unknown paper {paper_id!r}: there is no folder with papers; {where}.")
        raise unknown_name("paper", paper_id, papers)
    folder = papers[paper_id]
    file = folder / "paper.py"
    add_to_path(folder.parent)
    _forget_other(paper_id, file)
    why = ""
    try:
        package = importlib.import_module(paper_id)
        if str(folder) not in package.__dict__.get("__path__", ()):
            why = f"Python already has a module of that name ({package.__file__}); rename the folder {folder}"
        else:
            module = importlib.import_module(f"{paper_id}.paper")
    except Exception as error:
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {_blame(error, file)}.") from error
    if why:
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {why}.")
    paper = getattr(module, "PAPER", None)
    if not isinstance(paper, Paper):
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {file} defines no PAPER = Paper(...).")
    if paper.id != paper_id:
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {file} calls itself {paper.id!r}; make the two equal.")
    return replace(paper, folder=folder)


def _unique(owner: str, kind: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{owner} has more than one {kind} named {twice[0]!r}; rename one.")


def _is_from(module: ModuleType, file: Path) -> bool:
    return module.__file__ is not None and Path(module.__file__).resolve() == file.resolve()


def _forget_other(paper_id: str, file: Path) -> None:
    loaded = sys.modules.get(f"{paper_id}.paper")
    if loaded is not None and not _is_from(loaded, file):
        for name in [n for n in sys.modules if n == paper_id or n.startswith(f"{paper_id}.")]:
            del sys.modules[name]


def _blame(error: Exception, file: Path) -> str:
    where = str(file)
    if isinstance(error, SyntaxError) and error.filename:
        where, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(file.parent))]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else where
        text = str(error)
    return f"{where}: {type(error).__name__}: {' '.join(text.split()).rstrip('.')}"
