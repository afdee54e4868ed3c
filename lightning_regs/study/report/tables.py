"""Numbers as people read them: means with intervals, rounded alike everywhere, rows grouped into tables."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_regs.core.metrics import Family, Metric
from lightning_regs.study.measured import DECLARED, TRAINED
from lightning_regs.study.paper.estimates import CONFIDENCE, mean
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.store.tables import Row
from lightning_regs.study.store.tables import number as entry_number

# What a row says about how it came to be.
ORIGIN = ("commit", "versions", "device", "precision")

DASH, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"
HALF = "mean over seeds \u00b1 half of the 95 % interval, where they differ; accuracies in %."
# Below this share of a number, its interval is that of sums in floating point.
_ROUNDING = 1e-9


def number(value: float | None, unit: str = "") -> str:
    """Write a number with its unit; a dash for None and NaN.

    Percentages, points and factors (``"x"``) have two decimals; other numbers are whole or have four digits.
    """
    if value is None or math.isnan(value):
        return DASH
    text = digits(value, unit)
    joint = "\u202f" if unit in ("%", "x") else " "
    return f"{text}{joint}{TIMES if unit == 'x' else unit}" if unit else text


def our_value(claim: ClaimResult) -> str:
    """Write our figure, or that it lies above or below one; a dash where there is none."""
    return " ".join(filter(None, (claim.bound, number(claim.ours, claim.unit))))


def digits(value: float, unit: str = "") -> str:
    """Write a number that is not NaN as :func:`number` does, without its unit."""
    if math.isinf(value):
        text = "∞" if value > 0 else "-∞"
    elif unit == "x" and 0 < abs(value) < 0.1:
        text = f"{value:.2g}"
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


def shown(values: Sequence[float], metric: Metric) -> str:
    """Write a metric over seeds for a table: the mean and half of its interval.

    Where some runs have no number, the mean of the others would be that of the runs that did well: for what comes late
    or never, the median of all runs is written instead, as far as it is known; else the range of what there is.
    """
    finite = sorted(value for value in values if math.isfinite(value))
    n, total = len(finite), len(values)
    if not finite:
        return metric.never if values else DASH
    if n == total:
        try:
            low, high = mean(values).ends(CONFIDENCE)
            return plus_minus(statistics.fmean(values), (high - low) / 2 if n > 1 else None, metric.unit)
        except OverflowError:
            return metric.never
    if not metric.never.startswith("never"):
        ends = dict.fromkeys((entry(finite[0], metric), entry(finite[-1], metric)))
        return f"{' to '.join(ends)} ({n} of {total})"
    middle = (*finite, *[math.inf] * (total - n))[(total - 1) // 2 : total // 2 + 1]
    behind = f"({total - n} of {total} {metric.never})"
    if math.isinf(middle[-1]):
        return f"median above {entry(finite[-1] if math.isinf(middle[0]) else middle[0], metric)} {behind}"
    return f"median {entry(statistics.fmean(middle), metric)} {behind}"


def plus_minus(mean: float, half: float | None, unit: str = "") -> str:
    """Write a mean and half of its interval, None where it has none; percentages with two decimals."""
    if half is None or half <= _ROUNDING * abs(mean):  # what there is beside is rounding
        return f"{mean:.2f}" if unit == "%" else number(mean)
    if unit == "%":
        return f"{mean:.2f} ± {half:.2f}"
    if not 1e-3 <= abs(mean) < 1e6:
        return f"{number(mean)} ± {number(half)}"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{decimals}f} ± {half:,.{decimals}f}".replace("-", MINUS)


def entry(value: float, metric: Metric) -> str:
    """Write one run's metric."""
    if math.isnan(value):
        return metric.never
    return f"{value:.2f}" if metric.unit == "%" and math.isfinite(value) else number(value)


def tidy(text: str) -> str:
    """Write a number that a row holds as text; another text as it is."""
    value = entry_number(text)
    return text if value is None or math.isnan(value) else number(value)


def claim_interval(claim: ClaimResult) -> str:
    """Write a claim's interval, empty when it has none."""
    if claim.low is None or claim.high is None:
        return ""
    if claim.low == claim.high:
        return f"all {claim.n} equal" if claim.n > 1 else "exact"
    low, high = digits(claim.low, claim.unit), digits(claim.high, claim.unit)
    if math.isinf(claim.low) and math.isinf(claim.high):
        return "no bound"
    if math.isinf(claim.high):
        return f"above {low}"
    return f"below {high}" if math.isinf(claim.low) else f"{low} to {high}"


@dataclass(frozen=True)
class CellSummary:
    """A cell over its seeds: one line of a table.

    Attributes:
        origin: Of each column of :data:`ORIGIN` the different entries of its rows.
    """

    name: str
    runs: list[Row]  # its rows, by seed
    texts: list[str]  # one entry for each metric of the group
    seconds: float | None  # mean wall time of a run; None when it is not recorded
    origin: dict[str, list[str]]
    command: str = ""  # the command that measures it, where the caller has one


@dataclass(frozen=True)
class Group:
    """Cells that measure the same quantities: one table.

    The metrics have a column of their own; ``every`` has all of them, for the table of single runs.
    """

    name: str
    metrics: list[Metric]
    every: list[Metric]
    cells: list[CellSummary]


def heading(name: str) -> str:
    """Return the heading of a metric: what training runs call it, else its name as words."""
    declared = next((metric.heading for metric in TRAINED.metrics if metric.name == name), None)
    return declared or name.replace("_", " ").capitalize()


def groups(rows: Sequence[Row], families: Sequence[Family] = ()) -> list[Group]:
    """Group cells into tables in the order of their first row: those of a family, others by what they measure.

    The paper's own families come before those of training runs.
    """
    by_cell: dict[str, list[Row]] = {}
    for row in rows:
        by_cell.setdefault(row.cell, []).append(row)
    tables: dict[Family, dict[str, list[Row]]] = {}
    for cell, runs in by_cell.items():
        names = {name for run in runs for name in run.metrics}
        ours = (known for known in DECLARED if known is TRAINED or names <= known.names | TRAINED.names)
        family = next((known for known in (*families, *ours) if known.metrics[0].name in names), None)
        if family is None:
            family = Family("", tuple(Metric(name, heading(name)) for name in sorted(names)))
        tables.setdefault(family, {})[cell] = sorted(runs, key=lambda run: int(run.seed))
    return [_group(family, cells) for family, cells in tables.items()]


def _group(family: Family, cells: dict[str, list[Row]]) -> Group:
    present = {name for runs in cells.values() for run in runs for name in run.metrics}
    declared = [metric for metric in family.metrics if metric.name in present]
    others = sorted(present - {metric.name for metric in declared})
    metrics = declared[: family.shown]
    lines = []
    for cell, runs in cells.items():
        given = {m: [run.metrics[m.name] for run in runs if m.name in run.metrics] for m in metrics}
        texts = [shown(values, metric) for metric, values in given.items()]
        times = _times(runs)
        origin = {column: distinct(runs, column) for column in ORIGIN}
        lines.append(CellSummary(cell, runs, texts, sum(times) / len(times) if times else None, origin))
    name = family.title or " and ".join(sorted({cell.split("/")[0] for cell in cells})[:3])
    return Group(name, metrics, [*declared, *(Metric(name, heading(name)) for name in others)], lines)


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
    return sum(times) if (times := _times(rows)) else None


def _times(rows: Iterable[Row]) -> list[float]:
    found = (entry_number(row.origin["wall_s"]) for row in rows)
    return [time for time in found if time is not None and math.isfinite(time)]


def distinct(rows: Iterable[Row], column: str) -> list[str]:
    """Return the different entries of a column, in order, without empty ones.

    Of a machine, how many runs were trained together is left out: it is in the table of rows.
    """
    found = (row.origin[column] for row in rows if row.origin[column])
    if column == "device":
        found = (re.sub(r", \d+ replicas", "", name).replace("(1 threads", "(1 thread") for name in found)
    return list(dict.fromkeys(found))
