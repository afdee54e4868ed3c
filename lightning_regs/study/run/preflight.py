"""What is made sure of before the first run of a command starts: the options of its cells, and its data sets."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lightning_regs.study.paper.tasks import OWN, add_to_path, import_task
from lightning_regs.study.run.events import Job
from lightning_regs.study.run.executors.cards import devices


def preflight(jobs: Iterable[Job]) -> Callable[[], None] | None:
    """Return what is to be made sure of before jobs, once and in one process, which imports torch for it.

    Refused is an option of a cell that a training or a study of ours does not take, or a value that it cannot have;
    what a paper's own task does with its configuration only that task knows. Every data set that a configuration names
    is found, or downloaded.

    Returns:
        A function to call, which can be sent to another process; None where there is nothing to do. It raises a
        ``ValueError`` for the first wrong option or unknown data set, and a ``FileNotFoundError`` for a data set that
        is nowhere and cannot be downloaded; that message lists where it was looked for.

    Raises:
        ValueError: At once, for a cell that says which devices it is for, where it can say how many.
    """
    cells, papers = dict[str, tuple[str, Mapping[str, Any]]](), dict[str, None]()
    sources = dict[tuple[str, str | None], str]()
    for job in jobs:
        with _of_cell(job.cell):
            devices(job.config)
        if job.task in OWN:
            cells[job.cell] = job.task, job.config
        part = job.config.get("data", job.config)
        if isinstance(part, Mapping) and isinstance(part.get("source"), str):
            sources.setdefault((part["source"], part.get("root")), job.cell)
        if job.papers:
            papers[job.papers] = None
    return functools.partial(_look, cells, sources, list(papers)) if cells or sources else None


def _look(
    cells: Mapping[str, tuple[str, Mapping[str, Any]]],
    sources: Mapping[tuple[str, str | None], str],
    papers: Iterable[str],
) -> None:
    from lightning_regs.data.sources import prepare

    for folder in papers:  # may have methods of their own
        add_to_path(folder)
    for name, (task, config) in cells.items():
        with _of_cell(name):
            check_cell(task, config)
    for (source, root), name in sources.items():
        with _of_cell(name):
            prepare(source, root)


def check_cell(task: str, config: Mapping[str, Any]) -> None:
    """Refuse what a task of ours would of a configuration, of each net that it trains, before it loads data."""
    from lightning_regs.training.options import check_config

    if "trainer" in config:
        check_config(config)
    if (look := getattr(import_task(task), "look", None)) is not None:
        look(config)


@contextlib.contextmanager
def _of_cell(name: str) -> Iterator[None]:
    """Say of which cell a value is that is refused in the block."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"cell {name!r}: {error}") from error
