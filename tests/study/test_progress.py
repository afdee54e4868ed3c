from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from lightning_regs.study.claims import ClaimResult
from lightning_regs.study.progress import Reporter, is_plain, print_claims
from lightning_regs.study.worker import Event

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


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("terminal", [True, False])
def test_claims_table_fits_and_never_breaks_a_number(width, terminal):
    to = console(width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    claims = [
        result(),
        result(verdict="not reproduced", ours=-123456.789, low=-1234567.8, high=-0.00012345, unit="steps"),
        result(paper_value="fails to converge", verdict="not decided", low=None, high=None, reason="one seed"),
        result(paper_value=None, ours=None, low=None, high=None, n=0, verdict="out of reach", reason="needs ImageNet"),
        result(paper_value=9.78, provenance="[recalled]"),
    ]
    print_claims(claims, to)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text_of(to))
    assert max(map(len, plain.splitlines())) <= width
    for word in ["99.34 %", "99.25", "[98.70, 99.80]", "[-1.23e6, -1.23e-4]", "-123,457", "(recalled)"]:
        assert any(word in line for line in plain.splitlines()), word
    for verdict in ("reproduced", "not reproduced", "not decided", "out of reach"):
        assert re.search(rf"{verdict}\s*$", plain, re.MULTILINE), verdict
    assert ("\x1b[" in text_of(to)) is terminal
    assert plain.splitlines()[-1] == "2 reproduced, 1 not reproduced, 1 not decided, 1 out of reach"
    assert "ImageNet" in plain


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
    assert text_of(to).isascii()


def test_when_output_is_plain(monkeypatch):
    terminal = console(force_terminal=True)
    assert not is_plain(terminal)
    assert is_plain(console())
    for name, value in [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert is_plain(terminal)


def events(reporter):
    row = {"wall_s": 10.0}
    run = {"cell": "mlp-1x512/random-labels", "run": "h1", "folder": "/r/h1"}
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
    monkeypatch.setattr("lightning_regs.study.progress.time.monotonic", lambda: clock[0])
    with Reporter(to) as reporter:
        reporter(Event("plan", total=1, jobs=1, text="p quick"))
        reporter(Event("started", run="h", cell="c"))
        for second in range(100):
            clock[0] = float(second)
            reporter(Event("progress", run="h", cell="c", done=second, total=100, text="x"))
    said = [line for line in text_of(to).splitlines() if "/100" in line]
    assert said == [f"[0/1] c seed 0: {second}/100 x" for second in (30, 60, 90)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bars_fit_the_terminal(width):
    to = console(width, force_terminal=True)
    reporter = Reporter(to)
    for _ in events(reporter):
        picture = console(width, force_terminal=True, color_system=None)
        picture.print(reporter._bars())
        lines = text_of(picture).splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= width
        assert "1/5" in lines[0]
        assert "3/12" in lines[1]
        if width >= 80:
            assert "left" in lines[0]
            assert lines[1].startswith("mlp-1x512/random-labels seed 0")
            assert "train 87.1 %" in lines[1]


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
    monkeypatch.setattr("lightning_regs.study.progress.time.monotonic", lambda: clock[0])
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
