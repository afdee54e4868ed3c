"""What the commands ``list`` and ``compare`` do, and ``reproduce --dry-run``."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

from lightning_regs.cli.common import Troubles, columns, places, tell_of_locks, wrapped
from lightning_regs.core.runs import Store
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.report import comparison
from lightning_regs.study.report.tables import seconds
from lightning_regs.study.report.telling import tallies
from lightning_regs.study.report.terminal import ascii_signs
from lightning_regs.study.run import planning
from lightning_regs.study.run.provenance import cores
from lightning_regs.study.store.results import default_results, load

_MARKS = {"equal": "=", "within": "", "beyond": "!", "unknown": "?"}


def list_papers(options: argparse.Namespace) -> int:
    """List the papers, their scales and what was found so far; or the cells of one paper."""
    store, troubles = Store(options.runs), Troubles()
    if options.scale is not None and options.paper is None:
        raise ValueError(f"--scale {options.scale} is of one paper; name that paper: list PAPER.")
    if options.paper is not None:
        paper = load_paper(options.paper)
        scales = [paper.scale(options.scale)] if options.scale else paper.scales
        tell_of_locks([paper], troubles)
        print(_headed(paper))
        for scale in scales:
            print(_cells(paper, scale, store))
        return troubles.tell()
    found = find_papers()
    if not found:
        raise ValueError("there is no reproductions/ folder here; run this in a checkout or set LIGHTNING_REGS_PAPERS.")
    papers = troubles.each(found, load_paper)
    tell_of_locks(papers, troubles)
    for text in troubles.each(papers, lambda paper: _listed(paper, store)):
        print(text)
    return troubles.tell()


def _headed(paper: Paper) -> str:
    return wrapped(f"{paper.id}  {paper.title} ({paper.authors}, {paper.year})", rest="    ")


def _listed(paper: Paper, store: Store) -> str:
    lines, margin = [_headed(paper)], " " * 11
    for scale in paper.scales:
        runs = sum(cell.seeds or scale.seeds for cell in scale.cells)
        found = _found(paper, scale.name, default_results(paper)) or "not run yet"
        lines.append(wrapped(found, f"  {scale.name:9}{len(scale.cells):3} cells {runs:4} runs  ", margin))
        lines.append(wrapped(scale.description, margin, margin))
        if own := _found(paper, scale.name, store.results(paper.id)):
            lines.append(wrapped(own, f"{margin}yours: ", margin))
    return "\n".join(lines)


def _found(paper: Paper, scale: str, results: Path) -> str:
    """Count what was found, with line ends between the counts only."""
    [found] = load(paper, results, [scale], curves=False)
    own, *apart = tallies(found.claims)
    counts = [f"{number} {name}" for name, number in own.counts.items() if number]
    counts += [f"{tally.kind} {tally.brief}" for tally in apart]
    return ", ".join(count.replace(" ", "\u00a0") for count in counts + ["damaged"] * bool(found.problems))


def _cells(paper: Paper, scale: Scale, store: Store) -> str:
    """Write a table of a scale's cells: seeds, how many are committed and how many this machine has, time a run."""
    committed, took = _committed(paper, scale.name)
    lines = [("cell", "seeds", "committed", "here", "a run")]
    for cell in scale.cells:
        here = sum(store.run(cell.hash(seed)).row() is not None for seed in range(cell.seeds or scale.seeds))
        known = (str(cell.seeds or scale.seeds), str(committed.get(cell.name, 0)), str(here))
        lines.append((cell.name, *known, seconds(took.get(cell.name))))
    about = wrapped(f"{scale.name}: {scale.description}", rest="  ")
    return f"\n{about}\n{columns(lines)}"


def _committed(paper: Paper, scale: str) -> tuple[dict[str, int], dict[str, float]]:
    """Return how many committed rows each cell has, and the seconds that a run of it took on average."""
    [found] = load(paper, default_results(paper), [scale], curves=False)
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {}
    for row in found.rows:
        counts[row.cell] = counts.get(row.cell, 0) + 1
        if isinstance(took := row.as_dict().get("wall_s"), (int, float)):
            times.setdefault(row.cell, []).append(took)
    return counts, {cell: statistics.fmean(taken) for cell, taken in times.items()}


def plan(options: argparse.Namespace, paper: Paper, store: Store) -> int:
    """Print what ``reproduce`` would run, cell by cell, and how long that took where the committed rows are from."""
    scale = paper.scale(options.scale)
    planned = planning.plan(paper, scale.name, options.cells, options.seeds)
    _, took = _committed(paper, scale.name)
    again = {cell.name for cell in scale.select(options.cells)} if options.force else set()
    todo: dict[str, list[int]] = {}
    seen = set()
    for each in planned:
        if each.run not in seen and (each.cell.name in again or store.run(each.run).row() is None):
            seen.add(each.run)
            todo.setdefault(each.cell.name, []).append(each.seed)
    times = {cell: took[cell] * len(seeds) for cell, seeds in todo.items() if cell in took}
    lines = [("cell", "seeds", "a run", "all of them")]
    for cell, seeds in todo.items():
        lines.append((cell, ",".join(map(str, seeds)), seconds(took.get(cell)), seconds(times.get(cell))))
    if todo:
        print(columns(lines))
    missing = sum(map(len, todo.values()))
    whole, jobs = sum(times.values()), min(options.jobs or scale.jobs or cores(), max(missing, 1))
    runs = f"{len(planned)} run{'s' * (len(planned) != 1)}"
    told = [f"{paper.id} {scale.name}: {runs}, {len(planned) - missing} complete, {missing} to do"]
    if times:
        told += [f"about {seconds(whole)} of computing as the committed runs took"]
        told += [f"{seconds(whole / jobs)} with {jobs} at a time"] if jobs > 1 else []
    if unknown := missing - sum(len(todo[cell]) for cell in times):
        told += [f"{unknown} runs of cells that nobody has measured"]
    print(wrapped(", ".join(told), rest="  "))
    return 0


def compare(options: argparse.Namespace) -> int:
    """Print one's own rows of a paper and the committed ones side by side, and the verdicts."""
    paper, store = load_paper(options.paper), Store(options.runs)
    results = (options.results or store.results(paper.id)).expanduser()
    if results.absolute() == default_results(paper).absolute():
        raise ValueError(f"--results {results} holds the committed results; name a folder of your own.")
    found = comparison.compare(paper, results, [options.scale] if options.scale else None)
    if not found:
        at = f" at scale {options.scale}" if options.scale else ""
        own = bool(list(results.glob(f"{options.scale or '*'}.csv")))
        whose, then = ("committed rows", " --commit-results") if own else (f"rows in {results}", places(options))
        command = f"lightning-regs reproduce {paper.id}{then}"
        raise ValueError(f"{paper.id} has no {whose}{at} to compare; `{command}` makes them.")
    for each in found:
        for line in _compared(paper, each):
            print(line)
    return 0


def _compared(paper: Paper, found: comparison.Comparison) -> Iterator[str]:
    rows = f"{found.own_runs} row{'s' * (found.own_runs != 1)} of yours beside {found.committed_runs} committed"
    yield f"{paper.id} {found.scale}: {rows}"
    lines, last = [("cell", "metric", "yours", "seeds", "committed", "seeds", "difference", "")], ""
    for number in found.numbers:
        own, committed, difference = number.texts
        name = "" if number.cell == last else number.cell
        seeds = str(len(number.own)), str(len(number.committed))
        mark = _MARKS[number.agreement]
        lines.append((name, number.metric.heading, own, seeds[0], committed, seeds[1], difference, mark))
        last = number.cell
    yield ascii_signs(columns(lines, left=2))
    claims = [("claim", "yours", "committed", "yours is", "committed is", "")]
    for claim in found.claims:
        mark = "" if claim.agrees else "!"
        claims.append((claim.own.id, *claim.texts, claim.own.verdict, claim.committed.verdict, mark))
    if found.claims:
        yield f"\n{ascii_signs(columns(claims))}"
    yield "\n! beyond the 95 % interval of the difference, or another verdict; = equal; ? not to be compared"
    yield ascii_signs(f"{found.summary}\n")
