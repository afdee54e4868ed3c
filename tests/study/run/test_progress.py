"""Bars on a terminal that follow its size, else one line an event."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console

from lightning_regs.study.run.events import Event
from lightning_regs.study.run.progress import Reporter

KEPT = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}


def console(width=80, **about):
    return Console(file=io.StringIO(), width=width, **about)


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    for name in ("NO_COLOR", "CI", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("lightning_regs.study.run.progress.time.monotonic", lambda: now[0])
    return now


def events(reporter, cell="mlp-1x512/random-labels"):
    row = {"wall_s": 10.0}
    run = {"cell": cell, "run": "h1", "folder": "/r/h1"}
    reporter(Event("plan", total=5, done=1, jobs=2, text="zhang2017 quick"))
    reporter(Event("skipped", run="h0", cell="mlp-1x512/true", row=row))
    reporter(Event("waiting", text="4711", **run))
    reporter(Event("started", **run))
    reporter(Event("progress", done=3, total=12, text="train 87.1 %", **run))
    reporter(Event("started", run="h2", cell="other", seed=1, folder="/r/h2"))
    yield
    reporter(Event("failed", run="h2", cell="other", seed=1, folder="/r/h2", text="ValueError: no"))
    reporter(Event("finished", row=row, **run))
    reporter(Event("interrupted", text="repeat the command to go on"))


PLAIN = [
    "zhang2017 quick: 5 runs, 1 complete, 4 to do, 2 at a time",
    "run mlp-1x512/random-labels seed 0 is being trained by process 4711; waiting",
    "[1/5] mlp-1x512/random-labels seed 0: started",
    "[1/5] other seed 1: started",
    "[2/5] other seed 1: failed: ValueError: no (traceback: /r/h2/error.txt)",
    "[3/5] mlp-1x512/random-labels seed 0: finished in 0.0 s: train 87.1 %",
    "interrupted, 2 of 5 runs complete: repeat the command to go on",
]


@pytest.mark.parametrize("asked", [None, ("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_plain_output_is_one_line_an_event(monkeypatch, asked):
    if asked is not None:
        monkeypatch.setenv(*asked)
    to = console(force_terminal=asked is not None)
    with Reporter(to) as reporter:
        for _ in events(reporter):
            pass
    assert to.file.getvalue().splitlines() == PLAIN


def test_plain_output_repeats_progress_now_and_then(clock):
    to = console()
    with Reporter(to) as reporter:
        reporter(Event("plan", total=1, jobs=1, text="p quick"))
        reporter(Event("started", run="h", cell="c"))
        for second in range(100):
            clock[0] = float(second)
            reporter(Event("progress", run="h", cell="c", done=second, total=100, text="x"))
    said = [line for line in to.file.getvalue().splitlines() if "/100" in line]
    assert said == [f"[0/1] c seed 0: {second}/100 x" for second in (30, 60, 90)]


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [(2, -1, "x"), (2, 0, "x"), (1e3, 75e3, "1,000/75,000 x"), (0.5, 1234567, "0.5/1,234,567 x")],
)
def test_progress_is_counted_where_an_end_is_known(clock, done, total, said):
    to = console()
    reporter = Reporter(to)
    reporter(Event("plan", total=1, jobs=1, text="p quick"))
    reporter(Event("started", run="h", cell="c"))
    clock[0] = 40.0
    reporter(Event("progress", run="h", cell="c", done=done, total=total, text="x"))
    assert to.file.getvalue().splitlines()[-1] == f"[0/1] c seed 0: {said}"
    assert (reporter.time_left() is None) == (total <= 0 or done / total < 0.02)


def test_live_output_keeps_failures_on_the_screen_and_nothing_else():
    to = console(force_terminal=True)
    with Reporter(to) as reporter:
        for _ in events(reporter):
            pass
    said = plain(to.file.getvalue())
    assert "failed: ValueError: no" in said
    assert "repeat the command to go on" in said
    assert "started" not in said


def drawn(reporter, width, height=25):
    reporter.console = console(width, height=height, force_terminal=True, color_system=None)
    reporter.console.print(reporter._bars())
    return reporter.console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_bars_fit_the_terminal(width):
    reporter = Reporter(console(width, force_terminal=True))
    for _ in events(reporter):
        lines = drawn(reporter, width)
        assert len(lines) == (6 if width < 64 else 3)
        assert max(map(len, lines)) <= width
        words = ["1/5", "3/12", "zhang2017 quick"]
        words += ["mlp-1x512/random-labels seed 0", "left", "train 87.1 %"] if width >= 40 else []
        assert not [word for word in words if word not in "\n".join(lines)]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_stack_of_twenty_replicas_is_one_line_with_its_size(width):
    reporter = Reporter(console(width, force_terminal=True))
    reporter(Event("plan", total=468, jobs=2, text="frankle2019 standard"))
    run = {"run": "h", "cell": "lenet/supermask/untrained-signed-constant", "stacked": 20}
    reporter(Event("started", **run))
    reporter(Event("progress", done=3500, total=15000, text="level 9, val 98.4 %", **run))
    lines = drawn(reporter, width)
    for word in ("seed 0 + 19", "3,500/15,000"):
        assert sum(word in line for line in lines) == 1
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), [(100, 24), (50, 24), (100, 3), (100, 200)])
def test_more_runs_than_lines_are_counted(width, height):
    reporter = Reporter(console(force_terminal=True))
    reporter(Event("plan", total=90, jobs=64, text="p quick"))
    for number in range(64):
        reporter(Event("started", run=str(number), cell=f"cell {number}"))
    lines = drawn(reporter, width, height)
    assert len(lines) <= max(height - 1, 4 if width < 64 else 3)
    shown = sum("seed 0" in line for line in lines)
    assert shown == 64 or lines[-1].rstrip() == f"and {64 - shown} other runs at work"


def test_what_a_run_says_cannot_steer_the_terminal():
    to = console(100, force_terminal=True)
    evil = "\x1b[2J\x9b31m\u202egone\x07"
    reporter = Reporter(to)
    reporter(Event("plan", total=2, jobs=1, text=evil))
    reporter(Event("started", run="h", cell=evil))
    reporter(Event("progress", run="h", cell=evil, done=1, total=2, text=evil))
    to.print(reporter._bars())
    reporter(Event("failed", run="h", cell=evil, folder="/r", text=evil))
    text = to.file.getvalue()
    assert not [sign for sign in ("\x1b[2J", "\x9b", "\u202e", "\x07") if sign in text]
    assert "u001b[2J" in text


SAYS = """
import os, sys
sys.path[:0] = [os.environ["TESTS"], os.path.join(os.environ["TESTS"], "..", "report")]
from test_progress import events
from test_terminal import EVERY, result
from lightning_regs.study.run.progress import Reporter
from lightning_regs.study.report.terminal import print_claims
from rich.console import Console

live = os.environ["LIVE"] == "1"
to = Console(force_terminal=live, highlight=False, width=90)
reporter = Reporter(to)
for _ in events(reporter, cell="n\u00e9t/\u03b5-\u65e5" + "x" * 60):
    to.print(reporter._bars())
print_claims([*EVERY, result(sentence="\u201cNets\u201d \u2013 10\u207b\u00b3 \u00d7 \u03b5 \u2026")], to)
"""


@pytest.mark.parametrize("live", ["0", "1"])
@pytest.mark.parametrize("where", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}])
@pytest.mark.slow
def test_a_locale_without_unicode_costs_signs_but_no_result(live, where):
    environment = {**KEPT, "TERM": "xterm", "TESTS": str(Path(__file__).parent), "LIVE": live, **where}
    done = subprocess.run([sys.executable, "-c", SAYS], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    if where["PYTHONIOENCODING"] == "ascii":
        said = done.stdout.decode("ascii")
        assert '"Nets" - 10-3 x ? ...' in said
        assert re.search(r"^(\x1b\[\d+m)?x", said, re.MULTILINE)


LIVE = """
import os, sys, time
from lightning_regs.study.run.progress import Reporter
from lightning_regs.study.run.events import Event

with Reporter() as reporter:
    reporter(Event("plan", total=3, jobs=1, text="p quick"))
    run = {"run": "h", "cell": "a-cell/with-a-name/that-is-long-enough-to-be-cut", "folder": "/r"}
    reporter(Event("started", **run))
    end = time.monotonic() + 20
    while os.get_terminal_size().columns != 44 and time.monotonic() < end:
        reporter(Event("progress", done=1, total=12, text="train 87.1 %, loss 0.1234", **run))
        time.sleep(0.02)
    print("RESIZED")
    time.sleep(0.5)
    reporter(Event("failed", text="no\\x1b[2J space", **run))
"""


def resize(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_bars_follow_the_terminal_when_it_is_made_narrow():
    master, slave = os.openpty()
    resize(slave, 100)
    environment = {**KEPT, "TERM": "xterm-256color"}
    child = subprocess.Popen([sys.executable, "-c", LIVE], stdin=slave, stdout=slave, stderr=slave, env=environment)
    said = b""
    while b"87.1" not in said and child.poll() is None:
        said += os.read(master, 65536)
    resize(slave, 44)
    os.close(slave)
    with contextlib.suppress(OSError):  # the other end is closed
        while more := os.read(master, 65536):
            said += more
    os.close(master)
    assert child.wait() == 0
    before, after = plain(said.decode()).split("RESIZED")
    assert max(map(len, re.split(r"[\r\n]+", before))) > 44
    assert max(map(len, re.split(r"[\r\n]+", after))) <= 44
    assert "train 87.1 %, loss" in after
    assert "failed: no" in after


def test_time_left(clock):
    reporter = Reporter(console())
    reporter(Event("plan", total=4, jobs=1, text="p quick"))
    reporter(Event("started", run="h1", cell="a"))
    assert reporter.time_left() is None
    clock[0] = 10.0
    reporter(Event("progress", run="h1", cell="a", done=1, total=4))
    # 30 s for this run, 40 s for each of the three others.
    assert reporter.time_left() == pytest.approx(150)
    clock[0] = 40.0
    reporter(Event("finished", run="h1", cell="a", row={"wall_s": 40.0}))
    assert reporter.time_left() == pytest.approx(120)
    reporter(Event("started", run="h2", cell="a"))
    clock[0] = 50.0
    assert reporter.time_left() == pytest.approx(110)
    for run in ("h2", "h3", "h4"):
        reporter(Event("finished", run=run, cell="a", row={"wall_s": 40.0}))
    assert reporter.time_left() == 0


def test_bars_are_drawn_while_events_come_in():
    to = console(force_terminal=True)
    with Reporter(to) as reporter:
        reporter(Event("plan", total=300, jobs=2, text="p quick"))
        end = time.monotonic() + 0.5
        number = 0
        while time.monotonic() < end:
            number += 1
            reporter(Event("started", run=str(number), cell=f"cell {number}"))
            reporter(Event("finished", run=str(number), cell=f"cell {number}", row={"wall_s": 1.0}))
    assert "Traceback" not in to.file.getvalue()
