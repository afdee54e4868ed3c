"""The runs of a command that have not started, and what carries them out."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning_regs.study.run.events import Emit, Event, Job, Stack

_LOOK_EVERY = 1.0


class Held(Exception):
    """Another process has a run; its id is the message, where it is known."""


def refuse(pid: int | None) -> None:
    """Raise :class:`Held`, in the place of waiting for a lock."""
    raise Held(str(pid or ""))


@runtime_checkable
class Executor(Protocol):
    """Carries out runs. The runner knows nothing of how."""

    jobs: int

    def ahead(self, look: Callable[[], None], stack: Stack) -> None:
        """Call what looks at options and data sets before :meth:`run`, and raise what it raises.

        It imports torch, as the runs do: best it is called where the first stack will run. An executor that passes it
        over leaves it to each run to refuse what is wrong.
        """

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs and return when each has ended in a ``finished`` or ``failed`` event.

        Args:
            stacks: The runs that are trained together, in the order in which they should start. A run that needs
                others (``inputs``) starts when they are finished, and fails when one of them has failed; those that are
                in no stack count as finished.
            emit: Called in the caller's thread. What it raises ends all work: no process is left behind.
        """


class Queue:
    """The runs that have not started, handed out when those that they need are finished.

    Where runs share a GPU, one that ran out of its memory is tried again with the GPU for itself; its hash is in
    ``alone``. Stacks of which another process has a run are ``held``: set aside, and looked at again once a second when
    nothing else can start.
    """

    def __init__(self, stacks: Sequence[Stack], emit: Emit, shares: bool = False) -> None:
        self.alone: set[str] = set()
        self.held: deque[Stack] = deque()
        self._told: set[str] = set()
        self._look_at = 0.0
        self._late: deque[Job] = deque()
        self._jobs = {job.run: job for stack in stacks for job in stack if shares}
        self._waiting = {at: list(stack) for at, stack in enumerate(stacks)}
        self._ready: list[int] = []  # a heap of the stacks that can start
        self._needs: dict[str, dict[str, str]] = {}  # by run: names of cells by the unfinished runs that it needs
        self._needed_by: dict[str, list[tuple[int, Job]]] = {}
        self._failed: deque[str] = deque()
        self._again = itertools.count(-1, -1)
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
        return bool(self._waiting or self._late or self.held)

    def ready(self) -> bool:
        """Tell whether a run could start now, were there room."""
        return bool(self._ready or self._late or self._failed)

    def emit(self, event: Event) -> None:
        """Pass an event on, and remember which runs ended."""
        if event.kind == "finished":
            for at, job in self._needed_by.pop(event.run, ()):
                del self._needs[job.run][event.run]
                if job in self._waiting.get(at, ()):  # else it failed, for another that it needed
                    self._offer(at)
        elif event.memory and event.run in self._jobs and event.run not in self.alone:
            self.alone.add(event.run)
            self._late.append(self._jobs[event.run])
            text = f"ran out of GPU memory beside others, and is tried again alone ({event.text})"
            event = replace(event, kind="noted", text=text, memory=False)
        elif event.kind == "failed":
            self._failed.append(event.run)
        self._emit(event)

    def pop(self, running: int = 0) -> Stack | None:
        """Take the first runs that can start; None while all wait for others. Runs whose needs failed fail here.

        Those that are tried again alone wait until none is ``running`` on the GPU.
        """
        while self._failed:
            run = self._failed.popleft()
            for at, job in self._needed_by.pop(run, ()):
                if job in self._waiting.get(at, ()):
                    self._waiting[at].remove(job)
                    lost = self._needs[job.run][run]
                    self._fail(job, f"it needs cell {lost!r} with seed {job.seed}, which failed")
                    self._offer(at)
        while self._ready:
            stack = tuple(self._waiting.pop(heapq.heappop(self._ready)))
            if _holder(stack) is None:
                return stack
            self.held.append(stack)
        if self._late:
            return (self._late.popleft(),) if not running else None
        return self._freed(running)

    def _freed(self, running: int) -> Stack | None:
        """Return runs that another process had and has no more; where nothing runs, say once that they are waited for.

        Where memory was short they start only when nothing runs.
        """
        if time.monotonic() < self._look_at or (self.alone and running):
            return None
        self._look_at = time.monotonic() + _LOOK_EVERY
        for _ in range(len(self.held)):
            stack = self.held.popleft()
            if (holder := _holder(stack)) is None:
                self._look_at = 0.0
                return stack
            self.held.append(stack)
            if not running and stack[0].run not in self._told:
                self._told.add(stack[0].run)
                self._emit(stack[0].event("waiting", text=holder))
        return None

    def back(self, stack: Stack) -> None:
        """Take back runs that have to start again; they are the next."""
        at = next(self._again)
        self._waiting[at] = list(stack)
        heapq.heappush(self._ready, at)

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


def _holder(stack: Stack) -> str | None:
    """Return the id of a process that has one of the runs, empty where it is not known; None where all are free."""
    try:
        for job in stack:
            with job.stored.lock(refuse):
                pass
    except Held as held:
        return str(held)
    except OSError:  # what is wrong with a run's folder its run says
        pass
    return None
