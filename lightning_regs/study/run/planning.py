"""The plan of a command: its runs in their order, as jobs that can be sent anywhere, in stacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import AGREEMENT
from lightning_regs.study.run.events import Job, Stack
from lightning_regs.study.run.provenance import commit, versions

_MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class Planned:
    """One entry of the plan: a cell, a seed, and the hash of the run that measures it."""

    cell: Cell
    seed: int
    run: str


def plan(
    paper: Paper, scale: str, cells: str | Sequence[str] | None = None, seeds: int | Sequence[int] | None = None
) -> list[Planned]:
    """List the runs of a scale, every cell's first seed first, with those that others need before them.

    Those that measure agreement lead: each trains four nets, and at the end one process would be left with them alone.

    Args:
        paper: The paper.
        scale: Name of the scale.
        cells: Names or globs; None for all.
        seeds: How many (0, 1, ...) or which; None for the scale's. A cell with a number of its own takes no more.
    """
    chosen = paper.scale(scale)
    wanted = _seeds(chosen.seeds if seeds is None else seeds)
    runs = []
    for cell in chosen.select(cells):
        own = _seeds(cell.seeds) if cell.seeds is not None and seeds is None else wanted[: cell.seeds]
        needed = chosen.with_needs(cell)
        for position, seed in enumerate(own):
            runs += [(position, Planned(each, seed, each.hash(seed))) for each in needed]
    ordered = [run for _, run in sorted(runs, key=lambda entry: (entry[0], entry[1].cell.name != AGREEMENT))]
    return list({(planned.cell.name, planned.seed): planned for planned in ordered}.values())


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    listed = [] if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds > _MOST_SEEDS) else seeds
    chosen = list(range(listed)) if isinstance(listed, int) else list(listed)
    if not chosen or min(chosen) < 0 or max(chosen) >= 2**32 or len(set(chosen)) < len(chosen):
        most = f"give how many (1 to {_MOST_SEEDS:,})"
        raise ValueError(f"seeds is {seeds!r}; {most}, or a list of different numbers from 0 to 2**32 - 1.")
    return chosen


def jobs_of(
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
    began = time.time()
    facts = {"commit": commit(), "versions": versions()} if missing else {}
    jobs: dict[str, Job] = {}
    for planned in missing:
        cell, seed = planned.cell, planned.seed
        inputs = {name: folders[name, seed] for name in cell.needs}
        code, force, folder = codes[cell.name], began if planned.run in again else 0.0, folders[cell.name, seed]
        job = Job(cell.name, seed, cell.task, cell.config, folder, papers, facts, inputs, code, force)
        jobs.setdefault(planned.run, job)
    return jobs


def stacks_of(
    runs: Sequence[Planned],
    jobs: Mapping[str, Job],
    size: int,
    apart: Callable[[Mapping[str, Any]], bool] | None = None,
) -> list[Stack]:
    """Group runs of the same task and stack label, ``size`` at most; a group stands where its first run was.

    Those of whose configuration ``apart`` is true are each alone.

    All planned runs are grouped and the complete ones left out then, so that a stack that was interrupted is put
    together anew from the same runs, and goes on from its checkpoint.
    """
    groups: dict[Any, dict[str, None]] = {}
    for planned in runs:
        label = planned.cell.stack
        alone = label is None or (apart is not None and apart(planned.cell.config))
        key = planned.run if alone else (planned.cell.task, label)
        groups.setdefault(key, {})[planned.run] = None
    stacks: list[Stack] = []
    for group in map(list, groups.values()):
        number = -(-len(group) // size)
        # Evenly: what full stacks leave over would be small.
        ends = [len(group) * i // number for i in range(number + 1)]
        stacks += [tuple(jobs[run] for run in group[a:b] if run in jobs) for a, b in pairwise(ends)]
    return [stack for stack in stacks if stack]
