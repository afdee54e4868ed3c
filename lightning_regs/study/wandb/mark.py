"""What Weights & Biases was told: a small file beside each run that was logged, which is also its lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_regs.study.wandb.record import Entry


class InTheWay(OSError):
    """Something that is not ours stands where a folder or a file of ours has to be; the text names it.

    Attributes:
        remedy: What the user can do about it.
    """

    remedy = "delete it and repeat the command"

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in the way")


class Mark:
    """What one W&B run was told, in ``FOLDER/wandb/ID.json``, which is also its lock.

    Args:
        entry: The run.
    """

    def __init__(self, entry: Entry) -> None:
        self.id = entry.id
        self.folder = Path(entry.folder) / "wandb"
        self.path = self.folder / f"{entry.id}.json"

    def read(self) -> dict[str, Any]:
        """Return what it says; nothing when it is missing, damaged, or of a run that was not completed."""
        return read_mark(self.path)

    def current(self, digest: str, online: bool) -> bool:
        """Tell whether W&B was told exactly this, and what it was told is still there.

        Args:
            digest: :meth:`Entry.digest` of what it is to be told.
            online: Whether it has to be on the server; otherwise a folder that can be uploaded will do.
        """
        said = self.read()
        if said.get("digest") != digest:
            return False
        if said.get("uploaded"):
            return True
        return not online and is_whole(self.folder, said)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the run alone among all processes on this machine; yields False when another one has it."""
        with holding(self.path) as held:
            yield held

    def clear(self) -> None:
        """Delete what was told before, so that there is never a second folder of the same run."""
        self.path.write_text("", encoding="utf-8")
        for folder in self.folder.glob(f"*run-*-{self.id}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def write(self, entry: Entry, digest: str, run: Path, uploaded: bool) -> None:
        """Say that the run is complete.

        Args:
            entry: The run.
            digest: Hash of what was told.
            run: The folder that W&B made.
            uploaded: Whether it is on the server.
        """
        log = run / f"run-{self.id}.wandb"
        size, digest_of_log = _secure(log)
        said = {
            "paper": entry.paper,
            "name": entry.name,
            "digest": digest,
            "run": run.name,
            "log": log.name,
            "bytes": size,
            "sha256": digest_of_log,
            "uploaded": uploaded,
        }
        if entry.job_type == "results":
            said["at"] = str(run)  # its log names the files of its artifacts by where they are
        self.path.write_text(json.dumps(said) + "\n", encoding="utf-8")


def read_mark(path: Path) -> dict[str, Any]:
    """Read the file of a :class:`Mark`; see :meth:`Mark.read`."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    names = ("digest", "run", "log", "paper")
    return said if isinstance(said, dict) and all(isinstance(said.get(name), str) for name in names) else {}


def log_of(folder: Path, said: Mapping[str, Any]) -> Path | None:
    """Return the log that a mark speaks of; None when what it says are not names of a folder and a file beside it.

    Args:
        folder: The ``wandb/`` folder that holds the mark.
        said: What the mark says.
    """
    run, log = str(said["run"]), str(said["log"])
    plain = all(name not in ("", ".", "..") and not {"/", "\0"} & set(name) for name in (run, log))
    return folder / run / log if plain else None


def is_whole(folder: Path, said: Mapping[str, Any]) -> bool:
    """Tell whether the log that a mark speaks of is there, as it was, and in a place where it is good.

    Args:
        folder: The ``wandb/`` folder that holds the mark.
        said: What the mark says.
    """
    log = log_of(folder, said)
    if log is None or said.get("at", str(log.parent)) != str(log.parent):
        return False
    try:
        # The size alone is no proof: after a power cut a log can be as long as it was, and zeros.
        return log.stat().st_size == said.get("bytes") and _digest(log.read_bytes()) == said.get("sha256")
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def make_folder(folder: Path) -> Path:
    """Make a folder where it is missing.

    Raises:
        InTheWay: If something else is there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        found = (path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir())
        raise InTheWay(next(found, folder)) from error
    return folder


@contextlib.contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Lock a mark's file, making it where it is missing; see :meth:`Mark.held`."""
    make_folder(path.parent)
    # In place and never replaced: the lock is on this very file. One that a kill left half written counts as missing.
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except IsADirectoryError as error:
        raise InTheWay(path) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def _secure(log: Path) -> tuple[int, str]:
    """Bring a log to the disk before anything says that it is there; return its size and its hash."""
    if not log.exists():  # online, wandb keeps none
        return 0, _digest(b"")
    with log.open("rb") as file:
        content = file.read()
        os.fsync(file.fileno())
    return len(content), _digest(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
