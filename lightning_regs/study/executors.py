"""How runs are carried out: one after another in this process, or several at once in processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol

from lightning_regs.study.provenance import cores
from lightning_regs.study.store import Run
from lightning_regs.study.worker import Emit, Event, Job, environment, perform, work

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Executor(Protocol):
    """Carries out runs. The runner knows nothing of how."""

    jobs: int

    def run(self, jobs: Sequence[Job], emit: Emit) -> None:
        """Carry out all jobs and return when each has ended in a ``finished`` or ``failed`` event.

        Args:
            jobs: The runs, in the order in which they should start.
            emit: Called in the caller's thread. What it raises ends all work: no process is left behind.
        """


class InProcess:
    """Carries out runs one after another in the calling process: for debugging, and for tests.

    Args:
        threads: Threads for each run; default: all cores.
    """

    jobs = 1

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or cores()

    def run(self, jobs: Sequence[Job], emit: Emit) -> None:
        """Carry out all jobs; see :class:`Executor`."""
        for job in jobs:
            perform(job, self.threads, emit)


class Processes:
    """Carries out runs in processes that are used again for many runs.

    A process that dies (out of memory, killed) fails its run only; the next run gets a new process. The processes die
    with the one that started them, however it ends.

    Args:
        jobs: Processes at once, at least 1.
        threads: Threads for each; default: the cores, divided.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, jobs: int, threads: int | None = None) -> None:
        if jobs < 1 or (threads is not None and threads < 1):
            raise ValueError(f"jobs={jobs}, threads={threads}: both must be at least 1.")
        self.jobs = jobs
        self.threads = threads or max(1, cores() // jobs)

    def run(self, jobs: Sequence[Job], emit: Emit) -> None:
        """Carry out all jobs; see :class:`Executor`."""
        pending = deque(jobs)
        workers: list[_Worker] = []
        try:
            while pending or any(worker.job for worker in workers):
                workers = [worker for worker in workers if worker.job or worker.alive()]
                for worker in workers:
                    if pending and worker.job is None:
                        worker.give(pending.popleft())
                for worker in workers:
                    if worker.job is None:
                        worker.kill()  # nothing is left for it, and others may need its memory
                while pending and len(workers) < self.jobs:
                    workers.append(_Worker(self.threads))
                    workers[-1].give(pending.popleft())
                workers = [worker for worker in workers if worker.job]
                # A timeout, because a child of a dead worker can keep the worker's end of the pipe open.
                wait([worker.pipe for worker in workers], timeout=0.5)
                for worker in workers:
                    for event in worker.events():
                        emit(event)
        finally:
            for worker in workers:
                worker.kill()


class _Worker:
    """The parent's side of one process."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.job: Job | None = None
        self._process = context.Process(target=work, args=(theirs, threads, os.getpid()), name="lightning-regs run")
        # Set here: torch reads them when it is imported, and the child may import it before any line of ours runs.
        with environment(dict.fromkeys(_THREAD_VARIABLES, str(threads))):
            self._process.start()
        theirs.close()

    def alive(self) -> bool:
        return self._process.is_alive()

    def give(self, job: Job) -> None:
        self.job = job
        # A process that just died shows up as such in `events`.
        with contextlib.suppress(OSError):
            self.pipe.send(job)

    def events(self) -> Iterator[Event]:
        alive = self.alive()
        while self.job is not None:
            try:
                if not self.pipe.poll():
                    break
                event: Event = self.pipe.recv()
            except (EOFError, OSError):
                alive = False
                break
            if event.kind in ("finished", "failed"):
                self.job = None
            yield event
        if self.job is not None and not alive:
            job, self.job = self.job, None
            yield self._death(job)

    def _death(self, job: Job) -> Event:
        self._process.join(timeout=5)
        self.kill()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            why = "its process was killed (SIGKILL): out of memory, or killed by hand"
        elif code < 0:
            why = f"its process died of {signal.Signals(-code).name}"
        else:
            why = f"its process ended with exit code {code}"
        why += f"; what it printed last is in {Path(job.folder) / 'log.txt'}"
        Run(Path(job.folder)).fail(why + "\n")
        return job.event("failed", text=why)

    def kill(self) -> None:
        # SIGKILL and nothing softer: every file of a run is made to survive it, and Lightning catches the others.
        self._process.kill()
        self._process.join()
        self.pipe.close()
