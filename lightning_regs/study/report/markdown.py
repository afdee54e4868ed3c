"""Tables in Markdown, for cards and for Weights & Biases: what goes into one is escaped."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from lightning_regs.study.report import tables

if TYPE_CHECKING:
    from lightning_regs.study.paper.paper import Deviation
    from lightning_regs.study.report.telling import ClaimEntry

RULES = ("Claim", "Judged only if", "When it was frozen")


def escape(text: str) -> str:
    """Write a text so that a Markdown table shows it as it is: no mark-up, HTML, formula, link or new column."""
    text = re.sub(r"[ \t\n\r\f\v]+", " ", text.strip()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_~$|\[\]])", r"\\\1", text)
    # Renderers look for addresses after escapes are resolved: an invisible joint keeps them from being one.
    return re.sub(r"(?i)(https?|ftp|mailto|xmpp|www)(?=[:.])|(?<=\S)(?=@)", "\\g<0>\u2060", text)


def code(text: str) -> str:
    """Write a name so that it is shown as code inside a Markdown table; one that cannot be becomes plain text."""
    line = " ".join(text.split())
    return escape(line) if re.search(r"[`|\\]", line) or not line else f"`{line}`"


def table(headings: Sequence[str], lines: Iterable[Sequence[str]], numbers: Container[int] = ()) -> list[str]:
    """Return the lines of a table whose entries are Markdown; ``numbers`` are the columns that are set to the right."""
    rule = ["---:" if index in numbers else "---" for index in range(len(headings))]
    return [f"| {' | '.join(row)} |" for row in (headings, rule, *lines)]


def deviations(entries: Sequence[Deviation]) -> list[str]:
    """Return a numbered table of deviations."""
    lines = (
        [f"D{number}", code(each.scale) if each.scale else "all", *map(escape, (each.theirs, each.ours, each.effect))]
        for number, each in enumerate(entries, 1)
    )
    return table(["No.", "Scale", "In the paper", "Here", "What it may change"], lines)


def rules(claims: Iterable[ClaimEntry]) -> list[str]:
    """Return a table of what had to hold for claims to be judged, and when it was frozen."""
    return table(RULES, ([code(claim.id), *map(escape, claim.rule[1:])] for claim in claims))


def cells(group: tables.Group) -> list[str]:
    """Return a table of cells."""
    headings = [*map(escape, ("Cell", "Seeds", *(metric.heading for metric in group.metrics), "Time a run"))]
    lines = (
        [code(cell.name), str(len(cell.runs)), *map(escape, cell.texts), tables.seconds(cell.seconds)]
        for cell in group.cells
    )
    return table(headings, lines, range(1, len(headings)))


def paper_figure(claim: ClaimEntry) -> str:
    """Write the paper's figure with its mark."""
    return escape(claim.paper) + (" (recalled)" if claim.recalled else "")
