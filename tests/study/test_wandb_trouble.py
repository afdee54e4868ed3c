"""What goes wrong with W&B costs one sentence, and nothing of the results."""

from __future__ import annotations

import time

import pytest
from wandb_made import Made, forget_login, read_csv

from lightning_regs.study import wandb_log


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
    [warning] = made.said
    assert word in warning
    assert "--wandb off" in warning


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
        "W&B logging: RuntimeError: a mistake; the results are not affected; --wandb off leaves it out."
    ]
