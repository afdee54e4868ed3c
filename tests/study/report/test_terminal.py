"""Claims on a terminal: whole from 40 columns on, plain where nobody draws, and never more than text."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.report.terminal import is_plain, print_claims

SENTENCE = "Random labels cost only a small constant factor in training time, and the slowdown grows smoothly."


def result(**about):
    base = {"id": "c", "sentence": SENTENCE, "paper_value": 99.34, "provenance": "slides", "unit": "%"}
    base |= {"ours": 99.2512, "low": 98.7049, "high": 99.7975, "n": 3, "verdict": "reproduced", "reason": ""}
    return ClaimResult(**(base | about))


EVERY = [
    result(),
    result(verdict="not reproduced", ours=-123456.789, low=-1234567.8, high=-0.00012345, unit="steps"),
    result(paper_value="fails to converge", verdict="not decided", low=None, high=None, reason="one seed"),
    result(paper_value=None, ours=None, low=None, high=None, n=0, verdict="out of reach", reason="needs ImageNet"),
    result(paper_value=9.78, recalled=True),
]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    for name in ("NO_COLOR", "CI", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def printed(claims, width=100, **about):
    to = Console(file=io.StringIO(), width=width, **about)
    print_claims(claims, to)
    return to.file.getvalue()


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_claims_fit_the_terminal_and_a_number_is_never_broken(width, terminal):
    text = printed(EVERY, width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    lines = plain(text).splitlines()
    assert max(map(len, lines)) <= width
    for word in ["99.34 %", "99.25 %", "98.70 to 99.80", "-1.23e6 to -1.23e-4", "-123,457", "(recalled)", "converge"]:
        assert any(word in line for line in lines), word
    assert ("\x1b[" in text) is terminal
    said = " ".join(plain(text).split())
    assert said.endswith("2 reproduced, 1 not reproduced, 1 not decided, 1 out of reach")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_sentence_is_printed_whole(width):
    said = plain(printed([result(paper_value=None, ours=1.0, low=None, high=None)], width)).split()
    assert [word for word in said if word in SENTENCE.split()] == SENTENCE.split()


@pytest.mark.parametrize("width", [60, 100])
def test_what_asks_for_attention_is_printed_last_and_in_its_colour(width):
    text = printed(EVERY, width, force_terminal=True, color_system="standard")
    lines = [line.strip() for line in plain(text).splitlines()]
    headings = ["out of reach: 1 claim", "reproduced: 2 claims", "not decided: 1 claim", "not reproduced: 1 claim"]
    assert [line for line in lines if re.match(r"[a-z ,]+: \d+ claims?$", line)] == headings
    assert [line[0] for line in lines if line[:1] in "\u2713\u2717?" and line[:1]] == [
        "\u2713",
        "\u2713",
        "?",
        "\u2717",
    ]
    for code, mark in [("32", "\u2713"), ("33", r"\?"), ("31", "\u2717")]:
        assert re.search(rf"\x1b\[{code}m{mark}", text), mark


def test_many_claims_stay_readable():
    beyond = [result(ours=None, n=0, verdict="out of reach", reason=f"needs GPU {n % 2}") for n in range(130)]
    waiting = [result(ours=None, n=0, verdict="not decided", reason=f"cell {n} has no rows") for n in range(20)]
    lines = plain(printed([*beyond, *waiting, *(result() for _ in range(25))])).splitlines()
    assert len(lines) < 25 * 3 + 35
    assert " 65 needs GPU 0" in lines
    assert " 12 for 12 more reasons, named on the page" in lines
    assert "not decided, as there is no measurement: 20 claims" in lines
    assert lines[-1] == "25 reproduced, 20 not decided, 130 out of reach"
    assert printed([]) == "no claims\n"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (99.996, "%", "ours 100.00 %  all 3 equal"),
        (-3.3, "points", "ours -3.30 points  all 3 equal"),
        (1209866.0, "", "ours 1,209,866  all 3 equal"),
        (1e-15, "", "ours 1.00e-15  all 3 equal"),
        (float("inf"), "epochs", "ours inf epochs  all 3 equal"),
    ],
)
def test_numbers_in_a_terminal_are_ascii(value, unit, text):
    shown = printed([result(ours=value, low=value, high=value, unit=unit)], 160)
    assert text in shown
    assert shown.replace("\u2713", "+").isascii()


def test_what_a_paper_says_cannot_steer_the_terminal():
    evil = "\x1b[2J\x9b31m\u202egone\x07"
    text = printed([result(sentence=evil, reason=evil, paper_value=evil, verdict="not decided")], force_terminal=True)
    assert not [sign for sign in ("\x1b[2J", "\x9b", "\u202e", "\x07") if sign in text]
    assert "u001b[2J" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("NO_COLOR", "1", True),
        ("CI", "true", True),
        ("TERM", "dumb", True),
        ("NO_COLOR", "", False),
        ("CI", "0", False),
    ],
)
def test_asked_for_plain_text_a_terminal_gets_no_escape_sequence(monkeypatch, name, value, expected):
    monkeypatch.setenv(name, value)
    assert is_plain(Console(file=io.StringIO(), force_terminal=True)) is expected
    assert is_plain(Console(file=io.StringIO()))
    text = printed(EVERY, force_terminal=True, color_system="standard")
    assert ("\x1b" not in text) is expected
    assert not expected or not [line for line in text.splitlines() if line != line.rstrip()]
