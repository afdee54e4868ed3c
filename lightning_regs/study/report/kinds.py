"""How the kinds of figures are drawn: curves, sweeps, dots and bars.

Dots are ours, rings are published values: where they agree, the dot sits in the ring.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_regs.core.metrics import Metric
from lightning_regs.study.paper.cells import Tuned
from lightning_regs.study.paper.estimates import CONFIDENCE, UnfitError
from lightning_regs.study.paper.figure import Kind, measure_of, named
from lightning_regs.study.paper.measures.measure import Measure
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.report import plots, tables
from lightning_regs.study.report.plots import MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_regs.study.store.curves import Band, Curves

# The number of a cell's metric; a measure that is of none has the key None.
Published = Mapping[tuple[str, str] | None, float]
Numbers = dict[float, list[float]]
Dots = dict[str, list[tuple[Measure, list[float]]]]
Ends = tuple[float, float] | None

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1.2, 1, 1.2)), (0, (1.2, 1.2)), "-", (0, (5, 1.5)))
_MARKS = ("o", "s", "^", "D", "v", "P")
_DOTTED = (0, (1, 2))
_MOST_TICKS = 9
_SHORTEST_CURVES = 2


def draw_curves(
    figure: Kind, rows: Rows, curves: Curves, published: Published, *, epochs: bool, x: str, log_y: int
) -> Figure:
    """Draw learning curves, with a ring at the end where the paper printed the last value; or those over a place."""
    found: dict[str, tuple[str, dict[str, Band]]] = {}
    time, over, place = not x, f"by {x}" if x else "over training", ("position", 1, x)
    x, unit, label_x = place if x else ("epoch", 1, "epochs") if epochs else ("step", 1000, "thousand steps")
    for title, lines in figure.plots.items():
        for metric in figure.metrics:
            bands = {label: band for label, cell in lines.items() if (band := curves.band(cell, metric, x))}
            if len(bands) >= min(_SHORTEST_CURVES, len(lines)):
                found[title] = metric, bands
                break
    drawing, panels = _panels(
        found, f"fewer than two of its learning curves of {' or '.join(figure.metrics)} have been recorded"
    )
    told = []
    for axes, (title, (metric, bands)) in zip(panels, found.items(), strict=True):
        label = figure.y if figure.y and metric == figure.metrics[0] else _words(metric)
        for index, (name, band) in enumerate(bands.items()):
            at = [place / unit for place in band.x]
            color, dash = SERIES[index % len(SERIES)], _DASHES[index % len(_DASHES)]
            axes.plot(at, band.mean, color=color, linestyle=dash, label=name)
            axes.fill_between(at, band.low, band.high, color=color, alpha=0.18, linewidth=0)
            if (number := published.get((figure.plots[title][name], metric))) is not None:
                _ring(axes, at[-1], number, color)
        axes.set(xlabel=label_x, ylabel=label, xlim=(0 if time else None, None))
        if log_y:
            plots.log_axis(axes, "y", log_y)
        _finish(axes, title)
        ends = "; ".join(f"{name} {band.mean[-1]:.3g}" for name, band in bands.items())
        told.append(f"{named(label, title)} {over}. At the end: {ends}.")
    for metric in sorted({metric for metric, _ in found.values()} - {figure.metrics[0]}):
        plots.note(drawing, f"Not recorded {over}: {_words(figure.metrics[0])}, so {_words(metric)} is drawn.")
    plots.describe(drawing, " ".join(told))
    _note_bands(drawing, {band.n for _, bands in found.values() for band in bands.values()})
    plots.note(drawing, *figure.left_out({title: bands for title, (_, bands) in found.items()}, rows))
    return drawing


def draw_sweep(
    figure: Kind, rows: Rows, curves: Curves, published: Published, *, x: str, log_x: int, log_y: int,
    descending: bool, error: bool, reference: tuple[float, str] | Mapping[str, str] | None, tuned: Sequence[Tuned] = (),
) -> Figure:  # fmt: skip
    """Draw a metric against what was varied."""
    [metric] = figure.metrics
    found: dict[str, dict[str, Numbers]] = {}
    partly: list[str] = []
    for title, sweeps in figure.plots.items():
        lines: dict[str, Numbers] = {}
        for label, line in sweeps.items():
            for at, measure in line.items():
                numbers = _values(measure, rows)
                if numbers and all(map(math.isfinite, numbers)):
                    lines.setdefault(label, {})[at] = [100 - n for n in numbers] if error else numbers
                elif numbers:
                    partly.append(f"{named(label, title)} at {at:g} ({_count(numbers)})")
        lines = {label: numbers for label, numbers in lines.items() if len(numbers) > 1 or len(sweeps[label]) == 1}
        if any(len(numbers) > 1 for numbers in lines.values()):
            found[title] = lines
    drawing, panels = _panels(found, f"{_words(metric)} has not been measured where it is varied")
    label = figure.y or f"{f'100 {tables.MINUS} ' if error else ''}{_words(metric)}"
    told, best, seeds, dots = [], _best(tuned, rows, drawing), set[int](), dict[str, int]()
    for axes, (title, lines) in zip(panels, found.items(), strict=True):
        if log_x:
            _log_x(axes, log_x, sorted({at for numbers in lines.values() for at in numbers}))
        elif all(float(at).is_integer() for numbers in lines.values() for at in numbers):
            axes.locator_params("x", integer=True)
        if log_y:
            plots.log_axis(axes, "y", log_y)
        for index, (name, positions) in enumerate(lines.items()):
            sweep = figure.plots[title][name]
            if joined := len(positions) > 2 or len(sweep) == 2:
                seeds.update(map(len, positions.values()))
            else:
                dots[named(name, title)] = min(map(len, positions.values()))
            _line(axes, positions, index, name, joined)
            for at, measure in sweep.items():
                color = SERIES[index % len(SERIES)]
                if (number := published.get(measure.single)) is not None:
                    _ring(axes, at, 100 - number if error else number, color)
                if at in positions and best.intersection(measure.cells):
                    axes.plot(at, statistics.fmean(positions[at]), "*", color=color, markersize=12, clip_on=False)
        if tuned:
            runs = {f"{named(name, title)} at {at:g}": v for name, line in lines.items() for at, v in line.items()}
            plots.crop(axes, runs, drawing)
        axes.set(xlabel=x, ylabel=label)
        if isinstance(reference, tuple):
            axes.axhline(reference[0], color=MUTED, linewidth=1, linestyle=_DOTTED, label=reference[1])
        elif cell := (reference or {}).get(title):
            numbers = _values(measure_of(cell, metric), rows)
            level = statistics.fmean(numbers) if numbers else math.nan
            if math.isfinite(level):
                axes.axhline(100 - level if error else level, color=MUTED, linewidth=1, linestyle=_DOTTED)
                plots.note(drawing, f"The dotted line{f' in {title}' if title else ''} is {cell}.")
        if descending:
            axes.invert_xaxis()
        _finish(axes, title)
        parts = [f"{name}: " + ", ".join(f"{statistics.fmean(v):.4g} at {at:.3g}" for at, v in sorted(numbers.items()))
                 for name, numbers in lines.items()]  # fmt: skip
        told.append(f"{named(label, title)} by {x}. {'; '.join(parts)}.")
    plots.describe(drawing, " ".join(told))
    _note_bands(drawing, seeds)
    if fewer := [f"{name} ({number})" for name, number in dots.items() if number < min(seeds, default=0)]:
        plots.note(drawing, f"Dots of fewer seeds: {', '.join(fewer)}.")
    if partly:
        plots.note(drawing, f"Not drawn, as not every seed has a number: {', '.join(partly)}.")
    plots.note(drawing, *figure.left_out(found, rows))
    return drawing


def _best(tuned: Sequence[Tuned], rows: Rows, drawing: Figure) -> set[str]:
    """Return the cells that tuned methods are best at, and say so below the drawing."""
    best: dict[str, str] = {}
    for each in tuned:
        with contextlib.suppress(MissingRows, UnfitError):
            setting = rows.chosen(each)
            best[each.grid[setting]] = each.edges(setting)
    if best:
        plots.note(drawing, "; ".join(filter(None, ("Stars are the settings that were chosen", *best.values()))) + ".")
    return set(best)


def draw_dots(figure: Kind, rows: Rows, curves: Curves, published: Published, *, limits: Ends, bars: bool) -> Figure:
    """Draw a row of dots, or a bar, a cell."""
    found: dict[str, Dots] = {}
    told_of, partly = dict[str, list[str]](), list[str]()
    for title, lines in figure.plots.items():
        read = {label: _read(entry, figure, rows) for label, entry in lines.items()}
        if any(map(math.isfinite, itertools.chain(*(numbers for dots in read.values() for _, numbers in dots)))):
            found[title] = {
                label: dots for label, dots in read.items()
                if any(measure.single in published or any(map(math.isfinite, numbers)) for measure, numbers in dots)
            }  # fmt: skip
            empty = {row: dots[0][1] for row, dots in read.items() if row not in found[title] and dots[0][1]}
            partly += [f"{named(row, title)} ({_count(numbers)})" for row, numbers in empty.items()]
            told_of[title] = [*found[title], *empty]
    if not found:
        raise MissingRows(f"no cell of it has {' or '.join(map(_words, figure.metrics))}")
    each = max(len(lines) for lines in found.values())
    # Titles stand above what the labels of the rows leave of the width.
    room = max(20, 68 - max(len(label) for lines in found.values() for label in lines))
    titles = {title: textwrap.fill(title, room) for title in found}
    height = 0.25 * each + 1.0 + 0.14 * max(title.count("\n") for title in titles.values())
    drawing, panels = plots.stack(len(found), width=4.8, height=height)
    label = figure.y or _words(figure.metrics[0])
    told, rings = [], False
    for axes, (title, lines) in zip(panels, found.items(), strict=True):
        said = []
        for line, (row, dots) in enumerate(lines.items()):
            for index, (name, metric, (measure, numbers)) in enumerate(
                zip(figure.names, figure.metrics, dots, strict=True)
            ):
                color = SERIES[index % len(SERIES)]
                _dots(axes, line, numbers, _ends(measure, rows, numbers), color, _MARKS[index % len(_MARKS)], bars)
                if (number := published.get(measure.single)) is not None:
                    rings = True
                    _ring(axes, number, line, SERIES[1] if len(figure.metrics) == 1 else color)
                told_as, whole = f"{row}, {name}" if name else row, all(map(math.isfinite, numbers))
                if not whole:
                    partly.append(f"{named(told_as, title)} ({_count(numbers)})")
                if numbers:
                    text = f"{statistics.fmean(numbers):.4g}" if whole else tables.shown(numbers, Metric(metric, name))
                    said.append(f"{told_as} {text}")
        axes.set_yticks(range(len(lines)), list(lines))
        axes.set(ylim=(len(lines) - 0.4, -0.6), xlabel=label, xlim=limits)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_title(titles[title], loc="left", color=MUTED)
        told.append(f"{named(label, title)}: {'; '.join(said)}.")
    if rings or len(figure.metrics) > 1:
        _dots_legend(drawing, panels[0], figure, rings)
    plots.describe(drawing, " ".join(told))
    plots.note(drawing, "Ticks are our seeds, dots their means, lines the 95 % intervals of these.")
    if partly:
        plots.note(drawing, f"Not every seed has a number, so no mean is drawn: {', '.join(partly)}.")
    plots.note(drawing, *figure.left_out(told_of, rows))
    return drawing


def _panels(found: Mapping[str, object], missing: str) -> tuple[Figure, list[Axes]]:
    if not found:
        raise MissingRows(missing)
    return plots.stack(len(found), height=3.1 if len(found) == 1 else 2.8)


def _values(measure: Measure, rows: Rows) -> list[float]:
    try:
        return measure.values(rows)
    except (MissingRows, UnfitError):
        return []


def _read(entry: str | Measure, figure: Kind, rows: Rows) -> list[tuple[Measure, list[float]]]:
    """Return a row's measure of each metric, with its number a seed."""
    measures = [measure_of(entry, metric) for metric in figure.metrics]
    return [(measure, _values(measure, rows)) for measure in measures]


def _ends(measure: Measure, rows: Rows, numbers: Sequence[float]) -> Ends:
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return None
    try:
        low, high = measure(rows).ends(CONFIDENCE)
    except UnfitError:
        return None
    return (low, high) if math.isfinite(high - low) else None


def _line(axes: Axes, numbers: Numbers, index: int, label: str, joined: bool) -> None:
    ordered = sorted(numbers.items())
    x = [at for at, _ in ordered]
    color, mark = SERIES[index % len(SERIES)], _MARKS[index % len(_MARKS)]
    if joined:
        low, high = [min(v) for _, v in ordered], [max(v) for _, v in ordered]
        axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
    mean = [statistics.fmean(v) for _, v in ordered]
    dash = _DASHES[index % len(_DASHES)] if joined else "none"
    axes.plot(x, mean, color=color, linestyle=dash, marker=mark, markersize=4, label=label, clip_on=False)


def _dots(axes: Axes, line: int, numbers: Sequence[float], ends: Ends, color: str, mark: str, bar: bool) -> None:
    for number in filter(math.isfinite, numbers):
        axes.plot(number, line, "|", color=MUTED, markersize=7)
    if not numbers or not all(map(math.isfinite, numbers)):
        return  # a mean of those that have a number would be that of the runs that did well
    mean = statistics.fmean(numbers)
    if bar:
        axes.barh(line, mean, height=0.6, color=color, alpha=0.35)
    if ends is not None:
        axes.hlines(line, *ends, color=color, linewidth=2)
    axes.plot(mean, line, mark, color=color, markersize=4.5, clip_on=False)


def _dots_legend(drawing: Figure, axes: Axes, figure: Kind, rings: bool) -> None:
    for name, mark, color in zip(figure.names, itertools.cycle(_MARKS), itertools.cycle(SERIES)):
        axes.plot([], [], mark, color=color, markersize=4.5, label=f"{name}, ours" if name else "ours")
    if rings:
        _ring(axes, math.nan, math.nan, SERIES[1] if len(figure.metrics) == 1 else MUTED, label="published")
    drawing.legend(loc="outside upper center", ncols=3, handletextpad=0.2, columnspacing=1.2)


def _ring(axes: Axes, x: float, y: float, color: str, label: str | None = None) -> None:
    axes.plot(
        [x], [y], "o", markersize=8.5, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.1, label=label,
        clip_on=False, zorder=3,
    )  # fmt: skip


def _log_x(axes: Axes, base: int, positions: Sequence[float]) -> None:
    if base > 1:
        plots.log_axis(axes, "x", base)
        return
    axes.set_xscale("log")
    step = math.ceil(len(positions) / _MOST_TICKS)
    ticks = positions[::-1][::step]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _finish(axes: Axes, title: str) -> None:
    if title:
        axes.set_title(title, loc="left", color=MUTED)
    axes.legend(loc="best")


def _note_bands(drawing: Figure, seeds: Collection[int]) -> None:
    """Say what bands are, where there are some."""
    if max(seeds, default=1) > 1:
        many = " to ".join(map(str, sorted({min(seeds), max(seeds)})))
        plots.note(drawing, f"Lines are means over {many} seeds, bands reach from the lowest to the highest seed.")


def _count(numbers: Collection[float]) -> str:
    return f"{sum(map(math.isfinite, numbers))} of {len(numbers)} seeds"


def _words(metric: str) -> str:
    return tables.heading(metric).lower()
