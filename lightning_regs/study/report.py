"""Static pages of a paper's results: the claims, what was found for each, figures and runs with their origin."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_regs.study import plots, tables
from lightning_regs.study.claims import VERDICTS, MissingRows
from lightning_regs.study.results import ScaleResults, load
from lightning_regs.study.store import atomic_write

if TYPE_CHECKING:
    from jinja2 import Environment

    from lightning_regs.study.paper import Figure, Paper, Scale
    from lightning_regs.study.store import Store

_TEMPLATES = Path(__file__).parent / "templates"
_SUMMARY = ".summary.json"
MEANINGS = {
    "reproduced": "the whole 95 % interval lies where the claim holds",
    "not reproduced": "the whole 95 % interval lies outside",
    "not decided": "the interval crosses an edge, or there are too few seeds",
    "out of reach": "not checked here, for the reason given",
}


@dataclass(frozen=True)
class Drawing:
    """A figure on the page: an SVG, or the reason why there is none."""

    id: str
    title: str
    caption: str
    svg: str = ""
    notes: Sequence[str] = ()
    missing: str = ""
    alt: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error."""

    cell: str
    seed: int
    reason: str
    traceback: str


def write_report(
    paper: Paper,
    results_dir: str | Path,
    out_dir: str | Path,
    store: Store | None = None,
    scales: Iterable[str] | None = None,
) -> Path:
    """Write a paper's page, and the index of all papers whose pages are in the folder.

    Args:
        paper: The paper.
        results_dir: Its results: ``SCALE.csv``, ``SCALE.claims.json``, ``SCALE.curves.csv``. What is
            missing, cut short or damaged is said on the page.
        out_dir: Where ``PAPER.html``, ``index.html`` and copies of the results go; made when it is not there.
        store: The run folders, to show runs that failed.
        scales: Names of the scales to show, in that order. Default: all, the one nearest to the paper's protocol first.

    Returns:
        The page.

    Raises:
        ValueError: The paper has no such scale, or the folder cannot be written.
    """
    out = Path(out_dir)
    found = load(paper, Path(results_dir), scales)
    page = out / f"{slug(paper.id)}.html"
    summary = {
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year,
        "scales": [{"name": part.name, "counts": part.counts()} for part in found if not part.empty],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        downloads = {part.name: [_copy(paper, file, out) for file in part.files] for part in found}
        context = _paper_context(paper, found, downloads, store)
        atomic_write(page, environment().get_template("paper.html.j2").render(context))
        atomic_write(out / f"{slug(paper.id)}{_SUMMARY}", json.dumps(summary, indent=1) + "\n")
        write_index(out)
    except OSError as error:
        raise ValueError(f"the page cannot be written to {out} ({error.strerror}); choose another folder.") from error
    return page


def write_index(out_dir: str | Path) -> Path:
    """Write ``index.html``: every paper whose page is in the folder, with the verdicts of each scale.

    Args:
        out_dir: A folder that :func:`write_report` has written to; one without pages gives an index that says so.

    Returns:
        The index.
    """
    out = Path(out_dir)
    papers = []
    for file in sorted(out.glob(f"*{_SUMMARY}")):
        page = out / f"{file.name.removesuffix(_SUMMARY)}.html"
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            scales = [_index_scale(entry) for entry in summary["scales"]]
            entry = {key: str(summary[key]) for key in ("title", "authors", "year")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if page.is_file():
            papers.append(entry | {"page": page.name, "scales": scales})
    out.mkdir(parents=True, exist_ok=True)
    index = out / "index.html"
    atomic_write(index, environment().get_template("index.html.j2").render(papers=papers))
    return index


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates' environment: everything that is put into a page is escaped."""
    import jinja2

    from lightning_regs import __version__

    loader = jinja2.FileSystemLoader(_TEMPLATES)
    env = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters |= {
        "entry": tables.entry,
        "seconds": tables.seconds,
        "heading": tables.heading,
        "versions": tables.versions,
        "sentence": _sentence,
        "slug": slug,
        "breakable": _breakable,
    }
    env.globals |= {"verdicts": VERDICTS, "meanings": MEANINGS, "version": __version__, "dark": plots.DARK}
    return env


def slug(text: str) -> str:
    """Make a text usable as a file name and as an anchor."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "x"


def draw(figure: Figure, found: ScaleResults, name: str, *, inline: bool = True) -> Drawing:
    """Draw one figure from a scale's results.

    Args:
        figure: What to draw.
        found: The results.
        name: Unique on the page.
        inline: For a page; otherwise the SVG is a file of its own, on a white card.

    Returns:
        The drawing; when there is nothing to draw, or drawing fails, the reason instead of an SVG.
    """
    drawing = Drawing(figure.id, figure.title, figure.caption)
    try:
        with plots.style():
            drawn = figure.render(found.lookup(), found.curves)
            mark = plots.fingerprint(drawn)
            svg = plots.to_svg(drawn, name, inline=inline, title=f"{figure.title}.")
    except MissingRows as missing:
        return replace(drawing, missing=str(missing.args[0] if missing.args else missing).rstrip("."))
    except Exception as error:  # a page with one figure missing serves the reader better than no page
        return replace(drawing, missing=f"drawing it failed with {type(error).__name__}: {error}".rstrip("."))
    return replace(drawing, svg=svg, notes=plots.notes(drawn), alt=plots.description(drawn), fingerprint=mark)


def command(paper: Paper, scale: str, cell: str | None = None) -> str:
    """Return the command that measures a scale, or one of its cells."""
    words = ["lightning-regs", "reproduce", paper.id, "--scale", scale]
    return shlex.join([*words, "--cells", cell] if cell is not None else words)


def _paper_context(
    paper: Paper, found: list[ScaleResults], downloads: Mapping[str, list[str]], store: Store | None
) -> dict[str, Any]:
    from markupsafe import Markup

    sections = [_section(paper, part, downloads[part.name], store) for part in found]
    measured = [section for section in sections if not section["blank"]]
    return {
        "paper": paper,
        "sections": measured,
        "unmeasured": [section for section in sections if section["blank"]],
        "svg": Markup,  # only for SVG from plots.to_svg, whose texts matplotlib has escaped
    }


def _section(paper: Paper, found: ScaleResults, downloads: list[str], store: Store | None) -> dict[str, Any]:
    scale = paper.scale(found.name)
    claims = [
        {
            "claim": claim,
            "recalled": claim.recalled,
            "paper": tables.paper_value(claim),
            "ours": tables.number(claim.ours, claim.unit),
            "interval": tables.claim_interval(claim),
            "limits": tables.limits(found.limits.get(claim.id), claim.unit),
            "strip": tables.strip(claim, found.limits.get(claim.id)),
        }
        for claim in found.claims
    ]
    name = slug(f"{paper.id}-{found.name}")
    failures = _failures(scale, store)
    return {
        "blank": found.empty and not found.problems and not failures,
        "progress": f"{len(found.rows)} of {found.expected} runs",
        "half": bool(found.rows) and len(found.rows) < found.expected,
        "scale": scale,
        "found": found,
        "counts": found.counts(),
        "claims": claims,
        "drawings": [draw(figure, found, f"{name}-{figure.id}") for figure in paper.figures] if found.rows else [],
        "groups": tables.groups(found.rows),
        "mixed": _mixed(found),
        "origin": {key: tables.distinct(found.rows, key) for key in ("commit", "versions", "device", "precision")},
        "seconds": tables.total_seconds(found.rows),
        "failures": failures,
        "downloads": downloads,
        "command": command(paper, found.name),
        "one_cell": command(paper, found.name, scale.cells[0].name) if scale.cells else "",
    }


def _mixed(found: ScaleResults) -> list[str]:
    """Name what differs between the rows: rows of different code are not one experiment."""
    words = {"commit": "commits", "versions": "sets of package versions"}
    return [
        f"{len(entries)} {words[column]}" for column in words if len(entries := tables.distinct(found.rows, column)) > 1
    ]


def _failures(scale: Scale, store: Store | None) -> list[Failure]:
    if store is None:
        return []
    failures = []
    for cell in scale.cells:
        for seed in range(cell.seeds or scale.seeds):
            run = store.run(cell.hash(seed))
            if (text := run.error()) is not None and run.row() is None:
                lines = text.strip().splitlines() or ["no message"]
                failures.append(Failure(cell.name, seed, lines[-1], text.strip()[-4000:]))
    return failures


def _copy(paper: Paper, file: Path, out: Path) -> str:
    name = f"{slug(paper.id)}-{slug(file.name)}"
    shutil.copyfile(file, out / name)
    return name


def _index_scale(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": str(entry["name"]), "counts": {verdict: int(entry["counts"][verdict]) for verdict in VERDICTS}}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def _breakable(text: str) -> Any:
    """Let a long name break after its separators."""
    from markupsafe import Markup, escape

    parts = re.split(r"(?<=[/+_])", text)
    return Markup("<wbr>").join(escape(part) for part in parts)
