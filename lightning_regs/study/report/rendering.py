"""Pages, cards and Weights & Biases' Markdown by templates, all in one environment, and the words that only they need.

What is put into HTML is escaped; Markdown escapes what it would take for its own by ``md`` and ``code``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from lightning_regs.study.lock.power import BUDGET
from lightning_regs.study.paper.claims import VERDICTS
from lightning_regs.study.paper.criteria import short
from lightning_regs.study.report import plots, tables, telling
from lightning_regs.study.report.headline import strip
from lightning_regs.study.report.specification import slug

_ARXIV = re.compile(r"[\w.-]+(/\d+)?", re.ASCII)


def fill(template: str, **about: Any) -> str:
    """Write a page, or a part of one: the HTML template of that name."""
    return _environment().get_template(f"{template}.html.j2").render(**about)


def write(part: str, *about: Any, **options: Any) -> str:
    """Write a part of a card: the macro of that name in ``card.md.j2``, without empty lines at its ends."""
    text: str = getattr(_environment().get_template("card.md.j2").module, part)(*about, **options)
    return text.strip("\n")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    from lightning_regs import __version__

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(disabled_extensions=("md.j2",), default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: tuple[Any, ...] = (tables.entry, tables.heading, tables.number, tables.seconds, tables.tidy)
    filters += (telling.legend, telling.signs, breakable, by_reason, code, prose, sentence, short, slug, strip)
    env.filters |= {each.__name__: each for each in filters} | {"md": escape, "html": html.escape}
    env.filters |= {"is_arxiv": _ARXIV.fullmatch, "count": lambda number: f"{number:,}" if number else "none"}
    told = ("DAGGER", "EXPLORATORY", "MARKS", "MEANINGS", "MEASURED", "SYMBOLS", "TITLES")
    env.globals |= {name.lower(): getattr(telling, name) for name in told} | {"verdicts": VERDICTS, "budget": BUDGET}
    env.globals |= {"half": tables.HALF, "version": __version__, "dark": plots.DARK}
    return env


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


def by_reason(claims: Iterable[telling.ClaimEntry]) -> list[tuple[str, list[str]]]:
    """List the ids of claims that were not measured, by the reason why."""
    reasons: dict[str, list[str]] = {}
    for claim in claims:
        if claim.verdict not in telling.MEASURED:
            reasons.setdefault(f"{claim.verdict}: {claim.reason}".rstrip(": "), []).append(claim.id)
    return list(reasons.items())


def prose(text: str, title: str) -> Any:
    """Write the prose of a card as HTML; links that lead from the card into the repository become plain words."""
    words = re.sub(r"!?\[([^\]]+)\]\((?!https://)[^)]*\)", r"\1", text)
    shown = MarkdownIt("commonmark", {"html": False}).enable("table").render(words)
    # Who hears a table is told what it is and which cells are headings. Text is escaped: these tags are the renderer's.
    shown = re.sub(r"<th(?=[ >])", '<th scope="col"', shown)
    shown = re.sub(r"<tr>\n<td([^>]*)>(.*?)</td>", r'<tr>\n<th scope="row"\1>\2</th>', shown)
    label, numbers = Markup.escape(title), count(1)

    def scrolling(found: re.Match[str]) -> str:  # where it is wider than a telephone
        region = f'<div class="scroll" role="region" tabindex="0" aria-label="{label}, table {next(numbers)}">'
        return f'{region}\n<table>\n<caption class="hidden">{label}</caption>{found[1]}</table>\n</div>'

    return Markup(re.sub(r"<table>(.*?)</table>", scrolling, shown, flags=re.DOTALL))  # noqa: S704


def sentence(text: str) -> str:
    """Write a text as a sentence; an empty one stays empty."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def breakable(text: str) -> Any:
    """Let a long name break after its separators."""
    parts = re.split(r"(?<=[/+_])", text)
    return Markup("<wbr>").join(parts)
