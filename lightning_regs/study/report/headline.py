"""What a paper is known for, and what was found for it: the first thing on a card and a page, with a picture."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report import plots, tables
from lightning_regs.study.report.plots import FAINT, HOLDS, INK, MUTED, VERDICTS
from lightning_regs.study.report.telling import BEYOND, ClaimEntry, legend, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from lightning_regs.study.paper.claims import ClaimResult
    from lightning_regs.study.paper.paper import Paper
    from lightning_regs.study.store.results import ScaleResults

TITLE = "Ours beside the paper's"
# Points: the whole width, the column of verdicts, the room of an axis' outer labels, a line of text, an axis, the gap
# between claims.
_WIDTH, _ASIDE, _EDGE, _LINE, _AXIS, _GAP = 346, 112, 18, 11.5, 16, 13
_LETTERS = 68
_TICKS = 3


def span(numbers: Mapping[str, float | None]) -> tuple[float, float] | None:
    """Return the ends of an axis for a claim's numbers; None without a measurement, or where they fit on none.

    Args:
        numbers: ``ours``, ``low``, ``high``, ``holds_low``, ``holds_high`` and ``paper``; None where there is none.
    """
    if numbers["ours"] is None:
        return None
    points = [number for number in numbers.values() if number is not None and math.isfinite(number)]
    if not points:
        return None
    margin = max((max(points) - min(points) or abs(points[0]) or 1.0) * 0.12, sys.float_info.min)
    left, right = min(points) - margin, max(points) + margin
    return (left, right) if 0 < right - left < math.inf else None


def strip(numbers: Mapping[str, float | None]) -> dict[str, float | None] | None:
    """Lay out a claim's interval, the paper's figure and where the claim holds; None where :func:`span` has no ends.

    Args:
        numbers: As for :func:`span`. A claim without a limit holds to that side without end.

    Returns:
        The same numbers as shares of the width, in percent; None only for a figure that the paper does not give.
    """
    if (ends := span(numbers)) is None:
        return None
    left, right = ends
    ours = numbers["ours"]
    open_ends = {"low": ours, "high": ours, "holds_low": -math.inf, "holds_high": math.inf}
    given = {name: open_ends.get(name) if value is None else value for name, value in numbers.items()}
    return {
        name: None if value is None else round(100 * min(max((value - left) / (right - left), 0.0), 1.0), 2)
        for name, value in given.items()
    }


def headlines(paper: Paper, found: Sequence[ScaleResults]) -> tuple[ClaimEntry, ...]:
    """Tell the headline claims, each at the scale that says most about it.

    Args:
        paper: The paper.
        found: Its results, the scale nearest to the paper's own protocol first; scales without rows are passed over.

    Returns:
        One entry a headline claim, in the paper's order: where it was judged, else where it was measured, else where
        its reason stands; of several scales the first. What other scales found is among its facts. Empty without rows.
    """
    entries = []
    for claim in paper.headlines:
        results = [(part.name, result) for part in found for result in part.claims if result.id == claim.id]
        if results:
            scale, result = min(results, key=lambda each: _rank(each[1]))
            entry = tell(result, scale, claim.at(scale) or claim)
            others = {name: other for name, other in results if name != scale and other.n}
            voids = {name: f" ({other.reason})" for name, other in others.items() if other.verdict == "invalid"}
            elsewhere = tuple((name, other.verdict) for name, other in others.items())
            said = [f"{name}: {verdict}{voids.get(name, '')}" for name, verdict in elsewhere]
            unseen = result.verdict == "not at this scale" and claim.on
            reason = f"not measured yet: {' and '.join(claim.on or ())} scale" if unseen else entry.reason
            entries.append(replace(entry, reason=reason, facts=(*said, *entry.facts), elsewhere=elsewhere))
    return tuple(entries)


def _rank(claim: ClaimResult) -> int:
    if claim.p is not None or claim.verdict in ("reproduced", "not reproduced"):
        return 0
    if claim.verdict in BEYOND:
        return 3
    return 2 if claim.n == 0 else 1


def picture(entries: Sequence[ClaimEntry]) -> Figure:
    """Return the figure of headline claims: below each sentence our interval and the paper's figure on an axis."""
    caption = (
        "The claims that the paper is known for. Dots and lines are ours with their intervals, rings the paper's "
        "figures; a claim holds where the ground is shaded. What is invalid is grey."
    )
    caption += "".join(f" {mark} {meaning}." for mark, meaning in legend(entries).items())
    return Figure("headline", TITLE, caption, lambda rows, curves: _draw(entries))


def _draw(entries: Sequence[ClaimEntry]) -> Drawing:
    from matplotlib.figure import Figure as MatplotlibFigure

    if not entries:
        raise MissingRows("the paper has no claims")
    laid = []
    for entry in entries:
        seen = span(entry.numbers) is not None
        told = "" if seen and entry.verdict != "invalid" else _untested(entry)
        why, aside = textwrap.wrap(told, 44, max_lines=3, placeholder=" \u2026"), _aside(entry)
        axis = 2 * _LINE * (seen and bool(why))
        room = max(_LINE * (1 + len(aside)), axis + _LINE * (1 + len(why)))
        laid.append((entry, textwrap.wrap(entry.sentence, _LETTERS), aside, axis, why, room))
    height = sum(len(lines) * _LINE + room + _GAP for _, lines, _, _, _, room in laid)
    drawing = MatplotlibFigure(figsize=(_WIDTH / 72, height / 72))
    ground = drawing.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(height, 0))
    ground.set_axis_off()
    top = 0.0
    for entry, lines, aside, axis, why, room in laid:
        _lines(ground, 0, top, lines)
        top += len(lines) * _LINE + 3
        _lines(ground, _WIDTH - _ASIDE, top, [entry.signed], color=VERDICTS[entry.verdict], weight="bold")
        _lines(ground, _WIDTH - _ASIDE, top + _LINE, aside, color=MUTED)
        ends = span(entry.numbers)
        _lines(ground, 0, top + axis + _LINE + 3 * bool(axis), why, color=MUTED)
        if ends is None:
            ground.plot([0, _WIDTH - _ASIDE - _EDGE], [top + _LINE / 2] * 2, color=FAINT, linewidth=1)
        else:
            wide = _WIDTH - _ASIDE - 2 * _EDGE
            place = (_EDGE / _WIDTH, 1 - (top + _AXIS) / height, wide / _WIDTH, _AXIS / height)
            _axis(drawing.add_axes(place, xlim=ends, ylim=(-1, 1)), entry)
        top += room + _GAP - 3
    plots.describe(drawing, " ".join(map(_said, entries)))
    return drawing


def _aside(entry: ClaimEntry) -> list[str]:
    """Return what stands beside an axis, below the verdict."""
    said = [f"paper {entry.paper}", "(recalled)" if entry.recalled else ""]
    if entry.numbers["ours"] is not None:
        said += [f"ours {entry.ours}", f"{entry.n} seed{'s' * (entry.n != 1)}, {entry.scale}"]
        said += [f"{scale}: {verdict}" for scale, verdict in entry.elsewhere]
    return [line for text in said for line in textwrap.wrap(text, 22, max_lines=3, placeholder=" \u2026")]


def _lines(ground: Axes, x: float, top: float, lines: Sequence[str], **style: str) -> None:
    for number, line in enumerate(lines):
        ground.text(x, top + _LINE * (number + 0.5), line, va="center", **style)  # type: ignore[arg-type]  # any of a text's


def _axis(axes: Axes, entry: ClaimEntry) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(_TICKS, steps=[1, 2, 5, 10]))
    unit = {"%": " %", "x": tables.TIMES}.get(entry.unit, "")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}{unit}".replace("-", tables.MINUS)))
    left, right = axes.get_xlim()
    numbers = {name: value for name, value in entry.numbers.items() if value is not None}
    ours, void = numbers["ours"], entry.verdict == "invalid"
    color = MUTED if void else VERDICTS[entry.verdict]
    if entry.criterion and not void:
        low, high = max(numbers.get("holds_low", left), left), min(numbers.get("holds_high", right), right)
        axes.axvspan(low, max(high, low + (right - left) / 150), color=HOLDS, linewidth=0, zorder=0)
    axes.plot([max(numbers.get("low", ours), left), min(numbers.get("high", ours), right)], [0, 0], color=color, lw=2)
    axes.plot([ours], [0], "o", color=color, markersize=5, clip_on=False)
    if "paper" in numbers:
        axes.plot([numbers["paper"]], [0], "o", markersize=9.5, markerfacecolor="none", markeredgecolor=INK,
                  markeredgewidth=1.1, clip_on=False)  # fmt: skip


def _said(entry: ClaimEntry) -> str:
    said = f"{entry.sentence.rstrip('.')}: {entry.verdict}"
    if entry.numbers["ours"] is None:
        return f"{said} ({_untested(entry)})."
    interval = f", {entry.interval}" if entry.interval else ""
    said += f" ({entry.reason})" if entry.verdict == "invalid" else ""
    return f"{said}; ours {entry.ours}{interval}, the paper's {entry.paper}, holds if {entry.criterion}."


def _untested(entry: ClaimEntry) -> str:
    return entry.reason or "not measured yet"
