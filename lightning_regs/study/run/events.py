"""What the runner hands to an executor, and what comes back: jobs and events, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning_regs.core.runs import Run

Kind = Literal[
    "plan", "skipped", "noted", "waiting", "started", "progress", "finished", "failed", "stopped", "interrupted"
]


@dataclass(frozen=True)
class Job:
    """One run to carry out, as plain data that can be sent anywhere.

    Args:
        cell: Name of the cell, for people.
        task: Import path of the task.
        folder: The run's folder; its name is the run's hash.
        papers: Folder to be put on the module path; None for none.
        facts: Provenance that is the same for all runs of a command: ``commit``, ``versions``.
        inputs: Folders of the runs that this one needs, by the names of their cells.
        code: The code outside the package that it is made by, name -> hash.
        force: When the command began, in seconds since 1970, if it measures the run anew: unless another one has begun
            that since, also where it is complete, and without going on where it was interrupted. 0: it does not.
    """

    cell: str
    seed: int
    task: str
    config: dict[str, Any]
    folder: str
    papers: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    force: float = 0.0

    @property
    def run(self) -> str:
        """The run's hash."""
        return self.stored.hash

    @property
    def stored(self) -> Run:
        """The run in the store."""
        return Run(Path(self.folder))

    def row(self) -> dict[str, Any] | None:
        """Return the row of the run, where it is complete and not to be measured anew."""
        row = self.stored.row()
        return row if not self.force or self.stored.forced() >= self.force else None

    def event(self, kind: Kind, **about: Any) -> Event:
        """Return an event of this run."""
        return Event(kind, run=self.run, cell=self.cell, seed=self.seed, folder=self.folder, **about)


Stack = tuple[Job, ...]
"""Runs that are trained together, as replicas; most often one alone."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a run, or (``plan``, ``stopped``, ``interrupted``) to the whole command.

    Attributes:
        kind: ``plan``: the command knows its runs (``done`` complete of ``total``, ``jobs`` at once). ``skipped``: the
            run was complete before. ``noted``: ``text`` is a sentence on the run, or on the whole command, that people
            should read. ``waiting``: another process has it (``text`` is its id). ``started``.
            ``progress``: ``done`` of ``total``, ``text``. ``finished``: ``row``. ``failed``: ``text`` is one line, the
            traceback is in ``folder``. ``stopped``: nothing more will run, ``text`` says why. ``interrupted``: Ctrl-C.
            Of a stack, the first run that is ``started`` and makes ``progress`` stands for all.
        run: Its hash.
        full: Whether the run failed because the disk is full; ``memory``: because that of a GPU did not suffice;
            ``spent``: and left its process without a GPU, so that no other run can go on there.
        stacked: Runs that this event stands for.
    """

    kind: Kind
    run: str = ""
    cell: str = ""
    seed: int = 0
    done: float = 0
    total: float = 0
    text: str = ""
    row: dict[str, Any] | None = None
    folder: str = ""
    jobs: int = 0
    full: bool = False
    memory: bool = False
    spent: bool = False
    stacked: int = 1


Emit = Callable[[Event], None]
