"""What the terminal shows while runs go on; :mod:`~lightning_regs.study.report.terminal` has the claims at the end."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, Group, OverflowMethod, RenderableType
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
# The share of a run after which its own speed says how long it takes.
_TELLING = 0.02
_ELLIPSIS = "\u2026"


# What the terminal shows of a run, or of all of them: title, share that is done, count and text.
_Line = tuple[str, float, str, str]


@dataclass
class _Running:
    """A run at work: when it began and was last told of, and the last that is known of it."""

    began: float
    said: float
    last: Event

    @property
    def fraction(self) -> float:
        return min(1.0, self.last.done / self.last.total) if self.last.total > 0 else 0.0

    def line(self, width: int, cut: str) -> _Line:
        return _title(self.last, width, cut), self.fraction, _far(self.last), self.last.text


class Reporter:
    """Shows the events of a command: bars on a terminal, unless ``NO_COLOR`` or ``CI`` is set, else one line an event.

    Use it as a context manager and as the ``on_event`` of :func:`~lightning_regs.study.run.runner.reproduce`.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._name, self._jobs = "", 1
        self._done = self._total = self._failed = 0
        self._running: dict[str, _Running] = {}
        self._seconds: dict[str, list[float]] = {}
        self._live: Live | None = None
        if not is_plain(self.console):
            self._live = Live(console=self.console, get_renderable=self._bars, refresh_per_second=8, transient=True)

    def __enter__(self) -> Reporter:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        now = time.monotonic()
        running = self._running.get(event.run)
        if event.kind == "plan":
            self._name, self._jobs, self._total = event.text, event.jobs, int(event.total)
            self._done = self._failed = 0  # a search makes several plans
            todo = self._total - int(event.done)
            at_once = f", {event.jobs} at a time" if event.jobs > 1 and todo > 1 else ""
            self._say(f"{event.text}: {_count(self._total, 'run')}, {int(event.done)} complete, {todo} to do{at_once}")
        elif event.kind == "skipped":
            self._learn(event)
        elif event.kind == "started":
            self._running[event.run] = _Running(now, now, event)
            self._say_run(event, "started", only_plain=True)
        elif event.kind == "progress" and running is not None:
            running.last = event
            if now - running.said >= _SAY_PROGRESS_EVERY:
                running.said = now
                self._say_run(event, f"{_far(event)} {event.text}".strip(), only_plain=True)
        elif event.kind == "waiting":
            by = f" by process {event.text}" if event.text else " by another process"
            self._say(f"run {_title(event)} is being trained{by}; waiting")
        elif event.kind == "noted":
            self._say(f"{_title(event)} {event.text}" if event.cell else event.text, style="yellow")
        elif event.kind == "finished":
            self._running.pop(event.run, None)
            self._learn(event)
            took = f" in {_clock(now - running.began)}" if running else ""
            text = f": {running.last.text}" if running and running.last.text else ""
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

        A run takes as long as its own speed says, else as the finished runs of its cell took on average, else as all.
        """
        now, running = time.monotonic(), list(self._running.values())
        known = [second for seconds in list(self._seconds.values()) for second in seconds]
        known += [(now - run.began) / run.fraction for run in running if run.fraction > _TELLING]
        if not known:
            return None
        waiting = max(0, self._total - self._done - self._failed - sum(run.last.stacked for run in running))
        left = waiting * statistics.fmean(known)
        for run in running:
            spent = now - run.began
            usual = statistics.fmean(self._seconds.get(run.last.cell) or known)
            left += max(0.0, (spent / run.fraction if run.fraction > _TELLING else usual) - spent)
        return left / max(1, min(self._jobs, waiting + len(running)))

    def _learn(self, event: Event) -> None:
        self._done += 1
        seconds = (event.row or {}).get("wall_s")
        if isinstance(seconds, (int, float)):
            self._seconds.setdefault(event.cell, []).append(float(seconds))

    def _say_run(self, event: Event, text: str, style: str = "", only_plain: bool = False) -> None:
        if not only_plain or self._live is None:
            ended = self._done + self._failed
            self._say(f"[{ended:>{len(str(self._total))}}/{self._total}] {_title(event)}: {text}", style)

    def _say(self, text: str, style: str = "") -> None:
        # One event stays one line where no person looks, so that a log can be searched.
        line = showable(" ".join(text.split()) if self._live is None else text, self.console)
        style = "" if is_plain(self.console) else style
        self.console.print(Text(line, style=style), soft_wrap=self._live is None, highlight=False)

    def _bars(self) -> RenderableType:
        """Draw all runs and those at work, in columns of fixed widths, so that nothing moves while numbers grow."""
        width, below = self.console.width, self.console.width < _ONE_LINE
        cut = _ELLIPSIS if showable(_ELLIPSIS, self.console) == _ELLIPSIS else "~"
        overflow: OverflowMethod = "ellipsis" if cut == _ELLIPSIS else "crop"
        running = list(self._running.values())
        shown = running[: max(1, (self.console.height - _FREE_LINES) // (2 if below else 1) - 1)]
        longest = max(len(text) for text in (self._name, *(_title(run.last) for run in shown)))
        name = min(longest, width if below else width * 2 // 5)
        lines = [self._overall(), *(run.line(name, cut) for run in shown)]
        bar, counts = max(6, min(30, width // 8)), max(len(count) for _, _, count, _ in lines)
        rest = max(1, width - bar - counts - 2 - (0 if below else name + 1))
        widths = (bar, counts, rest) if below else (name, bar, counts, rest)
        drawn: list[RenderableType] = []
        for named, fraction, count, text in lines:
            bold = "" if drawn else "bold"
            title = Text(showable(named, self.console), style=bold, no_wrap=True, overflow=overflow)
            about = Text(showable(text, self.console), style=bold or "dim")
            cells = [ProgressBar(1.0, fraction, bar), Text(count, justify="right"), about]
            grid = Table.grid(padding=(0, 1), pad_edge=False)
            for each in widths:
                grid.add_column(width=each, no_wrap=True, overflow=overflow)
            grid.add_row(*cells if below else (title, *cells))
            drawn += [title, grid] if below else [grid]
        if hidden := len(running) - len(shown):
            drawn.append(Text(f"and {_count(hidden, 'other run')} at work", style="dim"))
        return Group(*drawn)

    def _overall(self) -> _Line:
        ended, left = self._done + self._failed, self.time_left()
        about = [f"{_clock(left)} left"] if left is not None else []
        about += [f"{self._failed} failed"] if self._failed else []
        return self._name, ended / max(1, self._total), f"{ended}/{self._total}", ", ".join(about)


def _title(event: Event, width: int | None = None, cut: str = _ELLIPSIS) -> str:
    """Name a run; a width cuts the cell's name in the middle, where the names of related cells differ least."""
    seed = f" seed {event.seed}" + (f" + {event.stacked - 1}" if event.stacked > 1 else "")
    room = len(event.cell) if width is None else max(3, width - len(seed))
    if len(event.cell) <= room:
        return event.cell + seed
    head = (room - 1) // 2
    return f"{event.cell[:head]}{cut}{event.cell[len(event.cell) - (room - 1 - head) :]}{seed}"


def _far(event: Event) -> str:
    """Say how much of a run is done, of how much; nothing where its end is not known."""
    if event.total <= 0:
        return ""
    numbers = float(event.done), float(event.total)
    return "/".join(f"{number:,.0f}" if number.is_integer() else f"{number:g}" for number in numbers)


def _short(folder: str) -> str:
    return min(os.path.relpath(folder), folder, key=len)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
