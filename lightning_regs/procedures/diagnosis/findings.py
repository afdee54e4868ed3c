"""What a check is: it measures, and what it measures is judged, worded and drawn here, for all of them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    draw: Callable[[Axes], Any] | None = field(default=None, repr=False)
    name: str = ""


@dataclass(frozen=True)
class Seen:
    """What a check measured."""

    number: float  # what the check's limits are about
    values: Any = None  # what is drawn: numbers or sequences by name, a sequence of numbers, or a function of axes
    words: Mapping[str, Any] = field(default_factory=dict)  # of the check's sentence and remedy
    wrong: bool | str = False  # wrong whatever the number is; a sentence stands in the place of the check's
    remedy: str = ""  # in the place of the check's
    line: float | None = None  # of the picture, where it is not at a limit


@dataclass(frozen=True)
class Check:
    """What measures, and how that is worded, judged and drawn: wrong is a number below ``least`` or above ``most``."""

    measure: Callable[[Any], Seen]  # of a case
    sentence: str
    remedy: str
    picture: Literal["bars", "bars by decade", "lines", "points", "histogram"]
    x: str = ""
    y: str = ""
    least: float = -math.inf
    most: float = math.inf

    def finding(self, case: Any) -> Finding:
        """Make the check; one that fails says so, so that the others have their turn."""
        try:
            seen = self.measure(case)
        except Skipped as why:
            return Finding("skipped", str(why))
        except Exception as error:  # of the user's module, in a mode, type or batch that it was not made for
            return Finding("skipped", f"It could not be made: {told(error)}")
        draw = None if seen.values is None else partial(self._draw, seen)
        own = seen.wrong if isinstance(seen.wrong, str) else ""
        sentence = own or self.sentence.format(number=seen.number, **seen.words)
        if not seen.wrong and self.least <= seen.number <= self.most:
            return Finding("fine", sentence, seen.number, draw=draw)
        return Finding("cry", sentence, seen.number, seen.remedy or self.remedy.format(**seen.words), draw)

    def _draw(self, seen: Seen, axes: Axes) -> None:
        values, line = seen.values, self.most if seen.line is None else seen.line
        if callable(values):
            values(axes)
            return
        axes.set(xlabel=self.x, ylabel=self.y)
        if self.picture.startswith("bars"):
            shown = {name: value if math.isfinite(value) else 0 for name, value in list(values.items())[:_MOST]}
            axes.barh(range(len(shown)), list(shown.values()), height=0.6)
            axes.set_yticks(range(len(shown)), list(shown))
            axes.invert_yaxis()
            axes.set_xlabel(self.x + (f", of the first {_MOST}" if len(values) > _MOST else ""))
            axes.grid(axis="x")
            if self.picture == "bars by decade" and any(value > 0 for value in shown.values()):
                axes.set_xscale("log")
            elif not any(shown.values()):
                axes.set_xlim(0, line if math.isfinite(line) else 1)
        elif self.picture == "histogram":
            axes.hist([value for value in values if math.isfinite(value)], bins=max(10, min(30, len(values) // 10)))
        else:
            for name, numbers in values.items():
                style = "." if self.picture == "points" else "-"
                axes.plot(range(len(numbers)), numbers, style, markersize=2.5, label=name)
            if len(values) > 1:
                axes.legend()
        if math.isfinite(line):
            across = axes.axhline if self.picture == "lines" else axes.axvline
            across(line, color=axes.xaxis.label.get_color(), linestyle="--", linewidth=1)


def told(error: Exception) -> str:
    """Return an error as the end of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}."
