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

from lightning_regs.study.paper.claims import ClaimResult
from lightning_regs.study.report.terminal import is_plain, print_claims
from lightning_regs.study.run.events import Event
from lightning_regs.study.run.progress import Reporter

SENTENCE = "Random labels cost only a small constant factor in training time, and the slowdown grows smoothly."


def result(**about):
    base = {"id": "c", "sentence": SENTENCE, "paper_value": 99.34, "provenance": "[seen: SLIDES]", "unit": "%"}
    base |= {"ours": 99.2512, "low": 98.7049, "high": 99.7975, "n": 3, "verdict": "reproduced", "reason": ""}
    return ClaimResult(**(base | about))


def console(width=80, **about):
    return Console(file=io.StringIO(), width=width, **about)


def text_of(to):
    return to.file.getvalue()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("NO_COLOR", "CI", "FORCE_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def plain_of(to):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text_of(to))


EVERY = [
    result(),
    result(verdict="not reproduced", ours=-123456.789, low=-1234567.8, high=-0.00012345, unit="steps"),
    result(paper_value="fails to converge", verdict="not decided", low=None, high=None, reason="one seed"),
    result(paper_value=None, ours=None, low=None, high=None, n=0, verdict="out of reach", reason="needs ImageNet"),
    result(paper_value=9.78, recalled=True),
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_claims_fit_the_terminal_and_a_number_is_never_broken(width, terminal):
    to = console(width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    print_claims(EVERY, to)
    lines = plain_of(to).splitlines()
    assert max(map(len, lines)) <= width
    for word in ["99.34 %", "99.25", "[98.70, 99.80]", "[-1.23e6, -1.23e-4]", "-123,457", "(recalled)", "converge"]:
        assert any(word in line for line in lines), word
    assert ("\x1b[" in text_of(to)) is terminal
    assert " ".join(" ".join(lines).split()).endswith("2 reproduced, 1 not reproduced, 1 not decided, 1 out of reach")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_sentence_is_printed_whole(width):
    to = console(width)
    print_claims([result(paper_value=None, ours=1.0, low=None, high=None)], to)
    said = plain_of(to).split()
    assert [word for word in said if word in SENTENCE.split()] == SENTENCE.split()


def test_what_asks_for_attention_is_printed_last():
    to = console(100)
    print_claims(EVERY, to)
    lines = plain_of(to).splitlines()
    headings = ["out of reach: 1 claim", "reproduced: 2 claims", "not decided: 1 claim", "not reproduced: 1 claim"]
    assert [line for line in lines if re.match(r"[a-z ,]+: \d+ claims?$", line)] == headings
    marks = [line[0] for line in lines if line[:1] in "\u2713\u2717?" and line[:1]]
    assert marks == ["\u2713", "\u2713", "?", "\u2717"]


def test_a_verdict_has_its_colour():
    to = console(100, force_terminal=True, color_system="standard")
    print_claims(EVERY, to)
    for code, mark in [("32", "\u2713"), ("33", r"\?"), ("31", "\u2717")]:
        assert re.search(rf"\x1b\[{code}m{mark}", text_of(to)), mark


def test_columns_of_all_verdicts_align():
    to = console(120)
    print_claims(EVERY, to)
    ends = {len(line) for line in plain_of(to).splitlines() if re.match("[\u2713\u2717?] ", line)}
    assert len(ends) == 1


def test_many_claims_stay_readable():
    beyond = [result(ours=None, n=0, verdict="out of reach", reason=f"needs GPU {n % 2}") for n in range(130)]
    waiting = [result(ours=None, n=0, verdict="not decided", reason=f"cell {n} has no rows") for n in range(20)]
    to = console(100)
    print_claims([*beyond, *waiting, *(result() for _ in range(25))], to)
    lines = plain_of(to).splitlines()
    assert len(lines) < 25 * 2 + 30
    assert " 65 needs GPU 0" in lines
    assert "12 for 12 more reasons, named on the page" in plain_of(to)
    assert lines[-1] == "25 reproduced, 20 not decided, 130 out of reach"


def test_no_claims():
    to = console()
    print_claims([], to)
    assert text_of(to).splitlines()[-1] == "no claims"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (99.996, "%", "100.00 [100.00, 100.00]"),
        (-3.3, "points", "-3.30 [-3.30, -3.30]"),
        (1.5, "x", "1.50 [1.50, 1.50]"),
        (1209866.0, "", "1,209,866 [1,209,866, 1,209,866]"),
        (1e-15, "", "1.00e-15 [1.00e-15, 1.00e-15]"),
        (float("inf"), "epochs", "inf [inf, inf]"),
    ],
)
def test_numbers_in_a_terminal_are_ascii(value, unit, text):
    to = console(160)
    print_claims([result(ours=value, low=value, high=value, unit=unit)], to)
    assert text in text_of(to)
    assert text_of(to).replace("\u2713", "+").isascii()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_asked_for_plain_text_a_terminal_gets_no_escape_sequence(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    to = console(100, force_terminal=True)
    print_claims(EVERY, to)
    with Reporter(to) as reporter:
        for _ in events(reporter):
            pass
    assert "\x1b" not in text_of(to)
    assert not [line for line in text_of(to).splitlines() if line != line.rstrip()]


def test_what_a_run_says_cannot_steer_the_terminal():
    to = console(100, force_terminal=True)
    evil = "\x1b[2J\x9b31m\u202egone\x07"
    print_claims([result(sentence=evil, reason=evil, paper_value=evil, verdict="not decided")], to)
    reporter = Reporter(to)
    reporter(Event("plan", total=2, jobs=1, text=evil))
    reporter(Event("started", run="h", cell=evil))
    reporter(Event("progress", run="h", cell=evil, done=1, total=2, text=evil))
    to.print(reporter._bars())
    reporter(Event("failed", run="h", cell=evil, folder="/r", text=evil))
    for sign in ("\x1b[2J", "\x9b", "\u202e", "\x07"):
        assert sign not in text_of(to)
    assert "u001b[2J" in text_of(to)


SAYS = """
import os, sys
sys.path.insert(0, os.environ["TESTS"])
from test_progress import EVERY, events, result
from lightning_regs.study.run.progress import Reporter
from lightning_regs.study.report.terminal import print_claims
from rich.console import Console

live = os.environ["LIVE"] == "1"
to = Console(force_terminal=live, highlight=False, width=90)
reporter = Reporter(to, live)
for _ in events(reporter, cell="n\u00e9t/\u03b5-\u65e5" + "x" * 60):
    to.print(reporter._bars())
print_claims([*EVERY, result(sentence="\u201cNets\u201d \u2013 10\u207b\u00b3 \u00d7 \u03b5 \u2026")], to)
"""


@pytest.mark.parametrize("live", ["0", "1"])
@pytest.mark.parametrize("where", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}])
def test_a_locale_without_unicode_costs_signs_but_no_result(live, where):
    folder = str(Path(__file__).parent)
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment = {**keep, "TERM": "xterm", "TESTS": folder, "LIVE": live, **where}
    done = subprocess.run([sys.executable, "-c", SAYS], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    if where.get("PYTHONIOENCODING") == "ascii":
        said = done.stdout.decode("ascii")
        assert '"Nets" - 10-3 x ? ...' in said
        assert re.search(r"^(\x1b\[\d+m)?x", said, re.MULTILINE)


def test_when_output_is_plain(monkeypatch):
    terminal = console(force_terminal=True)
    assert not is_plain(terminal)
    assert is_plain(console())
    for name, value in [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert is_plain(terminal)
    for name, value in [("NO_COLOR", ""), ("CI", "false"), ("CI", "")]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not is_plain(terminal)


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


def test_plain_output_is_one_line_an_event():
    to = console()
    with Reporter(to) as reporter:
        for _ in events(reporter):
            pass
    assert text_of(to).splitlines() == [
        "zhang2017 quick: 5 runs, 1 complete, 4 to do, 2 at a time",
        "run mlp-1x512/random-labels seed 0 is being trained by process 4711; waiting",
        "[1/5] mlp-1x512/random-labels seed 0: started",
        "[1/5] other seed 1: started",
        "[2/5] other seed 1: failed: ValueError: no (traceback: /r/h2/error.txt)",
        "[3/5] mlp-1x512/random-labels seed 0: finished in 0.0 s: train 87.1 %",
        "interrupted, 2 of 5 runs complete: repeat the command to go on",
    ]


def test_plain_output_repeats_progress_now_and_then(monkeypatch):
    to = console()
    clock = [0.0]
    monkeypatch.setattr("lightning_regs.study.run.progress.time.monotonic", lambda: clock[0])
    with Reporter(to) as reporter:
        reporter(Event("plan", total=1, jobs=1, text="p quick"))
        reporter(Event("started", run="h", cell="c"))
        for second in range(100):
            clock[0] = float(second)
            reporter(Event("progress", run="h", cell="c", done=second, total=100, text="x"))
    said = [line for line in text_of(to).splitlines() if "/100" in line]
    assert said == [f"[0/1] c seed 0: {second}/100 x" for second in (30, 60, 90)]


def drawn(reporter, width, height=25):
    picture = console(width, height=height, force_terminal=True, color_system=None)
    reporter.console = picture
    picture.print(reporter._bars())
    return text_of(picture).splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_bars_fit_the_terminal(width):
    reporter = Reporter(console(width, force_terminal=True))
    for _ in events(reporter):
        lines = drawn(reporter, width)
        assert len(lines) == (6 if width < 64 else 3)
        assert max(map(len, lines)) <= width
        picture = "\n".join(lines)
        for word in ["1/5", "3/12", "zhang2017 quick"]:
            assert word in picture
        if width >= 40:
            assert "mlp-1x512/random-labels seed 0" in picture
            assert "left" in picture
            assert "train 87.1 %" in picture


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_stack_of_twenty_replicas_is_one_line_with_its_size(width):
    reporter = Reporter(console(width, force_terminal=True))
    reporter(Event("plan", total=468, jobs=2, text="frankle2019 standard"))
    run = {"run": "h", "cell": "lenet/supermask/untrained-signed-constant", "stacked": 20}
    reporter(Event("started", **run))
    reporter(Event("progress", done=3500, total=15000, text="level 9, val 98.4 %", **run))
    lines = drawn(reporter, width)
    assert sum("seed 0 + 19" in line for line in lines) == 1
    assert sum("3500/15000" in line for line in lines) == 1
    assert max(map(len, lines)) <= width


def test_more_runs_than_lines_are_counted():
    reporter = Reporter(console(force_terminal=True))
    reporter(Event("plan", total=90, jobs=64, text="p quick"))
    for number in range(64):
        reporter(Event("started", run=str(number), cell=f"cell {number}"))
    for width, height in [(100, 24), (50, 24), (100, 3), (100, 200)]:
        lines = drawn(reporter, width, height)
        assert len(lines) <= max(height - 1, 4 if width < 64 else 3)
        shown = sum("seed 0" in line for line in lines)
        if shown < 64:
            assert lines[-1].rstrip() == f"and {64 - shown} other runs at work"


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


def test_bars_follow_the_terminal_when_it_is_made_narrow():
    master, slave = os.openpty()
    resize(slave, 100)
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    child = subprocess.Popen(
        [sys.executable, "-c", LIVE], stdin=slave, stdout=slave, stderr=slave, env={**keep, "TERM": "xterm-256color"}
    )
    said = b""
    while b"87.1" not in said:
        said += os.read(master, 65536)
    resize(slave, 44)
    os.close(slave)
    with contextlib.suppress(OSError):  # the other end is closed
        while more := os.read(master, 65536):
            said += more
    os.close(master)
    assert child.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    before, after = text.split("RESIZED")
    assert max(map(len, re.split(r"[\r\n]+", before))) > 44
    assert max(map(len, re.split(r"[\r\n]+", after))) <= 44
    assert "train 87.1 %, loss" in after
    assert "failed: no" in after


def resize(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_live_output_keeps_failures_on_the_screen():
    to = console(force_terminal=True)
    with Reporter(to) as reporter:
        for _ in events(reporter):
            pass
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text_of(to))
    assert "failed: ValueError: no" in plain
    assert "repeat the command to go on" in plain
    assert "started" not in plain


def test_time_left(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("lightning_regs.study.run.progress.time.monotonic", lambda: clock[0])
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
    assert "Traceback" not in text_of(to)
