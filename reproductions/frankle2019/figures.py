"""Accuracy and early stopping against the weights remaining, drawn as the paper draws them, and what goes with them.

Every function draws the ladders whose cells are there, one panel each. The paper prints no table of its curves, so its
own are not in these figures; Zhou et al.'s accuracies of supermasks are rings.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from frankle2019.cells import SUPERMASKS, supermask
from frankle2019.ladders import LADDERS, SIGN_FREE, SIGN_KEPT, Ladder
from frankle2019.published import SUPERMASKS as PUBLISHED

from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report import plots
from lightning_regs.study.report.plots import MUTED, SERIES, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_regs.study.paper.rows import Rows
    from lightning_regs.study.store.curves import Curves

Points = Mapping[int, Sequence[float]]

# Levels whose P_m is written at the axis, as far as they were reached: 100, 51.3, 21.1, 7.0, 3.6, ... on LeNet.
_TICKS = (0, 3, 5, 7, 9, 12, 15, 18, 20, 24)
# Name, kind, line style, marker: tickets are drawn through, what is compared with them dashed or dotted.
_LINES = (
    ("winning ticket", "ticket", "-", "o"),
    ("random reinit", "reinit", "--", "s"),
    ("random mask", "random", ":", "^"),
    ("one-shot ticket", "one-shot", "-.", "D"),
)
_SIGN_NAMES = {
    "ticket": "the ticket's own weights",
    "sign-reinit": "new weights, signs kept",
    "sign-reshuffle": "reshuffled, signs kept",
    "sign-constant": "constants, signs kept",
    "noise-0.5": "noise of 0.5 sigma added",
    "noise-3": "noise of 3 sigma added",
    "reinit-1": "new weights",
    "reshuffle": "reshuffled",
    "constant": "constants, random signs",
    "small-init": "small initial weights pruned",
}


def early_stopping(rows: Rows, curves: Curves) -> Figure:
    """Iteration of the least validation loss."""
    return _against_weights(rows, "stop_iteration", "early-stopping iteration", "{:,.0f}", from_zero=True)


def accuracy_at_stop(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy of the weights at the least validation loss."""
    return _against_weights(rows, "test_acc_stop", "test accuracy at early stopping (%)", "{:.2f} %")


def accuracy_at_end(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy after the last iteration."""
    return _against_weights(rows, "test_acc", "test accuracy at the end (%)", "{:.2f} %")


def training(rows: Rows, curves: Curves) -> Figure:
    """Validation accuracy over training: dense net, ticket, reinitialised ticket."""
    wanted = []
    for ladder in LADDERS:
        level = ladder.speed[-1]
        cells = {
            "dense net": ladder.dense,
            f"ticket, {ladder.p_m(level):.1f} %": ladder.cell("ticket", level),
            "the same, reinitialised": ladder.cell("reinit-1", level),
        }
        bands = {name: band for name, cell in cells.items() if (band := curves.band(cell, "val_acc"))}
        if len(bands) == len(cells):
            wanted.append((ladder, bands))
    if not wanted:
        raise MissingRows("no learning curves of a dense net, its ticket and a reinitialised one have been recorded")
    figure, panels = plots.stack(len(wanted))
    told = []
    for axes, (ladder, bands) in zip(panels, wanted, strict=True):
        for index, (name, band) in enumerate(bands.items()):
            style = ("-", "-", "--")[index]
            color = (MUTED, SERIES[0], SERIES[1])[index]
            axes.plot(band.x, band.mean, color=color, linestyle=style, label=name)
            axes.fill_between(band.x, band.low, band.high, color=color, alpha=0.15, linewidth=0)
        lowest = min(band.mean[len(band.mean) // 10] for band in bands.values())
        highest = max(max(band.high) for band in bands.values())
        axes.set(xlabel="iterations", ylabel="validation accuracy (%)", xlim=(0, ladder.iterations))
        axes.set_ylim(lowest - (highest - lowest) / 2, highest + (highest - lowest) / 10)
        axes.set_title(ladder.title, loc="left", color=MUTED)
        axes.legend(loc="lower right")
        ends = "; ".join(f"{name} at most {max(band.mean):.2f} %" for name, band in bands.items())
        told.append(f"Validation accuracy of {ladder.title} over training: {ends}.")
    plots.describe(figure, " ".join(told))
    plots.note(figure, "Lines are means over seeds, bands reach from the lowest to the highest seed.")
    return figure


def signs(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy at early stopping under one mask, by what is kept of the initial weights."""
    found: list[tuple[Ladder, int, dict[str, list[float]]]] = []
    for ladder in LADDERS:
        for level in ladder.details:
            bars = {
                name: _finite(rows, ladder.cell(kind, level), "test_acc_stop") for kind, name in _SIGN_NAMES.items()
            }
            bars = {name: numbers for name, numbers in bars.items() if numbers}
            if len(bars) > len(SIGN_KEPT) + len(SIGN_FREE):
                found.append((ladder, level, bars))
    if not found:
        raise MissingRows("no runs with kept and with random signs have been made")
    height = 0.26 * max(len(bars) for *_, bars in found) + 0.9
    figure, panels = plots.stack(len(found), width=4.8, height=height)
    told = []
    for axes, (ladder, level, bars) in zip(panels, found, strict=True):
        title = f"{ladder.title}, {ladder.p_m(level):.1f} % of the weights"
        _dots(axes, bars, "test accuracy at early stopping (%)")
        axes.set_title(title, loc="left", color=MUTED)
        told.append(f"{title}: {_means(bars, '{:.2f} %')}.")
    plots.describe(figure, "Test accuracy at early stopping. " + " ".join(told))
    plots.note(figure, "Bars are our seeds, dots their means.")
    return figure


def supermasks(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy of masks on weights that are never trained, beside Zhou et al.'s."""
    names = {"untrained": "untrained", "learned": "learned", "rescaled": "learned, rescaled"}
    found: list[tuple[Ladder, dict[str, list[float]], dict[str, float]]] = []
    for ladder in SUPERMASKS:
        ours: dict[str, list[float]] = {}
        theirs: dict[str, float] = {}
        table = {} if ladder.scale == "quick" else PUBLISHED.get(ladder.config, PUBLISHED["lenet"])
        for how, text in names.items():
            for weights, on in (("initial", "initial weights"), ("signed_constant", "signed constants")):
                if numbers := _finite(rows, supermask(ladder, how, weights), "test_acc"):
                    ours[f"{text}, {on}"] = numbers
                    if (how, weights) in table:
                        theirs[f"{text}, {on}"] = table[how, weights]
        if not ours:
            continue
        if trained := _finite(rows, ladder.dense, "test_acc"):
            ours["trained weights"] = trained
        found.append((ladder, ours, theirs))
    if not found:
        raise MissingRows("no supermasks have been measured")
    figure, panels = plots.stack(len(found), width=4.8, height=2.8)
    told = []
    for axes, (ladder, ours, theirs) in zip(panels, found, strict=True):
        _dots(axes, ours, "test accuracy (%)", theirs)
        axes.axvline(10, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_xlim(0, 100)
        axes.set_title(ladder.title, loc="left", color=MUTED)
        told.append(f"{ladder.title}: {_means(ours, '{:.1f} %')}.")
    plots.describe(figure, "Test accuracy of masks on weights that are never trained. " + " ".join(told))
    plots.note(figure, "Bars are our seeds, dots their means; the dotted line is chance, rings are Zhou et al.'s.")
    return figure


DRAWINGS = {
    "stop": early_stopping,
    "accuracy": accuracy_at_stop,
    "end": accuracy_at_end,
    "training": training,
    "signs": signs,
    "supermask": supermasks,
}


def _against_weights(rows: Rows, metric: str, label: str, form: str, from_zero: bool = False) -> Figure:
    found = [(ladder, lines) for ladder in LADDERS if len((lines := _lines(rows, ladder, metric))["ticket"]) > 1]
    if not found:
        raise MissingRows("no tickets have been trained")
    figure, panels = plots.stack(len(found))
    told = []
    for axes, (ladder, lines) in zip(panels, found, strict=True):
        for index, (name, kind, style, marker) in enumerate(_LINES):
            if lines[kind]:
                _line(axes, ladder, lines[kind], index, style, marker, name)
        if dense := lines["ticket"].get(0):
            axes.axhline(statistics.fmean(dense), color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        _weights_axis(axes, ladder, max(lines["ticket"]))
        axes.set(ylabel=label)
        if from_zero:
            axes.set_ylim(0, None)
        axes.set_title(f"{ladder.title}, {ladder.iterations:,} iterations", loc="left", color=MUTED)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend above the bars
        axes.legend(loc="upper left", ncols=2)
        parts = [
            f"{name}: " + ", ".join(f"{form.format(mean)} at {ladder.p_m(level):.1f} %" for level, mean in means)
            for name, kind, *_ in _LINES
            if (means := [(level, statistics.fmean(numbers)) for level, numbers in sorted(lines[kind].items())])
        ]
        told.append(f"{label.capitalize()} of {ladder.title} by percent of weights remaining. {'; '.join(parts)}.")
    plots.describe(figure, " ".join(told))
    plots.note(figure, "The dotted line is the dense net.")
    return figure


def _lines(rows: Rows, ladder: Ladder, metric: str) -> dict[str, dict[int, list[float]]]:
    """Return for each kind of line its points: level -> one number a run."""

    def points(levels: Sequence[int], cells: Callable[[int], Sequence[str]]) -> dict[int, list[float]]:
        every = {level: [v for cell in cells(level) for v in _finite(rows, cell, metric)] for level in levels}
        return {level: numbers for level, numbers in every.items() if numbers}

    return {
        "ticket": points(range(ladder.last + 1), lambda level: [ladder.cell("ticket", level)]),
        "reinit": points(ladder.reinit, ladder.reinit_cells),
        "random": points(ladder.random, lambda level: [ladder.cell("random", level)]),
        "one-shot": points(ladder.one_shot, lambda level: [ladder.cell("one-shot", level)]),
    }


def _line(axes: Axes, ladder: Ladder, points: Points, index: int, style: str, marker: str, label: str) -> None:
    ordered = sorted(points.items())
    x = [ladder.p_m(level) for level, _ in ordered]
    mean = [statistics.fmean(numbers) for _, numbers in ordered]
    below = [at - min(numbers) for at, (_, numbers) in zip(mean, ordered, strict=True)]
    above = [max(numbers) - at for at, (_, numbers) in zip(mean, ordered, strict=True)]
    # Rounding can put a mean outside the numbers that it is of.
    bars = [[max(0.0, size) for size in sizes] for sizes in (below, above)]
    axes.errorbar(x, mean, bars, color=SERIES[index], elinewidth=0.8, linestyle="none")
    axes.plot(x, mean, color=SERIES[index], linestyle=style, marker=marker, markersize=3.5, label=label)


def _weights_axis(axes: Axes, ladder: Ladder, last: int) -> None:
    axes.set_xscale("log")
    ticks = [level for level in _TICKS if level < last - 1] + [last]
    shown = [ladder.p_m(level) for level in ticks]
    axes.set_xticks(shown, [f"{p_m:.1f}".removesuffix(".0") if p_m == 100 else f"{p_m:.1f}" for p_m in shown])
    axes.set_xticks([], minor=True)
    axes.set_xlim(112, ladder.p_m(last) / 1.12)
    axes.set(xlabel="percent of weights remaining")


def _dots(axes: Axes, ours: Mapping[str, Sequence[float]], label: str, theirs: Mapping[str, float] = {}) -> None:
    for line, (name, numbers) in enumerate(ours.items()):
        for number in numbers:
            axes.plot(number, line, "|", color=MUTED, markersize=7)
        axes.plot(statistics.fmean(numbers), line, "o", color=SERIES[0], markersize=5)
        if name in theirs:
            axes.plot(theirs[name], line, "o", markersize=8, markerfacecolor="none", markeredgecolor=SERIES[1])
    axes.set_yticks(range(len(ours)), list(ours))
    axes.set(ylim=(len(ours) - 0.4, -0.6), xlabel=label)
    axes.grid(axis="x")


def _means(numbers: Mapping[str, Sequence[float]], form: str) -> str:
    return "; ".join(f"{name} {form.format(statistics.fmean(each))}" for name, each in numbers.items())


def _finite(rows: Rows, cell: str, metric: str) -> list[float]:
    return [number for number in values(rows, cell, metric).values() if math.isfinite(number)]
