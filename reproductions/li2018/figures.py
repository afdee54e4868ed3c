"""The figure of Li et al. 2018 that no kind draws: planes through weights, by lines of equal loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_regs.study import MissingRows, Rows
from lightning_regs.study.report import plots
from lightning_regs.study.report.plots import MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regs.study.store.curves import Curves

# Apart by a factor, as a loss grows by orders of magnitude; none below what is about 0.
_LEVELS, _LEAST = 12, 1e-3
Plane = dict[tuple[float, float], float]


NETS = {"shallow, shortcuts": "skip/shallow", "shallow, plain": "plain/shallow", "deep, shortcuts": "skip/deep",
        "deep, plain": "plain/deep"}  # fmt: skip


def planes(rows: Rows, curves: Curves) -> Figure:
    """Draw the training loss on the planes, of the first seed of each net."""
    import numpy
    from matplotlib.figure import Figure as MatplotlibFigure

    found = {title: plane for title, cell in NETS.items() if (plane := _plane(curves, cell))}
    if not found:
        raise MissingRows("no loss has been recorded in two directions")
    every = [number for plane in found.values() for number in plane.values() if math.isfinite(number)] or [_LEAST]
    levels = numpy.geomspace(max(min(every), _LEAST), max(*every, 2 * _LEAST), _LEVELS)[1:-1]
    columns = min(2, len(found))
    lines = math.ceil(len(found) / columns)
    drawing = MatplotlibFigure(figsize=(2.4 * columns, 2.5 * lines), layout="constrained")
    panels = drawing.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    told = []
    for axes in panels.flat[len(found) :]:
        axes.remove()
    for axes, (title, plane) in zip(panels.flat, found.items(), strict=False):
        x, y = (sorted({place[k] for place in plane}) for k in (0, 1))
        z = numpy.array([[plane.get((a, b), math.nan) for a in x] for b in y])
        drawn = axes.contour(x, y, numpy.maximum(z, _LEAST), levels, colors=SERIES[0], linewidths=0.8)
        axes.clabel(drawn, levels[::3], fmt="%.2g", fontsize=8.5, colors=MUTED)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set_title(title, loc="left", color=MUTED)
        ends = f"{min(plane.values()):.3g} to {max(plane.values()):.3g}"
        told.append(f"{title}: {ends}, {_middle(plane):.3g} in the middle")
    drawing.supxlabel("first direction", fontsize=8.5)
    drawing.supylabel("second direction", fontsize=8.5)
    plots.describe(drawing, f"The training loss on planes through weights. {'; '.join(told)}.")
    spread = ", ".join(f"{level:.2g}" for level in levels)
    plots.note(drawing, f"Lines are at {spread} in all pairs of axes. The first seed is drawn, and the net is at 0, 0.")
    if missing := [title for title in NETS if title not in found]:
        plots.note(drawing, f"Not measured at this scale: {', '.join(missing)}.")
    return drawing


def _plane(curves: Curves, cell: str) -> Plane:
    runs = curves.data.get(cell, {})
    points = runs[min(runs)] if runs else []
    keys = ("position", "position_2", "surface_loss")
    found = {(p["position"], p["position_2"]): p["surface_loss"] for p in points if all(key in p for key in keys)}
    return found if all(len({place[k] for place in found}) > 1 for k in (0, 1)) else {}


def _middle(plane: Plane) -> float:
    return plane[min(plane, key=lambda place: math.hypot(*place))]
