"""A process that carries out runs, seen from the one that started it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from lightning_regs.study.run.children import start, surroundings
from lightning_regs.study.run.events import Event, Job, Stack
from lightning_regs.study.run.worker import work


class Worker:
    """The parent's side of one process, whose runs share ``cards`` with others'; ``chosen``, it sees no other GPU."""

    def __init__(self, threads: int, cards: tuple[str, ...] = (), chosen: bool = False) -> None:
        self.cards = cards
        self.stack: list[Job] = []  # what is unfinished of the runs that it was given
        self._spent = False  # whether it lost its GPU
        seen = {"CUDA_VISIBLE_DEVICES": ",".join(cards)} if cards and chosen else {}
        with surroundings(threads, seen):
            self.pipe, self._process = start(work, "lightning-regs run", threads)

    def alive(self) -> bool:
        """Tell whether the process is there."""
        return self._process.is_alive()

    def usable(self) -> bool:
        """Tell whether it can carry out other runs."""
        return self.alive() and not self._spent

    def call(self, function: Callable[[], None]) -> None:
        """Let it call a function, and raise here what that raises; it must have no runs."""
        try:
            self.pipe.send(function)
            error: BaseException | None = self.pipe.recv()
        except (EOFError, OSError):  # it died, and what runs in the next one says why
            return
        if error is not None:
            raise error

    def give(self, stack: Stack) -> None:
        """Let it carry out runs; it must have none."""
        self.stack = list(stack)
        # A process that just died shows up as such in `events`.
        with contextlib.suppress(OSError):
            self.pipe.send(stack)

    def events(self) -> Iterator[Event]:
        """Yield what has happened to its runs meanwhile; when it has died, that those that it had failed."""
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
                self._spent |= event.spent
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
        """End it at once, with what it is doing."""
        # SIGKILL and nothing softer: every file of a run is made to survive it, and Lightning catches the others.
        self._process.kill()
        self._process.join()
        self.pipe.close()
