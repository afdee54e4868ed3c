"""Run folders named by the hash of what they hold: locking, whole-or-nothing files, and what a task sees of its run."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_regs.core.files import whole

RUNS_ENV = "LIGHTNING_REGS_RUNS"
# Columns of a row that are not metrics, in the order of results/SCALE.csv around the metrics.
LEADING = ("paper", "scale", "cell", "seed")
TRAILING = ("epochs", "wall_s", "device", "precision", "commit", "versions", "config_hash")
FIXED = (*LEADING, *TRAILING)
_SAVE_ELAPSED_EVERY = 2.0


class Store:
    """All runs on this machine, one folder each.

    Args:
        root: The folder that holds them; default: environment variable ``LIGHTNING_REGS_RUNS``, else ``runs/`` in the
            working directory.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root or os.environ.get(RUNS_ENV) or "runs").expanduser().absolute()

    def run(self, run_hash: str) -> Run:
        """Return the run of that hash, whether it exists or not."""
        return Run(self.root / run_hash)


class Run:
    """One run's folder. It is complete when its ``row.json`` is there.

    Args:
        folder: The folder; its name is the run's hash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def hash(self) -> str:
        """The run's name."""
        return self.folder.name

    def row(self) -> dict[str, Any] | None:
        """Return the finished row, or None when the run is not complete or its file is damaged."""
        try:
            row = json.loads((self.folder / "row.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return row if isinstance(row, dict) and row.get("config_hash") == self.hash else None

    def finish(self, row: Mapping[str, Any]) -> None:
        """Write the row, which makes the run complete, and drop the error of an earlier attempt."""
        atomic_write(self.folder / "row.json", json.dumps(row, indent=1) + "\n")
        (self.folder / "error.txt").unlink(missing_ok=True)

    def error(self) -> str | None:
        """Return the traceback of the last attempt, or None when it did not fail."""
        try:
            return (self.folder / "error.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def fail(self, text: str) -> None:
        """Keep the traceback of a failed attempt, if the disk allows it."""
        with contextlib.suppress(OSError):
            atomic_write(self.folder / "error.txt", text)

    def curves(self) -> list[dict[str, float]]:
        """Return the rows of ``curves.csv``; a line that a kill cut short is left out."""
        try:
            text = (self.folder / "curves.csv").read_text(encoding="utf-8")
        except OSError:
            return []
        header, *lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))) or [[]]
        rows: list[dict[str, float]] = []
        for line in lines:
            with contextlib.suppress(ValueError):
                rows.append({name: float(entry) for name, entry in zip(header, line, strict=True) if entry})
        return rows

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[int | None], None] = lambda pid: None) -> Iterator[None]:
        """Hold the run alone, among all processes on this machine.

        The kernel drops the lock when its process ends in whatever way, so a file left behind does no harm.

        Args:
            waiting: Called once, with the holder's process id when it is known, if another process has the lock.
        """
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = os.pread(handle, 20, 0).strip()
                    waiting(int(holder) if holder.isdigit() else None)
                    waiting = _said
                    fcntl.flock(handle, fcntl.LOCK_EX)
                # The folder may have been deleted meanwhile: then the lock is held on a file that nobody else sees.
                if _same_file(handle, path):
                    with contextlib.suppress(OSError):
                        os.ftruncate(handle, 0)
                        os.pwrite(handle, str(os.getpid()).encode(), 0)
                    yield
                    return
            finally:
                os.close(handle)


class RunContext:
    """What a task is given beside its configuration.

    Args:
        folder: Scratch folder for checkpoints and the like; survives a kill and is the same at the next attempt.
        seed: The run's seed.
        threads: Threads that the task may use, at least 1.
        on_progress: Receives ``(done, total, text)``.
        inputs: Folders of the runs that this one needs, by the names of their cells.

    Attributes:
        device: What it ran on; a task that uses something other than the CPU sets it.
        precision: Arithmetic of the run; a task with another than full precision sets it.
        epochs: Passes over the training set; None for a task that has none.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        seed: int = 0,
        threads: int = 1,
        on_progress: Callable[[float, float, str], None] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.inputs = {name: Path(path) for name, path in (inputs or {}).items()}
        self.seed = seed
        self.threads = threads
        self.device = f"cpu ({threads} thread{'s' if threads > 1 else ''})"
        self.precision = "32-true"
        self.epochs: float | None = None
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._before = self._read_elapsed()
        self._saved = self._sent = -float("inf")
        self._header: list[str] | None = None

    @property
    def elapsed(self) -> float:
        """Seconds spent on this run so far, those of interrupted attempts included."""
        return self._before + time.monotonic() - self._began

    @property
    def curves(self) -> list[dict[str, float]]:
        """The rows logged so far, those of interrupted attempts included."""
        return Run(self.folder).curves()

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Say how far the run is; cheap enough to be called at every step.

        Args:
            done: Units finished, for example epochs.
            total: Units in all.
            text: A few words, for example the last metrics.
        """
        now = time.monotonic()
        if self._on_progress is not None and (now - self._sent >= 0.1 or done >= total):
            self._sent = now
            self._on_progress(float(done), float(total), text)
        self._save_elapsed(_SAVE_ELAPSED_EVERY)

    def log_curve(self, row: Mapping[str, float]) -> None:
        """Append one row to ``curves.csv``.

        The first row that an attempt logs drops what an earlier attempt logged at that epoch (else step) or later, so
        the file never holds an epoch twice.

        Args:
            row: Column -> number. The columns of the first row lead; one that comes later is added behind them.
        """
        if self._header is None:
            axis = next((name for name in ("epoch", "step") if name in row), None)
            kept = self.curves
            if axis is not None:
                kept = [old for old in kept if old.get(axis, -float("inf")) < row[axis]]
            self.restore_curves(kept)
        assert self._header is not None
        if new := [name for name in row if name not in self._header]:
            columns, rows = self._header + new, self.curves
            self._write_curves(columns, rows)
        with (self.folder / "curves.csv").open("a", encoding="utf-8", newline="") as file:
            file.write(_csv_lines([[_cell(row.get(name)) for name in self._header]]))
        self._save_elapsed(_SAVE_ELAPSED_EVERY)

    def restore_curves(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace all rows of ``curves.csv``, for a task that carries its rows in its own checkpoint.

        Args:
            rows: The rows up to where the run goes on.
        """
        self._write_curves(list(dict.fromkeys(name for row in rows for name in row)), rows)

    def _write_curves(self, columns: list[str], rows: Iterable[Mapping[str, float]]) -> None:
        self._header = columns
        lines = [[_cell(row.get(name)) for name in columns] for row in rows]
        atomic_write(self.folder / "curves.csv", _csv_lines([columns, *lines]) if columns else "")

    def _read_elapsed(self) -> float:
        try:
            return max(0.0, float((self.folder / "elapsed").read_text()))
        except (OSError, ValueError):
            return 0.0

    def _save_elapsed(self, every: float = 0.0) -> None:
        now = time.monotonic()
        if now - self._saved >= every:
            self._saved = now
            atomic_write(self.folder / "elapsed", f"{self.elapsed:.3f}\n", durable=False)

    def close(self) -> None:
        """Keep the time spent, for the next attempt."""
        with contextlib.suppress(OSError):
            self._save_elapsed()


def atomic_write(path: Path, text: str, durable: bool = True) -> None:
    """Write a file so that a reader finds the old content or the new, whenever the process or the machine stops.

    Args:
        path: The file. One process at a time may write it.
        text: Its new content.
        durable: Whether it must survive a power cut right after this call.

    Raises:
        OSError: If it cannot be written; the old content is still there.
    """
    with whole(path, durable=durable) as part:
        part.write_text(text, encoding="utf-8", newline="")


def disk_full(error: BaseException, folder: Path) -> bool:
    """Tell whether an error means that the disk is full.

    Args:
        error: What was raised. ``torch.save`` reports a full disk as a RuntimeError, so an error of any kind counts
            when the disk has no room left.
        folder: A folder on the disk that was written to.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen = seen.__cause__ or seen.__context__
    with contextlib.suppress(OSError):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return isinstance(error, (RuntimeError, OSError)) and shutil.disk_usage(folder).free < 2**16
    return False


def _said(_pid: int | None) -> None:
    return None


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, (int, float)) else repr(float(str(value)))


def _csv_lines(lines: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()
