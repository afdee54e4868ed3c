"""Drawing a paper's figures from its results; a figure that cannot be drawn says why."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report import plots
from lightning_regs.study.report.legible import legible

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from lightning_regs.study.paper.figure import Figure, Panel
    from lightning_regs.study.store.results import ScaleResults


@dataclass(frozen=True)
class FigureEntry:
    """A figure, drawn or not."""

    id: str  # its name in the paper's module
    title: str
    caption: str  # what is shown, and what the paper's figure shows
    alt: str = ""  # what someone who cannot see it is told
    notes: tuple[str, ...] = ()  # sentences to print under it
    missing: str = ""  # why it is not drawn; empty when it is, or when nobody asked for a drawing
    panels: tuple[Panel, ...] = ()  # which logged curves and metrics it is about
    fingerprint: str = ""  # hash of what it shows, whatever the version of matplotlib; empty without a drawing
    svg: str = ""  # the `drawing` as a text, empty when there is none; neither is among the data
    drawing: Drawing | None = None


def name_figure(figure: Figure, *_: object) -> FigureEntry:
    """Return the figure without a drawing; takes what :func:`draw` does."""
    return FigureEntry(figure.id, figure.title, figure.caption, panels=tuple(figure.panels))


def draw(
    figure: Figure,
    found: ScaleResults,
    name: str,
    published: Mapping[tuple[str, str], float] | None = None,
    *,
    inline: bool = True,
    unless: str = "",
) -> FigureEntry:
    """Draw one figure from a scale's results; where that cannot be, the entry has the reason instead of an SVG.

    Args:
        figure: What to draw.
        found: The results.
        name: Unique on the page.
        published: The paper's numbers by cell and metric.
        inline: For a page; otherwise the SVG is a file of its own, on a white card.
        unless: Fingerprint of what is there already: a figure that shows the same is not written as SVG again.
    """
    entry = name_figure(figure)
    try:
        with plots.style(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numbers without measure are drawn as well as can be
            drawn = figure.render(found.lookup(), found.curves, published)
            mark = plots.fingerprint(drawn)
            written = "" if mark == unless else plots.to_svg(drawn, name, inline=inline, title=f"{figure.title}.")
    except MissingRows as missing:
        return replace(entry, missing=str(missing.args[0] if missing.args else missing).rstrip("."))
    except (Exception, SystemExit) as error:  # a report with one figure missing serves the reader better than no report
        return replace(entry, missing=f"drawing it failed with {type(error).__name__}: {error}".rstrip("."))
    notes = tuple(plots.notes(drawn))
    svg = legible(written, None)
    return replace(entry, drawing=drawn, svg=svg, notes=notes, alt=plots.description(drawn), fingerprint=mark)
