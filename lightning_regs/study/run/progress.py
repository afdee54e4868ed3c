"""What the terminal shows while runs go on; :mod:`~lightning_regs.study.report.terminal` has the claims at the end."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, OverflowMethod
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lightning_regs.study.report.terminal import is_plain, showable
from lightning_regs.study.run.events import Event

_SAY_PROGRESS_EVERY = 30.0
# Lines of the terminal that bars leave free, so that the line above them stays in sight.
_FREE_LINES = 3
# Columns that a run's name, bar and numbers need beside each other; below, they take two lines.
_ONE_LINE = 64
_ELLIPSIS = "\u2026"


@dataclass
class _Running:
    event: Event
    began: float
    said: float
    done: float = 0
    total: float = 0
    text: str = ""

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


@dataclass(frozen=True)
class _Line:
    """What the terminal shows of a run, or of all of them."""

    title: str
    fraction: float
    count: str
    text: str


class Reporter:
    """Shows the events of a command: bars on a terminal, else one line an event.

    Use it as a context manager and as the ``on_event`` of :func:`~lightning_regs.study.run.runner.reproduce`.

    Args:
        console: Where to write; default: standard output.
        live: Whether to draw bars; default: on a terminal, unless ``NO_COLOR`` or ``CI`` is set.
    """

    def __init__(self, console: Console | None = None, live: bool | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._name, self._jobs = "", 1
        self._done = self._total = self._failed = 0
        self._running: dict[str, _Running] = {}
        self._seconds: dict[str, list[float]] = {}
        self._live: Live | None = None
        if is_plain(self.console) if live is None else not live:
            return
        self._live = Live(console=self.console, get_renderable=self._bars, refresh_per_second=8, transient=True)

    def __enter__(self) -> Reporter:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        now = time.monotonic()
        if event.kind == "plan":
            self._name, self._jobs, self._total = event.text, event.jobs, int(event.total)
            todo = self._total - int(event.done)
            at_once = f", {event.jobs} at a time" if event.jobs > 1 and todo > 1 else ""
            self._say(f"{event.text}: {_count(self._total, 'run')}, {int(event.done)} complete, {todo} to do{at_once}")
        elif event.kind == "skipped":
            self._done += 1
            self._learn(event)
        elif event.kind == "started":
            self._running[event.run] = _Running(event, now, now)
            self._say_run(event, "started", only_plain=True)
        elif event.kind == "progress" and (running := self._running.get(event.run)):
            running.done, running.total, running.text = event.done, event.total, event.text
            if now - running.said >= _SAY_PROGRESS_EVERY:
                running.said = now
                self._say_run(event, f"{event.done:g}/{event.total:g} {event.text}".rstrip(), only_plain=True)
        elif event.kind == "waiting":
            by = f" by process {event.text}" if event.text else " by another process"
            self._say(f"run {_title(event)} is being trained{by}; waiting")
        elif event.kind == "finished":
            self._done += 1
            self._learn(event)
            ended = self._running.pop(event.run, None)
            took = f" in {_clock(now - ended.began)}" if ended else ""
            text = f": {ended.text}" if ended and ended.text else ""
            self._say_run(event, f"finished{took}{text}", only_plain=True)
        elif event.kind == "failed":
            self._failed += 1
            self._running.pop(event.run, None)
            where = "" if event.full else f" (traceback: {_short(event.folder)}/error.txt)"
            self._say_run(event, f"failed: {event.text}{where}", style="red")
        elif event.kind in ("stopped", "interrupted"):
            self._running.clear()
            done = f"{self._done} of {_count(self._total, 'run')} complete"
            self._say(f"{event.kind}, {done}: {event.text}", style="yellow")

    def time_left(self) -> float | None:
        """Return seconds to the end, or None while nothing is known about how long a run takes.

        A run takes as long as the finished runs of its cell took on average; a cell without any, as long as all did.
        """
        known = [second for seconds in list(self._seconds.values()) for second in seconds]
        now = time.monotonic()
        at_work = sum(running.event.stacked for running in list(self._running.values()))
        left, waiting = 0.0, self._total - self._done - self._failed - at_work
        for running in list(self._running.values()):
            spent = now - running.began
            own = self._seconds.get(running.event.cell)
            if running.fraction > 0.02:
                left += spent * (1 - running.fraction) / running.fraction
                known.append(spent / running.fraction)
            elif own or known:
                left += max(0.0, _mean(own or known) - spent)
            else:
                return None
        if waiting > 0 and not known:
            return None
        left += max(0, waiting) * _mean(known) if waiting > 0 else 0.0
        return left / max(1, min(self._jobs, waiting + len(self._running)))

    def _learn(self, event: Event) -> None:
        seconds = (event.row or {}).get("wall_s")
        if isinstance(seconds, (int, float)):
            self._seconds.setdefault(event.cell, []).append(float(seconds))

    def _say_run(self, event: Event, text: str, style: str = "", only_plain: bool = False) -> None:
        if only_plain and self._live is not None:
            return
        ended = self._done + self._failed
        self._say(f"[{ended:>{len(str(self._total))}}/{self._total}] {_title(event)}: {text}", style)

    def _say(self, text: str, style: str = "") -> None:
        # One event stays one line where no person looks, so that a log can be searched.
        line = showable(" ".join(text.split()) if self._live is None else text, self.console)
        style = "" if is_plain(self.console) else style
        self.console.print(Text(line, style=style), soft_wrap=self._live is None, highlight=False)

    def _bars(self) -> Table:
        width = self.console.width
        below = width < _ONE_LINE
        running = list(self._running.values())
        fits = max(1, (self.console.height - _FREE_LINES) // (2 if below else 1) - 1)
        left = self.time_left()
        about = [f"{_clock(left)} left" if left is not None else ""]
        about += [f"{self._failed} failed"] if self._failed else []
        ended = self._done + self._failed
        overall = _Line(
            self._name, ended / max(1, self._total), f"{ended}/{self._total}", ", ".join(filter(None, about))
        )
        longest = max([len(self._name), *(len(_title(run.event)) for run in running[:fits])])
        name = min(longest, width if below else width * 2 // 5)
        lines = [overall, *(_line(run, name, self._cut) for run in running[:fits])]
        picture = self._drawn(lines, name, below)
        if hidden := len(running) - len(running[:fits]):
            picture.add_row(Text(f"and {_count(hidden, 'other run')} at work", style="dim"))
        return picture

    def _drawn(self, lines: list[_Line], name: int, below: bool) -> Table:
        """Lay lines out in columns of fixed widths, so that nothing moves while numbers grow."""
        room = self.console.width
        bar = max(6, min(30, room // 8))
        count = max(len(line.count) for line in lines)
        text = max(1, room - bar - count - 2 - (0 if below else name + 1))
        overflow: OverflowMethod = "ellipsis" if self._cut == _ELLIPSIS else "crop"
        picture = Table.grid()
        for number, line in enumerate(lines):
            style = "" if number else "bold"
            title = Text(showable(line.title, self.console), style=style)
            about = Text(showable(line.text, self.console), style="dim" if number else "bold")
            grid = Table.grid(padding=(0, 1), pad_edge=False)
            if below:
                title.no_wrap, title.overflow = True, overflow
                picture.add_row(title)
            else:
                grid.add_column(width=name, no_wrap=True, overflow=overflow)
            grid.add_column(width=bar)
            grid.add_column(width=count, no_wrap=True, justify="right")
            grid.add_column(max_width=text, no_wrap=True, overflow=overflow)
            drawn = ProgressBar(total=1.0, completed=line.fraction, width=bar)
            grid.add_row(*([] if below else [title]), drawn, Text(line.count), about)
            picture.add_row(grid)
        return picture

    @property
    def _cut(self) -> str:
        return _ELLIPSIS if showable(_ELLIPSIS, self.console) == _ELLIPSIS else "~"


def _line(run: _Running, width: int, cut: str) -> _Line:
    count = f"{run.done:g}/{run.total:g}" if run.total else ""
    return _Line(_title(run.event, width, cut), run.fraction, count, run.text)


def _title(event: Event, width: int | None = None, cut: str = _ELLIPSIS) -> str:
    """Name a run; a width cuts the cell's name in the middle, where the names of related cells differ least."""
    seed = f" seed {event.seed}" + (f" + {event.stacked - 1}" if event.stacked > 1 else "")
    room = len(event.cell) if width is None else max(3, width - len(seed))
    if len(event.cell) <= room:
        return event.cell + seed
    head = (room - 1) // 2
    return f"{event.cell[:head]}{cut}{event.cell[len(event.cell) - (room - 1 - head) :]}{seed}"


def _short(folder: str) -> str:
    relative = os.path.relpath(folder)
    return relative if len(relative) < len(folder) else folder


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)
