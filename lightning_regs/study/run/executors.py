"""How runs are carried out: one after another in this process, or several at once in processes of their own."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol

from lightning_regs.study.run.events import Emit, Event, Job, Stack
from lightning_regs.study.run.provenance import cores
from lightning_regs.study.run.worker import perform, start, undone, work

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def _threads(jobs: int) -> int:
    """Return the threads of each of several runs: its share of the cores, or fewer if the environment says so.

    Threads that share a core with other programs wait for each other most of the time.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores() // jobs, int(asked) if asked.isdecimal() and int(asked) else cores()))


class Executor(Protocol):
    """Carries out runs. The runner knows nothing of how."""

    jobs: int

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs and return when each has ended in a ``finished`` or ``failed`` event.

        Args:
            stacks: The runs that are trained together, in the order in which they should start. A run that needs
                others (``inputs``) starts when they are finished, and fails when one of them has failed; those that are
                in no stack count as finished.
            emit: Called in the caller's thread. What it raises ends all work: no process is left behind.
        """


class InProcess:
    """Carries out runs one after another in the calling process: for debugging, and for tests.

    Args:
        threads: Threads for each run; default: all cores, or what ``OMP_NUM_THREADS`` says if that is less.
    """

    jobs = 1

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or _threads(1)

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs; see :class:`Executor`."""
        queue = _Queue(stacks, emit)
        while (stack := queue.pop()) is not None:
            perform(stack, self.threads, queue.emit)
        queue.end()


class Processes:
    """Carries out runs in processes that are used again for many runs.

    A process that dies (out of memory, killed) fails its run only; the next run gets a new process. The processes die
    with the one that started them, however it ends.

    Args:
        jobs: Processes at once, at least 1.
        threads: Threads for each; default: the cores, divided, or what ``OMP_NUM_THREADS`` says if that is less.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, jobs: int, threads: int | None = None) -> None:
        if jobs < 1 or (threads is not None and threads < 1):
            raise ValueError(f"jobs={jobs}, threads={threads}: both must be at least 1.")
        self.jobs = jobs
        self.threads = threads or _threads(jobs)

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs; see :class:`Executor`."""
        queue = _Queue(stacks, emit)
        workers: list[_Worker] = []
        try:
            while True:
                for worker in [worker for worker in workers if not worker.stack]:
                    if worker.alive() and (stack := queue.pop()) is not None:
                        worker.give(stack)
                    elif not (worker.alive() and queue):  # nothing is left for it, and others may need its memory
                        worker.kill()
                        workers.remove(worker)
                while len(workers) < self.jobs and (stack := queue.pop()) is not None:
                    workers.append(_Worker(self.threads))
                    workers[-1].give(stack)
                if not any(worker.stack for worker in workers):
                    break
                # A timeout, because a child of a dead worker can keep the worker's end of the pipe open.
                wait([worker.pipe for worker in workers], timeout=0.5)
                for worker in workers:
                    for event in worker.events():
                        queue.emit(event)
            queue.end()
        finally:
            for worker in workers:
                worker.kill()


class _Queue:
    """The runs that have not started, handed out when those that they need are finished."""

    def __init__(self, stacks: Sequence[Stack], emit: Emit) -> None:
        self._waiting = {at: list(stack) for at, stack in enumerate(stacks)}
        self._ready: list[int] = []  # a heap of the stacks that can start
        self._needs: dict[str, dict[str, str]] = {}  # by run: names of cells by the unfinished runs that it needs
        self._needed_by: dict[str, list[tuple[int, Job]]] = {}
        self._failed: deque[str] = deque()
        self._emit = emit
        ours = {job.run for stack in stacks for job in stack}
        for at, stack in enumerate(stacks):
            for job in stack:
                needs = {Path(folder).name: cell for cell, folder in job.inputs.items()}
                self._needs[job.run] = {run: cell for run, cell in needs.items() if run in ours}
                for run in self._needs[job.run]:
                    self._needed_by.setdefault(run, []).append((at, job))
            self._offer(at)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def emit(self, event: Event) -> None:
        """Pass an event on, and remember which runs ended."""
        if event.kind == "finished":
            for at, job in self._needed_by.pop(event.run, ()):
                del self._needs[job.run][event.run]
                if job in self._waiting.get(at, ()):  # else it failed, for another that it needed
                    self._offer(at)
        elif event.kind == "failed":
            self._failed.append(event.run)
        self._emit(event)

    def pop(self) -> Stack | None:
        """Take the first runs that can start; None while all wait for others. Runs whose needs failed fail here."""
        while self._failed:
            run = self._failed.popleft()
            for at, job in self._needed_by.pop(run, ()):
                if job in self._waiting.get(at, ()):
                    self._waiting[at].remove(job)
                    lost = self._needs[job.run][run]
                    self._fail(job, f"it needs cell {lost!r} with seed {job.seed}, which failed")
                    self._offer(at)
        return tuple(self._waiting.pop(heapq.heappop(self._ready))) if self._ready else None

    def end(self) -> None:
        """Fail what is left when nothing runs any more: stacks that wait for each other."""
        for job in [job for stack in self._waiting.values() for job in stack]:
            self._fail(job, "its stack waits for a run of the same stack; give the two different stack labels")
        self._waiting = {}

    def _offer(self, at: int) -> None:
        """Let a stack start if nothing that it needs is unfinished; one that is empty is forgotten."""
        if not self._waiting[at]:
            del self._waiting[at]
        elif not any(self._needs[job.run] for job in self._waiting[at]):
            heapq.heappush(self._ready, at)

    def _fail(self, job: Job, why: str) -> None:
        job.stored.fail(why + "\n")
        self.emit(job.event("failed", text=why))


class _Worker:
    """The parent's side of one process."""

    def __init__(self, threads: int) -> None:
        self.stack: list[Job] = []  # what is unfinished of the runs that it was given
        # Set here: torch reads them when it is imported, and the child may import it before any line of ours runs.
        with undone(dict.fromkeys(_THREAD_VARIABLES, str(threads))):
            self.pipe, self._process = start(work, "lightning-regs run", threads)

    def alive(self) -> bool:
        return self._process.is_alive()

    def give(self, stack: Stack) -> None:
        self.stack = list(stack)
        # A process that just died shows up as such in `events`.
        with contextlib.suppress(OSError):
            self.pipe.send(stack)

    def events(self) -> Iterator[Event]:
        alive = self.alive()
        while self.stack:
            try:
                if not self.pipe.poll():
                    break
                event: Event = self.pipe.recv()
            except (EOFError, OSError):
                alive = False
                break
            if event.kind in ("finished", "failed"):
                self.stack = [job for job in self.stack if job.run != event.run]
            yield event
        if self.stack and not alive:
            yield from self._death()

    def _death(self) -> Iterator[Event]:
        died, self.stack = self.stack, []
        self._process.join(timeout=5)
        self.kill()
        code = self._process.exitcode or 0
        why = f"its process died of {signal.Signals(-code).name}" if code < 0 else f"its process ended with exit {code}"
        why += " (out of memory, or killed by hand)" if code == -signal.SIGKILL else ""
        why += f"; what it printed last is in {Path(died[0].folder) / 'log.txt'}"
        for job in died:
            job.stored.fail(why + "\n")
            yield job.event("failed", text=why)

    def kill(self) -> None:
        # SIGKILL and nothing softer: every file of a run is made to survive it, and Lightning catches the others.
        self._process.kill()
        self._process.join()
        self.pipe.close()
