"""GPUs that this machine has not: their memory is made up, and who runs out of it is a task that says so."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from lightning_regs.study import reproduce
from lightning_regs.study.run.events import Job
from lightning_regs.study.run.executors import cards, process
from lightning_regs.study.run.executors.cards import Cards, Memory
from lightning_regs.study.run.executors.local import Processes
from lightning_regs.study.run.preflight import preflight

GB = 1024
TASKS = """
import os, time


def use(config, run):
    with open(config["folder"] + "-cards", "a") as cards:
        cards.write(os.environ["CUDA_VISIBLE_DEVICES"])
    again = (run.folder / "tried").exists()
    (run.folder / "tried").touch()
    here = os.path.join(config["folder"], config["name"])
    open(here, "a").close()
    time.sleep(0.1)
    others = [name for name in os.listdir(config["folder"]) if name != config["name"]]
    os.remove(here)
    if config.get("big") and not again or config.get("big") == "too":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    return {"others": len(others)}
"""


def stack(**trainer):
    return (Job("a", 0, "m:f", {"trainer": trainer}, "/runs/a"),)


@pytest.fixture
def machine():
    return {"0": Memory(40 * GB, 40 * GB), "1": Memory(10 * GB, 10 * GB)}


def test_as_many_runs_as_cores_and_memory_carry(machine):
    assert Cards(lambda: machine).jobs(cores=100) == 10 + 2
    assert Cards(lambda: machine).jobs(cores=3) == 3
    assert Cards(dict).jobs(cores=3) == 3
    assert Cards(lambda: {"0": Memory(1 * GB, 2 * GB)}).jobs(cores=3) == 1
    assert Processes(cards=Cards(lambda: {"0": Memory(GB, GB)})).jobs == 1


def test_a_run_goes_where_memory_is_free_and_waits_while_there_is_none(machine, monkeypatch):
    monkeypatch.setattr(cards, "_LOOK_EVERY", -1.0)
    shared = Cards(lambda: dict(machine))
    running = [shared.place(stack(), []) for _ in range(1)]
    for _ in range(11):
        running.append(shared.place(stack(), running))
    assert sorted(running) == [("0",)] * 10 + [("1",)] * 2
    assert shared.place(stack(), running) is None
    assert shared.place(stack(accelerator="cpu"), running) == ()
    # Once they have settled, what the card itself says counts.
    monkeypatch.setattr(cards, "_SETTLES", 0.0)
    assert shared.place(stack(), running) == ("0",)
    machine |= {"0": Memory(2 * GB, 40 * GB), "1": Memory(3 * GB, 10 * GB)}
    assert shared.place(stack(), running) is None
    # Another program has the memory: nothing of ours will give it back.
    assert shared.place(stack(), []) == ("1",)
    assert shared.place(stack(devices=2), []) == ("0", "1")
    assert shared.place(stack(devices=2), [("0",)]) is None
    # A driver that does not answer says nothing new.
    machine.clear()
    assert shared.place(stack(), []) == ("1",)


@pytest.mark.parametrize(
    ("asked", "number"),
    [(3, 3), ("3", 3), ([1, 0], 2), ("0, 1", 2), ("0,", 1), ("auto", 1), ("-1", 1), (-1, 1), (None, 1)],
)
def test_devices_are_written_as_lightning_takes_them(asked, number):
    assert cards.devices({"trainer": {"devices": asked}}) == number


@pytest.mark.parametrize("asked", [[0, 2], "1,", (1, 2)])
def test_which_devices_a_run_has_is_not_its_cells_to_say(asked):
    with pytest.raises(
        ValueError, match=rf"^cell 'a': trainer.devices is {re.escape(repr(asked))}; give how many .* \([12]\): "
    ):
        preflight(stack(devices=asked))


@pytest.mark.parametrize("number", [1, 2])
def test_a_process_is_told_its_card_where_there_is_a_choice(toy, monkeypatch, number):
    def start(*arguments):
        raise ZeroDivisionError(os.environ.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(process, "start", start)
    toy.write(toy.cell("one"))
    memory = {str(card): Memory(40 * GB, 40 * GB) for card in range(number)}
    with pytest.raises(ZeroDivisionError, match="None" if number == 1 else "0"):
        reproduce("toy", executor=Processes(2, cards=Cards(lambda: memory)))


def test_what_the_driver_says(monkeypatch, tmp_path):
    assert cards.look() == {} or all(memory.total > 0 for memory in cards.look().values())
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "GPU-1, 70000, 81559"\necho "$@" >&2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cards.look() == {"GPU-1": Memory(70000, 81559)}
    asked = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **options: asked.append(command) or real(command, **options))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    cards.look()
    assert asked[0][-1] == "--id=3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cards.look() == {}
    program.write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert cards.look() == {}


@pytest.mark.slow
def test_what_ran_out_of_memory_beside_others_is_tried_again_alone(toy, tmp_path):
    at = tmp_path / "at"
    at.mkdir()
    cells = {"a": {}, "big": {"big": "yes"}, "b": {}, "too": {"big": "too"}}
    lines = [
        f"Cell({name!r}, 'toy.cards:use', {dict(config, name=name, folder=str(at))!r})"
        for name, config in cells.items()
    ]
    toy.write(*lines, seeds=1)
    (toy.folder / "cards.py").write_text(TASKS)
    told = []
    memory = {"0": Memory(40 * GB, 40 * GB), "1": Memory(40 * GB, 40 * GB)}
    outcome = reproduce("toy", executor=Processes(2, cards=Cards(lambda: memory)), on_event=told.append)
    assert [(f.cell, f.text) for f in outcome.failed] == [("too", "OutOfMemoryError: CUDA out of memory")]
    again = [event.cell for event in told if "beside others, and is tried again alone" in event.text]
    assert sorted(again) == ["big", "too"]
    rows = {row.cell: row.metrics for row in outcome.rows}
    assert rows["big"]["others"] == 0
    assert set((tmp_path / "at-cards").read_text()) == {"0", "1"}
