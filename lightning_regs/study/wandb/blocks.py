"""A paper's report for Weights & Biases as plain data, which :mod:`lightning_regs.study.wandb.report` builds.

Every object names its class in ``wandb_workspaces.reports.v2`` as ``type``; the rest are that class's arguments. Texts
and tables are Markdown, from the template that writes cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_regs.study.paper.claims import VERDICTS
from lightning_regs.study.paper.figure import Panel
from lightning_regs.study.report import tables
from lightning_regs.study.report.drawing import FigureEntry
from lightning_regs.study.report.rendering import write
from lightning_regs.study.report.specification import Section, Specification
from lightning_regs.study.report.telling import BEYOND, MEASURED, SYMBOLS, TITLES
from lightning_regs.study.wandb.target import Target

Block = dict[str, Any]
MAX_TITLE = 128
# Weights & Biases draws ten runs where it is not told otherwise, and this many at most.
_MOST_RUNS = 100
_COLUMNS = 24


def blocks(specification: Specification, target: Target | None) -> Block:
    """Lay out a report as data for JSON: its ``title``, ``description``, ``entity``, ``project`` and ``blocks``.

    Without a target it is open where the runs are and the report goes.
    """
    place = {"entity": target.entity if target else None, "project": target.project if target else None}
    measured = [section for section in specification.sections if not section.blank]
    blank = [section for section in specification.sections if section.blank]
    made: list[Block] = [
        _markdown("about", specification),
        *_headlines(specification, place),
        {"type": "TableOfContents"},
        *(_heading(1, "How to read it"), _markdown("guide")),
    ]
    if specification.deviations:
        made += [_heading(1, "Deviations"), _markdown("deviations", specification.deviations)]
    for section in measured:
        made += _section(specification.paper, section, place)
    if blank:
        made += [_heading(1, "Not measured yet"), _markdown("unmeasured", blank)]
    if specification.sources:
        made += [_heading(1, "Sources"), _markdown("sources", specification.sources)]
    # By its title a report is found again: the paper's id leads, so no two papers share one.
    title = _line(f"{specification.paper}: {specification.title}")
    found = "; ".join(f"{section.scale}: {_counts(section)}" for section in measured) or "No results yet"
    return {
        "type": "Report",
        "title": title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1].rstrip()}\u2026",
        "description": _line(f"{specification.authors} ({specification.year}), reproduced. {found}."),
        "width": "fixed",
        "blocks": made,
    } | place


def where(conditions: dict[str, str | Sequence[str]]) -> str:
    """Write conditions on runs, a key of the configuration or ``"JobType"`` each, in wandb-workspaces' filter language.

    The library replaces ``=``, ``<`` and ``>`` in the whole text, names included, before it parses it as Python:
    every character that could matter is written as an escape.
    """
    return " and ".join(
        f"{'Metric' if name == 'JobType' else 'Config'}({_literal(name)}) "
        + (f"== {_literal(value)}" if isinstance(value, str) else f"in [{', '.join(map(_literal, value))}]")
        for name, value in conditions.items()
    )


def _literal(text: str) -> str:
    return "'" + re.sub(r"[^A-Za-z0-9_/.+^-]", lambda match: f"\\U{ord(match[0]):08x}", text) + "'"


def _counts(section: Section) -> str:
    return ", ".join(f"{SYMBOLS[verdict]} {section.counts[verdict]} {verdict}" for verdict in VERDICTS)


def _headlines(specification: Specification, place: Block) -> Iterator[Block]:
    if not specification.headlines:
        return
    yield _heading(1, "What held")
    yield _markdown("summaries", specification.sections)
    yield _markdown("ledger", specification.headlines, scales=True)
    if (shown := specification.picture) is not None:
        measured = next(section for section in specification.sections if section.claims)
        yield _paragraph(shown.caption)
        yield _picture(specification.paper, measured.scale, shown, place)


def _section(paper: str, section: Section, place: Block) -> Iterator[Block]:
    yield _heading(1, f"Scale {section.scale}")
    yield _paragraph(f"{section.description.rstrip('.')}. {section.progress}, {section.state}.")
    mixed = [f"The runs come from {' and '.join(section.mixed)}: they are not one experiment."] if section.mixed else []
    for text in (*section.problems, *mixed):
        yield {"type": "CalloutBlock", "text": _line(text)}
    yield from _claims(section)
    if section.figures:
        yield _heading(2, "Figures")
        yield _paragraph(
            "Pictures are drawn from the table of results, with the paper's figures in them; what moves below them is "
            "drawn by Weights & Biases from the logged runs, mean and range over seeds."
        )
    for figure in section.figures:
        yield from _figure(paper, section, figure, place)
    if section.groups:
        titled = ((_paragraph(f"{group.name}: {tables.HALF}"), _markdown("cells", group)) for group in section.groups)
        yield _heading(2, "Cells", [block for blocks in titled for block in blocks])
    if section.failures:
        yield from (_heading(2, "Runs that failed"), _markdown("failures", section.failures))
    yield from (_heading(2, "Where it comes from"), _markdown("provenance", section))
    yield from (_heading(2, "Run it again"), _markdown("commands", section))


def _claims(section: Section) -> Iterator[Block]:
    yield _heading(2, "Claims")
    if not section.claims:
        yield _paragraph("No claim is judged, as there is no row yet.")
        return
    yield _paragraph(section.intervals)
    for tally in section.tallies:
        own = [claim for claim in section.claims if claim.kind == tally.kind]
        yield _heading(3, TITLES[tally.kind])
        yield _paragraph(tally.sentence)
        if judged := [claim for claim in own if claim.verdict in MEASURED]:
            yield _markdown("ledger", judged)
            yield _heading(3, "What had to hold, and when it was frozen", [_markdown("rules", judged)])
        for verdict in BEYOND:
            if beyond := [claim for claim in own if claim.verdict == verdict]:
                yield _heading(3, f"{verdict.capitalize()}: {len(beyond)}", [_markdown("beyond", beyond)])


def _figure(paper: str, section: Section, figure: FigureEntry, place: Block) -> Iterator[Block]:
    yield _heading(3, figure.title)
    if figure.missing:
        yield _paragraph(f"Not drawn at this scale: {figure.missing}.")
        return
    yield _paragraph(" ".join((figure.caption, *figure.notes)))
    if figure.alt:
        yield _paragraph(figure.alt)
    here: dict[str, str | Sequence[str]] = {"paper": paper, "scale": section.scale}
    yield _picture(paper, section.scale, figure, place)
    seeds = {cell.name: len(cell.runs) for group in section.groups for cell in group.cells}
    together: dict[tuple[str, ...], list[Panel]] = {}
    for panel in figure.panels:
        cells = tuple(cell for cell in seeds if cell in panel.cells)
        if len(cells) > 1 or cells == panel.cells:  # of cells to compare, one alone says nothing
            together.setdefault(cells, []).append(panel)
    for cells, panels in together.items():
        runs = sum(seeds[cell] for cell in cells)
        drawn = [made for panel in panels for made in _panels(panel, cells, runs)]
        bars = max(made.get("max_bars_to_show", 0) for made in drawn)
        shown = place | {"name": "Runs", "filters": where(here | {"cell": list(cells)})}
        yield _grid(shown, drawn, height=max(8, min(24, bars // 2)))


def _picture(paper: str, scale: str, figure: FigureEntry, place: Block) -> Block:
    """Show a figure as it was drawn, from the run that holds the results of a scale."""
    results = where({"JobType": "results", "paper": paper, "scale": scale})
    picture = {"type": "MediaBrowser", "title": figure.title, "media_keys": [f"figure/{figure.id}"], "num_columns": 1}
    return _grid(place | {"name": "Results", "filters": results}, [picture], height=16)


def _panels(panel: Panel, cells: Sequence[str], runs: int) -> Iterator[Block]:
    """Draw each column of the curves by itself, as they have axes of their own, and metrics of rows side by side."""
    shared = {
        "groupby": {"type": "Config", "name": "cell"},
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "minmax",
        "max_runs_to_show": min(max(runs, 10), _MOST_RUNS),
    }
    families = {cell.partition("/")[0] for cell in cells}
    behind = f" ({_line(families.pop())})" if len(families) == 1 else ""
    if panel.kind == "curve":
        for metric in panel.metrics:
            name = f"{tables.heading(metric)}{behind}"
            yield {"type": "LinePlot", "title": name, "x": panel.x, "y": [metric]} | shared
        return
    names = [*map(tables.heading, panel.metrics[:3]), *(["\u2026"] if len(panel.metrics) > 3 else [])]
    bars = {"metrics": list(panel.metrics), "max_bars_to_show": len(cells) * len(panel.metrics)}
    yield {"type": "BarPlot", "title": f"{', '.join(names)}{behind}"} | bars | shared


def _grid(runs: Block, panels: Sequence[Block], height: int) -> Block:
    """Put panels of one height side by side in two columns, or one panel across both; with the runs they show."""
    width = _COLUMNS if len(panels) == 1 else _COLUMNS // 2
    columns = _COLUMNS // width
    places = (
        {"type": "Layout", "x": at % columns * width, "y": at // columns * height, "w": width, "h": height}
        for at in range(len(panels))
    )
    placed = [panel | {"layout": place} for panel, place in zip(panels, places, strict=True)]
    return {"type": "PanelGrid", "runsets": [{"type": "Runset"} | runs], "panels": placed, "hide_run_sets": True}


def _heading(level: int, text: str, collapsed: Sequence[Block] | None = None) -> Block:
    """Make a heading; one with blocks hides them until it is opened."""
    block: Block = {"type": f"H{level}", "text": _line(text)}
    return block if collapsed is None else block | {"collapsed_blocks": list(collapsed)}


def _markdown(part: str, *about: Any, **options: Any) -> Block:
    return {"type": "MarkdownBlock", "text": write(part, *about, **options)}


def _paragraph(text: str) -> Block:
    return {"type": "P", "text": _line(text)}


def _line(text: str) -> str:
    return " ".join(text.split())
