"""Figures of a paper, as plain data: kinds that know how they are drawn, and one for a drawing function of one's own.

A kind names cells and metrics. From these follow the drawing, the panels for Weights & Biases, and where the published
values go: they are those of the claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from lightning_regs.core.checks import Name, Whole, checked, nonempty
from lightning_regs.study.paper.cells import Tuned
from lightning_regs.study.paper.measures.measure import Measure
from lightning_regs.study.paper.measures.sums import value
from lightning_regs.study.paper.tasks import import_task

if TYPE_CHECKING:
    from lightning_regs.study.paper.rows import Rows
    from lightning_regs.study.store.curves import Curves

Point = str | tuple[str, ...] | Measure | Tuned
# Label of a line -> its cell; of a row of dots -> its cell, or a tuned method, or a measure.
Lines = Mapping[str, str]
Dots = Mapping[str, str | Tuned | Measure]
Searches = Mapping[str, Tuned]
# Label of a line -> position -> the cell there, several whose mean is taken, or a measure.
Sweeps = Mapping[str, Mapping[float, Point]]
_KINDS = "lightning_regs.study.report.kinds"
AXIS = "trainer/global_step"  # of curves, in logged runs


@dataclass(frozen=True)
class Panel:
    """What a pair of axes is about, for services that draw logged runs themselves.

    Attributes:
        kind: ``"curve"`` for columns of the runs' curves, ``"bar"`` for metrics of their rows.
        metrics: Names of these columns or metrics.
        cells: Names of the cells that are compared; a scale need not have them all.
        x: The horizontal axis of curves, under the name that it is logged with.
    """

    kind: Literal["curve", "bar"]
    metrics: tuple[str, ...]
    cells: tuple[str, ...]
    x: str = AXIS


@checked
@dataclass(frozen=True)
class Figure:
    """A figure that a function of the paper draws; the kinds below need none.

    Args:
        id: Short name, unique in the paper.
        title: Heading.
        caption: What is shown, and what the paper's figure shows.
        draw: ``draw(rows, curves)`` gives a matplotlib figure; or its import path, so that drawing is imported late.
        on: Names of the scales that draw it; None for all.
    """

    id: Name
    title: str
    caption: str = ""
    draw: str | Callable[..., Any] = ""
    on: tuple[str, ...] | None = field(default=None, kw_only=True)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """What it shows, for services that draw logged runs themselves; nobody knows what a function draws."""
        return ()

    def render(self, rows: Rows, curves: Curves, published: Mapping[tuple[str, str], float] | None = None) -> Any:
        """Draw it.

        Args:
            rows: The rows of a scale.
            curves: Its learning curves.
            published: The paper's numbers by cell and metric, which kinds draw as rings.

        Raises:
            MissingRows: If what it shows has not been measured.
        """
        draw = import_task(self.draw) if isinstance(self.draw, str) else self.draw
        return draw(rows, curves)


@dataclass(frozen=True)
class Kind(Figure):
    """A figure that the package draws: see :func:`curves`, :func:`sweep`, :func:`points`, :func:`bars`.

    Attributes:
        metrics: What is drawn.
        names: What each metric is called.
        plots: Title of each pair of axes -> what is in it. Axes of which too little was measured are left out.
        y: Label of the axis of the metric.
        published: Numbers of the paper that no claim is about, by cell and metric.
        options: What else the drawing function takes.
    """

    metrics: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    plots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    y: str = ""
    published: Mapping[tuple[str, str], float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.metrics or not self.plots or not all(self.plots.values()):
            raise ValueError(f"figure {self.id!r} shows nothing; name a metric and at least one cell in each plot.")

    @property
    def panels(self) -> tuple[Panel, ...]:
        """A panel for each pair of axes with cells."""
        kind: Literal["curve", "bar"] = "curve" if self.draw == "draw_curves" else "bar"
        shown = ((_metrics_of(lines) or self.metrics, cells_of(lines)) for lines in self.plots.values())
        return tuple(Panel(kind, metrics, cells) for metrics, cells in shown if cells)

    def render(self, rows: Rows, curves: Curves, published: Mapping[tuple[str, str], float] | None = None) -> Any:
        """Draw it; see :meth:`Figure.render`."""
        draw = import_task(f"{_KINDS}:{self.draw}")
        return draw(self, rows, curves, {**self.published, **(published or {})}, **self.options)

    def left_out(self, drawn: Mapping[str, Collection[str]], rows: Rows) -> Iterator[str]:
        """Say what is not among the lines that were ``drawn`` of each pair of axes, and which axes are begun only.

        What is missing in all axes is named once, and what the scale has no cells for apart from what is not measured.
        """
        gone = {title: [name for name in self.plots[title] if name not in names] for title, names in drawn.items()}
        everywhere = [name for name in next(iter(gone.values())) if all(name in names for names in gone.values())]
        begun = set(rows.cells())
        missing = {title: lines for title, lines in self.plots.items() if title not in drawn}
        missing = {title: lines for title, lines in missing.items() if begun.intersection(cells_of(lines))}
        missing |= {name: {title: self.plots[title][name] for title in gone} for name in everywhere}
        for title, names in gone.items():
            missing |= {named(n, title): {n: self.plots[title][n]} for n in names if n not in everywhere}
        never = [name for name, lines in missing.items() if rows.planned and not _possible(lines, rows.planned)]
        if never:
            yield f"Not at this scale: {'; '.join(never)}."
        if some := [name for name in missing if name not in never]:
            yield f"Too little was measured at this scale to draw: {'; '.join(some)}."


@checked
def curves(
    id: Name, title: str, metric: Name | tuple[Name, ...], plots: Lines | Mapping[str, Lines], caption: str = "", *,
    x: str = "", y: str = "", epochs: bool = False, log_y: Whole = 0, on: tuple[str, ...] | None = None,
) -> Figure:  # fmt: skip
    """Make a figure of learning curves: a line a cell, its mean over seeds in a band from lowest to highest.

    Args:
        id: Short name, unique in the paper.
        title: Heading.
        metric: Column of the curves; of several, the first that is there.
        plots: Label -> cell; or the title of each pair of axes -> its labels and cells.
        caption: What is shown, and what the paper's figure shows.
        x: Label of the horizontal axis, where that is no time but the curves' ``position``, as on a line of weights.
        y: Label of the vertical axis; default: the metric's name.
        epochs: Whether they are over epochs in place of steps.
        log_y: Base of a logarithmic vertical axis.
        on: Names of the scales that draw it; None for all.
    """
    metrics, options = (metric,) if isinstance(metric, str) else metric, {"epochs": epochs, "x": x, "log_y": log_y}
    return Kind(id, title, caption, "draw_curves", metrics=metrics, plots=_plots(plots), y=y, on=on, options=options)


@checked
def sweep(
    id: Name, title: str, metric: Name, plots: Sweeps | Mapping[str, Sweeps], caption: str = "", *,
    x: str = "", y: str = "", log_x: Whole = 0, log_y: Whole = 0, descending: bool = False, error: bool = False,
    reference: tuple[float, str] | Mapping[str, str] | None = None, on: tuple[str, ...] | None = None,
) -> Kind:  # fmt: skip
    """Make a figure of a metric against what was varied: a line a setting, its points means over seeds.

    A position that not every seed has a number for (an epoch that never came) is not drawn, and named. Two points of a
    line that has more positions are not joined, as they say nothing about what lies between.

    Args:
        id: Short name, unique in the paper.
        title: Heading.
        metric: What is measured at each cell; a position may bring a measure of its own instead of a cell.
        plots: Label -> position -> cell; or the title of each pair of axes -> the same.
        caption: What is shown, and what the paper's figure shows.
        x: Label of the horizontal axis.
        y: Label of the vertical axis; default: the metric's name.
        log_x: Base of a logarithmic horizontal axis, 2 or 10; 1 for one whose ticks are the positions themselves.
        log_y: Base of a logarithmic vertical axis.
        descending: Whether large positions are on the left.
        error: Draw 100 minus the metric: the error that belongs to an accuracy in percent.
        reference: A horizontal line: a number and what it is, or the title of axes -> a cell whose mean it is.
        on: Names of the scales that draw it; None for all.
    """
    whole = {
        name: {label: {at: measure_of(point, metric) for at, point in line.items()} for label, line in lines.items()}
        for name, lines in _plots(plots).items()
    }
    options = {"x": x, "log_x": log_x, "log_y": log_y, "descending": descending, "error": error, "reference": reference}
    return Kind(id, title, caption, "draw_sweep", metrics=(metric,), plots=whole, y=y, options=options, on=on)


@checked
def tuning(
    id: Name, title: str, methods: Annotated[Searches | Mapping[str, Searches], nonempty], caption: str = "", *,
    y: str = "held-out error (%)", log_x: Whole = 10, on: tuple[str, ...] | None = None,
) -> Figure:  # fmt: skip
    """Make a :func:`sweep` of the metric that tuned methods were chosen by, with stars where they are best.

    A method is a line; where two things vary it has axes of its own, with a line for each value of the first. Best
    settings at an edge of their grid are named. All are chosen by one metric.
    """
    plots: dict[str, dict[str, dict[float, str]]] = {}
    every: list[Tuned] = []
    for head, searches in _plots(methods).items():
        for label, tuned in searches.items():
            every.append(tuned)
            for setting, cell in tuned.grid.items():
                *first, at = setting if isinstance(setting, tuple) else (setting,)
                line = (label, f"{tuned.varied[0]} {first[0]:g}") if first else (head, label)
                plots.setdefault(line[0], {}).setdefault(line[1], {})[at] = cell
    made = sweep(id, title, every[0].by, plots, caption, x=every[0].varied[-1], y=y, log_x=log_x, on=on)
    return replace(made, options={**made.options, "tuned": every})


@checked
def points(
    id: Name, title: str, metrics: str | Mapping[str, str], plots: Dots | Mapping[str, Dots], caption: str = "", *,
    y: str = "", limits: tuple[float, float] | None = None, bars: bool = False,
    published: Mapping[tuple[str, str], float] | None = None, on: tuple[str, ...] | None = None,
) -> Figure:  # fmt: skip
    """Make a figure of dots, a row a cell: seeds as ticks, their mean, its 95 % interval, and the published value.

    Args:
        id: Short name, unique in the paper.
        title: Heading.
        metrics: The metric, or several with the name that each has in the legend: ``{"train": "train_acc"}``.
        plots: Label -> cell, or a tuned method or a measure in its place; or the title of each pair of axes -> the
            same. A row whose cell was not measured shows the published value alone.
        caption: What is shown, and what the paper's figure shows.
        y: Label of the axis of the metric; default: its name.
        limits: Ends of that axis.
        bars: Whether means are bars from zero instead of dots.
        published: Numbers of the paper that no claim is about, by cell and metric.
        on: Names of the scales that draw it; None for all.
    """
    given = {"": metrics} if isinstance(metrics, str) else dict(metrics)
    return Kind(
        id, title, caption, "draw_dots", metrics=tuple(given.values()), names=tuple(given), plots=_plots(plots), y=y,
        published=published or {}, options={"limits": limits, "bars": bars}, on=on,
    )  # fmt: skip


@checked
def bars(
    id: Name, title: str, metrics: str | Mapping[str, str], plots: Dots | Mapping[str, Dots], caption: str = "", *,
    y: str = "", limits: tuple[float, float] | None = None, on: tuple[str, ...] | None = None,
) -> Figure:  # fmt: skip
    """Make a figure as :func:`points` does, with bars from zero for the means."""
    return points(id, title, metrics, plots, caption, y=y, limits=limits, bars=True, on=on)


def measure_of(point: Point, metric: str) -> Measure:
    """Return the measure of a point of a figure: its own, or the metric of its cell, or the mean over its cells."""
    return point if isinstance(point, Measure) else value(point, metric)


def _plots(plots: Mapping[str, Any]) -> dict[str, Any]:
    """Put a single pair of axes under an empty title."""
    first = next(iter(plots.values()), None)
    nested = isinstance(first, Mapping) and isinstance(next(iter(first), None), str)
    return dict(plots) if nested else {"": dict(plots)}


def _entries(lines: Mapping[str, Any]) -> list[str | Tuned | Measure]:
    """List what one pair of axes shows: cells, tuned methods or measures."""
    return [e for line in lines.values() for e in (line.values() if isinstance(line, Mapping) else [line])]


def cells_of(lines: Mapping[str, Any]) -> tuple[str, ...]:
    """List the cells of one pair of axes."""
    names = [name for entry in _entries(lines) for name in measure_of(entry, "-").cells]
    return tuple(dict.fromkeys(names))


def _possible(lines: Mapping[str, Any], cells: Collection[str]) -> bool:
    """Tell whether one pair of axes shows anything that can be measured with these cells."""
    return any(measure_of(entry, "-").lacks(cells) is None for entry in _entries(lines))


def named(name: str, title: str) -> str:
    """Name a line of a pair of axes, which have a title where there are several."""
    return f"{name} of {title}" if title else name


def _metrics_of(lines: Mapping[str, Any]) -> tuple[str, ...]:
    """List the metrics of the measures in one pair of axes."""
    measures = [entry for entry in _entries(lines) if isinstance(entry, Measure)]
    return tuple(dict.fromkeys(metric for measure in measures for _, metric in measure.parts))
