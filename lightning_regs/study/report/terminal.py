"""What a terminal can show, and a paper's claims as it shows them."""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_regs.study.paper.claims import VERDICTS, ClaimResult, Kind, Verdict
from lightning_regs.study.paper.estimates import CONFIDENCE
from lightning_regs.study.report import tables
from lightning_regs.study.report.legible import legible
from lightning_regs.study.report.telling import BEYOND, SYMBOLS, Tally, tallies, tell

_WAITING = "not decided, as there is no measurement"
_STYLES: dict[str, str] = dict(zip(VERDICTS, ("green", "red", "yellow", "magenta", "dim", "dim"), strict=True))
_STYLES[_WAITING] = _STYLES["not decided"]
_PLAIN_MARKS: dict[Verdict, str] = dict(zip(VERDICTS, ("+", "x", "?", "!", "-", "-"), strict=True))
# A terminal ends at its last line: what asks for attention stands nearest to the prompt.
_ORDER: tuple[Verdict, ...] = ("reproduced", "not decided", "invalid", "not reproduced")
_KINDS: dict[Kind, str] = {"control": "controls, ", "theory": "theory, ", "paper": ""}
_ASCII = str.maketrans(
    {tables.MINUS: "-", tables.DASH: "-", tables.TIMES: "x", "\u2014": "-", "\u2026": "...", "\u202f": " ", "∞": "inf"}
    | dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("\u201c\u201d", '"')
)
# Columns from which claims are a table, and those from which a number and its interval stand on one line.
_TABLE, _WIDE = 76, 110
# Longer lines are hard to read.
_LONGEST_SENTENCE = 90
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
        _show(console, _table(parts, console) if console.width >= _TABLE else _list(parts, console))
    if known_for := [claim for claim in given if claim.headline]:
        style = "" if is_plain(console) else "bold"
        _show(console, _list([(Text("what the paper is known for", style=style), known_for)], console))
    for tally in reversed(tallies(given)):
        lead = _KINDS[tally.kind].replace(",", ":")
        console.print(Text(lead).append_text(_counts(tally, console)) if given else Text("no claims"))


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
    grid.add_column(overflow="fold")
    return grid


def _table(parts: Sequence[tuple[Text, Sequence[ClaimResult]]], console: Console) -> Table:
    gap = " " if console.width >= _WIDE else "\n"
    header = "" if is_plain(console) else "bold"
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=header)
    table.add_column("", no_wrap=True)
    table.add_column("claim", max_width=_LONGEST_SENTENCE, overflow="fold")
    table.add_column("paper", justify="right", max_width=20 if gap == " " else 13, overflow="fold")
    table.add_column(f"ours{gap}[95 % interval]", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for heading, claims in parts:
        table.add_row("", heading)
        for claim in claims:
            paper = Text(showable(_paper_value(claim), console))
            ours = Text(gap.join(_ours(claim)).rstrip())
            table.add_row(_mark(console, claim.verdict), _sentence(claim, console), paper, ours, str(claim.n))
    return table


def _list(parts: Sequence[tuple[Text, Sequence[ClaimResult]]], console: Console) -> Table:
    """Lay claims out below each other: where a table would leave a few letters for the sentence, and for a few."""
    grid = _grid()
    for heading, claims in parts:
        grid.add_row("", heading)
        for claim in claims:
            ours, interval = _ours(claim)
            seeds = f"{claim.n} seed{'' if claim.n == 1 else 's'}"
            measured = (f"ours {ours}", interval, seeds) if claim.n else ()
            numbers = filter(None, (f"paper {_paper_value(claim)}", *measured))
            # Lines end between parts only: textwrap breaks at no other space than the ordinary one.
            line = "  ".join(part.replace(" ", "\u00a0") for part in numbers)
            wrapped = textwrap.wrap(line, console.width - 3, break_long_words=False, break_on_hyphens=False)
            shown = showable("\n".join(wrapped).replace("\u00a0", " "), console)
            grid.add_row(_mark(console, claim.verdict), _sentence(claim, console).append(f"\n{shown}"))
    return grid


def _sentence(claim: ClaimResult, console: Console) -> Text:
    """Write what the paper says; below it id and criterion, and what there is to say about the verdict."""
    sentence, dim = Text(showable(claim.sentence, console)), "" if is_plain(console) else "dim"
    asks = f"claim {claim.id}{f', holds if {ascii_signs(claim.criterion)}' if claim.criterion else ''}"
    sentence.append(f"\n{showable(asks, console)}", style=dim)
    told = tell(claim, "")
    look = f"exploratory: {told.exploratory}" if told.exploratory else ""
    if notes := "; ".join(filter(None, (told.reason, look, *told.facts))):
        sentence.append(f"\n{showable(ascii_signs(notes), console)}", style=dim)
    return sentence


def _ours(claim: ClaimResult) -> tuple[str, str]:
    if claim.ours is None:
        return "-", ""
    numbers = (number for number in (claim.ours, claim.low, claim.high) if number is not None)
    ours, *ends = (ascii_signs(tables.digits(number, claim.unit)) for number in numbers)
    ours = f"{claim.bound} {ours}".strip()
    level = f" at {100 * claim.confidence:.4g} %" if claim.confidence != CONFIDENCE else ""
    return ours, f"[{', '.join(ends)}]{level}" if len(ends) == 2 else ""


def _paper_value(claim: ClaimResult) -> str:
    text = ascii_signs(tables.paper_value(claim))
    return f"{text} (recalled)" if claim.paper_value is not None and claim.recalled else text
