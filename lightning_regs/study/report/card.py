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

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from lightning_regs.core.files import atomic_write
from lightning_regs.core.names import unknown_name
from lightning_regs.study.lock.power import needs
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.report.drawing import FigureEntry, draw, name_figure
from lightning_regs.study.report.headline import picture
from lightning_regs.study.report.legible import legible
from lightning_regs.study.report.rendering import write
from lightning_regs.study.report.specification import Section, Specification, command, slug, specify
from lightning_regs.study.store.results import ScaleResults, default_results, load

_PART = re.compile(r"<!-- begin:(?P<name>\S+) -->\n(?P<text>.*?)<!-- end:(?P=name) -->", re.DOTALL)
_MARK = re.compile(r"<!-- (begin|end):(\S+) -->")
_SHOWS = re.compile(r"<!-- shows (\w+) -->")
_OTHERS = ("imports", "methods", "others", "speed", "ways")  # parts that another command writes, or a person
_KINDS = ("headline", "claims", "results", "figures", "figure", "deviations", "power")


def update(cards: Iterable[str | Path], papers: Iterable[Paper]) -> list[Path]:
    """Bring the generated parts of README files, and the figures that they show, up to date; return those that changed.

    Their markers name ``papers``, whose results are read once for all parts.
    """
    known = {paper.id: paper for paper in papers}

    @cache
    def results(paper_id: str, scale: str | None) -> Specification:
        paper, scales = known[paper_id], None if scale is None else [scale]
        return specify(paper, default_results(paper), scales=scales, show=name_figure)

    return [card for card in map(Path, cards) if _update(card, known, results)]


Told = Callable[[str, "str | None"], Specification]


def _update(file: Path, known: Mapping[str, Paper], results: Told) -> bool:
    old = file.read_text(encoding="utf-8")
    images: dict[Path, str] = {}

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name in _OTHERS:
            return match[0]
        return f"<!-- begin:{name} -->\n{_part(name, file.parent, known, results, images)}\n<!-- end:{name} -->"

    text = _PART.sub(fill, old)
    if left := _MARK.search(_PART.sub("", old)):
        raise ValueError(f"{file}: marker {left[1]}:{left[2]} has no partner; write begin:NAME and end:NAME in pairs.")
    for image, svg in images.items():
        image.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(image, svg)
    if text != old:
        atomic_write(file, text)
    return bool(images) or text != old


def _part(name: str, base: Path, known: Mapping[str, Paper], results: Told, images: dict[Path, str]) -> str:
    """Return the text of a part, and add the figures in it that have to be written."""
    if name == "gallery":
        return _gallery([(paper, results(id, None)) for id, paper in known.items()], base)
    paper_id, _, rest = name.partition("/")
    if paper_id not in known:
        raise unknown_name("paper", paper_id, known)
    paper = known[paper_id]
    kind, *words = rest.split("/")
    if kind not in _KINDS:
        raise unknown_name(f"part of the card of {paper_id}", kind, _KINDS)
    if kind == "deviations":
        return write("deviations", paper.deviations)
    if kind == "power":
        found = load(paper, default_results(paper), words or None, curves=False)
        return next((_power(paper, each) for each in found if each.rows), _nothing(paper, words))
    wanted = [figure.id for figure in paper.figures]
    if kind == "figure":
        one = words.pop(0) if words else ""
        if one not in wanted:
            raise unknown_name(f"figure of {paper_id}", one, wanted)
        wanted = [one]
    scale = paper.scale(words[0]).name if words else None
    # A headline stands at the scale that says most about it, unless it is that of one scale.
    told = results(paper_id, scale if kind == "headline" else None)
    measured = [section for section in _measured(paper, told) if scale in (None, section.scale)]
    if not measured:
        return _nothing(paper, words)
    section = measured[0]
    if kind in ("claims", "results"):
        return write({"claims": "verdicts"}.get(kind, kind), section)

    def show(figure: Figure, *at: str) -> tuple[FigureEntry, str]:
        """Draw a figure and return it with the link to its file."""
        name = "-".join((*map(slug, at), figure.id))
        file, own = (paper.folder or base) / "figures" / f"{name}.svg", f"{slug(paper_id)}-{name}"
        published = paper.published(section.scale)
        drawn: FigureEntry = legible(draw(figure, section.found, own, published, inline=False, unless=_shown(file)))
        if drawn.svg:
            images[file] = drawn.svg.replace(">\n", f">\n<!-- shows {drawn.fingerprint} -->\n", 1)
        return drawn, _link(file, base)

    if kind == "headline":
        drawn, link = show(picture(told.headlines), *words) if told.headlines else (None, "")
        return write("headline", replace(told, picture=drawn), measured, link)
    figures = [figure for figure in paper.figures_at(section.scale) if figure.id in wanted]
    return write("figures", [show(figure, section.scale) for figure in figures])


def _measured(paper: Paper, told: Specification) -> list[Section]:
    """Return the scales that have rows, the one nearest to the paper's own protocol first."""
    order = [scale.name for scale in reversed(paper.scales)]
    measured = [section for section in told.sections if section.state != "empty"]
    return sorted(measured, key=lambda section: order.index(section.scale))


def _shown(path: Path) -> str:
    """Return the fingerprint of what a figure's file shows; empty where there is none."""
    try:
        found = _SHOWS.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _nothing(paper: Paper, words: Sequence[str]) -> str:
    scale = words[0] if words else paper.scales[0].name
    return f"No results yet: `{command(paper, scale)} --commit-results` measures them."


def _power(paper: Paper, found: ScaleResults) -> str:
    """Return how many seeds would decide each open claim of a scale, the cheapest first."""
    scale = paper.scale(found.name)
    rows = Rows((row.as_dict() for row in found.rows), scale.test_samples)
    order = sorted(needs(paper, scale, rows, found.claims), key=lambda need: (need.alone is None, need.seconds))
    return write("power", order)


def _gallery(papers: Iterable[tuple[Paper, Specification]], base: Path) -> str:
    """Count the papers' own claims by verdict, theory and controls apart, with the verdicts of the headlines."""
    lines = []
    for paper, told in papers:
        link = _link((paper.folder or base) / "README.md", base)
        lines.append((paper, link, _measured(paper, told), [claim.id for claim in paper.headlines]))
    return write("gallery", lines)


def _link(path: Path, base: Path) -> str:
    return os.path.relpath(path, base).replace(os.sep, "/").replace(" ", "%20")
