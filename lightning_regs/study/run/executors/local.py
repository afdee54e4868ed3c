"""How runs are carried out: one after another in this process, or several at once in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from lightning_regs.study.run.events import Emit, Stack
from lightning_regs.study.run.executors.cards import Cards
from lightning_regs.study.run.executors.process import Worker
from lightning_regs.study.run.executors.queue import Queue
from lightning_regs.study.run.provenance import cores
from lightning_regs.study.run.worker import perform

_PAUSE = 0.5


def _threads(jobs: int) -> int:
    """Return the threads of each of several runs: its share of the cores, or fewer if the environment says so.

    Threads that share a core with other programs wait for each other most of the time.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores() // jobs, int(asked) if asked.isdecimal() and int(asked) else cores()))


class InProcess:
    """Carries out runs one after another in the calling process: for debugging, and for tests."""

    jobs = 1

    def ahead(self, look: Callable[[], None], stack: Stack) -> None:
        """Call a function; see :class:`~lightning_regs.study.run.executors.queue.Executor`."""
        look()

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs; see :class:`~lightning_regs.study.run.executors.queue.Executor`."""
        queue = Queue(stacks, emit)
        while (stack := queue.pop()) is not None or queue.held:
            if stack is None:
                time.sleep(_PAUSE)
            else:
                perform(stack, _threads(self.jobs), queue.emit)
        queue.end()


class Processes:
    """Carries out runs in processes that are used again for many runs.

    A process that dies (out of memory, killed), or loses its GPU, fails its run only; the next run gets a new process.
    The processes die with the one that started them, however it ends. Where there are GPUs, runs are spread over them;
    one starts when there is memory for it, and one that ran out of memory beside others is tried again when no other
    runs.

    Args:
        jobs: Processes at once, at least 1; default: as many as the cores and the memory of the GPUs carry.
        threads: Threads for each; default: the cores, divided, or what ``OMP_NUM_THREADS`` says if that is less.
        cards: The GPUs; default: those that this process may use.
        most: Runs that there are, which need no more processes.
    """

    def __init__(
        self,
        jobs: int | None = None,
        threads: int | None = None,
        cards: Cards | None = None,
        most: int | None = None,
    ) -> None:
        self._cards = cards or Cards()
        jobs = self._cards.jobs(cores()) if jobs is None else jobs
        jobs = jobs if most is None else min(jobs, most)
        if jobs < 1 or (threads is not None and threads < 1):
            raise ValueError(f"jobs={jobs}, threads={threads}: both must be at least 1.")
        self.jobs = jobs
        self.threads = threads or _threads(jobs)
        self._workers: list[Worker] = []

    def ahead(self, look: Callable[[], None], stack: Stack) -> None:
        """Call a function in a process that is there for a stack then: in this one it would cost seconds once more."""
        cards = self._cards.place(stack, []) or ()
        self._workers.append(worker := Worker(self.threads, cards, chosen=self._cards.several))
        try:
            worker.call(look)
        except BaseException:
            self._drop(worker)
            raise

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs; see :class:`~lightning_regs.study.run.executors.queue.Executor`."""
        queue = Queue(stacks, emit, shares=self.jobs > 1)
        try:
            while True:
                self._fill(queue)
                if not any(worker.stack for worker in self._workers) and not queue.held:
                    break
                # A timeout, because a child of a dead worker can keep the worker's end of the pipe open.
                wait([worker.pipe for worker in self._workers], timeout=_PAUSE)
                for worker in self._workers:
                    for event in worker.events():
                        queue.emit(event)
            queue.end()
        finally:
            for worker in self._workers:
                worker.kill()

    def _fill(self, queue: Queue) -> None:
        """Start what can start; end processes for which nothing is left, as others may need their memory."""
        while len(busy := [worker for worker in self._workers if worker.stack]) < self.jobs:
            if (stack := queue.pop(len(busy))) is None:
                break
            cards = self._cards.place(stack, [worker.cards for worker in busy])
            if cards is None:
                queue.back(stack)
                break
            alone = stack[0].run in queue.alone
            idle = [worker for worker in self._workers if not worker.stack]
            fit = next((worker for worker in idle if worker.usable() and worker.cards == cards and not alone), None)
            surplus = len(idle) if alone else max(0, len(self._workers) + 1 - self.jobs) if fit is None else 0
            for worker in idle[:surplus]:
                self._drop(worker)
            if fit is None:
                self._workers.append(fit := Worker(self.threads, cards, chosen=self._cards.several))
            fit.give(stack)
        for worker in [worker for worker in self._workers if not (worker.stack or (worker.usable() and queue))]:
            self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        worker.kill()
        self._workers.remove(worker)
