"""The process beside a command: what goes wrong with W&B costs a sentence or two, and nothing of the results."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from wandb_lab import Lab, inspect, isolate, read_csv

from lightning_regs.study.wandb.export import Results
from lightning_regs.study.wandb.process import Exporter, default_mode

LOST = "W&B: {} runs not logged; a repeated command logs what is missing."


def break_wandb(lab, monkeypatch, text):
    """Put something else in the place of wandb."""
    folder = lab.root / "path"
    folder.mkdir()
    (folder / "wandb.py").write_text(text)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store in which all runs are finished, and nothing is exported."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, root)
        Lab(root).reproduce("off")
    assert not list(root.rglob("*wandb*"))
    return root


@pytest.fixture
def measured(lab, finished):
    """A copy of that store."""
    shutil.copytree(finished, lab.root, dirs_exist_ok=True)
    return lab


def each_once(lab):
    """Check that there is one whole folder for each cell and seed."""
    for run in lab.runs():
        [folder] = (run.home / "wandb").glob(f"*run-*-{run.id}*")
        assert inspect(folder)[1]["state"] == "finished"


@pytest.mark.slow
def test_a_killed_process_costs_a_sentence_and_a_repeated_command_completes(measured, eventually):
    with Exporter("offline", measured.store, say=measured.say) as exporter:
        for run in measured.runs():
            exporter.add(run)
        eventually(measured.logs, "it has begun")
        os.kill(measured.process().pid, signal.SIGKILL)
    assert not exporter.complete
    [said] = measured.said
    assert "its process ended early (SIGKILL, see " in said
    assert said.endswith("repeat the command to complete it.")
    # What ones that were killed within a run leave behind; wandb counts those that began in one second.
    run = measured.runs()[-1]
    for count in ("", "-1"):
        (run.home / "wandb" / f"offline-run-20200101_000000-{run.id}{count}" / "files").mkdir(parents=True)
    outcome = measured.reproduce()
    assert outcome.exit_code == 0
    each_once(measured)
    assert len(measured.said) == 1


@pytest.mark.slow
def test_two_commands_at_once_write_each_run_once(measured):
    threads = [threading.Thread(target=measured.reproduce) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    each_once(measured)
    assert measured.said == []


SETTINGS = "def init(**_):\n    "


@pytest.mark.parametrize(
    ("wandb", "words"),
    [
        ("raise ImportError('no such library')", "ImportError: no such library"),
        (f"{SETTINGS}raise OSError(28, 'No space left on device')", "No space left on device"),
    ],
)
@pytest.mark.slow
def test_what_breaks_in_wandb_is_said_and_counted(lab, monkeypatch, wandb, words):
    break_wandb(lab, monkeypatch, wandb)
    outcome = lab.reproduce()
    assert outcome.exit_code == 0
    assert len(read_csv(outcome.csv)) == 8
    why, lost = lab.said
    assert words in why
    assert why.endswith("; the results are not affected.")
    assert lost == LOST.format(9)


@pytest.mark.slow
def test_what_stands_in_the_way_is_named_and_the_rest_is_logged(measured):
    first, second, *_ = measured.runs()
    file = first.home / "wandb"
    file.write_text("")
    (second.home / "wandb" / f"{second.id}.json").mkdir(parents=True)
    measured.reproduce()
    why, lost = measured.said
    assert str(file) in why
    assert lost == LOST.format(2)
    assert len(measured.logs()) == 8
    file.unlink()
    measured.said.clear()
    folder = measured.store.root / "wandb"
    shutil.rmtree(folder)
    folder.write_text("")
    with Exporter("offline", measured.store, say=measured.say) as exporter:
        exporter.add(first)
        exporter.add(Results("made", "quick", measured.results / "made", measured.store.root))
    assert str(folder) in measured.said[0]
    assert measured.said[1] == LOST.replace("runs", "run").format(1)
    assert list((first.home / "wandb").glob(f"*run-*-{first.id}"))
    measured.said.clear()
    with Exporter("offline", measured.store, say=measured.say) as exporter:  # which imports no wandb
        exporter.add(Results("unknown", "quick", measured.root, measured.root / "elsewhere"))
    assert "unknown paper 'unknown'" in measured.said[0]


def test_ctrl_c_while_waiting_ends_the_wait(measured, monkeypatch):
    break_wandb(measured, monkeypatch, "import time\ntime.sleep(600)")

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    with Exporter("offline", measured.store, say=measured.say) as exporter:
        exporter.add(measured.runs()[0])
        threading.Timer(0.5, interrupt).start()
    assert measured.said == ["W&B logging was cut short; repeat the command to complete it."]
    assert not exporter.complete


def test_an_error_of_the_command_is_not_kept_waiting(measured, monkeypatch):
    break_wandb(measured, monkeypatch, "import time\ntime.sleep(600)")

    def fails(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measured.reproduce(on_event=fails)
    assert measured.said == []


@pytest.mark.slow
def test_a_login_alone_uploads_nothing(lab, server, monkeypatch):
    for mode, expected in {"": "offline", "online": "offline", "dryrun": "offline", "disabled": "off"}.items():
        monkeypatch.setenv("WANDB_MODE", mode)
        assert default_mode() == expected
    lab.reproduce(default_mode())
    lab.reproduce("offline", "other")
    assert server.asked == []


@pytest.mark.slow
def test_the_command_imports_nothing_of_it():
    heavy = {"torch", "pytorch_lightning", "lightning", "wandb", "matplotlib", "numpy", "pandas", "jinja2"}
    code = f"import lightning_regs.study.wandb.process, sys; print(*{heavy!r} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"\n"
