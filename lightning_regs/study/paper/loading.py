"""Finding papers and loading one, without importing the others."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from lightning_regs.core.checks import checked
from lightning_regs.core.names import unknown_name
from lightning_regs.study.paper.config import PAPERS_ENV, search_folders
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import add_to_path


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


@checked
def load_paper(paper_id: str) -> Paper:
    """Load one paper by the name of its folder: the ``PAPER`` of its ``paper.py``, with ``folder`` set.

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
        with contextlib.redirect_stdout(_Aside()):  # what it prints is no part of what a command says
            package = importlib.import_module(paper_id)
            if str(folder) not in package.__dict__.get("__path__", ()):
                why = f"Python already has a module of that name ({package.__file__}); rename the folder {folder}"
            else:
                module = importlib.import_module(f"{paper_id}.paper")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an exit too: it would end a command that is about other papers
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {_blame(error, file)}.") from error
    if why:
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {why}.")
    paper = getattr(module, "PAPER", None)
    if not isinstance(paper, Paper):
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {file} defines no PAPER = Paper(...).")
    if paper.id != paper_id:
        raise ValueError(f"paper {paper_id!r} cannot be loaded: {file} calls itself {paper.id!r}; make the two equal.")
    return replace(paper, folder=folder)


class _Aside(io.TextIOBase):
    """Standard output while a paper is imported: goes to standard error, which stays open whatever a paper does."""

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)


def _forget_other(paper_id: str, file: Path) -> None:
    loaded = sys.modules.get(f"{paper_id}.paper")
    if loaded is not None and Path(loaded.__file__ or "").resolve() != file.resolve():
        for name in [n for n in sys.modules if n == paper_id or n.startswith(f"{paper_id}.")]:
            del sys.modules[name]


def _blame(error: BaseException, file: Path) -> str:
    where = str(file)
    if isinstance(error, SyntaxError) and error.filename:
        where, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(file.parent))]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else where
        text = str(error)
    return f"{where}: {type(error).__name__}: {' '.join(text.split()).rstrip('.')}"
