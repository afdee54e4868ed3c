"""The commands of ``lightning-regs`` on a paper of their own, from arguments to exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_regs
from lightning_regs.cli.common import wrapped
from lightning_regs.cli.parser import main

README = "# Papers\n\n<!-- begin:gallery -->\n<!-- end:gallery -->\n"


@pytest.fixture
def measured(toy, monkeypatch):
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(toy.root))
    monkeypatch.setenv("LIGHTNING_REGS_RUNS", str(toy.runs))
    monkeypatch.setenv("HOME", str(toy.root))  # without a login of the developer's
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("lightning_regs.study.paper.config.checkout", lambda: None)  # whose pages take seconds
    monkeypatch.chdir(toy.root)
    toy.write(toy.cell("one", steps=2), seeds=2)
    return toy


@pytest.mark.slow
def test_a_reproduction_is_logged_offline_and_reported(measured, capsys):
    environment = dict(os.environ)
    assert main(["reproduce", "toy", "--jobs", "1", "--wandb", "offline"]) == 0
    assert os.environ == environment
    said = capsys.readouterr()
    assert "1 reproduced" in said.out
    assert f"Rows: {Path('runs/results/toy/quick.csv')}\nPage: {Path('runs/results/toy.html')}" in said.out
    assert not measured.committed.exists()
    assert said.err == ""
    assert len(list(measured.runs.glob("*/wandb/offline-run-*"))) == 2
    for online in (["sync"], ["sync", "toy", "--wandb", "me/mine"], ["reproduce", "toy", "--wandb", "online"]):
        assert main(online) == 2
        assert "no login here; log in with `wandb login`, or set WANDB_API_KEY" in capsys.readouterr().err


def test_two_places_for_results_are_refused_and_so_is_the_installed_package(measured, capsys, monkeypatch):
    assert main(["reproduce", "toy", "--commit-results", "--results", "here"]) == 2
    assert "--commit-results and --results here name two places" in capsys.readouterr().err
    carried = measured.root / "_bundled" / "reproductions"
    carried.parent.mkdir()
    (measured.root / "reproductions").rename(carried)
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(carried.parent))
    assert main(["reproduce", "toy", "--commit-results"]) == 2
    assert main(["freeze", "toy"]) == 2
    assert capsys.readouterr().err.count("toy came with the installed package") == 2


@pytest.mark.slow
def test_own_and_committed_rows_are_listed_planned_and_compared(measured, capsys):
    def said(*arguments):
        assert main([*arguments]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "toy quick: 2 runs, 0 complete, 2 to do, 2 runs of cells that nobody has measured" in said(
        "reproduce", "toy", "--dry-run"
    )
    assert not measured.runs.exists()
    assert main(["compare", "toy"]) == 2
    assert "toy has no rows in" in capsys.readouterr().err
    said("reproduce", "toy", "--jobs", "1", "--wandb", "off", "--runs", "other", "--commit-results")
    assert "yours" not in said("list")
    assert "one 2 2 0 " in said("list", "toy", "--scale", "quick")
    dry = said("reproduce", "toy", "--dry-run", "--seeds", "3")
    assert re.search(r"one 0,1,2 \S+ s \S+ s toy quick: 3 runs, 0 complete, 3 to do, about \S+ s of computing", dry)
    said("reproduce", "toy", "--jobs", "1", "--wandb", "off", "--seeds", "1,")
    assert "one 2 2 1 " in said("list", "toy")
    assert "yours: control" in said("list")
    assert "3 runs, 1 complete, 2 to do" in said("reproduce", "toy", "--dry-run", "--seeds", "3")
    assert "2 runs, 0 complete, 2 to do" in said("reproduce", "toy", "--dry-run", "--force")
    shown = said("compare", "toy")
    assert "toy quick: 1 row of yours beside 2 committed" in shown
    assert "Value 0.1 1" in shown
    assert "2 numbers: 2 equal;" in shown


@pytest.mark.parametrize(("width", "columns"), [("48", 48), ("132", 132), (None, 80)])
def test_lists_fit_the_terminal_and_fill_it(measured, capsys, monkeypatch, width, columns):
    monkeypatch.delenv("COLUMNS", raising=False)
    if width:
        monkeypatch.setenv("COLUMNS", width)
    paper = measured.folder / "paper.py"
    paper.write_text(paper.read_text().replace('"A toy"', repr("A toy " * 40)).replace('"small"', repr("small " * 40)))
    heads = {"list": "not run yet", "list toy": "quick: small small", "reproduce toy --dry-run": "toy quick: 2 runs"}
    for command, head in heads.items():
        assert main(command.split()) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(head in line for line in lines)
        assert max(map(len, lines)) <= columns
        if command.startswith("list"):
            assert columns - 8 < max(map(len, lines))
            assert " ".join(" ".join(lines).split()).count("A toy") == 40


def test_counts_of_verdicts_are_not_broken(monkeypatch):
    monkeypatch.setenv("COLUMNS", "48")
    counts = "12\u00a0reproduced, 9\u00a0not\u00a0decided, 5\u00a0not\u00a0at\u00a0this\u00a0scale"
    assert wrapped(counts, "  quick 31 cells  ", " " * 11).splitlines() == [
        "  quick 31 cells  12 reproduced, 9 not decided,",
        "           5 not at this scale",
    ]


@pytest.mark.slow
def test_without_wandb_nothing_of_it_is_written(measured):
    assert main(["reproduce", "toy", "--jobs", "1", "--wandb", "off"]) == 0
    assert not list(measured.runs.rglob("*wandb*"))


@pytest.mark.parametrize(
    ("streams", "status", "shown", "unbuffered"),
    [
        (">&- 2>err", 0, "", ""),
        ("2>&- >out", 0, "", ""),
        ("<&- >&- 2>&-", 0, "", ""),
        ("2>&1 | head -1 >out; exit ${PIPESTATUS[0]}", 0, "", ""),
        ("2>&1 | head -1 >out; exit ${PIPESTATUS[0]}", 0, "", "1"),
        (">/dev/full 2>err", 1, "stdout could not be written (No space left on device); the rest was done", ""),
        (">/dev/full 2>err", 1, "stdout could not be written (No space left on device); the rest was done", "1"),
    ],
)
@pytest.mark.slow
def test_streams_that_take_nothing_cost_no_row(measured, streams, status, shown, unbuffered):
    command = f"{sys.executable} -m lightning_regs reproduce toy --jobs 1 --wandb off {streams}"
    environment = os.environ | {
        "PYTHONUNBUFFERED": unbuffered,
        "PYTHONPATH": str(Path(lightning_regs.__file__).parents[1]),
    }
    assert subprocess.run(["bash", "-c", command], env=environment, check=False).returncode == status
    assert len((measured.results / "quick.csv").read_text().splitlines()) == 3
    said = (measured.root / "err").read_text() if (measured.root / "err").exists() else ""
    assert said == (f"lightning-regs: {shown}.\n" if shown else "")


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(measured, capsys):
    (measured.root / "file").write_text("")
    assert main(["reproduce", "toy", "--jobs", "1", "--page", "file"]) == 2
    assert capsys.readouterr().err.startswith("lightning-regs: the page cannot be written to file")
    assert not measured.journal()


BROKEN = {
    "exits": "raise SystemExit(0)",
    "raises": "raise RuntimeError('no \\x1b[2J')",
    "leaves": "class Odd(BaseException):\n    pass\nraise Odd",
    "cell": "from lightning_regs.study import Cell\nCell('a\\ud800', 'm:f')",
    "claim": "from lightning_regs.study import Claim\nClaim('a\\ud800', 's', out_of_reach='x', kind='control')",
    "other": "PAPER = 3",
}


def test_papers_that_cannot_be_loaded_do_not_silence_the_others(measured, capsys):
    for name, text in BROKEN.items():
        (measured.root / "reproductions" / name).mkdir()
        (measured.root / "reproductions" / name / "paper.py").write_text(text)
    for command in (["list"], ["report"], ["report", "toy", *BROKEN]):
        assert main(command) == 1
        said = capsys.readouterr()
        assert ("A toy (Nobody, 2017)" in said.out) or ("toy.html" in said.out)
        for name in BROKEN:
            assert said.err.count(f"lightning-regs: paper {name!r} cannot be loaded: ") == 1
        assert "Traceback" not in said.err
        assert "\x1b" not in said.err
    (measured.root / "README.md").write_text(README)
    (measured.folder / "README.md").write_text("<!-- begin:toy/claims -->\n<!-- end:toy/claims -->\n")
    assert main(["report", "toy", "--cards"]) == 1
    assert "No results yet" in (measured.folder / "README.md").read_text()
    assert (measured.root / "README.md").read_text() == README  # it would lose the papers that cannot be loaded
    capsys.readouterr()
    assert main(["report", "exits"]) == 2
    assert "exits" in capsys.readouterr().err
    assert main(["report", "toy", "typo"]) == 2
    assert capsys.readouterr().err.startswith("lightning-regs: unknown paper 'typo'")


def test_a_paper_that_prints_hides_and_exits_in_a_measure_is_shown_legibly(measured, capsys):
    file = measured.folder / "paper.py"
    text = file.read_text().replace('"A toy"', '"A \\x1b[2J toy\\ud800"').replace("The value", "The \\ud800 value")
    file.write_text(
        "import sys\nprint('said')\nsys.stdout.close()\n"
        + text.replace(
            'value("one", "value")', "type(value('one'))('exits', (('one', 'value'),), lambda number: exit(3))"
        )
    )
    sys.modules.pop("toy.paper", None)
    assert main(["reproduce", "toy", "--jobs", "1", "--wandb", "off"]) == 0
    [claim] = json.loads((measured.results / "quick.claims.json").read_text())
    assert (claim["sentence"], claim["verdict"]) == ("The \ud800 value is small.", "not decided")
    capsys.readouterr()
    for command in (["list"], ["report"]):
        sys.modules.pop("toy.paper", None)
        main(command)
        said = capsys.readouterr()
        assert "said" not in said.out
        assert "said" in said.err
        assert command == ["report"] or "toy  A \\u001b[2J toy\\ud800 (Nobody" in said.out


def test_a_paper_whose_results_are_none_does_not_silence_the_others(measured, capsys):
    other = measured.root / "reproductions" / "other"
    other.mkdir()
    (other / "paper.py").write_text((measured.folder / "paper.py").read_text().replace('id="toy"', 'id="other"'))
    (other / "results").write_text("")
    why = f"the results {other / 'results'} are a file; give the folder that holds SCALE.csv."
    for command in ("list", "report"):
        assert main([command]) == 1
        said = capsys.readouterr()
        assert "toy" in said.out
        assert said.err == f"lightning-regs: {why}\n"


def test_cards_are_those_of_the_papers_own_folder(measured):
    assert main(["reproduce", "toy", "--jobs", "1", "--wandb", "off", "--commit-results"]) == 0
    root = Path(__file__).parents[2] / "README.md"
    before = root.read_bytes()
    (measured.root / "README.md").write_text(README)
    (measured.committed / "quick.claims.json").write_text("[")
    (measured.folder / "README.md").write_text("<!-- begin:toy/claims -->\n<!-- end:toy/claims -->\n")
    assert main(["report", "toy", "toy", "--cards"]) == 0
    assert "[A toy](reproductions/toy/README.md)" in (measured.root / "README.md").read_text()
    assert "The value is small." in (measured.folder / "README.md").read_text()
    assert json.loads((measured.committed / "quick.claims.json").read_text())[0]["verdict"] == "reproduced"
    assert root.read_bytes() == before


def test_a_report_for_wandb_is_written_as_json(measured, capsys):
    assert main(["report", "toy", "--dry-run"]) == 0
    file = measured.runs / "report" / "toy.wandb.json"
    assert capsys.readouterr().out == f"{Path('runs/report/toy.wandb.json')}\n"
    assert json.loads(file.read_text())["specification"]["title"] == "A toy"
    assert main(["report", "toy", "--wandb", "me/mine", "--dry-run", "here.json"]) == 0
    assert json.loads(Path("here.json").read_text())["entity"] == "me"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wandb", ""], "ENTITY/PROJECT"),
        (["--wandb", "me/mine"], "wandb login"),
        (["--results", "nowhere"], "--results nowhere: there is no such folder"),
        (["--results", ".", "--cards"], "leave out --results, or --cards"),
        (["--dry-run", "--cards"], "--wandb and --dry-run write no page"),
        (["--dry-run", "--open"], "--wandb and --dry-run write no page"),
    ],
)
def test_reports_that_make_no_sense_are_refused_in_one_sentence(measured, arguments, message, capsys):
    assert main(["report", "toy", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_claims_are_frozen_before_they_are_measured(measured, capsys):
    def claim():
        assert main(["reproduce", "toy", "--jobs", "1", "--wandb", "off"]) == 0
        [found] = json.loads((measured.results / "quick.claims.json").read_text())
        return found, capsys.readouterr().err

    assert main(["freeze", "toy", "--scale", "quick"]) == 0
    said = capsys.readouterr().out
    assert "new; 2 seeds see 12 standard deviations over seeds" in said
    found, told = claim()
    assert (found["exploratory"], told) == ("", "")
    assert found["frozen"]
    paper = measured.folder / "paper.py"
    paper.write_text(paper.read_text().replace("at_most=9,", "at_most=8,"))
    for name in [n for n in sys.modules if n == "toy" or n.startswith("toy.")]:
        del sys.modules[name]
    found, told = claim()
    assert found["exploratory"] == "changed since it was frozen"
    assert told.count("run `lightning-regs freeze toy`") == 1
    assert main(["report", "toy"]) == 0
    assert capsys.readouterr().err == told
    assert "has changed" in (measured.runs / "report" / "toy.html").read_text()
    assert main(["list"]) == 0
    assert capsys.readouterr().err == told
    assert main(["freeze", "toy", "--reason", "a typo"]) == 0
    assert "changed after its rows" in capsys.readouterr().out
    found, told = claim()
    assert (found["exploratory"], told) == ("changed after its rows (a typo)", "")


def test_one_file_is_no_report_of_two_papers(capsys):
    assert main(["report", "zhang2017", "smith2021", "--dry-run", "one.json"]) == 2
    assert "one.json is one file for 2 papers" in capsys.readouterr().err
