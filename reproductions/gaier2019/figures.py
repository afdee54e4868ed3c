"""The figure of Gaier & Ha 2019 that no kind draws: the champion's graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_regs.study import MissingRows, Rows
from lightning_regs.study.report import plots
from lightning_regs.study.report.plots import FAINT, MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regs.study.store.curves import Curves

CLASSES = 10
NAMES = ("linear", "step", "sin", "gaussian", "tanh", "sigmoid", "inverse", "absolute", "relu", "cos")
MARKS = "osD^v<>Phd"


def champion(rows: Rows, curves: Curves) -> Figure:
    """Draw the champion of the first seed: inputs as the image that they are, hidden nodes by depth, then outputs."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure as MatplotlibFigure

    runs = curves.data.get("wann", {})
    points = [p for p in (runs[min(runs)] if runs else []) if "activation" in p]
    if not points:
        raise MissingRows("no champion has been recorded")
    ends = [(int(p["position"]), int(p["position_2"])) for p in points]
    size = int(rows.metric("wann", "inputs")[min(runs)])
    kinds = {int(p["position_2"]): int(p["activation"]) for p in points}
    place = _places(ends, size)
    drawing = MatplotlibFigure(figsize=(6.2, 3.6), layout="constrained")
    axes = drawing.subplots()
    lines = [(place[a], place[b]) for a, b in ends]
    axes.add_collection(LineCollection(lines, colors=MUTED, linewidths=0.4, alpha=0.35, zorder=0))
    used = {a for a, _ in ends}
    inputs = [place[n] for n in range(1 + size)]
    colors = [SERIES[0] if n in used else FAINT for n in range(1 + size)]
    axes.scatter(*zip(*inputs, strict=True), s=9 if size < 100 else 3, marker="s", c=colors)
    hidden = [n for n in kinds if n > size + CLASSES]
    for number, name in enumerate(NAMES):
        if at := [place[n] for n in hidden if kinds[n] == number]:
            color = SERIES[number % len(SERIES)]
            axes.scatter(*zip(*at, strict=True), s=13, marker=MARKS[number], color=color, label=name, zorder=2)
    for output in range(CLASSES):
        x, y = place[1 + size + output]
        axes.text(x + 0.1, y, str(output), va="center")
    if hidden:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=5)
    last = max(x for x, _ in place.values())
    axes.set(xlim=(min(x for x, _ in place.values()) - 0.1, last + 0.4), ylim=(-0.2, 1.05))
    axes.set_axis_off()
    seen = len(used & set(range(1, 1 + size)))
    graph = f"A graph of {len(ends)} connections and {len(hidden)} hidden nodes"
    plots.describe(drawing, f"{graph}, which uses {seen} of {size} inputs.")
    plots.note(drawing, "The champion of the first seed. Pixels that it uses are blue; the square below is the bias.")
    return drawing


def _places(ends: list[tuple[int, int]], size: int) -> dict[int, tuple[float, float]]:
    """Return where each node is."""
    side, first = math.isqrt(size), 1 + size
    nodes = {n for pair in ends for n in pair if n >= first + CLASSES}
    depth = dict.fromkeys(range(first), 0) | dict.fromkeys(nodes, 1)
    for _ in nodes:  # no path has more of them
        for a, b in ends:
            if b in nodes:
                depth[b] = max(depth[b], depth[a] + 1)
    last = max(depth.values()) + 1
    place = {0: (-last / 3, -0.12)}
    place |= {1 + i: (last / 2.5 * (i % side / side - 1.2), 1 - (i // side + 0.5) / side) for i in range(size)}
    place |= {first + k: (float(last), 1 - (k + 0.5) / CLASSES) for k in range(CLASSES)}
    for level in range(1, last):
        own = sorted(n for n in nodes if depth[n] == level)
        place |= {n: (float(level), 1 - (i + 0.5) / len(own)) for i, n in enumerate(own)}
    return place
