"""Reproduce a paper: plan its runs, carry out those that are missing, and keep its tables up to date meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning_regs.core.checks import checked
from lightning_regs.core.files import disk_full
from lightning_regs.core.runs import Store
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.claims import ClaimResult
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import add_to_path, check_tasks
from lightning_regs.study.run.code import changed, code_of
from lightning_regs.study.run.events import Event, Job, Stack
from lightning_regs.study.run.executors import Executor, InProcess, Processes
from lightning_regs.study.run.provenance import commit, cores, versions
from lightning_regs.study.store.ledger import Ledger
from lightning_regs.study.store.tables import DamagedTable, Row

_MOST_SEEDS = 1_000_000
_UNKNOWN = "?"


@dataclass(frozen=True)
class Planned:
    """One entry of the plan: a cell, a seed, and the hash of the run that measures it."""

    cell: Cell
    seed: int
    run: str


@dataclass
class Outcome:
    """What :func:`reproduce` did and found.

    Attributes:
        paper: The paper.
        scale: Name of the scale.
        rows: All rows of the results table, those of earlier commands included.
        claims: The claims' results on these rows.
        planned: Number of runs that this command asked for.
        skipped: How many of them were complete before.
        changed: That some of those were made by other code of the user's than there is now, in one sentence; else None.
        finished: How many this command completed.
        failed: The events of those that failed: cell, seed, the error in one line as ``text``, the run's ``folder``.
        stopped: Why nothing more was run, in one sentence; None when everything planned was tried.
        interrupted: Whether Ctrl-C ended it.
        csv: Path of ``SCALE.csv``.
        claims_json: Path of ``SCALE.claims.json``.
        curves_csv: Path of ``SCALE.curves.csv``.
    """

    paper: Paper
    scale: str
    csv: Path
    claims_json: Path
    curves_csv: Path
    rows: list[Row] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    planned: int = 0
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


def plan(
    paper: Paper, scale: str, cells: str | Sequence[str] | None = None, seeds: int | Sequence[int] | None = None
) -> list[Planned]:
    """List the runs of a scale, every cell's first seed first, with those that others need before them.

    Args:
        paper: The paper.
        scale: Name of the scale.
        cells: Names or globs; None for all.
        seeds: How many seeds (0, 1, ...) or which; None for the scale's number. A cell with its own number of seeds
            takes no more than that many of them.

    Raises:
        ValueError: For an unknown scale or cell, or seeds that are none.
    """
    chosen = paper.scale(scale)
    wanted = _seeds(chosen.seeds if seeds is None else seeds)
    runs = []
    for cell in chosen.select(cells):
        own = _seeds(cell.seeds) if cell.seeds is not None and seeds is None else wanted[: cell.seeds]
        needed = chosen.with_needs(cell)
        for position, seed in enumerate(own):
            runs += [(position, Planned(each, seed, each.hash(seed))) for each in needed]
    ordered = [planned for _, planned in sorted(runs, key=lambda entry: entry[0])]
    return list({(planned.cell.name, planned.seed): planned for planned in ordered}.values())


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
    executor: Executor | None = None,
    replicas: int | None = None,
    force: bool = False,
) -> Outcome:
    """Measure what is missing of a paper at one scale, and write its results.

    Args:
        paper: The paper or its id.
        scale: Name of the scale.
        cells: Names or globs of cells; None for all.
        seeds: How many seeds or which; None for the scale's number. See :func:`plan`.
        jobs: Runs at once, each in a process, with the cores divided; None for the scale's number, else one per core.
            0 runs everything in this process.
        runs_dir: Where runs live; see :class:`~lightning_regs.core.runs.Store`.
        results_dir: Where ``SCALE.csv``, ``SCALE.claims.json`` and ``SCALE.curves.csv`` go; default:
            ``results/PAPER/`` in ``runs_dir``. The committed ones are in ``results/`` of the paper's folder.
        on_event: Receives every event.
        executor: Carries out the runs instead of ``jobs`` processes.
        replicas: How many runs with the same stack label are trained together, at most; None for the scale's number, 1
            for each alone. The results are equal up to rounding, but for nets that draw at random within, as dropout
            does; the rows say how many were together.
        force: Whether to measure the chosen cells anew where they are complete; what they need is kept. Without it, a
            run that was made by other code of the user's than there is now is told of as ``"noted"``, and kept.

    Returns:
        The outcome. A run that fails, a full disk and Ctrl-C are part of it and are not raised.

    Raises:
        ValueError: For an unknown paper, scale, cell or task, seeds, jobs or replicas that are none, a damaged results
            table, or a folder that cannot be written.
        FileNotFoundError: If a data set that a missing run needs is nowhere.
    """
    paper = load_paper(paper) if isinstance(paper, str) else paper
    chosen, runs = paper.scale(scale), plan(paper, scale, cells, seeds)
    if jobs is not None and (isinstance(jobs, bool) or jobs < 0):
        raise ValueError(f"jobs is {jobs}; give how many runs go at once, or 0 to run in this process.")
    together = chosen.replicas if replicas is None else replicas
    if isinstance(together, bool) or together < 1:
        raise ValueError(f"replicas is {together}; give how many runs are trained together, at least 1.")
    if paper.folder:
        add_to_path(paper.folder.parent)
    check_tasks(planned.cell for planned in runs)
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
    todo = _jobs(paper, missing, runs, store, codes, again)
    prepare_data(job.config for job in todo.values())
    stacks = _stacks(runs, todo, together)
    if executor is None:
        at_once = (chosen.jobs or cores()) if jobs is None else jobs
        executor = Processes(max(1, min(at_once, len(stacks)))) if at_once else InProcess()
    outcome = Outcome(paper, scale, results.csv, results.claims_json, results.curves_csv, planned=len(runs))
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
        if todo:
            executor.run(stacks, emit)
    with _noting(outcome, results.folder):
        results.write(finish=True)
    if outcome.interrupted:
        notify(Event("interrupted", text="repeat the command to go on"))
    elif outcome.stopped is not None:
        notify(Event("stopped", text=outcome.stopped))
    outcome.rows, outcome.claims = results.rows(), results.claims()
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


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    listed = [] if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds > _MOST_SEEDS) else seeds
    chosen = list(range(listed)) if isinstance(listed, int) else list(listed)
    if not chosen or min(chosen) < 0 or max(chosen) >= 2**32 or len(set(chosen)) < len(chosen):
        most = f"give how many (1 to {_MOST_SEEDS:,})"
        raise ValueError(f"seeds is {seeds!r}; {most}, or a list of different numbers from 0 to 2**32 - 1.")
    return chosen


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


def _jobs(
    paper: Paper,
    missing: Sequence[Planned],
    runs: Sequence[Planned],
    store: Store,
    codes: Mapping[str, Mapping[str, str]],
    again: Collection[str],
) -> dict[str, Job]:
    """Return the jobs of missing runs by their hashes; of cells that share a run, the first gives its name."""
    folders = {(planned.cell.name, planned.seed): str(store.root / planned.run) for planned in runs}
    papers = str(paper.folder.parent) if paper.folder else None
    facts = {"commit": commit(), "versions": versions()} if missing else {}
    jobs: dict[str, Job] = {}
    for planned in missing:
        cell, seed = planned.cell, planned.seed
        inputs = {name: folders[name, seed] for name in cell.needs}
        code, force, folder = codes[cell.name], planned.run in again, folders[cell.name, seed]
        job = Job(cell.name, seed, cell.task, cell.config, folder, papers, facts, inputs, code, force)
        jobs.setdefault(planned.run, job)
    return jobs


def prepare_data(configs: Iterable[Mapping[str, Any]]) -> None:
    """Find, or download once and in one process, every data set that configurations of cells name.

    Raises:
        ValueError: If one of them is unknown.
        FileNotFoundError: If one is nowhere and cannot be downloaded; the message lists where it was looked for.
    """
    sections = (config.get("data", config) for config in configs)
    named = [part for part in sections if isinstance(part, Mapping) and isinstance(part.get("source"), str)]
    if named:
        from lightning_regs.data.sources import prepare  # imports torch, which toy tasks and finished plans do without

        for source, root in dict.fromkeys((part["source"], part.get("root")) for part in named):
            prepare(source, root)


def _stacks(runs: Sequence[Planned], jobs: Mapping[str, Job], size: int) -> list[Stack]:
    """Group runs of the same task and stack label, ``size`` at most; a group stands where its first run was.

    All planned runs are grouped and the complete ones left out then, so that a stack that was interrupted is put
    together anew from the same runs, and goes on from its checkpoint.
    """
    groups: dict[Any, dict[str, None]] = {}
    for planned in runs:
        label = planned.cell.stack
        key = planned.run if label is None else (planned.cell.task, label)
        groups.setdefault(key, {})[planned.run] = None
    stacks: list[Stack] = []
    for group in map(list, groups.values()):
        number = -(-len(group) // size)
        # Evenly: what full stacks leave over would be small.
        ends = [len(group) * i // number for i in range(number + 1)]
        stacks += [tuple(jobs[run] for run in group[a:b] if run in jobs) for a, b in pairwise(ends)]
    return [stack for stack in stacks if stack]
