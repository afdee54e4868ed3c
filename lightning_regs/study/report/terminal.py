"""What a terminal can show, and a paper's claims as it shows them."""

from __future__ import annotations

import os
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_regs.study.paper.claims import VERDICTS, Kind, Verdict
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.report.legible import legible
from lightning_regs.study.report.tables import DASH, MINUS, TIMES
from lightning_regs.study.report.tables import number as written
from lightning_regs.study.report.telling import BEYOND, SYMBOLS, Tally, tallies, tell

if TYPE_CHECKING:
    from lightning_regs.procedures.diagnosis.diagnose import Diagnosis

_WAITING = "not decided, as there is no measurement"
_STYLES: dict[str, str] = dict(zip(VERDICTS, ("green", "red", "yellow", "magenta", "dim", "dim"), strict=True))
_STYLES[_WAITING] = _STYLES["not decided"]
_PLAIN_MARKS: dict[Verdict, str] = dict(zip(VERDICTS, ("+", "x", "?", "!", "-", "-"), strict=True))
# A terminal ends at its last line: what asks for attention stands nearest to the prompt.
_ORDER: tuple[Verdict, ...] = ("reproduced", "not decided", "invalid", "not reproduced")
_KINDS: dict[Kind, str] = {"control": "controls, ", "theory": "theory, ", "paper": ""}
_ASCII = str.maketrans(
    {MINUS: "-", DASH: "-", TIMES: "x", "\u2014": "-", "\u2026": "...", "\u202f": " ", "\u00a0": " ", "∞": "inf"}
    | dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("\u201c\u201d", '"')
)
# Longer lines are hard to read.
_WIDEST = 100
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
    """Print claims with criterion, the paper's figure, ours with its interval, the number of seeds and the verdict.

    A terminal stops at its last line, so what a reader looks at first is printed last: the number of claims with each
    verdict, above it what the paper is known for, above that its claims, those that were not reproduced lowest. Theory
    and our own controls stand apart, further up. Those out of reach, and those without a measurement, come before, and
    are counted by the reason why: there may be a hundred, with a few reasons.

    Args:
        claims: What was found.
        console: Where to write; default: standard output. Lines fit into its width from 40 columns on; numbers never
            wrap. Without a terminal, or where ``NO_COLOR`` or ``CI`` is set, it is plain text.
    """
    console = console or Console(highlight=False)
    given = list(claims)
    groups: dict[tuple[Kind, str], list[ClaimResult]] = {}
    for claim in given:
        words = _WAITING if claim.verdict == "not decided" and claim.n == 0 else claim.verdict
        groups.setdefault((claim.kind, words), []).append(claim)
    for words in (*BEYOND, _WAITING):
        for kind, lead in _KINDS.items():
            if found := groups.get((kind, words)):
                console.print(_heading(console, words, found, lead))
                _show(console, _reasons(found, console))
    parts = [(_heading(console, words, found, lead), found) for kind, lead in _KINDS.items() for words in _ORDER
             if (found := groups.get((kind, words)))]  # fmt: skip
    if parts:
        _show(console, _list(parts, console))
    if known_for := [claim for claim in given if claim.headline]:
        style = "" if is_plain(console) else "bold"
        _show(console, _list([(Text("what the paper is known for", style=style), known_for)], console))
    for tally in reversed(tallies(given)):
        lead = _KINDS[tally.kind].replace(",", ":")
        console.print(Text(lead).append_text(_counts(tally, console)) if given else Text("no claims"))


# What a diagnosis says -> the verdict whose sign and colour it has.
_SAYS: dict[str, Verdict] = {"fine": "reproduced", "cry": "not reproduced", "skipped": "out of reach"}


def print_diagnosis(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print what each check found, in a table, and below it how many cried."""
    console = console or Console(highlight=False)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="" if is_plain(console) else "bold")
    for heading in ("", "check", "number", "finding"):
        table.add_column(heading, no_wrap=heading != "finding", justify="right" if heading == "number" else "left")
    for finding in diagnosis.findings:
        told = Text(showable(finding.sentence, console), style="dim" if finding.verdict == "skipped" else "")
        if finding.remedy:
            told.append(f"\n{showable(finding.remedy, console)}", style="" if is_plain(console) else "bold")
        shown = ascii_signs(written(finding.number)) if finding.number is not None else ""
        table.add_row(_mark(console, _SAYS[finding.verdict]), finding.name, shown, told)
    _show(console, table)
    console.print(diagnosis.summary)


def _counts(tally: Tally, console: Console) -> Text:
    counts = []
    for verdict, number in tally.counts.items():
        marked = f" ({tally.exploratory[verdict]} exploratory)" if tally.exploratory[verdict] else ""
        if number:
            counts.append(Text(f"{number} {verdict}{marked}", style=_style(console, verdict)))
    return Text(", ").join(counts) if counts else Text("nothing of the paper")


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


def _style(console: Console, words: str) -> str:
    return "" if is_plain(console) else _STYLES[words]


def _mark(console: Console, verdict: Verdict) -> Text:
    sign = SYMBOLS[verdict]
    shown = sign if showable(sign, console) == sign else _PLAIN_MARKS[verdict]
    return Text(shown, style=_style(console, verdict))


def _heading(console: Console, words: str, claims: Sequence[ClaimResult], lead: str) -> Text:
    noun = "claim" if len(claims) == 1 else "claims"
    return Text(f"{lead}{words}: {len(claims)} {noun}", style="" if is_plain(console) else f"bold {_STYLES[words]}")


def _reasons(claims: Sequence[ClaimResult], console: Console) -> Table:
    """Count claims by the reason why they are not decided."""
    reasons = Counter(claim.reason or "no reason was given" for claim in claims).most_common()
    grid = _grid()
    for reason, count in reasons[:_MOST_REASONS]:
        grid.add_row(f"{count:>3}", Text(showable(reason, console)))
    if others := reasons[_MOST_REASONS:]:
        left = sum(count for _, count in others)
        grid.add_row(f"{left:>3}", Text(f"for {len(others)} more reasons, named on the page"))
    return grid


def _grid() -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", max_width=_WIDEST)
    return grid


def _list(parts: Sequence[tuple[Text, Sequence[ClaimResult]]], console: Console) -> Table:
    """Lay claims out below each other: sentence, id and criterion, what there is to say about the verdict, numbers."""
    grid = _grid()
    dim = "" if is_plain(console) else "dim"
    for heading, claims in parts:
        grid.add_row("", heading)
        for told in (tell(claim, "") for claim in claims):
            asks = f"claim {told.id}{f', holds if {told.criterion}' if told.criterion else ''}"
            look = f"exploratory: {told.exploratory}" if told.exploratory else ""
            notes = "; ".join(filter(None, (told.reason, look, *told.facts)))
            seeds = f"{told.n} seed{'s' * (told.n != 1)}"
            measured = (f"ours {told.ours}", told.interval, seeds) if told.n else ()
            numbers = filter(None, (f"paper {told.paper}{' (recalled)' * told.recalled}", *measured))
            # Lines end between parts only: textwrap breaks at no other space than the ordinary one.
            line = "  ".join(re.sub(r"\s", "\u00a0", part) for part in numbers)
            width = min(console.width, _WIDEST) - 3
            wrapped = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
            shown = Text(showable(told.sentence, console))
            for text in filter(None, (asks, notes)):
                shown.append(f"\n{showable(ascii_signs(text), console)}", style=dim)
            shown.append("\n" + showable(ascii_signs("\n".join(wrapped)), console))
            grid.add_row(_mark(console, told.verdict), shown)
    return grid
