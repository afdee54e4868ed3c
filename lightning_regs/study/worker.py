"""One run, from job to row, wherever it is carried out; and the body of a worker process."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from lightning_regs.study.paper import add_to_path, import_task
from lightning_regs.study.store import LEADING, TRAILING, Run, RunContext, atomic_write, disk_full

Kind = Literal["plan", "skipped", "waiting", "started", "progress", "finished", "failed", "stopped", "interrupted"]


@dataclass(frozen=True)
class Job:
    """One run to carry out, as plain data that can be sent anywhere.

    Args:
        cell: Name of the cell, for people.
        seed: The seed.
        task: Import path of the task.
        config: The configuration.
        folder: The run's folder; its name is the run's hash.
        papers: Folder to be put on the module path; None for none.
        facts: Provenance that is the same for all runs of a command: ``commit``, ``versions``.
    """

    cell: str
    seed: int
    task: str
    config: dict[str, Any]
    folder: str
    papers: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def event(self, kind: Kind, **about: Any) -> Event:
        """Return an event of this run."""
        return Event(kind, run=Path(self.folder).name, cell=self.cell, seed=self.seed, folder=self.folder, **about)


@dataclass(frozen=True)
class Event:
    """Something that happened to a run, or (``plan``, ``stopped``, ``interrupted``) to the whole command.

    Attributes:
        kind: ``plan``: the command knows its runs (``done`` complete of ``total``, ``jobs`` at once). ``skipped``: the
            run was complete before. ``waiting``: another process has it (``text`` is its id). ``started``.
            ``progress``: ``done`` of ``total``, ``text``. ``finished``: ``row``. ``failed``: ``text`` is one line, the
            traceback is in ``folder``. ``stopped``: nothing more will run, ``text`` says why. ``interrupted``: Ctrl-C.
        run: Hash of the run.
        cell: Its cell.
        seed: Its seed.
        done: Units finished.
        total: Units in all.
        text: A few words.
        row: The finished row.
        folder: The run's folder.
        jobs: Runs at once.
        full: Whether the run failed because the disk is full.
    """

    kind: Kind
    run: str = ""
    cell: str = ""
    seed: int = 0
    done: float = 0
    total: float = 0
    text: str = ""
    row: dict[str, Any] | None = None
    folder: str = ""
    jobs: int = 0
    full: bool = False


Emit = Callable[[Event], None]


def perform(job: Job, threads: int, emit: Emit) -> None:
    """Carry out one run in this process, unless it is complete; ends in a ``finished`` or a ``failed`` event.

    Args:
        job: The run.
        threads: Threads that it may use.
        emit: Receives the events.

    Raises:
        KeyboardInterrupt: On Ctrl-C, also where the task turned it into an exit.
    """
    run = Run(Path(job.folder))
    try:
        with run.lock(lambda pid: emit(job.event("waiting", text=str(pid or "")))):
            row = run.row()
            if row is None:
                emit(job.event("started"))
                row = _measure(job, run, threads, emit)
        event = job.event("finished", row=row)
    except (Exception, SystemExit) as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        run.fail("".join(traceback.format_exception(error)))
        if full := disk_full(error, run.folder):
            text = f"the disk that holds {run.folder.parent} is full"
        else:
            text = " ".join(f"{type(error).__name__}: {error}".split())
        event = job.event("failed", text=text, full=full)
    emit(event)


def _measure(job: Job, run: Run, threads: int, emit: Emit) -> dict[str, Any]:
    atomic_write(run.folder / "config.json", _config_text(job))
    context = RunContext(
        run.folder,
        job.seed,
        threads,
        lambda done, total, text: emit(job.event("progress", done=done, total=total, text=text)),
    )
    try:
        if job.papers is not None:
            add_to_path(job.papers)
        task = import_task(job.task)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        with environment({}):
            metrics = _checked(job.task, task(job.config, context))
    finally:
        context.close()
    row: dict[str, Any] = dict(sorted(metrics.items()))
    epochs = row.pop("epochs", context.epochs)
    row |= {
        "epochs": epochs,
        "wall_s": round(context.elapsed, 3),
        "device": context.device,
        "precision": context.precision,
        "commit": job.facts.get("commit", ""),
        "versions": job.facts.get("versions", ""),
        "seed": job.seed,
        "config_hash": run.hash,
    }
    run.finish(row)
    return row


def _config_text(job: Job) -> str:
    return json.dumps({"task": job.task, "config": job.config, "seed": job.seed}, indent=1, sort_keys=True) + "\n"


def _checked(task: str, metrics: object) -> dict[str, float]:
    if not isinstance(metrics, Mapping) or not metrics:
        raise TypeError(f"task {task} returned {type(metrics).__name__}; return a mapping of metric names to numbers.")
    checked = {}
    for name, value in metrics.items():
        if name in LEADING or (name in TRAILING and name != "epochs"):
            raise ValueError(f"task {task} returned a metric named {name!r}, which is a column of its own; rename it.")
        try:
            checked[str(name)] = value if type(value) is int else float(value)
        except (TypeError, ValueError):
            raise TypeError(f"task {task} returned {name}={value!r}, which is not a number.") from None
    return checked


def _was_interrupted(error: BaseException | None) -> bool:
    """Lightning turns Ctrl-C into SystemExit; what it came from tells it from an exit of the task's own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def work(pipe: Connection, threads: int, parent: int) -> None:
    """Body of a worker process: take jobs until there are no more."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)

    def emit(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:
            os._exit(1)

    while True:
        try:
            job: Job = pipe.recv()
        except (EOFError, OSError):
            return
        _print_into(Path(job.folder))
        perform(job, threads, emit)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: also reaches a process that is deep in native code.
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    process = multiprocessing.parent_process()
    assert process is not None

    def watch() -> None:
        wait([process.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch the parent").start()


def _print_into(folder: Path) -> None:
    """Send what this process prints to ``log.txt``: the terminal belongs to the progress display."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and undo these and any change that the block makes."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
