"""What goes wrong with W&B costs one sentence, and nothing of the results."""

from __future__ import annotations

import re
import time

import pytest
from wandb_made import Made, forget_login, logs, make_paper, read_csv

from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.wandb import log as wandb_log
from lightning_regs.study.wandb.mark import InTheWay, Mark
from lightning_regs.study.wandb.record import run_entry


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    forget_login(monkeypatch, tmp_path)


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path)


def _break_wandb(made, monkeypatch, text):
    folder = made.root / "path"
    folder.mkdir()
    (folder / "wandb.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


SETTINGS = "class Settings:\n    model_fields = {}\n"


@pytest.mark.parametrize(
    ("wandb", "word"),
    [
        ("raise ImportError('no such library')", "cannot be imported (ImportError: no such library)"),
        (f"{SETTINGS}def init(**_):\n    raise OSError(28, 'No space left on device')", "No space left"),
        (f"{SETTINGS}def init(**_):\n    import os\n    os._exit(3)", "ended early (exit code 3"),
    ],
)
def test_what_breaks_in_wandb_is_one_warning(made, monkeypatch, wandb, word):
    _break_wandb(made, monkeypatch, wandb)
    outcome = made.reproduce()
    assert outcome.exit_code == 0
    assert len(read_csv(outcome.csv)) == 8
    warning, lost = made.said
    assert word in warning
    assert "--wandb off" in warning
    assert lost == "W&B: 9 runs were not logged; a repeated command logs what is missing."


def test_a_slow_writer_is_waited_for_with_a_word(made, monkeypatch):
    _break_wandb(made, monkeypatch, "import time\ntime.sleep(0.5)\nraise ImportError('late')")
    monkeypatch.setattr(wandb_log, "_PATIENCE", 0.2)
    made.reproduce(results=False)
    assert made.said[0] == "Waiting for W&B to take 8 runs ..."


def test_ctrl_c_while_waiting_ends_the_wait(made, monkeypatch):
    _break_wandb(made, monkeypatch, "import time\ntime.sleep(60)")

    class Said(list):
        def append(self, text):
            super().append(text)
            if text.startswith("Waiting"):
                raise KeyboardInterrupt

    made.said = Said()
    monkeypatch.setattr(wandb_log, "_PATIENCE", 0.1)
    assert made.reproduce(results=False).exit_code == 0
    assert made.said[1:] == ["W&B logging was cut short; repeat the command to complete it."]
    assert made.writers() == []


def test_waiting_after_an_error_is_short(made, monkeypatch):
    monkeypatch.setattr(wandb_log, "_AFTER_ERROR", 0.3)
    _break_wandb(made, monkeypatch, "import time\ntime.sleep(60)")
    began = time.monotonic()

    def fails(event):
        if event.kind == "finished":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        made.reproduce(on_event=fails)
    assert time.monotonic() - began < 30
    assert made.writers() == []


def test_a_failure_of_ours_is_a_warning(made, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(wandb_log, "run_entry", fails)
    monkeypatch.setattr(wandb_log, "results_entry", fails)
    assert made.reproduce().exit_code == 0
    assert made.said == [
        "W&B logging: RuntimeError: a mistake; the results are not affected; --wandb off leaves it out.",
        "W&B: 9 runs were not logged; a repeated command logs what is missing.",
    ]


def test_what_stands_in_the_way_is_named_and_the_rest_is_logged(made):
    paper = make_paper(cells=[Cell(name, "wandb_made:nothing", {"own": name}) for name in "abc"], seeds=1)
    a, b, _ = paper.scale("quick").cells
    file = made.store / a.hash(0) / "wandb"
    file.parent.mkdir(parents=True)
    file.write_text("")
    entry = run_entry("made", "quick", "b", 0, b.config, made.store / b.hash(0))
    folder = made.store / b.hash(0) / "wandb" / f"{entry.id}.json"
    folder.mkdir(parents=True)
    made.reproduce(paper=paper)
    assert made.said == [
        f"W&B logging: {file} is in the way; delete it and repeat the command.",
        "W&B: 2 runs were not logged; a repeated command logs what is missing.",
    ]
    assert len(logs(made.store)) == len(list((made.store / "wandb").glob("offline-run-*"))) == 1
    with pytest.raises(InTheWay, match=f"^{re.escape(str(folder))} is in the way$"), Mark(entry).held():
        pass


def test_a_file_in_place_of_the_folder_of_the_store_is_named(made):
    made.store.mkdir()
    (made.store / "wandb").write_text("")
    assert made.reproduce().exit_code == 0
    assert made.said == [
        f"W&B logging: {made.store / 'wandb'} is in the way; delete it and repeat the command.",
        "W&B: 9 runs were not logged; a repeated command logs what is missing.",
    ]


def test_the_process_starts_where_nothing_can_be_imported(made, monkeypatch):
    _break_wandb(made, monkeypatch, "import os\nraise ImportError(os.getcwd())")
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("PYTHONPATH", "path")  # relative to where the command runs
    made.reproduce(results=False)
    assert f"(ImportError: {made.store / 'wandb'})" in made.said[0]
