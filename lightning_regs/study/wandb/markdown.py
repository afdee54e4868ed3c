"""Tables of a report in Markdown, the one language of a Weights & Biases report that has them.

What goes into one is escaped: other texts of a report are shown as they are.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lightning_regs.study.report.telling import DAGGER, MEASURED, SYMBOLS

if TYPE_CHECKING:
    from lightning_regs.study.report.telling import ClaimEntry


def escape(text: str) -> str:
    """Write a text so that a Markdown table shows it as it is: no mark-up, HTML, formula, link or new column."""
    text = _line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_~$|\[\]])", r"\\\1", text)
    # Renderers look for addresses after escapes are resolved: an invisible joint keeps them from being one.
    return re.sub(r"(?i)(https?|ftp|mailto|xmpp|www)(?=[:.])|(?<=\S)(?=@)", "\\g<0>\u2060", text)


def code(text: str) -> str:
    """Write a name so that it is shown as code inside a Markdown table; one that cannot be becomes plain text."""
    line = _line(text)
    return escape(line) if re.search(r"[`|\\]", line) or not line else f"`{line}`"


def table(headings: Sequence[str], lines: Iterable[Sequence[str]], numbers: Container[int] = ()) -> dict[str, Any]:
    """Make a block of a table whose entries are Markdown; ``numbers`` are the columns that are set to the right."""
    rule = ["---:" if index in numbers else "---" for index in range(len(headings))]
    rows = (f"| {' | '.join(row)} |" for row in (headings, rule, *lines))
    return {"type": "MarkdownBlock", "text": "\n".join(rows)}


def claims_table(claims: Sequence[ClaimEntry], scales: bool = False) -> dict[str, Any]:
    """Make a block of claims that were judged, with the scale of each where they are of several."""
    headings = ["Verdict", "Id", "Claim", "Reproduced if", "Paper", "Ours", "95 % interval", "Seeds", "Source", "Notes"]
    lines = []
    for claim in claims:
        marks = f" {DAGGER}" if claim.exploratory and claim.verdict in MEASURED else ""
        behind = f" (scale {escape(claim.scale)})" if scales and claim.n else ""
        lines.append(
            [
                f"{SYMBOLS[claim.verdict]} {claim.verdict}{marks}",
                code(claim.id),
                escape(claim.sentence),
                escape(claim.criterion),
                paper_figure(claim),
                *map(escape, (claim.ours, claim.interval)),
                f"{claim.n}{behind}",
                *map(escape, (claim.provenance, "; ".join(claim.notes))),
            ]
        )
    return table(headings, lines, numbers=(4, 5, 6, 7))


def paper_figure(claim: ClaimEntry) -> str:
    """Write the paper's figure with its mark."""
    return escape(claim.paper) + (" (recalled)" if claim.recalled else "")


def _line(text: str) -> str:
    return " ".join(text.split())
