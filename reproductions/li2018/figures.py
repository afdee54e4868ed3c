"""The figure of Li et al. 2018 that no kind draws: planes through weights, by lines of equal loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lightning_regs.study import MissingRows, Rows
from lightning_regs.study.report import plots
from lightning_regs.study.report.plots import MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regs.study.store.curves import Curves

# Apart by a factor, as a loss grows by orders of magnitude; none below what is about 0.
_LEVELS, _LEAST = 12, 1e-3
NETS = {"shallow, shortcuts": "skip/shallow", "shallow, plain": "plain/shallow", "deep, shortcuts": "skip/deep",
        "deep, plain": "plain/deep"}  # fmt: skip


def planes(rows: Rows, curves: Curves) -> Figure:
    """Draw the training loss on the planes, of the first seed of each net."""
    from matplotlib.figure import Figure as MatplotlibFigure

    found = {title: plane for title, cell in NETS.items() if (plane := _plane(curves, cell))}
    if not found:
        raise MissingRows("no loss has been recorded in two directions")
    every = [number for *_, z in found.values() for number in z[np.isfinite(z)]] or [_LEAST]
    levels = np.geomspace(max(min(every), _LEAST), max(*every, 2 * _LEAST), _LEVELS)[1:-1]
    columns = min(2, len(found))
    lines = math.ceil(len(found) / columns)
    drawing = MatplotlibFigure(figsize=(2.4 * columns, 2.5 * lines), layout="constrained")
    panels = drawing.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    told = []
    for axes in panels.flat[len(found) :]:
        axes.remove()
    for axes, (title, (x, y, z)) in zip(panels.flat, found.items(), strict=False):
        drawn = axes.contour(x, y, np.maximum(z, _LEAST), levels, colors=SERIES[0], linewidths=0.8)
        axes.clabel(drawn, levels[::3], fmt="%.2g", fontsize=8.5, colors=MUTED)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set_title(title, loc="left", color=MUTED)
        ends = f"{np.nanmin(z):.3g} to {np.nanmax(z):.3g}"
        told.append(f"{title}: {ends}, {z[len(y) // 2, len(x) // 2]:.3g} in the middle")
    drawing.supxlabel("first direction", fontsize=8.5)
    drawing.supylabel("second direction", fontsize=8.5)
    plots.describe(drawing, f"The training loss on planes through weights. {'; '.join(told)}.")
    spread = ", ".join(f"{level:.2g}" for level in levels)
    plots.note(drawing, f"Lines are at {spread} in all pairs of axes. The first seed is drawn, and the net is at 0, 0.")
    if missing := [title for title in NETS if title not in found]:
        plots.note(drawing, f"Not measured at this scale: {', '.join(missing)}.")
    return drawing


def _plane(curves: Curves, cell: str) -> tuple[list[float], list[float], np.ndarray] | None:
    """Return positions along both directions and the losses there, a row for each of the second direction."""
    runs = curves.data.get(cell, {})
    points = [p for p in runs[min(runs)] if "surface_loss" in p] if runs else []
    losses = {(p["position"], p["position_2"]): p["surface_loss"] for p in points}
    x, y = (sorted({place[k] for place in losses}) for k in (0, 1))
    return (x, y, np.array([[losses.get((a, b), math.nan) for a in x] for b in y])) if losses else None
