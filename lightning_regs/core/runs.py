"""Run folders named by the hash of what they hold, and what a task sees of its run."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lightning_regs.core.checks import warn
from lightning_regs.core.files import DamagedFileError, atomic_write, lock, unpack, whole_folder
from lightning_regs.core.names import writable

RUNS_ENV = "LIGHTNING_REGS_RUNS"
# Columns of a row that are not metrics, in the order of results/SCALE.csv around the metrics.
LEADING = ("paper", "scale", "cell", "seed")
TRAILING = ("epochs", "wall_s", "device", "precision", "commit", "versions", "config_hash")
FIXED = (*LEADING, *TRAILING)
_SAVE_ELAPSED_EVERY = 2.0
# What the engine writes into the folder of a run; the rest is its task's.
_OURS = {"config.json", "curves.csv", "elapsed", "error.txt", "lock", "log.txt", "row.json"}


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

    def failed(self) -> set[int]:
        """Return the seeds of the runs whose last attempt failed, as far as these were begun."""
        configs = [Run(path.parent)._read("config.json") for path in self.root.glob("*/error.txt")]
        return {config["seed"] for config in configs if isinstance(config.get("seed"), int)}

    def results(self, paper: str) -> Path:
        """Return where the tables of a paper's runs on this machine are, apart from those that are committed."""
        return self.root / "results" / paper


class Run:
    """One run's folder, whose name is the run's hash. It is complete when its ``row.json`` is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def hash(self) -> str:
        """The run's name."""
        return self.folder.name

    def row(self) -> dict[str, Any] | None:
        """Return the finished row, or None when the run is not complete or its file is damaged."""
        row = self._read("row.json")
        sealed = row.pop("sealed", None)
        if row.get("config_hash") != self.hash or sealed not in (None, self._seal(row)):
            return None
        return None if unfit(row) else row

    def _seal(self, row: Mapping[str, Any]) -> str:
        """Return the hash of a row and of the curves beside it."""
        curves = self.folder / "curves.csv"
        content = curves.read_bytes() if curves.is_file() else b""
        return hashlib.sha256(json.dumps(row).encode() + content).hexdigest()[:16]

    def code(self) -> dict[str, str] | None:
        """Return what is known of the code that the run was begun with; None where nothing is."""
        code = self._read("config.json").get("code")
        return code if isinstance(code, dict) else None

    def forced(self) -> float:
        """Return when, in seconds since 1970, it was begun anew by a command that was told to; 0 where none was."""
        begun = self._read("config.json").get("forced")
        return begun if isinstance(begun, float) else 0.0

    def _read(self, name: str) -> dict[str, Any]:
        """Return what is in a file; nothing where it is missing or damaged. The run was begun with ``config.json``."""
        try:
            found = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def goes_on(self) -> bool:
        """Tell whether an attempt that ended early left something of its task's own, such as a checkpoint."""
        return any(not path.name.startswith(".") and path.name not in _OURS for path in self.folder.iterdir())

    def clear(self) -> None:
        """Remove what the run measured and what it would go on from; for who holds the lock."""
        for path in [self.folder / "row.json", *self.folder.iterdir()]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in ("lock", "log.txt"):
                path.unlink(missing_ok=True)

    def finish(self, row: Mapping[str, Any]) -> None:
        """Drop what earlier attempts left, and write the row, which makes the run complete; for who holds the lock."""
        for left in [self.folder / "error.txt", *self.folder.rglob("last*.ckpt")]:
            left.unlink(missing_ok=True)
        text = json.dumps(dict(row) | {"sealed": self._seal(row)}, indent=1)
        atomic_write(self.folder / "row.json", text + "\n")

    def take(self, packed: bytes) -> None:
        """Hold from now on what another machine packed of this run, whole or not at all; for who holds the lock.

        Raises:
            DamagedFileError: If it is not as it was packed, or has a row that is not this run's.
        """
        with whole_folder(self.folder) as part:
            unpack(packed, part / self.hash)
            arrived = Run(part / self.hash)
            if (arrived.folder / "row.json").exists() and arrived.row() is None:
                raise DamagedFileError(f"what came for {self.folder} is damaged (its row is not that of this run)")
            for path in arrived.folder.iterdir():
                path.rename(part / path.name)
            arrived.folder.rmdir()

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
        """Return the rows of ``curves.csv``; a line that a kill cut short, or that is damaged, is left out."""
        try:
            text = (self.folder / "curves.csv").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        rows: list[dict[str, float]] = []
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1].replace("\0", "")))
        with contextlib.suppress(csv.Error):  # no line of ours is so long
            header = next(lines, [])
            for line in lines:
                with contextlib.suppress(ValueError):
                    rows.append({name: float(entry) for name, entry in zip(header, line, strict=True) if entry})
        return rows

    def lock(self, waiting: Callable[[int | None], object] | None = None) -> AbstractContextManager[None]:
        """Hold the run alone; ``waiting`` is that of :func:`~lightning_regs.core.files.lock`."""
        return lock(self.folder, waiting)


def unfit(row: Mapping[str, Any]) -> str:
    """Say which entry of a row a table cannot hold, or not give back as it was; empty where there is none."""
    for name, value in row.items():
        if not isinstance(name, str) or not name.strip() or not writable(name):
            return f"a metric named {name!r}, which no table can hold"
        text = isinstance(value, str) and writable(value)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and isinstance(value, int) and abs(value) > sys.float_info.max:
            return f"the number {name}, which is too large"
        if not (number or text or value is None):
            return f"{name}={value!r}, which is neither a number nor a text"
    return ""


class RunContext:
    """What a task is given beside its configuration.

    Args:
        folder: Scratch folder for checkpoints and the like, which is made; survives a kill and is the same at the next
            attempt.
        seed: The run's seed.
        threads: Threads that the task may use, at least 1.
        on_progress: Receives ``(done, total, text)``.
        inputs: Folders of the runs that this one needs, by the names of their cells.
        on_note: Receives sentences that people should read; default: they are warnings.

    Attributes:
        device: What it ran on; a task that uses something other than the CPU sets it.
        precision: Arithmetic of the run; a task with another than full precision sets it.
        epochs: Passes over the training set; None for a task that has none.
        trained: What was trained last, where the task trains by a configuration: for who wants more than the numbers.
        parts: How many trainings it is made of, one after the other; a task that has several sets it before the first.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        seed: int = 0,
        threads: int = 1,
        on_progress: Callable[[float, float, str], None] | None = None,
        inputs: Mapping[str, str] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._on_note = on_note
        self.inputs = {name: Path(path) for name, path in (inputs or {}).items()}
        self.seed = seed
        self.threads = threads
        self.device = f"cpu ({threads} thread{'s' if threads > 1 else ''})"
        self.precision = "32-true"
        self.epochs: float | None = None
        self.trained: object = None
        self.parts = 1
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._before = self._read_elapsed()
        self._saved = self._sent = -math.inf
        self._columns: list[str] | None = None

    @property
    def elapsed(self) -> float:
        """Seconds spent on this run so far, those of interrupted attempts included."""
        return self._before + time.monotonic() - self._began

    @property
    def curves(self) -> list[dict[str, float]]:
        """The rows logged so far, those of interrupted attempts included."""
        return Run(self.folder).curves()

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Say how far the run is, in units such as epochs and a few words; cheap enough to be called at every step.

        Of a run of several ``parts``, ``total`` is what one takes.
        """
        now, total = time.monotonic(), total * self.parts
        if self._on_progress is not None and (now - self._sent >= 0.1 or done >= total):
            self._sent = now
            self._on_progress(float(done), float(total), text)
        self._save_elapsed(_SAVE_ELAPSED_EVERY)

    def part(self, name: str, at: int, seed: int | None = None) -> RunContext:
        """Return the context of a training within this run, whose progress and notes are this run's.

        Args:
            name: Its folder within this one.
            at: How many of this run's ``parts`` come before it.
            seed: Its own seed; default: the run's.
        """

        def progress(done: float, total: float, text: str) -> None:
            self.progress(at * total + done, total, text)

        seed = self.seed if seed is None else seed
        return RunContext(self.folder / name, seed, self.threads, progress, on_note=self.note)

    def note(self, sentence: str) -> None:
        """Tell people what happened to the run, such as that it starts over."""
        if self._on_note is not None:
            self._on_note(sentence)
        else:
            warn(sentence)

    def log_curve(self, row: Mapping[str, float]) -> None:
        """Append one row to ``curves.csv``.

        The first row that an attempt logs drops what an earlier attempt logged at that epoch (else step) or later, so
        the file never holds an epoch twice. The columns of the first row lead; one that comes later is added behind
        them.
        """
        if self._columns is not None and row.keys() <= set(self._columns):
            with (self.folder / "curves.csv").open("a", encoding="utf-8", newline="") as file:
                file.write(csv_text(self._columns, [row], header=False))
        else:
            rows = self.curves
            axis = next((name for name in ("epoch", "step") if name in row), None)
            if self._columns is None and axis is not None:
                rows = [old for old in rows if old.get(axis, -math.inf) < row[axis]]
            self.restore_curves([*rows, row])
        self._save_elapsed(_SAVE_ELAPSED_EVERY)

    def restore_curves(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace all rows of ``curves.csv``, for a task that carries its rows in its own checkpoint.

        Args:
            rows: The rows up to where the run goes on.
        """
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        if rows:
            atomic_write(self.folder / "curves.csv", csv_text(self._columns, rows))
        else:
            (self.folder / "curves.csv").unlink(missing_ok=True)

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


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]], header: bool = True) -> str:
    """Write a table with these columns, of which a row's entries may leave some out."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
