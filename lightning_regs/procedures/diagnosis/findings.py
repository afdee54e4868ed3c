"""What a check returns, and pictures of it: functions that draw on a pair of axes when they are asked to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], Any]
_MOST = 16  # bars


class Skipped(Exception):
    """Why a check was not made, as a sentence."""


class NoLoss(Skipped):
    """That a training step returns no loss."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        verdict: ``"fine"``, ``"cry"`` where something is wrong, or ``"skipped"``.
        sentence: What was seen; of a check that was skipped, why.
        number: What was measured, in the unit that the sentence has; None where nothing was.
        remedy: What to do; empty where nothing is wrong.
        draw: Draws it on a pair of matplotlib's axes; None where there is nothing to see.
        name: The check's.
    """

    verdict: Literal["fine", "cry", "skipped"]
    sentence: str
    number: float | None = None
    remedy: str = ""
    draw: Draw | None = field(default=None, repr=False)
    name: str = ""


def judged(wrong: Any, number: float, sentence: str, remedy: str, draw: Draw | None) -> Finding:
    """Return what a check found; the remedy is for what is wrong."""
    return Finding("cry" if wrong else "fine", sentence, float(number), remedy if wrong else "", draw)


def bars(values: Mapping[str, float], label: str, limit: float | None = None, log: bool = False) -> Draw:
    """Draw numbers by name, the first 16 of them, and a limit."""
    shown = dict(list(values.items())[:_MOST])

    def draw(axes: Axes) -> None:
        axes.barh(range(len(shown)), [value if math.isfinite(value) else 0 for value in shown.values()], height=0.6)
        axes.set_yticks(range(len(shown)), list(shown))
        axes.invert_yaxis()
        axes.set_xlabel(label + (f", of the first {_MOST}" if len(values) > _MOST else ""))
        axes.grid(axis="x")
        _line(axes, limit, axes.axvline)
        if log and any(value > 0 for value in shown.values()):
            axes.set_xscale("log")
        elif not any(shown.values()):
            axes.set_xlim(0, limit or 1)

    return draw


def curves(series: Mapping[str, Sequence[float]], x: str, y: str, limit: float | None = None, style: str = "-") -> Draw:
    """Draw sequences of numbers by name."""

    def draw(axes: Axes) -> None:
        for name, values in series.items():
            axes.plot(range(len(values)), list(values), style, markersize=2.5, label=name)
        axes.set(xlabel=x, ylabel=y)
        _line(axes, limit, axes.axhline)
        if len(series) > 1:
            axes.legend()

    return draw


def histogram(values: Sequence[float], label: str, limit: float | None = None) -> Draw:
    """Draw how often numbers are where."""

    def draw(axes: Axes) -> None:
        axes.hist([value for value in values if math.isfinite(value)], bins=max(10, min(30, len(values) // 10)))
        axes.set(xlabel=label, ylabel="how often")
        _line(axes, limit, axes.axvline)

    return draw


def _line(axes: Axes, limit: float | None, across: Callable[..., Any]) -> None:
    if limit is not None and math.isfinite(limit):
        across(limit, color=axes.xaxis.label.get_color(), linestyle="--", linewidth=1)
