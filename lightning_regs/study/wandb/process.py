"""The process that exports to Weights & Biases beside a command, to which it costs nothing: only it imports wandb."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.run.children import print_into, start
from lightning_regs.study.store.ledger import Ledger
from lightning_regs.study.store.results import default_results
from lightning_regs.study.wandb.export import CellRun, Results, export
from lightning_regs.study.wandb.target import Target, log_in, one_line

Mode = Literal["offline", "online", "off"]
# Seconds after which waiting at the end is worth a word.
_PATIENCE = 2.0
# Waiting for the server is most of an upload. After so many failures in a row the next run will do no better.
_UPLOADS_AT_ONCE, _GIVE_UP = 8, 3
# Exit status of the process when it has said itself what was not exported.
_INCOMPLETE = 3
# What of wandb's variables says how to reach the server, and how long to try; all others (WANDB_RUN_ID, WANDB_NAME,
# WANDB_SERVICE, ...) speak of a run that is not ours.
_CONNECTION = (
    *("WANDB__GRAPHQL_RETRY_", "WANDB__FILE_STREAM_RETRY_"),
    *("WANDB_API_KEY", "WANDB_APP_URL", "WANDB_BASE_URL", "WANDB_CONFIG_DIR", "WANDB_CREDENTIALS_FILE"),
    *("WANDB_HTTP_PROXY", "WANDB_HTTP_TIMEOUT", "WANDB_HTTPS_PROXY", "WANDB_IDENTITY_TOKEN_FILE"),
    *("WANDB_INSECURE_DISABLE_SSL", "WANDB_X_EXTRA_HTTP_HEADERS"),
)


def default_mode() -> Mode:
    """Choose how to export when nobody says: ``"offline"``, but ``"off"`` with ``WANDB_MODE=disabled``.

    To upload takes more than a login, or a variable that was set for other programs: it has to be asked for.
    """
    return "off" if os.environ.get("WANDB_MODE") == "disabled" else "offline"


class Exporter:
    """Exports what is finished to Weights & Biases; what goes wrong there costs two sentences at the end.

    Use it as a context manager: its end waits until all is exported. The work is done by a process of its own, which
    starts with the first run, or at once where there must be a login.

    Args:
        mode: ``"offline"``: runs are written into their folders. ``"online"``: they are uploaded. ``"off"``: nothing is
            done.
        store: The run store.
        target: Where to; default: ``WANDB_ENTITY``, else the login's own, and ``WANDB_PROJECT``, else
            ``"lightning-regs"``.
        say: Shows a sentence to the user.

    Attributes:
        complete: After the end: whether all that it was given is exported.

    Raises:
        ValueError: From ``with``, if there is no login to upload with.
    """

    def __init__(
        self, mode: Mode, store: Store, target: Target | None = None, say: Callable[[str], object] = print
    ) -> None:
        self.mode, self.complete = mode, True
        self._store, self._target, self._say = store, target, say
        self._process: Any = None

    def __enter__(self) -> Exporter:
        if self.mode == "online":
            self._start()
            with contextlib.suppress(EOFError):
                if refusal := self._pipe.recv():
                    raise ValueError(f"{refusal}, and repeat the command.")
        return self

    def add(self, told: CellRun | Results | None) -> None:
        """Have a run, or results, exported in time; what is W&B's fault is never raised."""
        if self.mode != "off":
            with contextlib.suppress(OSError):  # why it died is said at the end
                if self._process is None:
                    self._start()
                self._pipe.send(told)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is None:
            return
        self.add(None)
        try:
            while kind is None:
                self._say(self._pipe.recv())
        except (EOFError, OSError):
            self._process.join()
        except KeyboardInterrupt:
            kind = KeyboardInterrupt
            self._say("W&B logging was cut short; repeat the command to complete it.")
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self.complete = code == 0
        if kind is None and code not in (0, _INCOMPLETE):
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            log = self._store.root / "wandb" / "log.txt"
            self._say(f"W&B logging: its process ended early ({name}, see {log}); repeat the command to complete it.")

    def _start(self) -> None:
        arguments = (self._store.root, self.mode == "online", self._target)
        self._pipe, self._process = start(_serve, "lightning-regs wandb", *arguments)


def sync(
    papers: Iterable[Paper], store: Store, target: Target | None = None, say: Callable[[str], object] = print
) -> int:
    """Upload what the store holds of some papers and W&B does not have yet: finished runs, and the results.

    The arguments are those of :class:`Exporter`.

    Returns:
        The exit status: 0 when nothing is left to upload.
    """
    found: list[CellRun | Results] = []
    for paper in papers:
        for scale in paper.scales:
            own = (store.results(paper.id) / f"{scale.name}.csv").is_file()
            ledger = Ledger(paper, scale, store, None if own else default_results(paper))
            rows = [row for row in ledger.rows() if row.run in ledger.runs]
            found += [CellRun(paper.id, scale.name, row.cell, row.seed, store.root / row.run) for row in rows]
            if rows and ledger.csv.is_file():
                found.append(Results(paper.id, scale.name, ledger.folder, store.root))
    with Exporter("online" if found else "off", store, target, say) as exporter:
        for told in found:
            exporter.add(told)
    if exporter.complete:
        say(f"{_count(found)} of {store.root} are in W&B." if found else f"{store.root} has nothing to upload.")
    return int(not exporter.complete)


def _serve(pipe: Connection, store: Path, online: bool, target: Target | None) -> None:
    """Body of the process: export what comes through the pipe until None comes, or the command has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's: what is finished is still exported
    with contextlib.suppress(OSError):
        os.nice(5)  # the runs that train come first
    print_into(store / "wandb")
    target = target or Target(os.environ.get("WANDB_ENTITY"), os.environ.get("WANDB_PROJECT") or "lightning-regs")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        if not (online and name.startswith(_CONNECTION)):
            del os.environ[name]
    os.environ["WANDB_DATA_DIR"] = str(store / "wandb" / "staging")
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy, which wandb imports, would start a thread a core
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["WANDB_CACHE_DIR"] = cache
        work = _Work(pipe, target, online)
        if not online or work.connect():
            work.take()
            work.sum_up()
    sys.exit(_INCOMPLETE if work.lost else 0)


class _Work:
    """What the process has to do, and what came of it."""

    def __init__(self, pipe: Connection, target: Target, online: bool) -> None:
        self.lost: list[str] = []
        self._pipe, self._target, self._online = pipe, target, online
        self._failures = 0
        self._error: Exception | None = None
        self._address: str | None = None

    def connect(self) -> bool:
        """Tell the command why it may not go on, if there is no login; without a server, all that comes is lost."""
        try:
            log_in()
        except ValueError as error:
            self._pipe.send(str(error))
            return False
        self._pipe.send("")
        import wandb

        try:
            api = wandb.Api()
            entity = self._target.entity or api.default_entity
            self._target = Target(entity, self._target.project, api.settings["base_url"])
        except Exception as error:  # whatever wandb, its service process and the network raise
            self._error, self._failures = error, _GIVE_UP
        return True

    def take(self) -> None:
        """Export runs as they come, and results at the end."""
        runs, results = [], []
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE if self._online else 1) as pool:
            while (told := self._pipe.recv()) is not None:
                if isinstance(told, Results):
                    results.append(told)
                else:
                    runs.append(pool.submit(self._export, told))
            if left := wait(runs, _PATIENCE).not_done:
                self._pipe.send(f"Waiting for W&B to take {_count(left)} ...")
        for told in results:
            self._export(told)

    def _export(self, told: CellRun | Results) -> None:
        if self._failures < _GIVE_UP:
            try:
                address = export(told, self._target)
                self._address, self._failures = self._address or address, 0
                return
            except Exception as error:
                logging.exception(told.id)
                self._error, self._failures = self._error or error, self._failures + 1
        self.lost.append(told.id)

    def sum_up(self) -> None:
        """Say what the user has to know."""
        if self._online and self._address:
            self._pipe.send(f"W&B: {self._address.partition('/runs/')[0]}")
        if self._error:
            self._pipe.send(f"W&B logging: {one_line(self._error)}; the results are not affected.")
        if self.lost:
            remedy = "`lightning-regs sync` uploads" if self._online else "a repeated command logs"
            self._pipe.send(f"W&B: {_count(self.lost)} not logged; {remedy} what is missing.")


def _count(runs: Sized) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"
