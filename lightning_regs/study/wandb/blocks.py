"""A report for Weights & Biases as plain data: the blocks that :mod:`lightning_regs.study.wandb.report` builds 1:1.

Texts are spans of plain text, which Weights & Biases shows as they are. Tables exist there in Markdown only, so what
goes into one is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lightning_regs.study.paper.claims import VERDICTS, Verdict
from lightning_regs.study.report import tables
from lightning_regs.study.report.report import MEANINGS

if TYPE_CHECKING:
    from lightning_regs.study.paper.figure import Panel
    from lightning_regs.study.report.drawing import FigureEntry
    from lightning_regs.study.report.specification import ClaimEntry, Section, Specification
    from lightning_regs.study.wandb.target import Target

Block = dict[str, Any]
# Plain text; {"code": text}; or {"link": address, "text": text}.
Span = str | dict[str, str]
# Section and name of what is compared, "==" or "in", and what it is compared with.
Condition = tuple[str, str, str, str | list[str]]

MAX_TITLE = 128
# Weights & Biases draws ten runs where it is not told otherwise, and this many at most.
_MOST_RUNS = 100
_COLUMNS = 24
_SYMBOLS: dict[Verdict, str] = dict(zip(VERDICTS, ("\u2713", "\u2717", "?", tables.DASH), strict=True))
_ORIGIN = {"commit": "Commit", "versions": "Package versions", "device": "Machine", "precision": "Arithmetic"}


def blocks(specification: Specification, target: Target | None) -> dict[str, Any]:
    """Lay out a report.

    Args:
        specification: What it says.
        target: Where the runs are and the report goes; None leaves both open.

    Returns:
        ``title``, ``description``, ``entity``, ``project`` and ``blocks``, all of it data for JSON. A block has a
        ``kind``: ``heading``, ``paragraph``, ``list``, ``callout``, ``code``, ``markdown``, ``contents``, or ``grid``
        (panels with the runs they show). A heading with ``collapsed`` hides these blocks until it is opened.
    """
    measured = [section for section in specification.sections if not section.blank]
    made: list[Block] = [
        _paragraph(*_about(specification)),
        {"kind": "list", "items": [[f"{_SYMBOLS[verdict]} {verdict}: {MEANINGS[verdict]}"] for verdict in VERDICTS]},
        _paragraph("A figure of the paper that comes from memory, and was not read again, is marked as recalled."),
        {"kind": "contents"},
    ]
    for section in measured:
        made += _section(specification, section, target)
    blank = [section for section in specification.sections if section.blank]
    if blank:
        made.append(_heading(1, "Not measured yet"))
        items = [[f"{section.scale}: {section.description}. ", {"code": section.command}] for section in blank]
        made.append({"kind": "list", "items": items})
    return {
        "title": title(specification),
        "description": _description(specification, measured),
        "entity": target.entity if target else None,
        "project": target.project if target else None,
        "blocks": made,
    }


def title(specification: Specification) -> str:
    """Return the report's title, by which it is found again: the paper's id leads, so no two papers share one."""
    text = _line(f"{specification.paper}: {specification.title}")
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1].rstrip()}\u2026"


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


def _about(specification: Specification) -> Iterator[Span]:
    yield f"{specification.authors} ({specification.year}): {specification.title}"
    if re.fullmatch(r"[\w.-]+(/\d+)?", specification.arxiv, re.ASCII):
        yield ", "
        address = f"https://arxiv.org/abs/{specification.arxiv}"
        yield {"link": address, "text": f"arXiv:{specification.arxiv}"}
    yield f". Claims of this paper, measured again with lightning-regs {specification.version}."


def _description(specification: Specification, measured: Sequence[Section]) -> str:
    found = [f"{section.scale}: {_counts(section)}" for section in measured]
    return _line(f"{specification.authors} ({specification.year}), reproduced. {'; '.join(found) or 'No results yet'}.")


def _counts(section: Section) -> str:
    return ", ".join(f"{_SYMBOLS[verdict]} {section.counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)


def _section(specification: Specification, section: Section, target: Target | None) -> Iterator[Block]:
    yield _heading(1, f"Scale {section.scale}")
    yield _paragraph(f"{section.description.rstrip('.')}. {section.progress}, {section.state}.")
    for problem in section.problems:
        yield _callout(problem)
    if section.mixed:
        yield _callout(f"The runs come from {' and '.join(section.mixed)}: they are not one experiment.")
    yield from _claims(section)
    if section.figures:
        yield _heading(2, "Figures")
        yield _paragraph(
            "Pictures are drawn from the table of results, with the paper's figures in them; what moves below them is "
            "drawn by Weights & Biases from the logged runs, mean and range over seeds."
        )
    for figure in section.figures:
        yield from _figure(specification.paper, section, figure, target)
    if section.groups:
        yield _heading(2, "Cells", list(_cells(section)))
    if section.failures:
        yield _heading(2, "Runs that failed")
        items: list[list[Span]] = [
            [{"code": _line(f"{failure.cell} seed {failure.seed}")}, ": ", {"code": _line(failure.reason)}]
            for failure in section.failures
        ]
        yield {"kind": "list", "items": items}
    yield _heading(2, "Where it comes from")
    yield {"kind": "list", "items": list(_origin(section))}
    yield _heading(2, "Run it again")
    yield _paragraph("Runs that are complete are skipped; a command that was stopped goes on where it was.")
    yield {"kind": "code", "text": section.command}
    if section.one_cell:
        yield _paragraph("One cell alone:")
        yield {"kind": "code", "text": section.one_cell}


def _claims(section: Section) -> Iterator[Block]:
    yield _heading(2, "Claims")
    if not section.claims:
        yield _paragraph("The claims have not been judged on these runs yet.")
        return
    yield _paragraph(f"{_counts(section)}.")
    reached = [claim for claim in section.claims if claim.verdict != "out of reach"]
    beyond = [claim for claim in section.claims if claim.verdict == "out of reach"]
    if reached:
        headings = ["Verdict", "Claim", "Paper", "Ours", "95 % interval", "Reproduced if", "Seeds", "Why"]
        lines = (
            [
                f"{_SYMBOLS[claim.verdict]} {claim.verdict}",
                escape(claim.sentence),
                _paper(claim),
                *map(escape, (claim.ours, claim.interval, claim.criterion)),
                str(claim.n),
                escape(claim.reason),
            ]
            for claim in reached
        )
        yield _table(headings, lines, numbers=(2, 3, 4, 6))
    if beyond:
        lines = ([escape(claim.sentence), _paper(claim), escape(claim.reason)] for claim in beyond)
        name = f"Out of reach at this scale: {len(beyond)} claims"
        yield _heading(3, name, [_table(["Claim", "Paper", "Why"], lines, numbers=(1,))])


def _paper(claim: ClaimEntry) -> str:
    return escape(claim.paper) + (" (recalled)" if claim.recalled else "")


def _figure(paper: str, section: Section, figure: FigureEntry, target: Target | None) -> Iterator[Block]:
    yield _heading(3, figure.title)
    if figure.missing:
        yield _paragraph(f"Not drawn at this scale: {figure.missing}.")
        return
    yield _paragraph(" ".join((figure.caption, *figure.notes)))
    if figure.alt:
        yield _paragraph(figure.alt)
    here: list[Condition] = [("config", "paper", "==", paper), ("config", "scale", "==", section.scale)]
    results = _runset(target, "Results", ("run", "JobType", "==", "results"), *here)
    yield _grid(figure, results, [{"kind": "image", "title": figure.title, "media": [f"figure/{figure.id}"]}], 16)
    seeds = {cell.name: len(cell.runs) for group in section.groups for cell in group.cells}
    together: dict[tuple[str, ...], list[Panel]] = {}
    for panel in figure.panels:
        cells = panel.select(seeds)
        if len(cells) > 1 or cells == panel.cells:  # of cells to compare, one alone says nothing
            together.setdefault(cells, []).append(panel)
    for cells, panels in together.items():
        runs = _runset(target, "Runs", *here, ("config", "cell", "in", list(cells)))
        count = sum(seeds[cell] for cell in cells)
        drawn = [made for panel in panels for made in _panels(panel, cells, count)]
        bars = max(made.get("max_bars", 0) for made in drawn)
        yield _grid(figure, runs, drawn, max(8, min(24, bars // 2)))


def _panels(panel: Panel, cells: Sequence[str], runs: int) -> Iterator[Block]:
    """Draw each column of the curves by itself, as they have axes of their own, and metrics of rows side by side."""
    shared = {"group_by": "cell", "line": "mean", "band": "minmax", "max_runs": min(max(runs, 10), _MOST_RUNS)}
    families = {cell.partition("/")[0] for cell in cells}
    behind = f" ({_line(families.pop())})" if len(families) == 1 else ""
    if panel.kind == "curve":
        for metric in panel.metrics:
            heading = f"{tables.heading(metric)}{behind}"
            yield {"kind": "curve", "title": heading, "x": panel.x, "metrics": [metric]} | shared
        return
    names = [*map(tables.heading, panel.metrics[:3]), *(["\u2026"] if len(panel.metrics) > 3 else [])]
    bars = len(cells) * len(panel.metrics)
    heading = f"{', '.join(names)}{behind}"
    yield {"kind": "bar", "title": heading, "metrics": list(panel.metrics), "max_bars": bars} | shared


def _grid(figure: FigureEntry, runs: Block, panels: Sequence[Block], height: int) -> Block:
    """Put panels of one height side by side in two columns, or one panel across both."""
    width = _COLUMNS if len(panels) == 1 else _COLUMNS // 2
    columns = _COLUMNS // width
    places = [(index % columns * width, index // columns * height) for index in range(len(panels))]
    placed = [
        panel | {"layout": {"x": x, "y": y, "w": width, "h": height}}
        for panel, (x, y) in zip(panels, places, strict=True)
    ]
    return {"kind": "grid", "figure": figure.id, "runsets": [runs], "panels": placed}


def _runset(target: Target | None, name: str, *conditions: Condition) -> Block:
    filters = [dict(zip(("section", "name", "op", "value"), condition, strict=True)) for condition in conditions]
    where = {"entity": target.entity if target else None, "project": target.project if target else None}
    return {"name": name} | where | {"filters": filters}


def _cells(section: Section) -> Iterator[Block]:
    for group in section.groups:
        yield _paragraph(f"{group.name}: mean over seeds \u00b1 half of the 95 % interval; accuracies in %.")
        headings = ["Cell", "Seeds", *(metric.heading for metric in group.metrics), "Time a run"]
        lines = (
            [code(cell.name), str(len(cell.runs)), *map(escape, cell.texts), tables.seconds(cell.seconds)]
            for cell in group.cells
        )
        yield _table([escape(heading) for heading in headings], lines, range(1, len(headings)))


def _origin(section: Section) -> Iterator[list[Span]]:
    for key, name in _ORIGIN.items():
        entries = section.origin.get(key, ())
        if entries:
            shown = map(tables.versions, entries) if key == "versions" else entries
            spans: list[Span] = [f"{name}: "]
            for entry in shown:
                spans += [{"code": _line(entry)}, " and "]
            yield spans[:-1]
    yield [f"Computing time: {tables.seconds(section.seconds)}"]


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]], numbers: Container[int]) -> Block:
    rule = ["---:" if index in numbers else "---" for index in range(len(headings))]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines))
    return {"kind": "markdown", "text": text}


def _heading(level: int, text: str, collapsed: Sequence[Block] | None = None) -> Block:
    block: Block = {"kind": "heading", "level": level, "text": _line(text)}
    return block if collapsed is None else block | {"collapsed": list(collapsed)}


def _paragraph(*spans: Span) -> Block:
    return {"kind": "paragraph", "spans": [_line_of(span) for span in spans]}


def _callout(text: str) -> Block:
    return {"kind": "callout", "text": _line(text)}


def _line_of(span: Span) -> Span:
    return re.sub(r"\s+", " ", span) if isinstance(span, str) else span


def _line(text: str) -> str:
    return " ".join(text.split())
