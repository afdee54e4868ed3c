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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_regs.core.files import atomic_write
from lightning_regs.core.names import unknown_name
from lightning_regs.study.lock.power import BUDGET, needs
from lightning_regs.study.paper.claims import KINDS, VERDICTS
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.report import tables, telling
from lightning_regs.study.report.drawing import draw
from lightning_regs.study.report.headline import headlines, picture
from lightning_regs.study.report.markdown import cells, code, deviations, escape, paper_figure, rules, table
from lightning_regs.study.report.specification import command, summary, tell_all
from lightning_regs.study.report.telling import DAGGER, EXPLORATORY, MEASURED, SYMBOLS, ClaimEntry
from lightning_regs.study.store.results import ScaleResults, default_results, load

if TYPE_CHECKING:
    from lightning_regs.study.paper.figure import Figure
    from lightning_regs.study.paper.paper import Paper

_PART = re.compile(r"<!-- begin:(?P<name>\S+) -->\n(?P<text>.*?)<!-- end:(?P=name) -->", re.DOTALL)
_MARK = re.compile(r"<!-- (begin|end):(\S+) -->")
_SHOWS = re.compile(r"<!-- shows (\w+) -->")
_OTHERS = ("imports", "methods", "speed")  # parts that another command writes
_KINDS = ("headline", "claims", "results", "figures", "figure", "deviations", "power")
# What is to be written where.
_Images = dict[Path, str]


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
    text, images = _renewed(file, old, papers)
    for image, svg in images.items():
        image.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(image, svg)
    if text != old:
        atomic_write(file, text)
    return bool(images) or text != old


def is_stale(path: str | Path, papers: Iterable[Paper] | None = None) -> bool:
    """Return whether :func:`update` would change the README or one of its figures; the arguments are the same."""
    file = Path(path)
    old = file.read_text(encoding="utf-8")
    text, images = _renewed(file, old, papers)
    return bool(images) or text != old


def _renewed(file: Path, old: str, papers: Iterable[Paper] | None) -> tuple[str, _Images]:
    known = None if papers is None else {paper.id: paper for paper in papers}
    images: _Images = {}

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name in _OTHERS:
            return match[0]
        lines, drawn = _part(name, file.parent, known)
        images.update(drawn)
        body = "\n".join(lines)
        return f"<!-- begin:{name} -->\n{body}\n<!-- end:{name} -->"

    text = _PART.sub(fill, old)
    if left := _MARK.search(_PART.sub("", old)):
        raise ValueError(f"{file}: marker {left[1]}:{left[2]} has no partner; write begin:NAME and end:NAME in pairs.")
    return text, images


def _part(name: str, base: Path, known: dict[str, Paper] | None) -> tuple[list[str], _Images]:
    if name == "gallery":
        papers = [load_paper(paper_id) for paper_id in find_papers()] if known is None else list(known.values())
        return _gallery(papers, base), {}
    paper_id, _, rest = name.partition("/")
    if known is not None and paper_id not in known:
        raise unknown_name("paper", paper_id, known)
    paper = load_paper(paper_id) if known is None else known[paper_id]
    kind, *words = rest.split("/")
    if kind not in _KINDS:
        raise unknown_name(f"part of the card of {paper_id}", kind, _KINDS)
    if kind == "deviations":
        return deviations(paper.deviations) if paper.deviations else ["None."], {}
    known_figures = [figure.id for figure in paper.figures]
    wanted = known_figures
    if kind == "figure":
        wanted = [words.pop(0) if words else ""]
        if wanted[0] not in known_figures:
            raise unknown_name(f"figure of {paper_id}", wanted[0], known_figures)
    measured = load(paper, default_results(paper), words[:1] or None)
    found = next((part for part in measured if part.rows), None)
    if found is None:
        scale = words[0] if words else paper.scales[0].name
        return [f"No results yet: `{command(paper, scale)} --commit-results` measures them."], {}
    folder = (paper.folder or base) / "figures"
    if kind == "headline":
        known_for = headlines(paper, measured)
        file = folder / f"{'-'.join([*words[:1], 'headline'])}.svg"
        drawn, images = _figure(paper, picture(known_for), found, file, base, width=640)
        return [*_counted(paper, measured), "", *drawn, "", *_claims(known_for, True)], images
    if kind == "claims":
        told = tell_all(paper, found)
        about = telling.intervals(paper.scale(found.name).test_items, found.lookup())
        return [_origin(paper, found), "", about, *_kinds(told)], {}
    if kind == "power":
        return list(_power(paper, found)), {}
    if kind == "results":
        lines = [_origin(paper, found)]
        for group in tables.groups(found.rows, paper.metrics):
            lines += ["", f"{escape(group.name)}: {tables.HALF}", "", *cells(group)]
        return lines, {}
    lines, images = [], {}
    for figure in paper.figures_at(found.name):
        if figure.id in wanted:
            drawn, more = _figure(paper, figure, found, folder / f"{found.name}-{figure.id}.svg", base)
            lines += ["", *drawn] if lines else drawn
            images |= more
    return lines or ["This paper has no figures."], images


def _figure(
    paper: Paper, figure: Figure, found: ScaleResults, path: Path, base: Path, width: int = 0
) -> tuple[list[str], _Images]:
    """Draw a figure; with a width in pixels where it should be larger than its file says."""
    name = f"{paper.id}-{path.stem}"
    drawing = draw(figure, found, name, paper.published(found.name), inline=False, unless=_shown(path))
    if drawing.missing:
        return [f"**{escape(figure.title)}** is not drawn: {escape(drawing.missing)}."], {}
    images = {}
    if drawing.svg:
        images[path] = drawing.svg.replace(">\n", f">\n<!-- shows {drawing.fingerprint} -->\n", 1)
    alt = escape(f"{figure.title}. {drawing.alt}".strip())
    notes = " ".join([figure.caption, *drawing.notes])
    shown = f"![{alt}]({_link(path, base)})"
    if width:
        shown = f'<img src="{_link(path, base)}" width="{width}" alt="{html.escape(f"{figure.title}. {drawing.alt}")}">'
    return [shown, "", f"**{escape(figure.title)}.** {escape(notes)}"], images


def _shown(path: Path) -> str:
    """Return the fingerprint of what a figure's file shows; empty where there is none."""
    try:
        found = _SHOWS.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _origin(paper: Paper, found: ScaleResults) -> str:
    commits = tables.distinct(found.rows, "commit")
    facts = [
        f"{len(found.rows)} of {found.expected} runs",
        f"commit {' and '.join(commits)}" if commits else "",
        " and ".join(tables.distinct(found.rows, "device")),
        f"{tables.seconds(tables.total_seconds(found.rows))} of computing time",
    ]
    return f"{', '.join([f'`{command(paper, found.name)}`', *map(escape, filter(None, facts))])}."


def _counted(paper: Paper, measured: Sequence[ScaleResults]) -> Iterator[str]:
    for part in measured:
        if part.rows:
            yield f"- `{part.name}`: {escape(' '.join(summary(paper, part)))}"


def _kinds(claims: Sequence[ClaimEntry]) -> Iterator[str]:
    """Write the claims that were measured, each kind apart; what is not measured as ids below its reason."""
    for tally in telling.tallies(claims):
        own = [claim for claim in claims if claim.kind == tally.kind]
        yield from ("", f"**{telling.TITLES[tally.kind]}.** {tally.sentence}")
        if judged := [claim for claim in own if claim.verdict in MEASURED]:
            yield from ("", *_claims(judged), "")
            yield from ("<details><summary>What had to hold, and when it was frozen</summary>", "")
            yield from (*rules(judged), "", "</details>")
        reasons: dict[str, list[str]] = {}
        for claim in own:
            if claim.verdict not in MEASURED:
                reasons.setdefault(f"{claim.verdict}: {claim.reason}".rstrip(": "), []).append(code(claim.id))
        lead = [""] if reasons else []
        yield from (
            *lead,
            *(f"- {escape(why[:1].upper() + why[1:])} ({', '.join(ids)})." for why, ids in reasons.items()),
        )


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


def _gallery(papers: list[Paper], base: Path) -> list[str]:
    """Count the papers' own claims by verdict, theory and controls apart, with the verdicts of the headlines."""
    lines = [
        f"| Paper | Scale | Headlines | {' | '.join(SYMBOLS[verdict] for verdict in VERDICTS)} | Theory | Controls |",
        "| --- | --- | :---: |" + " ---: |" * (len(VERDICTS) + 2),
    ]
    for paper in papers:
        link = _link((paper.folder or base) / "README.md", base)
        name = f"[{escape(paper.title)}]({link}) ({escape(paper.authors)}, {paper.year})"
        measured = [part for part in load(paper, default_results(paper)) if part.rows]
        known_for = [claim.id for claim in paper.headlines]
        for part in measured:
            counted = {tally.kind: tally for tally in telling.tallies(part.claims)}
            own = counted["paper"]
            counts = [f"{number}{f' ({own.exploratory[verdict]}{DAGGER})' if own.exploratory[verdict] else ''}"
                      for verdict, number in own.found.items()]  # fmt: skip
            apart = [counted[kind].brief if kind in counted else "" for kind in KINDS[1:]]
            scale = part.name + f", {part.finished} of {part.expected} runs" * (part.finished < part.expected)
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
