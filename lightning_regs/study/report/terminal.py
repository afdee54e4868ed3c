"""What a terminal can show, and a paper's claims as it shows them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_regs.study.paper.claims import VERDICTS, ClaimResult, Verdict, count_verdicts
from lightning_regs.study.report import tables
from lightning_regs.study.report.legible import legible

_STYLES: dict[Verdict, str] = dict(zip(VERDICTS, ("green", "red", "yellow", "dim", "dim"), strict=True))
_MARKS: dict[Verdict, str] = dict(zip(VERDICTS, ("\u2713", "\u2717", "?", tables.DASH, tables.DASH), strict=True))
_PLAIN_MARKS: dict[Verdict, str] = dict(zip(VERDICTS, ("+", "x", "?", "-", "-"), strict=True))
# A terminal ends at its last line: what asks for attention stands nearest to the prompt.
_ORDER: tuple[Verdict, ...] = ("reproduced", "not decided", "not reproduced")
_ASCII = str.maketrans(
    {tables.MINUS: "-", tables.DASH: "-", tables.TIMES: "x", "\u2014": "-", "\u2026": "...", "\u202f": " ", "∞": "inf"}
    | dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("\u201c\u201d", '"')
)
_OURS = "ours [95 % interval]"
# Columns from which a number and its interval stand on one line.
_WIDE = 110
# A table needs so many columns for a sentence, else claims are a list; longer lines are hard to read.
_SHORTEST_SENTENCE, _LONGEST_SENTENCE = 28, 90
_MOST_REASONS = 8


def is_plain(console: Console) -> bool:
    """Tell whether output must be plain lines: no terminal, or ``NO_COLOR``, ``CI`` or ``TERM=dumb`` asks for it."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return bool(os.environ.get("NO_COLOR")) or in_ci or os.environ.get("TERM") == "dumb" or not console.is_terminal


def ascii_signs(text: str) -> str:
    """Replace the signs that a page has and a terminal's font may not."""
    return text.translate(_ASCII)


def showable(text: str, console: Console) -> str:
    """Write a text from a run or a paper with what the console's encoding has, and without control characters."""
    text = legible(text)
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        return ascii_signs(letters).encode(console.encoding, "replace").decode(console.encoding)
    return text


def print_claims(claims: Iterable[ClaimResult], console: Console | None = None) -> None:
    """Print claims with the paper's figure, ours with its 95 % interval, the number of seeds and the verdict.

    Claims of one verdict stand together. Those out of reach, and those without a measurement, are counted by the reason
    why: there may be a hundred, with a few reasons. Then come those that were reproduced, that were not decided and
    that were not reproduced, in the paper's order, and last the number of each: a terminal stops at its last line, so
    what a reader has to look at is on the screen.

    Args:
        claims: What was found.
        console: Where to write; default: standard output. Lines fit into its width from 40 columns on; numbers never
            wrap. Without a terminal, or where ``NO_COLOR`` or ``CI`` is set, it is plain text.
    """
    console = console or Console(highlight=False)
    given = list(claims)
    elsewhere = [claim for claim in given if claim.verdict == "not at this scale"]
    beyond = [claim for claim in given if claim.verdict == "out of reach"]
    waiting = [claim for claim in given if claim.verdict == "not decided" and claim.n == 0]
    _print_reasons(console, "not at this scale", "not at this scale", elsewhere)
    _print_reasons(console, "out of reach", "out of reach", beyond)
    _print_reasons(console, "not decided", "not decided, as there is no measurement", waiting)
    judged = [claim for claim in given if claim not in beyond and claim not in waiting and claim not in elsewhere]
    widths = _widths(judged, console)
    for verdict in _ORDER:
        if group := [claim for claim in judged if claim.verdict == verdict]:
            _heading(console, verdict, verdict, len(group))
            _show(console, _list(group, console) if widths is None else _table(group, console, widths))
    counts = [
        Text(f"{n} {verdict}", style=_style(console, verdict)) for verdict, n in count_verdicts(given).items() if n
    ]
    console.print(Text(", ").join(counts) if counts else Text("no claims"))


def _show(console: Console, table: Table) -> None:
    """Print a table and an empty line; plain text without the spaces that fill lines up."""
    if not is_plain(console):
        console.print(table)
    else:
        with console.capture() as captured:
            console.print(table)
        for line in captured.get().splitlines():
            console.print(Text(line.rstrip()), soft_wrap=True)
    console.print()


def _style(console: Console, verdict: Verdict) -> str:
    return "" if is_plain(console) else _STYLES[verdict]


def _mark(console: Console, verdict: Verdict) -> Text:
    sign = _MARKS[verdict]
    shown = sign if showable(sign, console) == sign else _PLAIN_MARKS[verdict]
    return Text(shown, style=_style(console, verdict))


def _heading(console: Console, verdict: Verdict, words: str, count: int) -> None:
    style = "" if is_plain(console) else f"bold {_STYLES[verdict]}"
    noun = "claim" if count == 1 else "claims"
    console.print(Text(f"{words}: {count} {noun}", style=style))


def _print_reasons(console: Console, verdict: Verdict, words: str, claims: Sequence[ClaimResult]) -> None:
    if not claims:
        return
    _heading(console, verdict, words, len(claims))
    reasons = Counter(claim.reason or "no reason was given" for claim in claims).most_common()
    grid = Table.grid(padding=(0, 1), pad_edge=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for reason, count in reasons[:_MOST_REASONS]:
        grid.add_row(str(count), Text(showable(reason, console)))
    if others := reasons[_MOST_REASONS:]:
        grid.add_row(str(sum(count for _, count in others)), Text(f"for {len(others)} more reasons, named on the page"))
    _show(console, grid)


@dataclass(frozen=True)
class _Widths:
    """Columns of the tables of claims: the same for all, so that tables below each other align."""

    sentence: int
    paper: int
    ours: int
    seeds: int
    gap: str


def _widths(claims: Sequence[ClaimResult], console: Console) -> _Widths | None:
    """Return what the claims need; None where nothing legible would be left for the sentences."""
    wide = console.width >= _WIDE
    gap = " " if wide else "\n"
    paper = min(20 if wide else 13, _longest("paper", *(showable(_paper_value(claim), console) for claim in claims)))
    ours = _longest(_OURS.replace(" ", gap, 1), *(gap.join(_ours(claim)) for claim in claims))
    seeds = _longest("n", *(str(claim.n) for claim in claims))
    room = console.width - 1 - paper - ours - seeds - 4 * 2
    return _Widths(min(_LONGEST_SENTENCE, room), paper, ours, seeds, gap) if room >= _SHORTEST_SENTENCE else None


def _longest(*texts: str) -> int:
    return max(len(line) for text in texts for line in text.splitlines() or [""])


def _table(claims: Sequence[ClaimResult], console: Console, widths: _Widths) -> Table:
    header = "" if is_plain(console) else "bold"
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=header)
    table.add_column("", no_wrap=True, width=1)
    table.add_column("claim", width=widths.sentence, overflow="fold")
    table.add_column("paper", justify="right", width=widths.paper, overflow="fold")
    table.add_column(Text(_OURS.replace(" ", widths.gap, 1)), justify="right", no_wrap=True, width=widths.ours)
    table.add_column("n", justify="right", no_wrap=True, width=widths.seeds)
    for claim in claims:
        table.add_row(
            _mark(console, claim.verdict),
            _sentence(claim, console),
            Text(showable(_paper_value(claim), console)),
            Text(widths.gap.join(_ours(claim)).rstrip()),
            str(claim.n),
        )
    return table


def _list(claims: Sequence[ClaimResult], console: Console) -> Table:
    """Lay claims out below each other where a table would leave a few letters for the sentence."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for claim in claims:
        ours, interval = _ours(claim)
        seeds = f"{claim.n} seed{'' if claim.n == 1 else 's'}"
        both = f"ours {ours} {interval}".rstrip()
        measured = [both] if len(both) <= console.width - 3 else [f"ours {ours}", interval]
        numbers = _pack([f"paper {_paper_value(claim)}", *measured, seeds], console.width - 3)
        grid.add_row(_mark(console, claim.verdict), _sentence(claim, console).append(f"\n{showable(numbers, console)}"))
    return grid


def _pack(parts: Iterable[str], room: int) -> str:
    """Put parts on lines of at most so many columns, none of them broken."""
    lines: list[str] = []
    for part in filter(None, parts):
        if lines and len(lines[-1]) + 2 + len(part) <= room:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return "\n".join(lines)


def _sentence(claim: ClaimResult, console: Console) -> Text:
    sentence = Text(showable(claim.sentence, console))
    if claim.reason:
        sentence.append(f"\n{showable(claim.reason, console)}", style="" if is_plain(console) else "dim")
    return sentence


def _ours(claim: ClaimResult) -> tuple[str, str]:
    if claim.ours is None:
        return "-", ""
    ours, *ends = (
        ascii_signs(tables.digits(value, claim.unit))
        for value in (claim.ours, claim.low, claim.high)
        if value is not None
    )
    return ours, f"[{', '.join(ends)}]" if len(ends) == 2 else ""


def _paper_value(claim: ClaimResult) -> str:
    text = ascii_signs(tables.paper_value(claim))
    return f"{text} (recalled)" if claim.paper_value is not None and claim.recalled else text
