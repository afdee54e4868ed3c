"""The process that writes Weights & Biases runs: alone in importing wandb, so that it can cost a command nothing.

It reads one JSON message a line from standard input, as :class:`~lightning_regs.study.wandb.log.Writer` sends them, and
answers on standard output. Everything that W&B is told comes from the records in a run's folder: a run that is
interrupted, or that is trained in several attempts, is still one W&B run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightning_regs.core.runs import Run
from lightning_regs.study.wandb.login import server, unreachable
from lightning_regs.study.wandb.mark import InTheWay, Mark
from lightning_regs.study.wandb.record import Entry, origin, summary
from lightning_regs.study.wandb.run import OpenRun, Unable, import_wandb, start, why

# After so many failures in a row there is no hope that the next run will do better.
_GIVE_UP = 3
# Waiting for the server is most of an upload.
_UPLOADS_AT_ONCE = 8
_Results = dict[str, Any]


class Recorder:
    """Writes W&B runs from the records of ours.

    Args:
        store: The run store.
        online: Whether to upload; falls back to writing offline when the server cannot be used.
        answer: Receives what is to be said to the parent: ``{"done": ID}``, ``{"failed": ID, "why": ...}``
            (and ``"remedy"`` where there is one), ``{"offline": WHY}``, ``{"url": PROJECT}``.
    """

    def __init__(self, store: Path, online: bool, answer: Callable[[dict[str, Any]], None]) -> None:
        self.store, self.online, self._answer = store, online, answer
        self._open: dict[str, OpenRun] = {}
        self._pool: ThreadPoolExecutor | None = None
        # What is left to the end, to be written offline, and the ids that wandb's service keeps from failed starts.
        self._again: list[tuple[Entry, _Results | None]] = []
        self._stuck: set[str] = set()
        self._failures = 0
        self._reached = False
        self._lock = threading.Lock()

    def handle(self, message: dict[str, Any]) -> None:
        """Do what one message says.

        Args:
            message: ``do``: ``open`` a run that starts training, ``feed`` it what it has logged, ``fail`` it,
                ``write`` one that is finished, or write ``results``. ``entry``, or the ``id`` of one that is open.

        Raises:
            Unable: When logging is given up.
        """
        kind = message["do"]
        if kind in ("open", "write", "results"):
            entry = Entry(**message["entry"] | {"tags": tuple(message["entry"]["tags"])})
            with self._reporting(entry.id):
                if kind == "open":
                    self._begin(entry)
                else:
                    self._write(entry, message if kind == "results" else None)
        elif opened := self._open.get(message["id"]):
            with self._reporting(opened.entry.id):
                if kind == "feed":
                    opened.feed(Run(Path(opened.entry.folder)).curves())
                else:
                    self._close(self._open.pop(opened.entry.id))

    def end(self) -> None:
        """Finish what is open, as runs that were cut short, and what could not be uploaded, offline."""
        for opened in list(self._open.values()):
            with self._reporting(opened.entry.id):
                self._close(opened)
        self._open.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        if self._again:
            with contextlib.suppress(Exception):
                import_wandb().teardown()  # a new service knows nothing of runs that failed to start
            self._stuck.clear()
            for entry, results in self._again:
                with self._reporting(entry.id):
                    self._write(entry, results)

    @contextlib.contextmanager
    def _reporting(self, entry_id: str) -> Iterator[None]:
        try:
            yield
        except Unable:
            raise
        except InTheWay as error:  # which says nothing of the next run
            self._answer({"failed": entry_id, "why": str(error), "remedy": error.remedy})
        except Exception as error:
            logging.getLogger(__name__).exception("run %s", entry_id)
            self._answer({"failed": entry_id, "why": why(error)})
            self._failures += 1
            if self._failures >= _GIVE_UP:
                raise Unable(why(error)) from error

    def _begin(self, entry: Entry) -> None:
        if not self.online or entry.id in self._open:
            return  # offline, a run is written when it is finished
        mark = Mark(entry)
        with contextlib.ExitStack() as held:
            if held.enter_context(mark.held()):
                mark.clear()
                try:
                    self._open[entry.id] = self._start(entry, mark, entry.config, held)
                except Exception as error:
                    self._go_offline(error)
                    self._stuck.add(entry.id)

    def _write(self, entry: Entry, results: _Results | None) -> None:
        """Write the W&B run of a finished run, or of results, and mark it as complete."""
        run = Run(Path(entry.folder))
        row = (run.row() or {}) if results is None else {}
        if results is None and not row:
            raise ValueError(f"the row of {entry.folder} cannot be read")
        if entry.id in self._stuck:
            self._again.append((entry, results))
            return
        digest = entry.digest_of_run() if results is None else str(results["digest"])
        try:
            opened = self._open.pop(entry.id, None) or self._prepare(entry, digest, origin(row), results)
        except Exception as error:
            if not self.online or isinstance(error, InTheWay):
                raise
            self._go_offline(error)
            self._again.append((entry, results))
            return
        if opened is None:  # another command is at it, or has done it
            self._answer({"done": entry.id})
            return
        try:
            if results is None:
                opened.feed(run.curves())
                opened.run.config.update(origin(row), allow_val_change=True)
                opened.run.summary.update(summary(row))
            else:
                opened.log_results(results)
        except BaseException:
            self._close(opened)
            raise
        self._close(opened, digest, results)

    def _prepare(self, entry: Entry, digest: str, found: dict[str, Any], results: _Results | None) -> OpenRun | None:
        """Open the W&B run of something finished; None when another process is at it, or when it is up to date."""
        mark = Mark(entry)
        with contextlib.ExitStack() as held:
            if not held.enter_context(mark.held()) or mark.current(digest, self.online):
                return None
            mark.clear()
            if results is not None:
                # What is staged is uploaded from where it is: a folder of its own can go when the run is told anew.
                staging = self.store / "wandb" / "staging" / entry.id
                shutil.rmtree(staging, ignore_errors=True)
                os.environ["WANDB_DATA_DIR"] = str(staging)
            return self._start(entry, mark, entry.config | found, held, axis=results is None)

    def _start(
        self, entry: Entry, mark: Mark, config: dict[str, Any], held: contextlib.ExitStack, axis: bool = True
    ) -> OpenRun:
        if self.online and not self._reached and (reason := unreachable()):
            raise ConnectionError(f"{server()} cannot be reached: {reason}")
        run = start(entry, config, self.online)
        opened = OpenRun(entry, mark, run, self.online, held.pop_all(), run.step)
        if self.online and not self._reached:
            self._reached = True
            self._answer({"url": str(run.url or "").partition("/runs/")[0]})
        if axis:
            opened.define_axis()
        return opened

    def _close(self, opened: OpenRun, digest: str | None = None, results: _Results | None = None) -> None:
        """Finish a run, and mark it when it is complete; the server is waited for in another thread."""

        def finish() -> None:
            opened.finish(digest)
            self._failures = 0
            self._answer({"done": opened.entry.id})

        def upload() -> None:
            try:
                finish()
            except Exception as error:
                with self._lock:
                    self._go_offline(error)
                    if digest is not None:
                        self._again.append((opened.entry, results))

        if opened.online:
            self._pool = self._pool or ThreadPoolExecutor(_UPLOADS_AT_ONCE)
            self._pool.submit(upload)
        else:
            finish()

    def _go_offline(self, error: Exception) -> None:
        if isinstance(error, Unable):
            raise error
        if self.online:
            logging.getLogger(__name__).warning("going offline", exc_info=error)
            self.online = False
            self._answer({"offline": why(error)})


def main(arguments: Sequence[str] | None = None, lines: Iterable[bytes] | None = None) -> int:
    """Read messages until there are no more, and do what they say.

    Args:
        arguments: ``online`` or ``offline``, and the run store; default: those of the process.
        lines: The messages; default: standard input.

    Returns:
        The exit status: 0, also when logging was given up and the parent was told why.
    """
    mode, store = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.raiseExceptions = False  # no word on each line that does not fit on a full disk
    with contextlib.suppress(OSError):
        os.nice(5)  # the runs that train come first
    # Whatever wandb prints goes to the log; only answers reach the parent.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    alone = threading.Lock()

    def answer(said: dict[str, Any]) -> None:
        with alone, contextlib.suppress(OSError):
            answers.write(json.dumps(said) + "\n")
            answers.flush()

    recorder = Recorder(Path(store), mode == "online", answer)
    try:
        for line in sys.stdin.buffer if lines is None else lines:
            recorder.handle(json.loads(line))
        recorder.end()
    except Unable as unable:
        answer({"unable": str(unable)})
    # The debug log of wandb's service, of which every process makes one.
    shutil.rmtree(Path(store) / "wandb" / "cache" / "wandb" / "logs", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
