"""Logging to Weights & Biases: a reproduction's events in, one W&B run per cell and seed out, by a process beside."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lightning_regs.core.names import unknown_name
from lightning_regs.study.wandb.child import Child
from lightning_regs.study.wandb.login import LOGIN, MODES, Mode, default_mode, has_login
from lightning_regs.study.wandb.mark import InTheWay, Mark, make_folder
from lightning_regs.study.wandb.record import PROJECT, Entry, results_entry, run_entry
from lightning_regs.study.wandb.target import destination

if TYPE_CHECKING:
    from lightning_regs.study.paper.paper import Paper
    from lightning_regs.study.run.events import Event
    from lightning_regs.study.run.runner import Outcome

__all__ = ["MODES", "Mode", "Writer", "default_mode"]

# Seconds between two looks at the curves of a run that is training.
_FEED_EVERY = 5.0
# Seconds after which waiting at the end is worth a word, and those it may take after an error.
_PATIENCE, _AFTER_ERROR = 2.0, 10.0
_REMEDY = "the results are not affected; --wandb off leaves it out"


class Writer:
    """Logs a reproduction to Weights & Biases; what goes wrong there is one warning, and a count at the end.

    Use it as a context manager, with its calls as the ``on_event`` of
    :func:`~lightning_regs.study.run.runner.reproduce`. The W&B runs are written by a process of their own
    (:mod:`~lightning_regs.study.wandb.writer`), which starts when there is something to write: this process neither
    imports wandb nor changes its environment.

    Args:
        mode: ``"offline"``: finished runs are written into their folders, to be uploaded by ``lightning-regs sync``.
            ``"online"``: they are uploaded while they train. ``"off"``: nothing is done.
        store_root: The run store.
        paper: The paper.
        scale: Name of the scale.
        entity: W&B user or team; default: ``WANDB_ENTITY``, else the login's own.
        project: W&B project; default: ``WANDB_PROJECT``, else ``"lightning-regs"``.
        say: Shows a sentence to the user.

    Raises:
        ValueError: If there is no such mode, or W&B does not take the name of the project or of the entity.
    """

    def __init__(
        self,
        mode: Mode,
        store_root: str | os.PathLike[str],
        paper: Paper,
        scale: str,
        entity: str | None = None,
        project: str | None = None,
        say: Callable[[str], object] = print,
    ) -> None:
        if mode not in MODES:
            raise unknown_name("W&B mode", mode, MODES)
        self.mode, self.store = mode, Path(store_root).absolute()
        self.project, self.entity = (PROJECT, None) if mode == "off" else destination(entity, project)
        self.paper, self.scale = paper, scale
        self._configs = {cell.name: cell.config for cell in paper.scale(scale).cells}
        self._say = say
        self._child = Child(self.store, mode == "online")
        self._fed: dict[str, float] = {}
        self._stacks: dict[str, list[str]] = {}
        self._entered = self._warned = self._shown = False
        self._lost = 0
        self._scratch: list[Path] = []

    def __enter__(self) -> Writer:
        self._entered = True
        if self.mode == "online" and not has_login():
            self._warn("there is no W&B login", f"the runs are logged offline: {LOGIN}, then `lightning-regs sync`")
            self.mode = "offline"
            self._child.online = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        try:
            self._wait(_AFTER_ERROR if kind is not None else None)
        except KeyboardInterrupt:
            self._child.kill()
            self._say("W&B logging was cut short; repeat the command to complete it.")
        finally:
            for folder in self._scratch:
                shutil.rmtree(folder, ignore_errors=True)

    def __call__(self, event: Event) -> None:
        """Log one event.

        Raises:
            RuntimeError: Outside of the ``with`` statement.
        """
        self._check_entered()
        if self.mode == "off":
            return
        try:
            self._log(event)
        except Exception as error:  # W&B must never cost a reproduction
            self._lost += event.kind in ("skipped", "finished")
            self._warn(f"{type(error).__name__}: {error}")
        self._listen()

    def results(self, outcome: Outcome) -> None:
        """Log the results of the scale as a run of their own: the claims, the figures and the tables.

        Results that have been logged already are left alone, and so are those of a command that was interrupted.

        Args:
            outcome: What the reproduction found.

        Raises:
            RuntimeError: Outside of the ``with`` statement.
            ValueError: If it is the outcome of another paper or scale.
        """
        self._check_entered()
        if (outcome.paper.id, outcome.scale) != (self.paper.id, self.scale):
            raise ValueError(
                f"the results are of {outcome.paper.id} {outcome.scale}, but this logs {self.paper.id} {self.scale}; "
                "make a Writer for them."
            )
        if self.mode == "off" or outcome.interrupted or not outcome.rows:
            return
        from lightning_regs.study.wandb import results as wandb_results

        try:
            entry = results_entry(self.paper.id, self.scale, self.store, self.project, self.entity)
            digest = entry.digest(*wandb_results.sources(outcome))
            if not Mark(entry).current(digest, self.mode == "online"):
                scratch = Path(tempfile.mkdtemp(prefix="figures-", dir=make_folder(self.store / "wandb")))
                self._scratch.append(scratch)
                self._send("results", entry, digest=digest, **wandb_results.describe(outcome, scratch))
        except InTheWay as error:
            self._lost += 1
            self._warn(str(error), error.remedy)
        except Exception as error:  # as in __call__
            self._lost += 1
            self._warn(f"{type(error).__name__}: {error}")
        self._listen()

    def _check_entered(self) -> None:
        if not self._entered:
            raise RuntimeError("a Writer waits for W&B at the end of a `with` statement; use it inside of one.")

    def _log(self, event: Event) -> None:
        online = self.mode == "online"
        if event.kind == "skipped":
            entry = self._entry(event.cell, event.seed, event.run)
            mark = Mark(entry)
            if not mark.path.exists() or not mark.current(entry.digest_of_run(), online):
                self._send("write", entry)
        elif event.kind == "finished":
            self._send("write", self._entry(event.cell, event.seed, event.run))
        elif event.kind == "started" and online:
            together = [(event.cell, event.seed, event.run), *event.others]
            entries = [self._entry(*run) for run in together]
            self._stacks[event.run] = [entry.id for entry in entries]
            for entry in entries:
                self._send("open", entry)
        elif event.kind == "progress" and online:
            now = time.monotonic()
            if now - self._fed.get(event.run, now - _FEED_EVERY) >= _FEED_EVERY:
                self._fed[event.run] = now
                for entry_id in self._stacks.get(event.run, ()):
                    self._child.send({"do": "feed", "id": entry_id})
        elif event.kind == "failed" and online:
            entry = self._entry(event.cell, event.seed, event.run)
            self._child.send({"do": "fail", "id": entry.id})

    def _entry(self, cell: str, seed: int, run: str) -> Entry:
        folder = self.store / run
        config = self._configs[cell]
        return run_entry(self.paper.id, self.scale, cell, seed, config, folder, self.project, self.entity)

    def _send(self, what: str, entry: Entry, **more: Any) -> None:
        self._child.send({"do": what, "entry": entry.as_dict()} | more)

    def _listen(self) -> None:
        """Say what the child has to say, in the thread of the caller, who may be drawing on the terminal."""
        for answer in self._child.answers():
            if (url := answer.get("url")) and not self._shown:
                self._shown = True
                self._say(f"W&B: {url}")
            elif why := answer.get("offline"):
                self._warn(
                    f"the W&B server cannot be used ({why})",
                    "the runs are logged offline: see to the network and the login, then `lightning-regs sync`",
                )
            elif why := answer.get("unable") or answer.get("why"):
                self._warn(str(why), answer.get("remedy", _REMEDY))

    def _warn(self, what: str, remedy: str = _REMEDY) -> None:
        """Say one sentence, once: what follows a first failure is more of the same."""
        if not self._warned:
            self._warned = True
            self._say(f"W&B logging: {' '.join(what.split())[:400].rstrip('.')}; {remedy}.")

    def _wait(self, limit: float | None) -> None:
        self._child.close()
        began, said = time.monotonic(), False
        while not self._child.ended.wait(0.1):
            waited = time.monotonic() - began
            if not said and waited > _PATIENCE and limit is None:
                said = True
                runs = f" to take {_count(left)}" if (left := self._child.pending) else ""
                self._say(f"Waiting for W&B{runs} ...")
            if limit is not None and waited > limit:
                self._child.kill()
                break
        self._listen()
        if lost := self._lost + self._child.lost:
            were = f"{_count(lost)} {'was' if lost == 1 else 'were'}"
            self._say(f"W&B: {were} not logged; a repeated command logs what is missing.")


def _count(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"
