"""Reproduce a paper: plan its runs, carry out those that are missing, and keep its tables up to date meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from lightning_regs.core.checks import checked
from lightning_regs.core.files import disk_full
from lightning_regs.core.names import unknown_name
from lightning_regs.core.runs import Store
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import add_to_path, check_tasks
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.run.code import changed, code_of
from lightning_regs.study.run.events import Event
from lightning_regs.study.run.executors.cards import look, loses_stacked
from lightning_regs.study.run.executors.local import InProcess, Processes
from lightning_regs.study.run.executors.queue import Executor
from lightning_regs.study.run.planning import Planned, jobs_of, plan, stacks_of
from lightning_regs.study.run.preflight import preflight
from lightning_regs.study.store.ledger import Ledger
from lightning_regs.study.store.tables import DamagedTable, Row

EXECUTORS = ("local", "ray")
_UNKNOWN = "?"


@dataclass
class Outcome:
    """What :func:`reproduce` did and found.

    Attributes:
        csv: Path of ``SCALE.csv``, beside those of ``SCALE.claims.json`` and ``SCALE.curves.csv``.
        rows: All rows of the results table, those of earlier commands included.
        claims: The claims' results on these rows.
        skipped: How many of the runs that this command asked for were complete before.
        changed: That some of those were made by other code of the user's than there is now, in one sentence; else None.
        finished: How many this command completed.
        failed: The events of those that failed: cell, seed, the error in one line as ``text``, the run's ``folder``.
        stopped: Why nothing more was run, in one sentence; None when everything planned was tried.
        interrupted: Whether Ctrl-C ended it.
    """

    paper: Paper
    scale: str
    csv: Path
    claims_json: Path
    curves_csv: Path
    rows: list[Row] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    skipped: int = 0
    changed: str | None = None
    finished: int = 0
    failed: list[Event] = field(default_factory=list)
    stopped: str | None = None
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 when every planned run is complete, whatever the verdicts; 1 after a failure; 130 after Ctrl-C."""
        return 130 if self.interrupted else int(bool(self.failed or self.stopped))


class _Stop(Exception):
    """Ends the executor's work; not an error."""


@checked
def reproduce(
    paper: Paper | str,
    scale: str = "quick",
    cells: str | Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    jobs: int | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
    results_dir: str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    executor: Annotated[Executor | str | None, "an object with jobs, ahead and run, or a name"] = None,
    replicas: int | None = None,
    force: bool = False,
    address: str | None = None,
    cpus: int | None = None,
    gpus: float | None = None,
) -> Outcome:
    """Measure what is missing of a paper at one scale, and write its results.

    Args:
        paper: The paper or its id.
        scale: Name of the scale.
        cells: Names or globs of cells; None for all.
        seeds: How many seeds or which; None for the scale's number. See :func:`plan`.
        jobs: Runs at once, each in a process, with the cores divided; None for the scale's number, else as many as the
            cores and the memory of the GPUs carry. 0 runs everything in this process.
        runs_dir: Where runs live; see :class:`~lightning_regs.core.runs.Store`.
        results_dir: Where ``SCALE.csv``, ``SCALE.claims.json`` and ``SCALE.curves.csv`` go; default:
            ``results/PAPER/`` in ``runs_dir``. The committed ones are in ``results/`` of the paper's folder.
        on_event: Receives every event.
        executor: What carries out the runs: ``"local"`` (default), ``"ray"`` for the machines of a Ray cluster, or an
            object of your own.
        replicas: How many runs with the same stack label are trained together, at most; None for the scale's number, or
            1 on a GPU for nets with convolutions, which are slower together; 1 for each alone. The results are equal up
            to rounding, but for nets that draw at random within, as dropout does; the rows say how many were together.
        force: Whether to measure the chosen cells anew where they are complete; what they need is kept, and so is what
            another command with ``force`` has begun and finished since this one began. Without it, a
            run that was made by other code of the user's than there is now is told of as ``"noted"``, and kept.
        address: ``HOST:PORT`` of the Ray cluster; default: one that runs on this machine, else one that is started.
        cpus: Cores of each run on the cluster; default: 1.
        gpus: GPUs of each run there, or the share of one, such as 0.25; default: 1 where the cluster has any.

    Returns:
        The outcome. A run that fails, a full disk and Ctrl-C are part of it and are not raised.

    Raises:
        ValueError: For an unknown paper, scale, cell, task or executor, seeds, jobs or replicas that are none, a wrong
            option of a cell that has runs to do, a damaged results table, a folder that cannot be written, or a cluster
            that does not answer.
        FileNotFoundError: If a data set that a missing run needs is nowhere.
    """
    paper = load_paper(paper) if isinstance(paper, str) else paper
    chosen, runs = paper.scale(scale), plan(paper, scale, cells, seeds)
    if jobs is not None and (isinstance(jobs, bool) or jobs < 0):
        raise ValueError(f"jobs is {jobs}; give how many runs go at once, or 0 to run in this process.")
    together = chosen.replicas if replicas is None else replicas
    if isinstance(together, bool) or together < 1:
        raise ValueError(f"replicas is {together}; give how many runs are trained together, at least 1.")
    if isinstance(executor, str) and executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    if executor != "ray" and (address, cpus, gpus) != (None, None, None):
        raise ValueError("address, cpus and gpus are for executor='ray'; here jobs says how many runs go at once.")
    if paper.folder:
        add_to_path(paper.folder.parent)
    check_tasks({planned.cell.task: planned.cell.name for planned in runs})
    store = Store(runs_dir)
    try:
        results = Ledger(paper, chosen, store, results_dir)
        results.measured(planned.seed for planned in runs)
        results.write()
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{error.filename} cannot be used for runs and results ({error.strerror or error}); name another folder."
        ) from error
    chosen_names = {cell.name for cell in chosen.select(cells)}
    again = {planned.run for planned in runs if force and planned.cell.name in chosen_names}
    complete = [planned for planned in runs if planned.run in results.runs and planned.run not in again]
    codes = {p.cell.name: code_of(chosen.with_needs(p.cell)) for p in {p.cell.name: p for p in runs}.values()}
    missing = [planned for planned in runs if planned.run in again or planned.run not in results.runs]
    todo = jobs_of(paper, missing, runs, store, codes, again)
    on_a_card = replicas is None and together > 1 and bool(look())
    stacks = stacks_of(runs, todo, together, loses_stacked if on_a_card else None)
    if executor is None or isinstance(executor, str):
        at_once = jobs if jobs is not None else None if executor == "ray" else chosen.jobs
        if at_once == 0 or not stacks:
            executor = InProcess()
        elif executor == "ray":
            from lightning_regs.study.run.executors.ray import Ray

            papers = paper.folder.parent if paper.folder else None
            executor = Ray(address, papers, at_once, 1 if cpus is None else cpus, gpus)
        else:
            executor = Processes(at_once, most=len(stacks))
    outcome = Outcome(paper, scale, results.csv, results.claims_json, results.curves_csv)
    outcome.skipped, outcome.changed = len(complete), _changed(complete, codes, store)
    notify = on_event or (lambda event: None)
    sharing: dict[str, list[Planned]] = {}  # cells with equal configurations share a run
    for p in runs:
        sharing.setdefault(p.run, []).append(p)

    def emit(event: Event) -> None:
        if event.kind not in ("finished", "failed"):
            notify(event)
            return
        for p in sharing[event.run]:
            named = replace(event, cell=p.cell.name, seed=p.seed)
            if event.kind == "finished":
                outcome.finished += 1
            else:
                outcome.failed.append(named)
            notify(named)
        if event.full:
            raise _Stop(_full(store.root))
        if event.row is not None:
            results.finished(event.run, event.row)

    with _noting(outcome, results.folder):
        notify(Event("plan", done=len(complete), total=len(runs), jobs=executor.jobs, text=f"{paper.id} {scale}"))
        for p in complete:
            notify(Event("skipped", run=p.run, cell=p.cell.name, seed=p.seed, row=dict(results.runs[p.run])))
        if outcome.changed is not None:
            notify(Event("noted", text=outcome.changed))
    if todo and outcome.exit_code == 0:
        if look_ahead := preflight(todo.values()):
            executor.ahead(look_ahead, stacks[0])
        with _noting(outcome, results.folder):
            executor.run(stacks, emit)
    with _noting(outcome, results.folder):
        results.write(finish=True)
    if outcome.interrupted:
        notify(Event("interrupted", text="repeat the command to go on"))
    elif outcome.stopped is not None:
        notify(Event("stopped", text=outcome.stopped))
    outcome.rows, outcome.claims = results.rows(), results.claims()
    if old := sum(not row.current for row in outcome.rows):
        text = f"{old} of {len(outcome.rows)} rows are of other configurations than their cells have now, and count"
        notify(Event("noted", text=f"{text} until these cells are measured anew: repeat the command without --cells"))
    return outcome


@contextmanager
def _noting(outcome: Outcome, results: Path) -> Iterator[None]:
    """Note why the block ended early, and go on."""
    try:
        yield
    except KeyboardInterrupt:
        outcome.interrupted = True
    except (_Stop, DamagedTable, OSError) as error:
        why = _full(results) if disk_full(error, results) else str(error)
        outcome.stopped = outcome.stopped or why


def _full(folder: Path) -> str:
    return f"the disk that holds {folder} is full: nothing finished is lost; free some space and repeat the command"


def _changed(complete: Sequence[Planned], codes: Mapping[str, Mapping[str, str]], store: Store) -> str | None:
    """Say which complete runs were made by other code of the user's, or by code that nobody wrote down."""
    found: dict[str, list[Planned]] = {}
    for planned in complete:
        if ours := codes[planned.cell.name]:  # most cells run nothing but the package's
            theirs = store.run(planned.run).code()
            if what := _UNKNOWN if theirs is None else changed(theirs, ours):
                found.setdefault(what, []).append(planned)
    if not found:
        return None
    (what, first), number = next(iter(found.items())), sum(map(len, found.values()))
    runs = f"{number} complete {'run' if number == 1 else 'runs'}, of cell {first[0].cell.name!r} for example,"
    why = "do not say what code they were made by" if what == _UNKNOWN else f"began before {what} changed"
    return f"{runs} {why}: kept as they are, and measured anew with --force (force=True)"
