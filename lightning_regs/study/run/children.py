"""Processes of a command that ignore Ctrl-C, print into a file, and end with the one that started them."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from lightning_regs.study.run.streams import fill_closed

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# By these Lightning would take a run for one process of a training that somebody else has started, such as `srun`.
_WORLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "TORCHELASTIC_RUN_ID")


@contextlib.contextmanager
def undone(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and undo these and any change that the block makes."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def start(body: Callable[..., object], name: str, *arguments: object) -> tuple[Connection, BaseProcess]:
    """Start a process that ignores Ctrl-C from its first line on; return the parent's end of a pipe to it, and it.

    What it does, ``body``, receives the other end of the pipe, then the arguments; it has to ignore SIGINT itself.
    """
    fill_closed()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=body, args=(theirs, *arguments), name=name)
    resource_tracker.ensure_running()  # where it starts it lets Ctrl-C through, whatever was held back
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        theirs.close()
    return ours, process


@contextlib.contextmanager
def surroundings(threads: int, variables: Mapping[str, str]) -> Iterator[None]:
    """Set what a process that starts in the block finds in its environment: its threads, and no other program's world.

    Torch reads the threads when it is imported, which may be before any line of ours runs there.
    """
    with undone(dict.fromkeys(_THREAD_VARIABLES, str(threads))):
        for name in _WORLD:
            os.environ.pop(name, None)
        os.environ.update(variables)
        yield


def keep_to_parent() -> None:
    """Ignore Ctrl-C in this process, and end it when the process that started it ends; let it end at once."""
    atexit.register(gc.freeze)
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="watch the parent").start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def print_into(folder: Path) -> None:
    """Send what this process prints to ``log.txt``: the terminal belongs to the progress display."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a stream that was closed is None
        stream.flush()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if log > 2:
        os.close(log)
    faulthandler.enable(2)
