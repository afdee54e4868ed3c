"""The process that writes Weights & Biases runs, as the command that starts it sees it."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from lightning_regs.study.wandb.login import environment
from lightning_regs.study.wandb.mark import InTheWay, make_folder

_MAX_LOG = 1_000_000


class Child:
    """The process that writes, and the two threads that talk to it, so that a command never waits for it.

    Args:
        store: The run store.
        online: Whether it may use the server.

    Attributes:
        ended: Set when the process has ended, or was never started.
    """

    def __init__(self, store: Path, online: bool) -> None:
        self.store, self.online = store, online
        self.ended = threading.Event()
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._answers: deque[dict[str, Any]] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._sender: threading.Thread | None = None
        self._asked: set[str] = set()
        self._failed: set[str] = set()

    @property
    def pending(self) -> int:
        """How many runs it was given and has not finished."""
        return len(self._asked)

    @property
    def lost(self) -> int:
        """How many of the runs it was given are not logged; what is pending counts."""
        return len(self._asked | self._failed)

    def send(self, message: dict[str, Any]) -> None:
        """Give it a message; starts it with the first one."""
        if message["do"] in ("write", "results"):
            self._asked.add(message["entry"]["id"])
        self._messages.put(message)
        if self._sender is None:
            self._sender = threading.Thread(target=self._run, daemon=True, name="W&B")
            self._sender.start()

    def answers(self) -> list[dict[str, Any]]:
        """Return what it has said since the last call."""
        said = []
        while self._answers:
            said.append(self._answers.popleft())
        return said

    def close(self) -> None:
        """Tell it that nothing more will come."""
        self._messages.put(None)
        if self._sender is None:
            self.ended.set()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self.ended.wait(5)

    def _run(self) -> None:
        try:
            process = self._start()
        except InTheWay as error:
            self._answers.append({"unable": str(error), "remedy": error.remedy})
            self.ended.set()
            return
        except OSError as error:
            self._answers.append({"unable": f"its process cannot be started ({error})"})
            self.ended.set()
            return
        assert process.stdin
        threading.Thread(target=self._hear, args=(process,), daemon=True, name="W&B answers").start()
        # A process that has died is noticed by who listens to it.
        with contextlib.suppress(OSError):
            while (message := self._messages.get()) is not None:
                process.stdin.write(json.dumps(message).encode() + b"\n")
                process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        folder = make_folder(self.store / "wandb")
        mode = "online" if self.online else "offline"
        command = [sys.executable, "-m", "lightning_regs.study.wandb.writer", mode, str(self.store)]
        log_file = folder / "writer.log"
        if log_file.exists() and log_file.stat().st_size > _MAX_LOG:
            log_file.unlink()
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(self.store, self.online),
                cwd=folder,  # where Python looks for modules first
                start_new_session=True,  # Ctrl-C is the command's; this one still finishes what it has
            )
        return self._process

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        unable = False
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                self._note(answer.get("done"), answer.get("failed"))
                unable = unable or "unable" in answer
                self._answers.append(answer)
        code = process.wait()
        if code and not unable:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            log = self.store / "wandb" / "writer.log"
            self._answers.append({"unable": f"its process ended early ({name}, see {log})"})
        self.ended.set()

    def _note(self, done: str | None, failed: str | None) -> None:
        """Remember what became of a run; one that could not be uploaded is written later."""
        self._asked.discard(done or failed or "")
        if done is not None:
            self._failed.discard(done)
        if failed is not None:
            self._failed.add(failed)
