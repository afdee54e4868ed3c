"""A run on a machine of a cluster: it arrives as plain data, has a process of its own, and its folder is sent back."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

from lightning_regs.core.files import pack, unpack
from lightning_regs.study.run.events import Event, Stack
from lightning_regs.study.run.executors.process import Worker
from lightning_regs.study.run.provenance import versions

_PREFIX = "lightning-regs-run-"
_SAY_PROGRESS_EVERY = 0.5
_kept: dict[tuple[object, ...], Worker] = {}  # the process of the last run, for the next: it has imported torch


@dataclass(frozen=True)
class Parcel:
    """What runs need to go anywhere, beside the runs that they need."""

    stack: Stack  # the runs, each with so many `threads` and `gpus`, or a share of one
    threads: int
    gpus: float
    needed: tuple[str, ...]  # hashes of the runs that they need
    begun: Mapping[str, bytes]  # what is there of runs that go on, packed, by hash
    papers: str | None  # name of the folder of papers that came along as code; None for none
    directory: str  # working directory of the command, which is the run's where it exists
    path: tuple[str, ...]  # module path of the command; what exists of it is looked through last
    environment: Mapping[str, str]  # variables that count where the machine has none of its own


def carry_out(parcel: Parcel, *needed: bytes) -> Iterator[tuple[Event, bytes | None]]:
    """Carry out the runs of a parcel, given the packed folders of those that they need.

    Yields their events, and with each that ends a run its folder, packed.
    """
    _settle(parcel)
    _sweep()
    root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    key = (parcel.threads, os.environ.get("CUDA_VISIBLE_DEVICES"))
    try:
        for run, packed in [*parcel.begun.items(), *zip(parcel.needed, needed, strict=True)]:
            unpack(packed, root / run)
        worker = _kept.pop(key, None)
        if worker is not None and not worker.usable():
            worker.kill()
            worker = None
        worker = worker or Worker(parcel.threads)
        _kept[key] = worker
        worker.give(_here(parcel, root))
        home = Path(parcel.stack[0].folder).parent
        said = 0.0
        while worker.stack:
            # Cancelling raises KeyboardInterrupt here, but not before a call into C returns.
            wait([worker.pipe], timeout=0.5)
            for event in worker.events():
                if event.kind == "progress":
                    if time.monotonic() - said < _SAY_PROGRESS_EVERY:
                        continue
                    said = time.monotonic()
                ended = pack(root / event.run) if event.kind in ("finished", "failed") else None
                text = event.text.replace(str(root), str(home))
                yield replace(event, folder=str(home / event.run), text=text), ended
    except BaseException:
        while _kept:
            _kept.popitem()[1].kill()
        raise
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _settle(parcel: Parcel) -> None:
    """Make this process of the cluster like the one that sent the parcel, as far as the machine has what that has."""
    for name, value in parcel.environment.items():
        os.environ.setdefault(name, value)
    if not parcel.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if Path(parcel.directory).is_dir():
        os.chdir(parcel.directory)
    sys.path += [entry for entry in parcel.path if entry not in sys.path and Path(entry).exists()]


def _here(parcel: Parcel, root: Path) -> Stack:
    """Return the runs with the paths that they have on this machine, and the versions of its packages."""
    came = [Path(entry) / parcel.papers for entry in sys.path] if parcel.papers else []
    papers = next((str(path) for path in came if "py_modules_files" in path.parts and path.is_dir()), None)
    return tuple(
        replace(
            job,
            folder=str(root / job.run),
            papers=papers or job.papers,
            inputs={cell: str(root / Path(folder).name) for cell, folder in job.inputs.items()},
            facts={**job.facts, "versions": versions()},
        )
        for job in parcel.stack
    )


def _sweep() -> None:
    """Remove what runs left whose processes were killed with no time to clear up."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(PermissionError):
            try:
                os.kill(int(pid), 0)
            except (ProcessLookupError, ValueError):
                shutil.rmtree(left, ignore_errors=True)
