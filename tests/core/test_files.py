"""Files are there as a whole or not at all; a folder is held by one at a time."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch

from lightning_regs.core.files import DamagedFileError, _host, atomic_write, digest, disk_full, load, lock, renew, whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_and_old(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    for text in ("one", "two\r\n"):
        with whole(path) as part:
            part.write_bytes(text.encode())
            assert not path.exists() or path.read_bytes() != text.encode()
        assert path.read_bytes() == text.encode()
    assert names(path.parent) == ["b.txt"]


@pytest.mark.parametrize("place", ["pathlib.Path.replace", "os.fsync", "the block"])
def test_what_fails_leaves_the_old_content_and_nothing_else(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    atomic_write(path, "old\r\n")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    def write() -> None:
        with whole(path) as part:
            part.write_text("ne")
            if place == "the block":
                fail()

    with monkeypatch.context() as patch:
        if place != "the block":
            patch.setattr(place, fail)
        with pytest.raises(OSError, match="full"):
            write()
    assert path.read_bytes() == b"old\r\n"
    assert names(tmp_path) == ["file"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "b.txt"):
        pass


def test_a_file_that_holds_the_text_already_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert [renew(path, text) for text in ("é", "é", "e", "ê")] == [True, False, True, True]
    assert path.read_text(encoding="utf-8") == "ê"


def _write_often(path: Path, letter: str) -> None:
    for _ in range(200):
        atomic_write(path, letter * 10_000, durable=False)


def test_two_processes_that_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(path, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["page.html"]


def test_writers_that_meet_have_parts_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with whole(path) as first, whole(path) as second:  # as of two machines on which processes have one number
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["page.html"]


def test_what_killed_writers_left_is_swept_away(tmp_path: Path) -> None:
    end, ended = "0123456789abcdef.part", subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = [f".row.json.{_host()}-{ended.pid}.{end}", f".of.an.earlier.version.{end}", f".old.elsewhere-1.{end}"]
    alive = [f".row.json.{_host()}-{os.getppid()}.{end}", f".new.elsewhere-1.{end}"]
    others = ["row.json", "mine.part", ".users.own.part"]
    for name in (*dead, *alive, *others):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / dead[2], (0, 0))
    with whole(tmp_path / "page.html") as part:
        part.write_text("")
        assert names(tmp_path) == sorted([*alive, *others, part.name])
    assert names(tmp_path) == sorted([*alive, *others, "page.html"])


def test_a_bit_that_is_flipped_anywhere_in_a_file_of_tensors_is_seen_or_means_nothing(tmp_path: Path) -> None:
    path, state = tmp_path / "a.pt", {"a": torch.arange(12.0), "b": {"c": 1.5, "d": "text"}}
    torch.save(state, path)
    content = path.read_bytes()
    seen = 0
    for at in range(0, len(content), 5):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        try:
            found = load(path)
        except (DamagedFileError, UnpicklingError):
            seen += 1
            continue
        assert torch.equal(found["a"], state["a"])
        assert (found["b"], found.keys()) == (state["b"], state.keys())
    assert seen > len(content) / 5 / 3


def test_a_digest_is_sha256(tmp_path: Path) -> None:
    content = os.urandom(2**21 + 17)
    (tmp_path / "file").write_bytes(content)
    assert digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("file", "holder"), [("lock", os.getpid()), ("", None)], ids=["file", "folder"])
def test_a_lock_excludes_others_and_says_who_holds_it(file: str, holder: int | None, tmp_path: Path) -> None:
    said: list[int | None] = []
    got = threading.Event()

    def second() -> None:
        with lock(tmp_path, said.append, file):
            got.set()

    with lock(tmp_path, said.append, file):
        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == [holder]
        assert not got.is_set()
    thread.join(10)
    assert got.is_set()
    assert names(tmp_path) == [file] * bool(file)


def _refuse(pid: int | None) -> None:
    raise RuntimeError(f"process {pid} is at work here")


def test_a_lock_that_is_taken_can_be_refused(tmp_path: Path) -> None:
    with (
        lock(tmp_path),
        pytest.raises(RuntimeError, match=f"process {os.getpid()} is at work"),
        lock(tmp_path, _refuse),
    ):
        pass
    with lock(tmp_path, _refuse):
        pass


def test_a_lock_lets_every_error_of_its_block_through_and_is_free_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not here"), lock(tmp_path):
        raise FileNotFoundError("not here")
    with lock(tmp_path, _refuse):
        pass


@pytest.mark.parametrize("file", ["lock", ""])
def test_a_lock_on_a_folder_that_was_deleted_meanwhile_is_taken_anew(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    entered: list[object] = []

    def second() -> None:
        with lock(folder, lambda pid: entered.append("waiting"), file):
            entered.append(folder.exists())

    with lock(folder, file=file):
        thread = threading.Thread(target=second)
        thread.start()
        while not entered:
            time.sleep(0.01)
        shutil.rmtree(folder)
    thread.join(10)
    assert entered == ["waiting", True]


def test_what_a_full_disk_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("cannot save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert disk_full(error, tmp_path)
    assert not disk_full(RuntimeError("file write failed"), tmp_path)
    assert not disk_full(PermissionError(errno.EACCES, "no"), tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 0}))
    assert disk_full(RuntimeError("file write failed"), tmp_path / "not" / "there")
    assert not disk_full(KeyError("x"), tmp_path)


def test_a_checkpoint_that_unfolds_to_more_than_its_file_is_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "last.ckpt", tmp_path / "packed.ckpt"
    torch.save({"weights": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for part in stored.infolist():
            file.writestr(part.filename, stored.read(part))
    assert load(path)["weights"].shape == (10**6,)
    assert packed.stat().st_size < 10**4
    with pytest.raises(DamagedFileError, match=r"packed.ckpt is damaged \(it would unfold to more than is in it\)"):
        load(packed)
