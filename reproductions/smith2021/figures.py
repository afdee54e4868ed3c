"""Figures 1a to 3, the modified flow's error, and the large-batch runs, drawn from the rows of one scale.

Every function draws the study whose cells are there and notes what is missing. The paper's own accuracies were not
read, so its curves are not in these figures; Novack's are rings.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smith2021.published import NOVACK, NOVACK_NAMES
from smith2021.studies import STUDIES, Study

from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report import plots
from lightning_regs.study.report.plots import MUTED, SERIES, log_axis, power, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_regs.study.paper.rows import Rows
    from lightning_regs.study.store.curves import Curves

Points = Mapping[float, Sequence[float]]

_MARKS = ("o", "s", "^", "D", "v", "P")


def figure_1a(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy, or what was recorded instead of it, over training at the small learning rate."""
    for study in STUDIES:
        wanted = {
            f"learning rate {power(2, study.small)}": study.sgd(study.small),
            f"and the penalty, {power(2, study.best_penalty)}": study.penalised(study.best_penalty),
            f"learning rate {power(2, study.best_lr)}": study.sgd(study.best_lr),
        }
        for column in ("test_acc", "train_loss"):
            bands = {name: band for name, cell in wanted.items() if (band := curves.band(cell, column))}
            if len(bands) == len(wanted):
                break
        else:
            continue
        label = "test accuracy (%)" if column == "test_acc" else "training loss"
        figure, axes = plots.canvas()
        for index, (name, band) in enumerate(bands.items()):
            steps = [x / 1000 for x in band.x]
            axes.plot(steps, band.mean, color=SERIES[index], linestyle="--" if index == 2 else "-", label=name)
            axes.fill_between(steps, band.low, band.high, color=SERIES[index], alpha=0.18, linewidth=0)
        axes.set(xlabel="thousand steps", ylabel=label, xlim=(0, None))
        axes.set_title(study.title, loc="left", color=MUTED)
        axes.legend(loc="lower right" if column == "test_acc" else "upper right")
        ends = "; ".join(f"{name} {band.mean[-1]:.3g}" for name, band in bands.items())
        plots.describe(figure, f"{label.capitalize()} of {study.title} over training. At the end: {ends}.")
        seeds = min(band.n for band in bands.values())
        plots.note(figure, f"Lines are means over {seeds} seeds, bands reach from the lowest to the highest seed.")
        if column != "test_acc":
            plots.note(figure, "This scale looks at the test set after the last epoch only, so the loss is drawn.")
        return figure
    raise MissingRows("no learning curves at the small learning rate, with and without a penalty, have been recorded")


def figure_1b(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy against the learning rate, and against the coefficient at the small learning rate."""
    return _both_sweeps(rows, "test_acc", "test accuracy (%)", "%")


def figure_1c(rows: Rows, curves: Curves) -> Figure:
    """The regulariser's value at the end of training in both sweeps."""
    return _both_sweeps(rows, "regulariser", "mean squared gradient norm of a batch", "", log=True)


def figure_2(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy against learning rate / batch size, one line a batch size."""
    study, lines = _most(
        {study: _by_batch(rows, study, penalised=False) for study in STUDIES},
        "no sweep with several batch sizes has been run",
    )
    return _batch_figure(study, lines, "learning rate / batch size")


def figure_2b(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy against coefficient / batch size, one line a batch size."""
    study, lines = _most(
        {study: _by_batch(rows, study, penalised=True) for study in STUDIES},
        "no penalised sweep with several batch sizes has been run",
    )
    return _batch_figure(study, lines, "coefficient / batch size")


def figure_3(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy with n updates a minibatch, against the bare learning rate."""
    lines: dict[Study, dict[int, dict[float, list[float]]]] = {}
    for study in STUDIES:
        cells = [(1, lr) for lr in study.lrs[:-1]] + list(study.steps)
        for n, lr in cells if study.steps else ():
            if found := _finite(rows, study.repeated(n, lr), "test_acc"):
                lines.setdefault(study, {}).setdefault(n, {})[2.0**lr] = found
    study, drawn = _most(lines, "no runs with several updates a minibatch have been made")
    figure, axes = plots.canvas()
    for index, (n, points) in enumerate(sorted(drawn.items())):
        _line(axes, points, index, f"n = {n}")
    _label_rates(axes, "bare learning rate", study)
    axes.set(ylabel="test accuracy (%)")
    axes.legend(loc="lower right", title="updates a minibatch")
    _describe(figure, f"Test accuracy of {study.title} against the bare learning rate.", drawn, "n = {}", "%")
    return figure


def flow_error(rows: Rows, curves: Curves) -> Figure:
    """Distance between SGD's mean end point and the flows of three losses, against the learning rate."""
    figure, axes = plots.canvas()
    names = {"none": "flow of C", "half": "of C + eps/2 R", "quarter": "of C + eps/4 R"}
    ends: list[tuple[float, float, str, str]] = []
    told: list[str] = []
    for index, (penalty, name) in enumerate(names.items()):
        points: dict[float, list[float]] = {}
        for step in range(32):
            lrs = values(rows, "theory/sgd-flow", f"lr_{step}")
            errors = values(rows, "theory/sgd-flow", f"error_{penalty}_{step}")
            if not lrs or not errors:
                break
            points[next(iter(lrs.values()))] = list(errors.values())
        if len(points) < 2:
            raise MissingRows("the modified flow has not been computed")
        ordered = dict(sorted(points.items()))
        _line(axes, ordered, index, None)
        last = list(ordered)[-1]
        mean = [statistics.fmean(found) for found in ordered.values()]
        ends.append((last, math.log10(mean[-1]), name, SERIES[index]))
        order = math.log(mean[-1] / mean[0]) / math.log(last / next(iter(ordered)))
        told.append(f"{name}: order {order:.2f}")
        axes.plot([], [], color=SERIES[index], marker=_MARKS[index], label=name)
    log_axis(axes, "x", 2)
    log_axis(axes, "y", 10)
    axes.set(xlabel="learning rate eps", ylabel="distance from SGD's mean end point")
    axes.legend(loc="lower right")
    plots.describe(figure, "Distance of SGD's mean end point from three gradient flows; " + "; ".join(told) + ".")
    return figure


def large_batch(rows: Rows, curves: Curves) -> Figure:
    """Test accuracy of the small batch, the large batch, and the large batch with penalties, as dots with Novack's."""
    labels: list[str] = []
    ours: list[list[float]] = []
    for study in STUDIES:
        if not study.large:
            continue
        entries = [(f"batch {study.micro[0]}", study.small_batch()), (f"batch {study.large}", study.large_batch())]
        entries += [(f"+ penalty, micro-batch {micro}", study.large_batch(micro)) for micro in study.micro]
        if study.large_clip:
            entries.append((f"+ penalty, micro-batch {study.micro[0]}, clipped", study.large_batch_clipped()))
        found = [(label, _finite(rows, cell, "test_acc")) for label, cell in entries]
        if any(numbers for _, numbers in found):
            labels += [f"{study.title}: {found[0][0]}", *(label for label, _ in found[1:])]
            ours += [numbers for _, numbers in found]
    if not ours:
        raise MissingRows("no large-batch runs have been made")
    theirs: list[tuple[str, float]] = []
    for model, numbers in NOVACK.items():
        names = (f"{NOVACK_NAMES[model]}, CIFAR-10: batch 128", "batch 5120", "+ penalty, micro-batch 128")
        theirs += list(zip(names, numbers, strict=True))
    figure, axes = plots.canvas(width=4.8, height=0.26 * (len(labels) + len(theirs)) + 0.9)
    for line, found_here in enumerate(ours):
        for number in found_here:
            axes.plot(number, line, "|", color=MUTED, markersize=7)
        if found_here:
            axes.plot(statistics.fmean(found_here), line, "o", color=SERIES[0], markersize=5)
    for line, (_, number) in enumerate(theirs, len(labels)):
        axes.plot(number, line, "o", markersize=8, markerfacecolor="none", markeredgecolor=SERIES[1])
    axes.axhline(len(labels) - 0.5, color=plots.FAINT, linewidth=0.8)
    axes.set_yticks(range(len(labels) + len(theirs)), [*labels, *(label for label, _ in theirs)])
    axes.set(ylim=(len(labels) + len(theirs) - 0.4, -0.6), xlabel="test accuracy (%)")
    axes.grid(axis="x")
    axes.plot([], [], "o", color=SERIES[0], markersize=5, label="ours")
    axes.plot([], [], "o", markersize=8, markerfacecolor="none", markeredgecolor=SERIES[1], label="Novack et al.")
    figure.legend(loc="outside upper center", ncols=2, handletextpad=0.2)
    told = [
        f"{label} {statistics.fmean(numbers):.2f} %" for label, numbers in zip(labels, ours, strict=True) if numbers
    ]
    plots.describe(figure, "Test accuracy; " + "; ".join(told) + ".")
    plots.note(figure, "Bars are our seeds. Novack's are other networks on all of CIFAR-10: compare the order.")
    return figure


DRAWINGS = {
    "1a": figure_1a,
    "1b": figure_1b,
    "1c": figure_1c,
    "2a": figure_2,
    "2b": figure_2b,
    "3": figure_3,
    "flow": flow_error,
    "large-batch": large_batch,
}


def _finite(rows: Rows, cell: str, metric: str) -> list[float]:
    return [number for number in values(rows, cell, metric).values() if math.isfinite(number)]


def _most(
    found: Mapping[Study, dict[int, dict[float, list[float]]]], missing: str
) -> tuple[Study, dict[int, dict[float, list[float]]]]:
    """Return the study with most points over at least two lines."""
    whole = {study: lines for study, lines in found.items() if len(lines) > 1}
    if not whole:
        raise MissingRows(missing)
    study = max(whole, key=lambda key: sum(map(len, whole[key].values())))
    return study, whole[study]


def _both_sweeps(rows: Rows, metric: str, label: str, unit: str, log: bool = False) -> Figure:
    found: dict[Study, dict[int, dict[float, list[float]]]] = {}
    for study in STUDIES:
        for index, cells in enumerate(
            (
                {2.0**lr: study.sgd(lr) for lr in study.lrs},
                {2.0**strength: study.penalised(strength) for strength in study.penalties},
            )
        ):
            for x, cell in cells.items():
                if numbers := _finite(rows, cell, metric):
                    found.setdefault(study, {}).setdefault(index, {})[x] = numbers
    whole = {study: lines for study, lines in found.items() if len(lines) > 1}
    if not whole:
        raise MissingRows("neither sweep has been run")
    figure, panels = plots.stack(len(whole))
    told = []
    for axes, (study, lines) in zip(panels, whole.items(), strict=True):
        small = power(2, study.small)
        names = ("learning rate, no penalty", f"coefficient, at learning rate {small}")
        for index, points in lines.items():
            _line(axes, points, index, names[index])
        if base := _finite(rows, study.sgd(study.small), metric):
            axes.axhline(statistics.fmean(base), color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        if log:
            log_axis(axes, "y", 10)
        _label_rates(axes, "learning rate, or coefficient of the penalty", study)
        axes.set(ylabel=label)
        axes.legend(loc="best")
        told.append(
            _told(f"{label.capitalize()} of {study.title}.", {names[i]: p for i, p in lines.items()}, "{}", unit)
        )
        plots.note(figure, f"{study.title}: the dotted line is learning rate {small} without a penalty.")
    plots.describe(figure, " ".join(told))
    if not log:
        plots.note(figure, "At the right end of a line training no longer fits every run.")
    return figure


def _by_batch(rows: Rows, study: Study, penalised: bool) -> dict[int, dict[float, list[float]]]:
    lines: dict[int, dict[float, list[float]]] = {}
    if penalised:
        cells = [(batch, q, study.penalised(q, lr, batch)) for g in study.equal_penalty for batch, lr, q in g]
        cells += [(study.batch, q, study.penalised(q)) for q in study.penalties[:-1]] if cells else []
    else:
        cells = [(batch, lr, study.sgd(lr, batch)) for group in study.equal_lr for batch, lr in group]
        cells += [(study.batch, lr, study.sgd(lr)) for lr in study.lrs[:-1]] if cells else []
        if study.other_lr is not None:
            batch, lr = study.other_lr
            cells.append((batch, lr, study.sgd(lr, batch)))
    for batch, exponent, cell in cells:
        if numbers := _finite(rows, cell, "test_acc"):
            lines.setdefault(batch, {})[2.0**exponent / batch] = numbers
    return lines


def _batch_figure(study: Study, lines: Mapping[int, Points], label: str) -> Figure:
    figure, axes = plots.canvas()
    for index, (batch, points) in enumerate(sorted(lines.items())):
        _line(axes, points, index, f"batch {batch}")
    log_axis(axes, "x", 2)
    axes.set(xlabel=label, ylabel="test accuracy (%)")
    axes.set_title(study.title, loc="left", color=MUTED)
    axes.legend(loc="lower right")
    _describe(figure, f"Test accuracy of {study.title} against {label}.", lines, "batch {}", "%")
    return figure


def _line(axes: Axes, points: Points, index: int, label: str | None) -> None:
    ordered = sorted(points.items())
    x = [at for at, _ in ordered]
    mean = [statistics.fmean(numbers) for _, numbers in ordered]
    low, high = [min(numbers) for _, numbers in ordered], [max(numbers) for _, numbers in ordered]
    if len(x) > 1:
        axes.fill_between(x, low, high, color=SERIES[index], alpha=0.16, linewidth=0)
    axes.plot(x, mean, color=SERIES[index], marker=_MARKS[index], markersize=4.5, label=label, clip_on=False)


def _label_rates(axes: Axes, label: str, study: Study) -> None:
    log_axis(axes, "x", 2)
    axes.set(xlabel=label)
    axes.set_title(study.title, loc="left", color=MUTED)


def _describe(figure: Figure, start: str, lines: Mapping[Any, Points], name: str, unit: str) -> None:
    plots.describe(figure, _told(start, lines, name, unit))


def _told(start: str, lines: Mapping[Any, Points], name: str, unit: str) -> str:
    parts = [
        f"{name.format(key)}: "
        + ", ".join(
            f"{statistics.fmean(numbers):.3g} {unit}".strip() + f" at {x:.3g}" for x, numbers in sorted(points.items())
        )
        for key, points in lines.items()
    ]
    return start + " " + "; ".join(parts) + "."
