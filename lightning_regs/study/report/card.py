"""The generated parts of README files: tables and figures between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->``.

NAME is one of::

    gallery                      verdicts of every paper, at every scale that has results
    PAPER/claims[/SCALE]         the claims: paper, ours, interval, seeds, verdict
    PAPER/results[/SCALE]        the cells: means and intervals over seeds
    PAPER/figures[/SCALE]        every figure that can be drawn
    PAPER/figure/ID[/SCALE]      one figure
    PAPER/deviations             what is done otherwise than in the paper

Without SCALE it is the one nearest to the paper's own protocol that has results. Figures are SVG files on a white card,
in ``figures/`` of the paper's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_regs.core.files import atomic_write
from lightning_regs.core.metrics import Family
from lightning_regs.core.names import unknown_name
from lightning_regs.study.paper.claims import VERDICTS, count_verdicts
from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.report import tables
from lightning_regs.study.report.drawing import draw
from lightning_regs.study.report.specification import command
from lightning_regs.study.store.results import ScaleResults, default_results, load

if TYPE_CHECKING:
    from lightning_regs.study.paper.claims import ClaimResult
    from lightning_regs.study.paper.paper import Paper

_PART = re.compile(r"<!-- begin:(?P<name>\S+) -->\n(?P<text>.*?)<!-- end:(?P=name) -->", re.DOTALL)
_MARK = re.compile(r"<!-- (begin|end):(\S+) -->")
_SHOWS = re.compile(r"<!-- shows (\w+) -->")
_OTHERS = ("imports", "methods")  # parts that another command writes
_KINDS = ("claims", "results", "figures", "figure", "deviations")
# What is to be written where.
_Images = dict[Path, str]
_SYMBOLS = dict(zip(VERDICTS, ("\u2713", "\u2717", "?", "!", "\u00b7", tables.DASH), strict=True))


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
        where = {scale.name: f"`{scale.name}`: " for scale in paper.scales}
        return [f"- {where.get(d.scale, '')}{_escape(d.ours)}" for d in paper.deviations] or ["None."], {}
    known_figures = [figure.id for figure in paper.figures]
    wanted = known_figures
    if kind == "figure":
        wanted = [words.pop(0) if words else ""]
        if wanted[0] not in known_figures:
            raise unknown_name(f"figure of {paper_id}", wanted[0], known_figures)
    found = _scale(paper, words[0] if words else None)
    if found is None or not found.rows:
        scale = found.name if found else paper.scales[0].name
        return [f"No results yet: `{command(paper, scale)}` measures them."], {}
    if kind == "claims":
        return [_origin(paper, found), "", *_claims(found.claims)], {}
    if kind == "results":
        return [_origin(paper, found), *_results(found, paper.metrics)], {}
    figures = [figure for figure in paper.figures_at(found.name) if figure.id in wanted]
    lines: list[str] = []
    images: _Images = {}
    folder = (paper.folder or base) / "figures"
    for figure in figures:
        path = folder / f"{found.name}-{figure.id}.svg"
        name = f"{paper.id}-{found.name}-{figure.id}"
        drawing = draw(figure, found, name, paper.published(found.name), inline=False, unless=_shown(path))
        lines += [""] if lines else []
        if drawing.missing:
            lines.append(f"**{_escape(figure.title)}** is not drawn: {_escape(drawing.missing)}.")
            continue
        if drawing.svg:
            images[path] = drawing.svg.replace(">\n", f">\n<!-- shows {drawing.fingerprint} -->\n", 1)
        alt = _escape(f"{figure.title}. {drawing.alt}".strip())
        notes = " ".join([figure.caption, *drawing.notes])
        lines += [f"![{alt}]({_link(path, base)})", "", f"**{_escape(figure.title)}.** {_escape(notes)}"]
    return lines or ["This paper has no figures."], images


def _shown(path: Path) -> str:
    """Return the fingerprint of what a figure's file shows; empty where there is none."""
    try:
        found = _SHOWS.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _scale(paper: Paper, name: str | None) -> ScaleResults | None:
    found = load(paper, default_results(paper), None if name is None else [name])
    return found[0] if name is not None else next((part for part in found if part.rows), None)


def _origin(paper: Paper, found: ScaleResults) -> str:
    commits = tables.distinct(found.rows, "commit")
    machines = tables.distinct(found.rows, "device")
    facts = [
        f"`{command(paper, found.name)}`",
        f"{len(found.rows)} of {found.expected} runs",
        f"commit {' and '.join(commits)}" if commits else "",
        " and ".join(machines),
        f"{tables.seconds(tables.total_seconds(found.rows))} of computing time",
    ]
    return _join(_escape(fact) if not fact.startswith("`") else fact for fact in facts if fact) + "."


def _claims(claims: list[ClaimResult]) -> list[str]:
    if not claims:
        return ["This paper has no claims."]
    reached = [claim for claim in claims if claim.verdict not in ("not at this scale", "out of reach")]
    lines = [
        _join(f"{_SYMBOLS[verdict]} {count} {verdict}" for verdict, count in count_verdicts(claims).items()) + ".",
        "",
        "| | Claim | Holds for | Paper | Ours | 95 % interval | Seeds |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for claim in reached:
        cells = [
            f"{_SYMBOLS[claim.verdict]} {claim.verdict}".replace(" ", "\u00a0"),
            f"`{_code(claim.id)}` {_escape(claim.sentence)}",
            _escape(claim.criterion),
            _escape(tables.paper_value(claim)) + (" (recalled)" if claim.recalled else ""),
            _escape(tables.number(claim.ours, claim.unit)),
            _escape(tables.claim_interval(claim)),
            str(claim.n),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _results(found: ScaleResults, families: Sequence[Family]) -> Iterator[str]:
    for group in tables.groups(found.rows, families):
        headings = ["Cell", "Seeds", *(metric.heading for metric in group.metrics), "Time a run"]
        yield ""
        yield f"{_escape(group.name)}: mean over seeds ± half of the 95 % interval; accuracies in %."
        yield ""
        yield f"| {' | '.join(map(_escape, headings))} |"
        yield "| --- |" + " ---: |" * (len(headings) - 1)
        for cell in group.cells:
            entries = [str(len(cell.runs)), *cell.texts, tables.seconds(cell.seconds)]
            yield f"| `{_code(cell.name)}` | {' | '.join(entries)} |"


def _gallery(papers: list[Paper], base: Path) -> list[str]:
    lines = [
        f"| Paper | Scale | {' | '.join(f'{_SYMBOLS[verdict]} {verdict}' for verdict in VERDICTS)} |",
        "| --- | --- |" + " ---: |" * len(VERDICTS),
    ]
    for paper in papers:
        link = _link((paper.folder or base) / "README.md", base)
        name = f"[{_escape(paper.title)}]({link}) ({_escape(paper.authors)}, {paper.year})"
        measured = [part for part in load(paper, default_results(paper)) if part.rows]
        for part in measured:
            lines.append(f"| {name} | {part.name} | {' | '.join(map(str, part.counts().values()))} |")
            name = ""
        if not measured:
            lines.append(f"| {name} | no results yet |{' |' * len(VERDICTS)}")
    return lines


def _link(path: Path, base: Path) -> str:
    return os.path.relpath(path, base).replace(os.sep, "/").replace(" ", "%20")


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _escape(text: str) -> str:
    """Write a text so that Markdown and HTML show it as it is, inside a table also."""
    text = re.sub(r"[ \t\n\r\f\v]+", " ", text.strip()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")
