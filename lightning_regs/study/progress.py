"""What the terminal shows: the runs while they go on, and the claims at the end."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lightning_regs.study import tables
from lightning_regs.study.claims import VERDICTS, ClaimResult, Verdict, count_verdicts
from lightning_regs.study.worker import Event

_STYLES: dict[Verdict, str] = dict(zip(VERDICTS, ("green", "red", "yellow", "dim"), strict=True))
_ASCII = str.maketrans({tables.MINUS: "-", tables.DASH: "-", tables.TIMES: "x", "\u202f": " ", "∞": "inf"})
_SAY_PROGRESS_EVERY = 30.0


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


class Reporter:
    """Shows the events of a command: bars on a terminal, else one line an event.

    Use it as a context manager and as the ``on_event`` of :func:`~lightning_regs.study.runner.reproduce`.

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
        self.console.print(Text(text, style=style), soft_wrap=self._live is None, highlight=False)

    def _bars(self) -> Table:
        width = self.console.width
        bar = max(8, min(30, width // 6))
        running = list(self._running.values())
        name = max([len(self._name), *(len(_title(run.event)) for run in running)])
        name = min(name, width * 9 // 20 if width >= 70 else max(10, width * 3 // 10))
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, overflow="ellipsis", width=name)
        table.add_column(width=bar)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis")
        left = self.time_left()
        about = [f"{_clock(left)} left" if left is not None else ""]
        about += [f"{self._failed} failed"] if self._failed else []
        total = max(1, self._total)
        table.add_row(
            Text(self._name, style="bold"),
            ProgressBar(total=total, completed=self._done + self._failed, width=bar),
            Text(f"{self._done}/{self._total}"),
            Text(", ".join(filter(None, about)), style="bold"),
        )
        for run in running:
            table.add_row(
                Text(_title(run.event, name)),
                ProgressBar(total=1.0, completed=run.fraction, width=bar),
                Text(f"{run.done:g}/{run.total:g}" if run.total else ""),
                Text(run.text, style="dim"),
            )
        return table


def is_plain(console: Console) -> bool:
    """Tell whether output must be plain lines: no terminal, or ``NO_COLOR``, ``CI`` or ``TERM=dumb`` asks for it."""
    asked = any(os.environ.get(name) for name in ("NO_COLOR", "CI")) or os.environ.get("TERM") == "dumb"
    return asked or not console.is_terminal


def print_claims(claims: Iterable[ClaimResult], console: Console | None = None) -> None:
    """Print a table of claims: claim, paper, ours [low, high], n, verdict.

    Args:
        claims: What was found.
        console: Where to write; default: standard output. The table is readable from 80 columns on; numbers never wrap.
    """
    console = console or Console(highlight=False)
    claims = list(claims)
    wide = console.width >= 120
    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False, header_style="bold", expand=False)
    table.add_column("claim", ratio=1, min_width=20)
    table.add_column("paper", justify="right", max_width=None if wide else 13)
    table.add_column(Text("ours [low, high]" if wide else "ours\n[low, high]"), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim in claims:
        sentence = Text(claim.sentence)
        if claim.reason:
            sentence.append(f"\n{claim.verdict}: {claim.reason}", style="dim")
        table.add_row(
            sentence,
            Text(_paper_value(claim)),
            Text(_ours(claim, " " if wide else "\n")),
            str(claim.n) if claim.n else "-",
            Text(claim.verdict, style=_STYLES[claim.verdict]),
        )
    console.print(table)
    counts = count_verdicts(claims)
    console.print(Text(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n) or "no claims"))


def _ours(claim: ClaimResult, gap: str) -> str:
    if claim.ours is None:
        return "-"
    ours, *ends = (
        tables.digits(value, claim.unit) for value in (claim.ours, claim.low, claim.high) if value is not None
    )
    return _ascii(f"{ours}{gap}[{', '.join(ends)}]" if len(ends) == 2 else ours)


def _paper_value(claim: ClaimResult) -> str:
    text = _ascii(tables.paper_value(claim))
    return f"{text} (recalled)" if claim.paper_value is not None and claim.recalled else text


def _ascii(text: str) -> str:
    """Replace the signs that a page has and a terminal may not."""
    return text.translate(_ASCII)


def _title(event: Event, width: int | None = None) -> str:
    """Name a run; a width cuts the cell's name in the middle, where the names of related cells differ least."""
    seed = f" seed {event.seed}" + (f" + {event.stacked - 1}" if event.stacked > 1 else "")
    room = len(event.cell) if width is None else max(3, width - len(seed))
    if len(event.cell) <= room:
        return event.cell + seed
    head = (room - 1) // 2
    return f"{event.cell[:head]}…{event.cell[len(event.cell) - (room - 1 - head) :]}{seed}"


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
