"""What the commands share: papers by name, what goes wrong with single ones, paths as people read them."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from lightning_regs.study.lock.lock import mismatches
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.report.legible import legible

P = TypeVar("P")
T = TypeVar("T")


class Troubles:
    """What goes wrong with single papers of a command that is about several: the others have their turn."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def each(self, papers: Iterable[P], do: Callable[[P], T]) -> list[T]:
        """Do something with each paper and return what came of those that went well.

        Raises:
            Exception: What the first one raised, where none went well.
        """
        done, raised = [], []
        for paper in papers:
            try:
                done.append(do(paper))
            except (Exception, SystemExit) as error:
                raised.append(error)
                name = getattr(paper, "id", paper)
                known = isinstance(error, ValueError)
                self._found[str(error) if known else f"paper {name!r}: {type(error).__name__}: {error}."] = None
        if raised and not done:
            raise raised[0]
        return done

    def tell(self) -> int:
        """Tell of all and return the exit status."""
        for text in self._found:
            print(legible(f"lightning-regs: {text}"), file=sys.stderr)
        return int(bool(self._found))


def load_papers(options: argparse.Namespace) -> tuple[list[Paper], Troubles]:
    """Load the papers that a command names, else all; a name that is none is refused."""
    found, troubles = find_papers(), Troubles()
    for name in options.paper:
        if name not in found:
            load_paper(name)
    return troubles.each(dict.fromkeys(options.paper) or found, load_paper), troubles


def columns(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay lines out in columns: the first ones to the left, the others to the right."""
    shown = [[legible(entry) for entry in line] for line in lines]
    widths = [max(map(len, entries)) for entries in zip(*shown, strict=True)]
    pads = [str.ljust if at < left else str.rjust for at in range(len(widths))]
    padded = (map(lambda pad, entry, width: pad(entry, width), pads, line, widths) for line in shown)
    return "\n".join(f"  {'  '.join(line)}".rstrip() for line in padded)


def wrapped(text: str, first: str = "", rest: str = "") -> str:
    """Break a text into lines that fit the terminal, or 80 columns where there is none.

    ``first`` leads the first line and ``rest`` the others. A no-break space is shown as a space at which no line ends.
    """
    width = shutil.get_terminal_size().columns
    lines = textwrap.wrap(legible(text), width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return "\n".join(lines).replace("\u00a0", " ")


def carried(paper: Paper) -> bool:
    """Tell whether a paper came with the installed package, so that nothing is written beside it."""
    return paper.folder is None or "_bundled" in paper.folder.parts


def tell_of_locks(papers: list[Paper], troubles: Troubles) -> None:
    """Say which claims are not what was frozen; the command goes on, and counts them as exploratory."""
    for told in filter(None, troubles.each(papers, mismatches)):
        print(told, file=sys.stderr)


def places(options: argparse.Namespace) -> str:
    """Return the options that say where a command's runs and rows are, for the command that comes next."""
    given = {"runs": options.runs, "results": options.results}
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given.items() if value)


def make_folder(folder: Path) -> None:
    """Make the folder of the page before hours of training, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"the page cannot be written to {folder} ({why}); choose another folder.") from error


def short(path: Path) -> str:
    """Write a path as a person at this place would."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def show(page: Path) -> None:
    """Show a page where there is a screen; say nothing where there is none, as its path has been printed."""
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.absolute().as_uri())
