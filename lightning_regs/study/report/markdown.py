"""Markdown for cards and for Weights & Biases, written by one template: what goes into it is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from lightning_regs.study.lock.power import BUDGET
from lightning_regs.study.report import tables, telling

_ARXIV = re.compile(r"[\w.-]+(/\d+)?", re.ASCII)


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


def write(part: str, *about: Any, **options: Any) -> str:
    """Write a part of a card: the macro of that name in ``card.md.j2``, without empty lines at its ends."""
    text: str = getattr(_macros(), part)(*about, **options)
    return text.strip("\n")


@lru_cache(maxsize=1)
def _macros() -> Any:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    env = jinja2.Environment(  # noqa: S701  # it is no HTML: the template escapes what Markdown would take for its own
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters |= {"md": escape, "code": code, "html": html.escape, "by_reason": _by_reason}
    env.filters |= {"number": tables.number, "heading": tables.heading, "seconds": tables.seconds}
    env.filters |= {"legend": telling.legend, "signs": telling.signs}
    env.filters |= {"is_arxiv": _ARXIV.fullmatch, "count": lambda number: f"{number:,}" if number else "none"}
    env.globals |= {"half": tables.HALF, "titles": telling.TITLES, "measured": telling.MEASURED, "budget": BUDGET}
    env.globals |= {"symbols": telling.SYMBOLS, "dagger": telling.DAGGER, "exploratory": telling.EXPLORATORY}
    env.globals |= {"meanings": telling.MEANINGS, "marks": telling.MARKS}
    return env.get_template("card.md.j2").module


def _by_reason(claims: Iterable[telling.ClaimEntry]) -> list[tuple[str, list[str]]]:
    """List the ids of claims that were not measured, by the reason why."""
    reasons: dict[str, list[str]] = {}
    for claim in claims:
        if claim.verdict not in telling.MEASURED:
            reasons.setdefault(f"{claim.verdict}: {claim.reason}".rstrip(": "), []).append(claim.id)
    return list(reasons.items())
