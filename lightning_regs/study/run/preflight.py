"""What is made sure of before the first run of a command starts: the options of its cells, and its data sets."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lightning_regs.study.paper.tasks import OWN, add_to_path
from lightning_regs.study.run.events import Job


def preflight(jobs: Iterable[Job]) -> Callable[[], None] | None:
    """Return what is to be made sure of before jobs, once and in one process, which imports torch for it.

    Refused is an option of a cell that a training of ours does not take, or a value that it cannot have; what a paper's
    own task does with its configuration only that task knows. Every data set that a configuration names is found, or
    downloaded.

    Returns:
        A function to call, which can be sent to another process; None where there is nothing to do. It raises a
        ``ValueError`` for the first wrong option or unknown data set, and a ``FileNotFoundError`` for a data set that
        is nowhere and cannot be downloaded; that message lists where it was looked for.
    """
    cells, papers = dict[str, Mapping[str, Any]](), dict[str, None]()
    sources = dict[tuple[str, str | None], str]()
    for job in jobs:
        if job.task in OWN and "trainer" in job.config:
            cells[job.cell] = job.config
        part = job.config.get("data", job.config)
        if isinstance(part, Mapping) and isinstance(part.get("source"), str):
            sources.setdefault((part["source"], part.get("root")), job.cell)
        if job.papers:
            papers[job.papers] = None
    return functools.partial(_look, cells, sources, list(papers)) if cells or sources else None


def _look(
    cells: Mapping[str, Mapping[str, Any]], sources: Mapping[tuple[str, str | None], str], papers: Iterable[str]
) -> None:
    from lightning_regs.data.sources import prepare

    for folder in papers:  # may have methods of their own
        add_to_path(folder)
    if cells:
        from lightning_regs.training.options import check_config
    for name, config in cells.items():
        with _of_cell(name):
            check_config(config)
    for (source, root), name in sources.items():
        with _of_cell(name):
            prepare(source, root)


@contextlib.contextmanager
def _of_cell(name: str) -> Iterator[None]:
    """Say of which cell a value is that is refused in the block."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"cell {name!r}: {error}") from error
