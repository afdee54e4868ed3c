from __future__ import annotations

import errno
import json
import math
import os
import time

import pytest

from lightning_regs.core.runs import Run, RunContext, Store, atomic_write, disk_full


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "0123456789abcdef"
    path.mkdir()
    return path


def test_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_REGS_RUNS", raising=False)
    assert Store().root == tmp_path / "runs"
    monkeypatch.setenv("LIGHTNING_REGS_RUNS", str(tmp_path / "env"))
    assert Store().root == tmp_path / "env"
    assert Store("given").run("abc").folder == tmp_path / "given" / "abc"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config_hash": "another"}', "\0\0\0", "null"])
def test_a_damaged_row_counts_as_none(folder, text):
    (folder / "row.json").write_text(text)
    assert Run(folder).row() is None


def test_a_finished_run_has_its_row_and_no_error(folder):
    run = Run(folder)
    run.fail("Traceback")
    assert (run.row(), run.error()) == (None, "Traceback")
    run.finish({"acc": math.nan, "config_hash": run.hash})
    row = run.row()
    assert row is not None
    assert math.isnan(row["acc"])
    assert run.error() is None


def test_atomic_write_leaves_the_old_file_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, "old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "full")

    for name in ("os.replace", "os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(name, fail)
            with pytest.raises(OSError, match="full"):
                atomic_write(path, "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
    atomic_write(path, "new\r\n")
    assert path.read_bytes() == b"new\r\n"


def test_a_lock_excludes_others_and_says_who_holds_it(folder):
    said = []
    import threading

    got = threading.Event()

    def second():
        with Run(folder).lock(said.append):
            got.set()

    with Run(folder).lock(said.append):
        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == [os.getpid()]
        assert not got.is_set()
    thread.join(10)
    assert got.is_set()


def test_a_lock_lets_every_error_of_its_block_through(folder):
    run = Run(folder)
    with pytest.raises(FileNotFoundError, match="not here"), run.lock():
        raise FileNotFoundError("not here")
    with run.lock(lambda pid: pytest.fail("the lock was kept")):
        pass


def test_a_lock_on_a_folder_that_was_deleted_meanwhile_is_taken_anew(folder):
    import shutil
    import threading

    entered = []

    def second():
        with Run(folder).lock(lambda pid: entered.append("waiting")):
            entered.append((folder / "lock").exists())

    with Run(folder).lock():
        thread = threading.Thread(target=second)
        thread.start()
        while not entered:
            time.sleep(0.01)
        shutil.rmtree(folder)
    thread.join(10)
    assert entered == ["waiting", True]


def test_curves_read_back(folder):
    run = RunContext(folder)
    run.log_curve({"step": 10, "epoch": 1, "acc": 0.1 + 0.2})
    run.log_curve({"epoch": 2, "step": 20, "loss": 1e-300})
    run.log_curve({"step": 30, "epoch": 3, "acc": math.nan, "loss": math.inf})
    rows = run.curves
    assert rows[0] == {"step": 10, "epoch": 1, "acc": 0.1 + 0.2}
    assert rows[1] == {"step": 20, "epoch": 2, "loss": 1e-300}
    assert math.isnan(rows[2]["acc"])
    assert (folder / "curves.csv").read_text().splitlines()[0] == "step,epoch,acc,loss"


@pytest.mark.parametrize("axis", ["epoch", "step"])
def test_a_second_attempt_drops_what_it_repeats(folder, axis):
    first = RunContext(folder)
    for at in (1, 2, 3, 4):
        first.log_curve({axis: at, "acc": at})
    second = RunContext(folder)
    second.log_curve({axis: 3, "acc": 30})
    second.log_curve({axis: 4, "acc": 40})
    assert [(row[axis], row["acc"]) for row in second.curves] == [(1, 1), (2, 2), (3, 30), (4, 40)]


def test_a_line_cut_short_by_a_kill_is_dropped(folder):
    first = RunContext(folder)
    first.log_curve({"epoch": 1, "acc": 0.5})
    with (folder / "curves.csv").open("a") as file:
        file.write("2,0.")
    assert Run(folder).curves() == [{"epoch": 1, "acc": 0.5}]
    second = RunContext(folder)
    second.log_curve({"epoch": 2, "acc": 0.75})
    assert Run(folder).curves() == [{"epoch": 1, "acc": 0.5}, {"epoch": 2, "acc": 0.75}]


@pytest.mark.parametrize("text", ["", "\n", "epoch,acc\n1\n2,x\n3,4\n", "garbage"])
def test_damaged_curves_give_what_is_whole(folder, text):
    (folder / "curves.csv").write_text(text)
    assert Run(folder).curves() == ([{"epoch": 3, "acc": 4}] if "3,4" in text else [])
    RunContext(folder).log_curve({"epoch": 4, "acc": 5})
    assert Run(folder).curves()[-1] == {"epoch": 4, "acc": 5}


def test_curves_of_a_checkpoint_replace_the_file(folder):
    run = RunContext(folder)
    for epoch in (1, 2, 3):
        run.log_curve({"epoch": epoch, "acc": 0})
    again = RunContext(folder)
    again.restore_curves([{"epoch": 1, "acc": 0.0, "loss": 2.0}])
    again.log_curve({"epoch": 2, "acc": 1})
    assert again.curves == [{"epoch": 1, "acc": 0, "loss": 2}, {"epoch": 2, "acc": 1}]
    fresh = RunContext(folder)
    fresh.restore_curves([])
    assert fresh.curves == []


def test_time_adds_up_over_attempts(folder):
    (folder / "elapsed").write_text("100.0")
    run = RunContext(folder)
    assert 100 <= run.elapsed < 105
    run.progress(1, 2)
    run.close()
    assert 100 <= RunContext(folder).elapsed < 110
    (folder / "elapsed").write_text("rubbish")
    assert RunContext(folder).elapsed < 5


def test_progress_is_thinned_but_the_last_gets_through(folder):
    seen = []
    run = RunContext(folder, on_progress=lambda *event: seen.append(event))
    for step in range(1, 1001):
        run.progress(step, 1000, "x")
    assert seen[0] == (1, 1000, "x")
    assert seen[-1] == (1000, 1000, "x")
    assert len(seen) < 200


def test_what_a_full_disk_looks_like(tmp_path, monkeypatch):
    error = RuntimeError("cannot save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert disk_full(error, tmp_path)
    assert not disk_full(RuntimeError("file write failed"), tmp_path)
    assert not disk_full(PermissionError(errno.EACCES, "no"), tmp_path)
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert disk_full(RuntimeError("file write failed"), tmp_path / "not" / "there")
    assert not disk_full(KeyError("x"), tmp_path)


def test_defaults_of_the_context(folder):
    assert RunContext(folder, threads=2).device == "cpu (2 threads)"
    assert RunContext(folder).device == "cpu (1 thread)"
    assert RunContext(folder).curves == []
    assert json.dumps(RunContext(folder, seed=3).seed) == "3"
