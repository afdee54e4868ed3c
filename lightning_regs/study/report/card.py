"""The generated parts of README files: tables and figures between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->``.

NAME is one of::

    gallery                      verdicts of every paper, at every scale that has results
    PAPER/headline[/SCALE]       what the paper is known for: counts, ours beside the paper's in one picture, a table
    PAPER/claims[/SCALE]         the claims, each kind apart: criterion, paper, ours, interval, seeds, verdict
    PAPER/results[/SCALE]        the cells: means and intervals over seeds
    PAPER/figures[/SCALE]        every figure that can be drawn
    PAPER/figure/ID[/SCALE]      one figure
    PAPER/deviations             what is done otherwise than in the paper, as a table
    PAPER/power[/SCALE]          how many seeds would decide the claims that are open

Without SCALE it is the one nearest to the paper's own protocol that has results; a headline claim without SCALE stands
at the scale that says most about it. Figures are SVG files on a white card,
in ``figures/`` of the paper's folder.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_regs.core.files import atomic_write
from lightning_regs.core.names import unknown_name
from lightning_regs.study.lock.power import BUDGET, needs
from lightning_regs.study.paper.claims import KINDS, VERDICTS
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.report import tables, telling
from lightning_regs.study.report.drawing import FigureEntry, draw, name_figure
from lightning_regs.study.report.markdown import cells, code, deviations, escape, paper_figure, rules, table
from lightning_regs.study.report.specification import Section, command, slug, specify
from lightning_regs.study.report.telling import DAGGER, EXPLORATORY, MEASURED, SYMBOLS, ClaimEntry
from lightning_regs.study.store.results import ScaleResults, default_results, load

if TYPE_CHECKING:
    from lightning_regs.study.paper.figure import Figure
    from lightning_regs.study.paper.paper import Paper
    from lightning_regs.study.report.specification import Specification

_PART = re.compile(r"<!-- begin:(?P<name>\S+) -->\n(?P<text>.*?)<!-- end:(?P=name) -->", re.DOTALL)
_MARK = re.compile(r"<!-- (begin|end):(\S+) -->")
_SHOWS = re.compile(r"<!-- shows (\w+) -->")
_OTHERS = ("imports", "methods", "speed")  # parts that another command writes
_KINDS = ("headline", "claims", "results", "figures", "figure", "deviations", "power")


def update(path: str | Path, papers: Iterable[Paper] | None = None) -> bool:
    """Bring the generated parts of a README, and the figures that they show, up to date.

    Args:
        path: The README.
        papers: The papers that its markers name. Default: those under ``reproductions/``.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: A marker names no known part, or is not closed.
    """
    file = Path(path)
    old = file.read_text(encoding="utf-8")
    known = None if papers is None else {paper.id: paper for paper in papers}
    images: dict[Path, str] = {}

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name in _OTHERS:
            return match[0]
        body = "\n".join(_part(name, file.parent, known, images))
        return f"<!-- begin:{name} -->\n{body}\n<!-- end:{name} -->"

    text = _PART.sub(fill, old)
    if left := _MARK.search(_PART.sub("", old)):
        raise ValueError(f"{file}: marker {left[1]}:{left[2]} has no partner; write begin:NAME and end:NAME in pairs.")
    for image, svg in images.items():
        image.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(image, svg)
    if text != old:
        atomic_write(file, text)
    return bool(images) or text != old


def _part(name: str, base: Path, known: Mapping[str, Paper] | None, images: dict[Path, str]) -> Iterable[str]:
    """Return the lines of a part, and add the figures in it that have to be written."""
    if name == "gallery":
        return _gallery(map(load_paper, find_papers()) if known is None else known.values(), base)
    paper_id, _, rest = name.partition("/")
    if known is not None and paper_id not in known:
        raise unknown_name("paper", paper_id, known)
    paper = load_paper(paper_id) if known is None else known[paper_id]
    kind, *words = rest.split("/")
    if kind not in _KINDS:
        raise unknown_name(f"part of the card of {paper_id}", kind, _KINDS)
    if kind == "deviations":
        return deviations(paper.deviations) if paper.deviations else ["None."]
    figures = [figure.id for figure in paper.figures]
    wanted = {"figures": figures, "headline": ["headline"]}.get(kind, [])
    if kind == "figure":
        wanted = [words.pop(0) if words else ""]
        if wanted[0] not in figures:
            raise unknown_name(f"figure of {paper_id}", wanted[0], figures)
    folder = (paper.folder or base) / "figures"

    def place(name: str) -> Path:
        return folder / f"{name.removeprefix(f'{slug(paper_id)}-')}.svg"

    def show(figure: Figure, found: ScaleResults, name: str, published: Mapping[tuple[str, str], float]) -> FigureEntry:
        if figure.id not in wanted:
            return name_figure(figure)
        drawn = draw(figure, found, name, published, inline=False, unless=_shown(place(name)))
        if drawn.svg:
            images[place(name)] = drawn.svg.replace(">\n", f">\n<!-- shows {drawn.fingerprint} -->\n", 1)
        return drawn

    told = specify(paper, default_results(paper), scales=words[:1] or None, show=show)
    measured = _measured(paper, told)
    if not measured:
        scale = words[0] if words else paper.scales[0].name
        return [f"No results yet: `{command(paper, scale)} --commit-results` measures them."]
    section = measured[0]
    if kind == "headline":
        counted = [f"- `{part.scale}`: {escape(' '.join(part.summary))}" for part in measured]
        link = _link(place("-".join([*words[:1], "headline"])), base)
        drawn = _figure(told.picture, link, width=640) if told.picture else []
        return [*counted, "", *drawn, "", *_claims(told.headlines, True)]
    if kind == "claims":
        return [_origin(section), "", section.intervals, *_kinds(section)]
    if kind == "power":
        [found] = load(paper, default_results(paper), [section.scale], curves=False)
        return _power(paper, found)
    if kind == "results":
        lines = [_origin(section)]
        for group in section.groups:
            lines += ["", f"{escape(group.name)}: {tables.HALF}", "", *cells(group)]
        return lines
    shown = [figure for figure in section.figures if figure.id in wanted]
    links = [_link(place(f"{section.scale}-{figure.id}"), base) for figure in shown]
    lines = [line for each in zip(shown, links, strict=True) for line in ("", *_figure(*each))]
    return lines[1:] or ["This paper has no figures."]


def _measured(paper: Paper, told: Specification) -> list[Section]:
    """Return the scales that have rows, the one nearest to the paper's own protocol first."""
    order = [scale.name for scale in reversed(paper.scales)]
    measured = [section for section in told.sections if section.state != "empty"]
    return sorted(measured, key=lambda section: order.index(section.scale))


def _figure(figure: FigureEntry, link: str, width: int = 0) -> list[str]:
    """Show a figure; with a width in pixels where it should be larger than its file says."""
    if figure.missing:
        return [f"**{escape(figure.title)}** is not drawn: {escape(figure.missing)}."]
    alt = f"{figure.title}. {figure.alt}"
    shown = f"![{escape(alt.strip())}]({link})"
    if width:
        shown = f'<img src="{link}" width="{width}" alt="{html.escape(alt)}">'
    return [shown, "", f"**{escape(figure.title)}.** {escape(' '.join([figure.caption, *figure.notes]))}"]


def _shown(path: Path) -> str:
    """Return the fingerprint of what a figure's file shows; empty where there is none."""
    try:
        found = _SHOWS.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _origin(section: Section) -> str:
    runs = sum(len(cell.runs) for group in section.groups for cell in group.cells)
    commits = " and ".join(section.origin["commit"])
    facts = [
        f"{runs} of {section.expected} runs",
        f"commit {commits}" if commits else "",
        " and ".join(section.origin["device"]),
        f"{tables.seconds(section.seconds)} of computing time",
    ]
    return f"{', '.join([f'`{section.command}`', *map(escape, filter(None, facts))])}."


def _kinds(section: Section) -> Iterator[str]:
    """Write the claims that were measured, each kind apart; what is not measured as ids below its reason."""
    for tally in section.tallies:
        own = [claim for claim in section.claims if claim.kind == tally.kind]
        yield from ("", f"**{telling.TITLES[tally.kind]}.** {tally.sentence}")
        if judged := [claim for claim in own if claim.verdict in MEASURED]:
            yield from ("", *_claims(judged), "")
            yield from ("<details><summary>What had to hold, and when it was frozen</summary>", "")
            yield from (*rules(judged), "", "</details>")
        reasons: dict[str, list[str]] = {}
        for claim in own:
            if claim.verdict not in MEASURED:
                reasons.setdefault(f"{claim.verdict}: {claim.reason}".rstrip(": "), []).append(code(claim.id))
        yield from [""] if reasons else []
        for why, ids in reasons.items():
            yield f"- {escape(why[:1].upper() + why[1:])} ({', '.join(ids)})."


def _power(paper: Paper, found: ScaleResults) -> Iterator[str]:
    """Write how many seeds would decide each open claim, and what they take."""
    scale = paper.scale(found.name)
    rows, lines = Rows((row.as_dict() for row in found.rows), scale.test_items), []
    for need in sorted(needs(paper, scale, rows, found.claims), key=lambda need: (need.alone is None, need.seconds)):
        unit, error = need.claim.unit, f"± {tables.number(need.error, need.claim.unit)}" if need.error else ""
        n = [f"{number:,}" if number else "none" for number in (need.alone, need.seeds)]
        within = need.alone is not None and need.seconds <= BUDGET
        lines.append([
            code(need.claim.id), escape(tables.number(need.distance, unit)), escape(error), str(need.claim.n),
            n[0], n[1] if need.error else "", tables.seconds(need.seconds) if need.alone else "",
            "within it" if within and need.seeds else "where agreement is known" if within else "undecidable",
        ])  # fmt: skip
    if not lines:
        yield "No claim is open that more seeds could decide."
        return
    yield (
        "How many seeds decide an open claim 4 times in 5, with one more look at the rows, if its number and its "
        "spread over seeds are what was measured: by themselves, and with what the sample of test images adds, which "
        f"no number of seeds lessens. The budget is {BUDGET / 60:.0f} minutes of one core; the time is that of the "
        "seeds by themselves, with the runs that they start from."
    )
    headings = ["Claim", "From the edge", "Test images", "Seeds", "Decide by themselves", "With test images"]
    yield from ("", *table([*headings, "They take", "At this budget"], lines, range(1, 7)))


def _claims(claims: Sequence[ClaimEntry], scales: bool = False) -> list[str]:
    """Write a table of claims, with the scale of each where they stand below a picture of several."""
    lines = []
    for claim in claims:
        notes = escape("; ".join(claim.notes))
        lines.append([
            claim.signed.replace(" ", "\u00a0"),
            f"{code(claim.id)} {escape(claim.sentence)}{f'<br><sub>{notes}</sub>' if notes else ''}",
            paper_figure(claim),
            escape(claim.criterion),
            "<br>".join(map(escape, filter(None, (claim.ours, claim.interval)))),
            f"{claim.n}{f'<br>{claim.scale}' if scales else ''}" if claim.n else "",
        ])  # fmt: skip
    headings = ["", "Claim", "Paper", "Holds for", "Ours, interval of 95 % or as said", "Seeds"]
    meant = [line for mark, text in telling.legend(claims).items() for line in ("", f"{mark} {text}.")]
    return [*table(headings, lines, (2, 4, 5)), *([] if scales else meant)]


def _gallery(papers: Iterable[Paper], base: Path) -> list[str]:
    """Count the papers' own claims by verdict, theory and controls apart, with the verdicts of the headlines."""
    lines = [
        f"| Paper | Scale | Headlines | {' | '.join(SYMBOLS[verdict] for verdict in VERDICTS)} | Theory | Controls |",
        "| --- | --- | :---: |" + " ---: |" * (len(VERDICTS) + 2),
    ]
    for paper in papers:
        link = _link((paper.folder or base) / "README.md", base)
        name = f"[{escape(paper.title)}]({link}) ({escape(paper.authors)}, {paper.year})"
        measured = _measured(paper, specify(paper, default_results(paper), show=name_figure))
        known_for = [claim.id for claim in paper.headlines]
        for part in measured:
            counted = {tally.kind: tally for tally in part.tallies}
            own = counted["paper"]
            counts = [f"{number}{f' ({own.exploratory[verdict]}{DAGGER})' if own.exploratory[verdict] else ''}"
                      for verdict, number in own.found.items()]  # fmt: skip
            apart = [counted[kind].brief if kind in counted else "" for kind in KINDS[1:]]
            scale = part.scale + f", {part.progress}" * (part.state == "half finished")
            scale += f" ({own.waiting} waiting)" * bool(own.waiting)
            entries = [name, scale, telling.signs(part.claims, known_for), *counts, *apart]
            lines.append(f"| {' | '.join(entries)} |")
            name = ""
        if not measured:
            lines.append(f"| {name} | no results yet | |{' |' * (len(VERDICTS) + 2)}")
    legend = ", ".join(f"{SYMBOLS[verdict]} {verdict}" for verdict in VERDICTS)
    legend += (
        f"; {DAGGER} {EXPLORATORY}. Theory, in brackets among the headlines, and our own controls are counted apart"
    )
    return [*lines, "", f"{legend}; so are claims that wait for runs."]


def _link(path: Path, base: Path) -> str:
    return os.path.relpath(path, base).replace(os.sep, "/").replace(" ", "%20")
