"""Figures 1a, 1b, 1c and 2b, and Table 1 as a plot: drawn as the paper draws them, with its points as rings.

Every function takes the rows and the learning curves of one scale, draws the cells that are there and notes the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zhang2017.published import PAPER_BATCH_NORM, PAPER_CHANCE, PAPER_SLOWDOWN, PAPER_TEST_ERROR, TABLE_1

from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.paper.verdicts import interval
from lightning_regs.study.report import plots
from lightning_regs.study.report.plots import MUTED, SERIES, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_regs.study.paper.rows import Rows
    from lightning_regs.study.store.curves import Curves

MODELS = {
    "small-inception": "Inception",
    "small-alexnet": "AlexNet",
    "mlp-1x512": "MLP 1x512",
    "mlp-3x512": "MLP 3x512",
    "small-inception-nobn": "Inception w/o BN",
}
_COLORS = dict(zip(MODELS, (SERIES[0], SERIES[1], SERIES[2], SERIES[3], SERIES[5]), strict=True))
_MARKS = dict(zip(MODELS, ("o", "s", "^", "D", "v"), strict=True))

# Mode -> (name, colour, dashes), in the paper's order of convergence.
MODES: Mapping[str, tuple[str, str, str | tuple[int, tuple[float, ...]]]] = {
    "true-labels": ("true labels", SERIES[0], "-"),
    "shuffled-pixels": ("shuffled pixels", SERIES[2], (0, (5, 1.5))),
    "random-pixels": ("random pixels", SERIES[3], (0, (3, 1.2, 1, 1.2))),
    "gaussian": ("Gaussian", SERIES[4], (0, (1.2, 1.2))),
    "random-labels": ("random labels", SERIES[1], "-"),
}
LEVELS = {0.0: "true-labels", 0.2: "partial-0.2", 0.4: "partial-0.4", 0.6: "partial-0.6", 0.8: "partial-0.8"} | {
    1.0: "random-labels"
}


def figure_1a(rows: Rows, curves: Curves) -> Figure:
    """Average training loss against steps for the five randomisation modes of one network.

    The network is the paper's Inception where it was run, otherwise the one with most modes.
    """
    bands = {
        model: {mode: band for mode in MODES if (band := curves.band(f"{model}/{mode}", "train_loss"))}
        for model in MODELS
    }
    model = max(bands, key=lambda name: (name == "small-inception" and len(bands[name]) > 1, len(bands[name])))
    found = bands[model]
    if not found:
        raise MissingRows("no learning curve of any randomisation mode has been recorded")
    figure, axes = plots.canvas()
    for mode, band in found.items():
        name, color, dashes = MODES[mode]
        steps = [x / 1000 for x in band.x]
        axes.plot(steps, band.mean, color=color, linestyle=dashes, label=name)
        axes.fill_between(steps, band.low, band.high, color=color, alpha=0.18, linewidth=0)
    axes.set(xlabel="thousand steps", ylabel="average training loss", xlim=(0, None), ylim=(0, None))
    axes.set_title(MODELS[model], loc="left", color=MUTED)
    axes.legend(loc="upper right")
    reached = {mode: band.first_below(0.1) for mode, band in found.items()}
    plots.describe(
        figure,
        f"Average training loss of {MODELS[model]} against steps. The mean loss first falls to 0.1: "
        + "; ".join(
            f"{MODES[mode][0]}, " + (f"after {step:,.0f} steps" if step is not None else "not in this run")
            for mode, step in reached.items()
        )
        + ".",
    )
    _note_missing(figure, [MODES[mode][0] for mode in MODES if mode not in found], "the curve")
    if model != "small-inception":
        plots.note(figure, f"The paper draws Inception; this is {MODELS[model]}.")
    seeds = {band.n for band in found.values()}
    if max(seeds) > 1:
        plots.note(
            figure, f"Lines are means over {_range(seeds)} seeds, bands reach from the lowest to the highest seed."
        )
    return figure


def figure_1b(rows: Rows, curves: Curves) -> Figure:
    """Time to fit the training set, relative to true labels, against the share of corrupted labels."""
    lines: dict[str, dict[float, list[float]]] = {}
    never: list[str] = []
    for model in MODELS:
        base = values(rows, f"{model}/true-labels", "fit_epoch")
        for level, mode in LEVELS.items():
            times = values(rows, f"{model}/{mode}", "fit_epoch")
            ratios = [times[seed] / base[seed] for seed in times if base.get(seed) and math.isfinite(times[seed])]
            ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
            measured = [seed for seed in times if seed in base]
            # A mean over those seeds alone that did fit would look faster than the network is.
            if ratios and len(ratios) == len(measured):
                lines.setdefault(model, {})[level] = ratios
            elif measured:
                never.append(f"{MODELS[model]} at {level:g} ({len(ratios)} of {len(measured)} seeds did)")
    lines = {model: points for model, points in lines.items() if len(points) > 1}
    if not lines:
        raise MissingRows("no network has fitted the training set with true labels and with corrupted ones")
    figure, axes = plots.canvas()
    top = max(ratio for points in lines.values() for ratios in points.values() for ratio in ratios)
    axes.axhline(PAPER_SLOWDOWN, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        "paper: up to about 4", (0, PAPER_SLOWDOWN), (2, 3), textcoords="offset points", color=MUTED, fontsize=8
    )
    axes.set(xlabel="label corruption", ylabel="time to fit, relative to true labels")
    axes.set(xlim=(-0.02, 1.02), ylim=(0, max(top, PAPER_SLOWDOWN) * 1.12))
    _lines(axes, lines, named=True)
    _describe_lines(figure, "Epochs until the training set is fitted, relative to true labels.", lines, "times")
    if never:
        plots.note(figure, f"Not fitted by every seed: {', '.join(never)}.")
    _note_missing(figure, [MODELS[model] for model in list(MODELS)[:3] if model not in lines], "the sweep")
    return figure


def figure_1c(rows: Rows, curves: Curves) -> Figure:
    """Test error after convergence against the share of corrupted labels."""
    lines: dict[str, dict[float, list[float]]] = {}
    for model in MODELS:
        for level, mode in LEVELS.items():
            errors = [100 - value for value in values(rows, f"{model}/{mode}", "test_acc").values()]
            errors = [error for error in errors if math.isfinite(error)]
            if errors:
                lines.setdefault(model, {})[level] = errors
    lines = {model: points for model, points in lines.items() if len(points) > 1}
    if not lines:
        raise MissingRows("no network has been tested with true labels and with corrupted ones")
    figure, axes = plots.canvas()
    axes.set(xlabel="label corruption", ylabel="test error (%)", xlim=(-0.02, 1.02), ylim=(0, 100))
    _lines(axes, lines, named=False)
    for model in lines:
        if model in PAPER_TEST_ERROR:
            _ring(axes, 0, PAPER_TEST_ERROR[model], _COLORS[model])
    _ring(axes, 1, PAPER_CHANCE, MUTED)
    _ring(axes, math.nan, math.nan, MUTED, label="paper, on CIFAR-10")
    axes.legend(loc="lower right")
    if _on_digits(rows):
        plots.note(figure, "Ours are on scikit-learn's digits here, so only the shape compares with the paper.")
    _describe_lines(figure, "Test error against label corruption.", lines, "%")
    _note_missing(figure, [MODELS[model] for model in list(MODELS)[:3] if model not in lines], "the sweep")
    return figure


def figure_2b(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy of Inception with and without batch normalisation during training, nothing else regularised."""
    figure, axes = plots.canvas()
    ends: list[tuple[float, float, str, str]] = []
    told: list[str] = []
    missing: list[str] = []
    names = {"small-inception": "with batch norm", "small-inception-nobn": "without batch norm"}
    for model, name in names.items():
        color = _COLORS[model] if model == "small-inception" else SERIES[1]
        band = curves.band(f"{model}/true-labels", "test_acc")
        if band is None:
            missing.append(name)
            continue
        steps = [x / 1000 for x in band.x]
        axes.plot(steps, band.mean, color=color, linestyle="-" if model == "small-inception" else (0, (4, 1.5)))
        axes.fill_between(steps, band.low, band.high, color=color, alpha=0.18, linewidth=0)
        _ring(axes, steps[-1], PAPER_BATCH_NORM[model], color)
        ends.append((steps[-1], band.mean[-1], name, color))
        told.append(f"{name} {band.mean[-1]:.2f} % (paper {PAPER_BATCH_NORM[model]:.2f} %)")
    if not ends:
        raise MissingRows("Inception has no curve of its test accuracy, with or without batch normalisation")
    _ring(axes, math.nan, math.nan, MUTED, label="paper, last step, on CIFAR-10")
    axes.legend(loc="lower right")
    axes.set(xlabel="thousand steps", ylabel="test accuracy (%)", xlim=(0, None))
    plots.label_lines(axes, ends)
    plots.describe(figure, "Test accuracy of Inception during training. At the end: " + "; ".join(told) + ".")
    _note_missing(figure, missing, "the curve")
    return figure


def table_1(rows: Rows, curves: Curves) -> Figure:
    """Table 1 as a plot: train and test accuracy of every row, ours as dots in the paper's rings."""
    ours = {
        cell: {
            kind: [v for v in values(rows, cell, f"{kind}_acc").values() if math.isfinite(v)]
            for kind in ("train", "test")
        }
        for cell in TABLE_1
    }
    measured = [cell for cell in TABLE_1 if any(ours[cell].values())]
    if _on_digits(rows):
        raise MissingRows("Table 1 is about CIFAR-10, and this scale has embedded data only")
    if not measured:
        raise MissingRows("no row of Table 1 has been run")
    figure, axes = plots.canvas(width=4.5, height=0.235 * len(TABLE_1) + 1.0)
    colors = {"train": SERIES[1], "test": SERIES[0]}
    for line, (cell, paper) in enumerate(TABLE_1.items()):
        for (kind, color), figure_of_paper in zip(colors.items(), paper, strict=True):
            _ring(axes, figure_of_paper, line, color)
            if ours[cell][kind]:
                if len(ours[cell][kind]) > 1:
                    axes.hlines(line, *interval(ours[cell][kind]), color=color, linewidth=2)
                mean = statistics.fmean(ours[cell][kind])
                axes.plot(mean, line, marker="o" if kind == "test" else "s", color=color, markersize=3.6, clip_on=False)
    axes.set_yticks(range(len(TABLE_1)), [_row_name(cell) for cell in TABLE_1])
    axes.set(ylim=(len(TABLE_1) - 0.4, -0.6), xlim=(0, 102), xlabel="accuracy (%)")
    axes.grid(axis="x")
    for kind, color in colors.items():
        axes.plot([], [], "o" if kind == "test" else "s", color=color, markersize=3.6, label=f"{kind}, ours")
    _ring(axes, math.nan, math.nan, MUTED, label="paper, on CIFAR-10")
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.2, columnspacing=1.2)
    for line in _model_breaks():
        axes.axhline(line - 0.5, color=plots.FAINT, linewidth=0.8)
    far = {cell: statistics.fmean(ours[cell]["test"]) - TABLE_1[cell][1] for cell in measured if ours[cell]["test"]}
    text = f"Accuracy of {len(measured)} of the {len(TABLE_1)} rows of Table 1."
    if far:
        cell = max(far, key=lambda name: abs(far[name]))
        text += f" The largest difference in test accuracy is {far[cell]:+.2f} points, for {_row_name(cell)}."
    plots.describe(figure, text)
    if len(measured) < len(TABLE_1):
        plots.note(
            figure, f"{len(TABLE_1) - len(measured)} of the {len(TABLE_1)} rows have not been run at this scale."
        )
    return figure


DRAWINGS: Mapping[str, Callable[[Rows, Curves], Figure]] = {
    "1a": figure_1a,
    "1b": figure_1b,
    "1c": figure_1c,
    "2b": figure_2b,
    "table-1": table_1,
}


def _lines(axes: Axes, lines: Mapping[str, Mapping[float, Sequence[float]]], named: bool) -> None:
    ends = []
    for model, points in lines.items():
        x = list(points)
        mean = [statistics.fmean(v) for v in points.values()]
        color = _COLORS[model]
        low, high = [min(v) for v in points.values()], [max(v) for v in points.values()]
        label = None if named else MODELS[model]
        # The two ends alone say nothing about what lies between.
        joined = len(x) > 2
        if joined:
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        line = "-" if joined else "none"
        axes.plot(
            x, mean, color=color, linestyle=line, marker=_MARKS[model], markersize=4.5, label=label, clip_on=False
        )
        ends.append((x[-1], mean[-1], MODELS[model], color))
    if named:
        plots.label_lines(axes, ends)


def _ring(axes: Axes, x: float, y: float, color: str, label: str | None = None) -> None:
    axes.plot(
        [x], [y], "o", markersize=8.5, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.1, label=label,
        clip_on=False, zorder=3,
    )  # fmt: skip


def _on_digits(rows: Rows) -> bool:
    measured = [(cell, seed) for cell in rows.cells() for seed in values(rows, cell, "train_acc")]
    return any(rows.row(cell, seed).get("scale") == "quick" for cell, seed in measured)


def _row_name(cell: str) -> str:
    model, mode = cell.split("/")
    first, *options = mode.split("+")
    parts = [MODELS[model]] + (["random labels"] if first == "random-labels" else [])
    return ", ".join(parts + [{"wd": "weight decay"}.get(option, option) for option in options])


def _model_breaks() -> list[int]:
    models = [cell.split("/")[0] for cell in TABLE_1]
    return [line for line in range(1, len(models)) if models[line] != models[line - 1]]


def _describe_lines(
    figure: Figure, start: str, lines: Mapping[str, Mapping[float, Sequence[float]]], unit: str
) -> None:
    parts = [
        f"{MODELS[model]}: "
        + ", ".join(f"{statistics.fmean(v):.3g} {unit} at {level:g}" for level, v in points.items())
        for model, points in lines.items()
    ]
    plots.describe(figure, start + " " + "; ".join(parts) + ".")


def _note_missing(figure: Figure, names: Sequence[str], what: str) -> None:
    if names:
        plots.note(figure, f"Not measured at this scale: {what} of {' and '.join(names)}.")


def _range(numbers: set[int]) -> str:
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
