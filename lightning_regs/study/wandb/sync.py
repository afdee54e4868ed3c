"""Uploading the runs that were logged offline, with wandb's own ``wandb sync``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_regs.study.wandb.login import LOGIN, environment, has_login, server, unreachable
from lightning_regs.study.wandb.mark import InTheWay, holding, is_whole, log_of, make_folder, read_mark
from lightning_regs.study.wandb.target import check_entity, check_project

# Runs that one `wandb sync` is given: enough to upload several at once, few enough to say how far it is.
_BATCH = 20


@dataclass(frozen=True)
class _Waiting:
    """A run that was logged offline: its mark, what the mark says, and the folder that W&B made."""

    mark: Path
    said: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.mark.parent / str(self.said["run"])

    @property
    def uploaded(self) -> bool:
        """Whether wandb says that it has uploaded the run."""
        log = log_of(self.mark.parent, self.said)
        try:
            return log is not None and log.with_name(f"{log.name}.synced").exists()
        except (OSError, ValueError):  # a name that no file can have
            return False

    @property
    def now(self) -> dict[str, Any]:
        """What the mark says by now."""
        return read_mark(self.mark)

    def settle(self) -> None:
        """Remember that it is on the server, also when its folder goes; only for who holds the mark."""
        self.mark.write_text(json.dumps(self.said | {"uploaded": True}) + "\n", encoding="utf-8")


def sync(
    store_root: str | os.PathLike[str],
    papers: Collection[str] | None = None,
    entity: str | None = None,
    project: str | None = None,
    say: Callable[[str], object] = print,
) -> int:
    """Upload the finished runs in a store that were logged offline and are not on the W&B server yet.

    The runs keep their ids. What has been uploaded is remembered, so a command that was stopped goes on when repeated.

    Args:
        store_root: The run store.
        papers: Ids of papers; None for all.
        entity: W&B user or team, instead of the one that the runs were logged for.
        project: W&B project, likewise.
        say: Shows a sentence to the user.

    Returns:
        The exit status: 0 when nothing is left to upload, 1 when it did not work; one sentence says why.

    Raises:
        ValueError: If W&B does not take one of the names.
    """
    store = Path(store_root).absolute()
    if entity is not None:
        check_entity(entity)
    if project is not None:
        check_project(project)
    waiting, damaged = _waiting(store, papers)
    if damaged:
        say(f"{_count(damaged)} incomplete in {store}; `lightning-regs reproduce` with --wandb offline logs them anew.")
    if not waiting:
        say(f"Nothing to upload: {store} has no runs that were logged offline and are not on the W&B server.")
        return 0
    if not has_login():
        say(f"{_count(len(waiting))} not uploaded: there is no W&B login; {LOGIN}, and repeat the command.")
        return 1
    if why := unreachable():
        say(f"{_count(len(waiting))} not uploaded: {server()} cannot be reached ({why}); repeat the command later.")
        return 1
    where = [*(["--entity", entity] if entity else []), *(["--project", project] if project else [])]
    done, busy, address = 0, 0, ""
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        with contextlib.ExitStack() as stack:
            ours, elsewhere = _hold(batch, stack)
            why, url = _upload(store, ours, where) if ours else (None, "")
        busy += len(batch) - len(ours) - elsewhere
        done += elsewhere + sum(run.uploaded for run in ours)
        address = url or address
        if why is not None:
            left = _count(len(waiting) - done)
            say(f"{left} not uploaded: {why}; see to it and repeat the command, it goes on where it stopped.")
            return 1
        say(f"{done} of {len(waiting)} uploaded" + (f", see {address}" if address and done == len(waiting) else ""))
    if busy:
        say(f"{_count(busy)} not uploaded: another command is writing; repeat this one when it has ended.")
    return int(bool(busy))


def _waiting(store: Path, papers: Collection[str] | None) -> tuple[list[_Waiting], int]:
    """List what is to be uploaded, the runs of training before those of results; and count what is incomplete."""
    waiting, damaged = [], 0
    for mark in [*sorted(store.glob("*/wandb/*.json")), *sorted((store / "wandb").glob("*.json"))]:
        said = read_mark(mark)
        if not said or said.get("uploaded") or (papers is not None and said["paper"] not in papers):
            continue
        run = _Waiting(mark, said)
        if run.uploaded:  # by a command that was killed before it could say so, or by hand
            with holding(mark) as held:
                if held and run.now == said and run.uploaded:
                    run.settle()
        elif is_whole(mark.parent, said):
            waiting.append(run)
        else:
            damaged += 1
    return waiting, damaged


def _hold(runs: list[_Waiting], stack: contextlib.ExitStack) -> tuple[list[_Waiting], int]:
    """Lock runs, and leave out what other commands hold or have changed; also count what those have uploaded."""
    ours, elsewhere = [], 0
    for run in runs:
        held = stack.enter_context(holding(run.mark))
        now = run.now
        if now.get("uploaded"):
            elsewhere += 1
        elif held and now == run.said:
            ours.append(run)
    return ours, elsewhere


def _upload(store: Path, runs: list[_Waiting], where: list[str]) -> tuple[str | None, str]:
    """Upload some runs; return why it did not work, None when it did, and the address of the project."""
    command = [sys.executable, "-m", "wandb", "sync", *where, *(str(run.folder) for run in runs)]
    variables = environment(store, online=True) | {"WANDB_SILENT": "false"}
    try:
        ended = subprocess.run(  # noqa: S603
            command,
            env=variables,
            cwd=make_folder(store / "wandb"),  # where Python looks for modules first
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except InTheWay as error:
        return str(error), ""
    finally:
        for run in runs:
            if run.uploaded:
                run.settle()
    said = ended.stdout + ended.stderr
    address = re.search(r" at (https?://\S+)/runs/\S+", said)
    if all(run.uploaded for run in runs):
        return None, address[1] if address else ""
    return f"`wandb sync` says {_blame(said, ended.returncode)!r}", ""


def _blame(said: str, code: int) -> str:
    """Find the line that says what went wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if re.search(r"\b(ERROR|Error)\b", line) and "detailed error logs" not in line]
    worst = (marked or lines or [f"exit code {code}"])[-1]
    return re.sub(r"^(wandb: *)?(ERROR|Error):? *", "", worst)[:300]


def _count(number: int) -> str:
    return f"{number} run is" if number == 1 else f"{number} runs are"
