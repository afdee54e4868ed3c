"""Numbers as people read them: means with intervals, rounded alike everywhere, rows grouped into tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_regs.study.paper.claims import interval, is_strict

if TYPE_CHECKING:
    from lightning_regs.study.paper.claims import ClaimResult
    from lightning_regs.study.store.results import Row

# Metrics of a training run that the overview shows, in this order, and their headings.
TRAINING = {"train_acc": "Train accuracy", "test_acc": "Test accuracy", "fit_epoch": "Epochs to fit"}
# The same of a training after pruning.
PRUNING = {
    "p_m": "Weights left (%)",
    "stop_iteration": "Early-stopping iteration",
    "test_acc_stop": "Test accuracy at early stopping",
    "test_acc": "Test accuracy",
}
_FAMILIES = {"Pruned nets": PRUNING, "Training runs": TRAINING}
HEADINGS = (
    TRAINING
    | PRUNING
    | {
        "train_loss": "Train loss",
        "test_loss": "Test loss",
        "train_acc_clean": "Train accuracy, clean labels",
        "train_acc_corrupted": "Train accuracy, corrupted labels",
    }
)
_SHOWN = 4
# What a row says about how it came to be.
ORIGIN = ("commit", "versions", "device", "precision")

DASH, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval.

    Attributes:
        mean: Mean over the runs that have a number.
        half: Half the width of the interval; None with fewer than two numbers.
        n: Runs that have a number.
        total: Runs.
    """

    mean: float
    half: float | None
    n: int
    total: int


def estimate(values: Iterable[float]) -> Estimate | None:
    """Summarise one metric over seeds; None when no run has a finite number, or their sum is too large for one."""
    given = list(values)
    finite = [value for value in given if math.isfinite(value)]
    if not finite:
        return None
    half = None
    try:
        if len(finite) > 1:
            low, high = interval(finite)
            half = (high - low) / 2
        return Estimate(statistics.fmean(finite), half, len(finite), len(given))
    except OverflowError:
        return None


def number(value: float | None, unit: str = "") -> str:
    """Write a number with its unit.

    Args:
        value: The number; None and NaN become a dash.
        unit: Written behind. Percentages, points and factors (``"x"``) have two decimals; other numbers are whole or
            have four digits.
    """
    if value is None or math.isnan(value):
        return DASH
    text = digits(value, unit)
    joint = "\u202f" if unit in ("%", "x") else " "
    return f"{text}{joint}{TIMES if unit == 'x' else unit}" if unit else text


def paper_value(claim: ClaimResult) -> str:
    """Write the paper's figure: its words, or its number with the unit; a dash where it gives none."""
    value = claim.paper_value
    return value if isinstance(value, str) else number(value, claim.unit)


def digits(value: float, unit: str = "") -> str:
    """Write a number that is not NaN as :func:`number` does, without its unit."""
    if math.isinf(value):
        text = "∞" if value > 0 else "-∞"
    elif unit in ("%", "x", "points") and abs(value) < 1e7:
        text = f"{value:.2f}"
    elif value == round(value) and abs(value) < 1e7:
        text = f"{value:,.0f}"
    elif 1e-3 <= abs(value) < 1e6:
        text = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    else:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS)


def shown(summary: Estimate | None, metric: str, total: int) -> str:
    """Write an estimate for a table: mean, half-width, and how many runs have the number when not all do."""
    if summary is None:
        return "never" if metric == "fit_epoch" and total else DASH
    text = _mean(summary, metric)
    return text if summary.n == summary.total else f"{text} ({summary.n} of {summary.total})"


def _mean(summary: Estimate, metric: str) -> str:
    if _is_accuracy(metric):
        return f"{summary.mean:.2f}" if summary.half is None else f"{summary.mean:.2f} ± {summary.half:.2f}"
    if not summary.half or not 1e-3 <= abs(summary.mean) < 1e6:
        parts = [summary.mean] if summary.half is None else [summary.mean, summary.half]
        return " ± ".join(number(part) for part in parts)
    decimals = max(0, 1 - math.floor(math.log10(summary.half)))
    return f"{summary.mean:,.{decimals}f} ± {summary.half:,.{decimals}f}".replace("-", MINUS)


def entry(value: float, metric: str) -> str:
    """Write one run's metric."""
    if metric == "fit_epoch" and math.isnan(value):
        return "never"
    return f"{value:.2f}" if _is_accuracy(metric) and math.isfinite(value) else number(value)


def tidy(text: str) -> str:
    """Write a number that a row holds as text; another text as it is."""
    value = _float(text)
    return text if math.isnan(value) else number(value)


def _is_accuracy(metric: str) -> bool:
    return metric.endswith("_acc") or "_acc_" in metric


def claim_interval(claim: ClaimResult) -> str:
    """Write a claim's interval, empty when it has none."""
    if claim.low is None or claim.high is None or claim.n < 2:
        return ""
    if claim.low == claim.high:
        return f"all {claim.n} equal"
    return f"{digits(claim.low, claim.unit)} to {digits(claim.high, claim.unit)}"


def limits(holds: tuple[float, float] | None, unit: str = "") -> str:
    """Write where the interval must lie for a claim to count as reproduced, empty when anything goes."""
    if holds is None or (math.isinf(holds[0]) and math.isinf(holds[1])):
        return ""
    low, high = (f"{end:.6g}".replace("-", MINUS) for end in holds)
    behind = number(0, unit).removeprefix(digits(0, unit))
    if math.isinf(holds[1]):
        return f"any value above {round(holds[0])}{behind}" if is_strict(holds[0]) else f"at least {low}{behind}"
    if math.isinf(holds[0]):
        return f"any value below {round(holds[1])}{behind}" if is_strict(holds[1]) else f"at most {high}{behind}"
    return f"{low} to {high}{behind}"


@dataclass(frozen=True)
class CellSummary:
    """A cell over its seeds: one line of a table.

    Attributes:
        name: Name of the cell.
        runs: Its rows, by seed.
        texts: One entry for each metric of the group.
        seconds: Mean wall time of a run; None when it is not recorded.
        origin: ``commit``, ``versions``, ``device`` and ``precision``, each with the different entries of its rows.
        command: The command that measures it, where the caller has one.
    """

    name: str
    runs: list[Row]
    texts: list[str]
    seconds: float | None
    origin: dict[str, list[str]]
    command: str = ""


@dataclass(frozen=True)
class Group:
    """Cells that measure the same quantities: one table.

    Attributes:
        name: What the cells have in common, for the caption.
        metrics: Metrics with a column of their own.
        every: All metrics, for the table of single runs.
        cells: The lines.
    """

    name: str
    metrics: list[str]
    every: list[str]
    cells: list[CellSummary]


def heading(metric: str) -> str:
    """Return a metric's column heading."""
    return HEADINGS.get(metric, metric.replace("_", " ").capitalize())


def groups(rows: Sequence[Row]) -> list[Group]:
    """Group cells into tables: training runs together, other cells by what they measure.

    Returns:
        Groups and cells in the order of their first row.
    """
    by_cell: dict[str, list[Row]] = {}
    for row in rows:
        by_cell.setdefault(row.cell, []).append(row)
    families: dict[tuple[str, ...], dict[str, list[Row]]] = {}
    for cell, runs in by_cell.items():
        names = sorted({name for run in runs for name in run.metrics})
        key = tuple(PRUNING if "p_m" in names else TRAINING if {"train_acc", "test_acc"} & set(names) else names)
        families.setdefault(key, {})[cell] = sorted(runs, key=lambda run: int(run.seed))
    return [_group(key, cells) for key, cells in families.items()]


def _group(key: tuple[str, ...], cells: dict[str, list[Row]]) -> Group:
    present = {name for runs in cells.values() for run in runs for name in run.metrics}
    every = [name for name in HEADINGS if name in present] + sorted(present - set(HEADINGS))
    metrics = [name for name in key if name in present][:_SHOWN]
    prefixes = sorted({cell.split("/")[0] for cell in cells})
    names = {tuple(family): title for title, family in _FAMILIES.items()}
    name = names.get(key, " and ".join(prefixes[:3]))
    lines = []
    for cell, runs in cells.items():
        given = {metric: [run.metrics[metric] for run in runs if metric in run.metrics] for metric in metrics}
        texts = [shown(estimate(given[metric]), metric, len(given[metric])) for metric in metrics]
        times = estimate(_float(run.origin["wall_s"]) for run in runs)
        origin = {column: distinct(runs, column) for column in ORIGIN}
        lines.append(CellSummary(cell, runs, texts, times.mean if times else None, origin))
    return Group(name, metrics, every, lines)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def seconds(value: float | None) -> str:
    """Write a duration in the unit that fits."""
    if value is None or math.isnan(value):
        return DASH
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 1e9 else f"{number(value / 3600)} h"


def total_seconds(rows: Iterable[Row]) -> float | None:
    """Add up the wall time of runs; None when no row records it."""
    times = [time for row in rows if math.isfinite(time := _float(row.origin["wall_s"]))]
    return sum(times) if times else None


def distinct(rows: Iterable[Row], column: str) -> list[str]:
    """Return the different entries of a column, in order, without empty ones."""
    return list(dict.fromkeys(row.origin[column] for row in rows if row.origin[column]))


def versions(text: str) -> str:
    """Write a row's versions as a list, whether they were stored as JSON or as text."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return ", ".join(f"{name} {version}" for name, version in parsed.items()) if isinstance(parsed, dict) else text
