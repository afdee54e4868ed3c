"""What the commands ``list`` and ``compare`` do."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from lightning_regs.cli.common import Troubles, tell_of_locks

if TYPE_CHECKING:
    from lightning_regs.study.paper.paper import Paper


def list_papers(options: argparse.Namespace) -> int:
    """List the papers, their scales and what was found so far."""
    from lightning_regs.study.paper.loading import find_papers, load_paper

    found, troubles = find_papers(), Troubles()
    if not found:
        raise ValueError("there is no reproductions/ folder here; run this in a checkout or set LIGHTNING_REGS_PAPERS.")
    papers = troubles.each(found, load_paper)
    tell_of_locks(papers, troubles)
    for text in troubles.each(papers, _listed):
        print(text)
    return troubles.tell()


def _listed(paper: Paper) -> str:
    from lightning_regs.study.report.legible import legible

    lines = [f"{paper.id}  {paper.title} ({paper.authors}, {paper.year})"]
    for scale in paper.scales:
        runs = sum(cell.seeds or scale.seeds for cell in scale.cells)
        lines.append(f"  {scale.name:9}{len(scale.cells):3} cells {runs:4} runs  {_found(paper, scale.name)}")
        lines.append(textwrap.fill(scale.description, 78, initial_indent=" " * 11, subsequent_indent=" " * 11))
    return str(legible("\n".join(lines), None))


def _found(paper: Paper, scale: str) -> str:
    from lightning_regs.study.report.telling import tallies
    from lightning_regs.study.store.results import default_results, load

    [found] = load(paper, default_results(paper), [scale], curves=False)
    own, *apart = tallies(found.claims)
    counts = [f"{number} {name}" for name, number in own.counts.items() if number]
    counts += [f"{tally.kind} {tally.brief}" for tally in apart]
    return ", ".join(counts + ["damaged"] * bool(found.problems)) or "not run yet"
