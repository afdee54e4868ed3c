from __future__ import annotations

import contextlib
import multiprocessing.resource_tracker
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from lightning_regs.core.files import out_of_gpu_memory
from lightning_regs.core.runs import Store
from lightning_regs.study import load_paper, reproduce
from lightning_regs.study.run.children import start
from lightning_regs.study.run.executors.local import Processes
from lightning_regs.study.run.provenance import cores, processor
from lightning_regs.study.run.worker import perform


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_processes_are_used_again_have_their_threads_and_print_into_the_log(toy):
    toy.write(*[toy.cell(name, task="environment") for name in ("a", "b", "c")], seeds=2)
    outcome = reproduce("toy", executor=Processes(2, threads=3))
    assert outcome.exit_code == 0
    assert {row.metrics["omp"] for row in outcome.rows} == {3}
    assert {row.metrics["left"] for row in outcome.rows} == {0}
    assert {row.origin["device"] for row in outcome.rows} == {f"cpu (3 threads), {processor()}"}
    pids = {row.metrics["pid"] for row in outcome.rows}
    assert len(pids) <= 2
    assert not any(alive(pid) for pid in pids)
    for row in outcome.rows:
        log = Store().run(row.origin["config_hash"]).folder / "log.txt"
        assert log.read_text() == "said to standard output\n"
    assert "LEFT_BEHIND" not in os.environ


def test_events_come_from_the_processes(toy):
    toy.write(toy.cell("one", steps=3, sleep=0.15), seeds=1)
    events = []
    reproduce("toy", jobs=1, on_event=events.append)
    assert [e.kind for e in events] == ["plan", "started", "progress", "progress", "progress", "finished"]
    assert [(e.done, e.total) for e in events[2:5]] == [(1, 3), (2, 3), (3, 3)]
    assert events[4].text == "value 0.67"
    assert events[5].row["value"] == 0.0


@pytest.mark.slow
def test_a_process_that_dies_fails_its_run_only(toy):
    name = "SIGSEGV"
    toy.write(toy.cell("one", die=name), toy.cell("two"), toy.cell("three"))
    outcome = reproduce("toy", jobs=2)
    assert [(f.cell, f.seed) for f in outcome.failed] == [("one", 0)]
    assert name in outcome.failed[0].text
    assert name in Path(outcome.failed[0].folder, "error.txt").read_text()
    assert outcome.finished == 5
    assert outcome.exit_code == 1


def test_numbers_are_checked():
    with pytest.raises(ValueError, match="jobs=0"):
        Processes(0)
    with pytest.raises(ValueError, match="threads=0"):
        Processes(1, threads=0)


def test_what_emit_raises_leaves_no_process_behind(toy):
    toy.write(toy.cell("one", steps=1000, sleep=0.05), toy.cell("two", steps=1000, sleep=0.05), seeds=1)

    def stop(event):
        if event.kind == "progress" and len(toy.journal()) == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reproduce("toy", jobs=2, on_event=stop)
    assert not any(alive(pid) for _, _, pid in toy.journal())


@pytest.mark.slow
def test_killed_in_the_middle_goes_on_where_it_was(toy, eventually):
    toy.write(toy.cell("short"), toy.cell("long", steps=1000, sleep=0.05, resumes=True), toy.cell("never"), seeds=1)
    command = toy.start(jobs=1)
    eventually(lambda: ("long", 0) in toy.ran(), "the long run starts")
    folder = Store().run(load_paper("toy").scale("quick").cells[1].hash(0)).folder
    eventually(lambda: len(Store().run(folder.name).curves()) >= 3, "the long run logs")
    command.kill()
    command.wait()
    worker = toy.journal()[-1][2]
    eventually(lambda: not alive(worker), "the worker dies with its parent", 10)
    assert [p.parent.name for p in toy.runs.glob("*/row.json")] != []
    assert len((toy.results / "quick.csv").read_text().splitlines()) == 2

    # The same runs, quicker from here on: the configuration, and with it the hash, stays.
    tasks = toy.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace("time.sleep(", "(0, ").replace('config.get("steps", 1)', "20"))
    again = toy.start(jobs=1)
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0, out
    assert toy.ran() == [("long", 0), ("long", 0), ("never", 0), ("short", 0)]
    curve = [row["epoch"] for row in Store().run(folder.name).curves()]
    assert curve == list(range(1, 21))
    assert "3 runs, 1 complete, 2 to do" in out


@pytest.mark.parametrize("jobs", [0, 2])
@pytest.mark.slow
def test_ctrl_c_stops_cleanly(toy, eventually, jobs):
    toy.write(toy.cell("short"), toy.cell("long", steps=1000, sleep=0.05), toy.cell("never"), seeds=1)
    command = toy.start(jobs=jobs)
    eventually(lambda: ("long", 0) in toy.ran() and list(toy.runs.glob("*/row.json")), "the long run starts")
    # As a terminal does it: to the whole process group.
    os.killpg(command.pid, signal.SIGINT)
    out, _ = command.communicate(timeout=20)
    assert command.returncode == 130, out
    assert out.splitlines()[-1].startswith("interrupted, ")
    assert out.splitlines()[-1].endswith("repeat the command to go on")
    assert "Traceback" not in out
    assert not any(alive(pid) for _, _, pid in toy.journal())
    assert not list(toy.runs.glob("*/error.txt"))


def test_ctrl_c_does_not_reach_a_process_that_starts(tmp_path, monkeypatch):
    text = "import signal\ndef body(pipe):\n    pipe.send(signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    (tmp_path / "blocked.py").write_text(text)  # a module of its own: this one would import torch
    monkeypatch.syspath_prepend(tmp_path)
    import blocked

    multiprocessing.resource_tracker._resource_tracker._stop()  # the next process starts it, as a command's first does
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pipe, process = start(blocked.body, "test")
    assert pipe.recv() == {signal.SIGINT} | before
    process.join()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_an_exit_made_of_ctrl_c_is_ctrl_c(toy, tmp_path):
    toy.write(toy.cell("one", seeds=1))
    (toy.folder / "tasks.py").write_text(
        "def count(config, run):\n"
        "    try:\n        raise KeyboardInterrupt\n"
        "    except KeyboardInterrupt:\n        raise SystemExit(1)\n"
    )
    outcome = reproduce("toy", jobs=0)
    assert outcome.interrupted
    assert outcome.failed == []


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [0, 1])
def test_the_second_command_takes_what_is_free_then_waits_for_the_row(toy, eventually, jobs):
    gate = toy.root / "go"
    toy.write(toy.cell("one", until=str(gate)), toy.cell("two"), seeds=1)
    first = toy.start(jobs=1)
    eventually(toy.ran, "the first command trains")
    second = toy.start(jobs=jobs)
    assert second.stdout is not None
    said = ""
    while "waiting" not in said and (line := second.stdout.readline()):
        said += line
    gate.touch()
    out_second = said + second.communicate(timeout=60)[0]
    first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert toy.ran() == [("one", 0), ("two", 0)]
    workers = [pid for _, _, pid in toy.journal()]
    assert workers[0] != workers[1]
    assert out_second.count("waiting") == 1
    assert f"run one seed 0 is being trained by process {workers[0]}; waiting" in out_second
    assert "[1/2] two seed 0: finished" in out_second
    assert "[2/2] one seed 0: finished" in out_second


@pytest.mark.slow
def test_two_commands_at_once_lose_no_row(toy):
    toy.write(*[toy.cell(f"cell-{i}", steps=2, sleep=0.01) for i in range(6)], seeds=2)
    commands = [toy.start(jobs=1, cells="cell-[024]"), toy.start(jobs=1, cells="cell-[135]")]
    for command in commands:
        out, _ = command.communicate(timeout=120)
        assert command.returncode == 0, out
    assert len((toy.results / "quick.csv").read_text().splitlines()) == 13
    assert len(toy.ran()) == 12


def test_a_lock_left_behind_does_no_harm(toy):
    toy.write(toy.cell("one"), seeds=1)
    [cell] = load_paper("toy").scale("quick").cells
    folder = Store().run(cell.hash(0)).folder
    folder.mkdir(parents=True)
    (folder / "lock").write_text("1")
    events = []
    began = time.monotonic()
    assert reproduce("toy", jobs=0, on_event=events.append).finished == 1
    assert time.monotonic() - began < 5
    assert "waiting" not in [e.kind for e in events]


def test_a_full_disk_in_a_task_stops_in_one_sentence(toy):
    toy.write(*[toy.cell(name, task="full") for name in ("fine", "full", "never")], seeds=1)
    outcome = reproduce("toy", jobs=1)
    assert outcome.exit_code == 1
    assert outcome.finished == 1
    assert outcome.stopped == (
        f"the disk that holds {toy.runs} is full: nothing finished is lost; free some space and repeat the command"
    )
    assert [f.cell for f in outcome.failed] == ["full"]
    assert [r.cell for r in outcome.rows] == ["fine"]


@pytest.mark.parametrize("target", ["row.json", "quick.csv", "quick.claims.json", "curves.csv"])
def test_a_disk_that_fills_up_at_any_file_leaves_whole_files(toy, monkeypatch, target):
    import errno

    toy.write(toy.cell("one"), toy.cell("two"), seeds=1)
    assert reproduce("toy", jobs=0, cells="two").finished == 1
    before = (toy.results / "quick.csv").read_text()
    real = os.replace

    def replace(source, destination):
        if str(destination).endswith(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(destination))
        real(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace)
        outcome = reproduce("toy", jobs=0)
    assert "is full: nothing finished is lost" in outcome.stopped
    assert outcome.exit_code == 1
    assert (toy.results / "quick.csv").read_text() == before or target == "quick.claims.json"
    assert not list(toy.root.rglob("*.part"))
    finished = 1 if target in ("row.json", "curves.csv") else 2
    assert len(list(toy.runs.glob("*/row.json"))) == finished
    again = reproduce("toy", jobs=0)
    assert again.exit_code == 0
    assert len(again.rows) == 2
    assert toy.ran().count(("two", 0)) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(toy, small_disk):
    toy.write(toy.cell("one", steps=3), toy.cell("two", steps=3), seeds=1)

    def fill(event):
        if event.kind == "finished":
            with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as file:
                while True:
                    file.write(b"0" * 4096)

    outcome = reproduce("toy", jobs=0, runs_dir=small_disk / "runs", on_event=fill)
    assert outcome.finished == 1
    assert "is full" in outcome.stopped
    assert [row.cell for row in outcome.rows] == ["one"]
    (small_disk / "fill").unlink()
    again = reproduce("toy", jobs=0, runs_dir=small_disk / "runs")
    assert (again.exit_code, again.skipped, again.finished) == (0, 1, 1)


def test_a_complete_run_is_not_carried_out_again(toy):
    toy.write(toy.cell("one"), seeds=1)
    reproduce("toy", jobs=0)
    from lightning_regs.study.run.events import Job

    [cell] = load_paper("toy").scale("quick").cells
    job = Job("one", 0, cell.task, cell.config, str(Store().run(cell.hash(0)).folder), str(toy.folder.parent))
    events = []
    perform((job,), 1, events.append)
    assert [e.kind for e in events] == ["finished"]
    assert toy.ran() == [("one", 0)]


def test_a_run_in_this_process_leaves_torch_its_threads_and_its_tf32(toy):
    torch.set_num_threads(cores() + 1)
    toy.write(toy.cell("one", task="on_a_gpu"), seeds=1)
    [row] = reproduce("toy", jobs=0).rows
    assert row.metrics["tf32"] == 0
    assert row.origin["precision"] == "32-true (no TF32)"
    assert torch.get_num_threads() == cores() + 1
    assert torch.backends.cudnn.allow_tf32


LOST = """
import sys, types


def use(config, run):
    if config["name"] == "a":
        def lost():
            raise RuntimeError("CUDA error: device-side assert triggered")

        calls = dict.fromkeys(["synchronize", "empty_cache"], lambda: None) | {config["fails"]: lost}
        cuda = types.SimpleNamespace(is_initialized=lambda: True, **calls)
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
        lost()
    return {"had": "torch" in sys.modules}
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["synchronize", "empty_cache"])
def test_a_process_that_has_lost_its_gpu_gets_no_other_run(toy, fails):
    cells = ({"name": name, "fails": fails} for name in "abc")
    toy.write(*[f"Cell({cell['name']!r}, 'toy.lost:use', {cell!r})" for cell in cells], seeds=1)
    (toy.folder / "lost.py").write_text(LOST)
    outcome = reproduce("toy", executor=Processes(1))
    assert [f.cell for f in outcome.failed] == ["a"], [(f.cell, f.text) for f in outcome.failed]
    assert "device-side assert" in outcome.failed[0].text
    assert {row.cell: row.metrics["had"] for row in outcome.rows} == {"b": 0, "c": 0}


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("CUDA error: out of memory"), True),  # of a context, to which no allocator belongs
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (MemoryError("out of memory"), False),
    ],
)
def test_whose_memory_did_not_suffice_is_told(error, memory):
    assert out_of_gpu_memory(error) is memory
    wrapped = ValueError("a step cannot be captured")
    wrapped.__cause__ = error
    assert out_of_gpu_memory(wrapped) is memory
