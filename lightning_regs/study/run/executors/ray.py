"""Runs on the machines of a Ray cluster: each goes wherever there is room, and its folder comes back into one store."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_regs.core.files import DamagedFileError, pack
from lightning_regs.study.run.events import Emit, Event, Job, Stack
from lightning_regs.study.run.executors.cards import devices, keeps_to_cpu
from lightning_regs.study.run.executors.node import Parcel, carry_out
from lightning_regs.study.run.executors.queue import Held, Queue, refuse

_TRIES = 3  # of a run whose machine dies each time: it may be the run that kills it
_ANSWERS_WITHIN = 5.0
_ENDS_WITHIN = 10.0
_PACKAGE = Path(__file__).parents[3]
# Of the code that goes along; tables and pictures of results are none.
_LEFT_OUT = ["results/", "__pycache__/", "*.png", "*.svg"]


@dataclass
class _Sent:
    """Runs that are out, what their events come from, and what keeps other commands from training them too."""

    left: list[Job]
    events: Any
    locks: ExitStack


class Ray:
    """Carries out runs on the machines of a Ray cluster.

    A run takes this package, the code of its paper and what it needs along, and its folder comes back into the store of
    this command when it ends: no file system is shared. Data sets are looked up where it runs. Of a run whose machine
    dies only that run is lost; it starts again elsewhere. Where the program has called ``ray.init`` itself, its
    connection is used, and the package has to be installed on all machines.

    Args:
        address: ``HOST:PORT`` of the cluster; default: ``RAY_ADDRESS``, else one that runs on this machine, else one
            that is started on it and ends with the command.
        papers: Folder of the papers, which goes along; None for none.
        jobs: Runs at once, at most; default: as many as there is room for.
        cpus: Cores for each run, and its threads.
        gpus: GPUs for each run, or the share of one, such as 0.25; default: 1 where the cluster has any, else 0.
    """

    def __init__(
        self,
        address: str | None = None,
        papers: Path | None = None,
        jobs: int | None = None,
        cpus: int = 1,
        gpus: float | None = None,
    ) -> None:
        if cpus < 1:
            raise ValueError(f"cpus is {cpus}; give the cores of a run, at least 1.")
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and float(gpus).is_integer())):
            raise ValueError(f"gpus is {gpus:g}; give a share of one GPU (0.25) or a number of whole ones (2), or 0.")
        self._papers = papers
        self._ray, self._own = _connect(address, papers)
        if gpus is None:
            gpus = float(self._ray.cluster_resources().get("GPU", 0) > 0)
        self._cpus, self._gpus, self._at_once = cpus, gpus, jobs
        self._out: list[_Sent] = []
        self._lost: Counter[str] = Counter()
        self._needed: dict[str, Any] = {}
        self.jobs = self._room(cpus, gpus)
        if not self.jobs:
            self._leave()
            raise _too_small(cpus, gpus)

    def ahead(self, look: Callable[[], None], stack: Stack) -> None:
        """Call a function here, where options are the same; a data set that is not here may be where the runs are."""
        with contextlib.suppress(FileNotFoundError):
            look()

    def run(self, stacks: Sequence[Stack], emit: Emit) -> None:
        """Carry out all runs; see :class:`~lightning_regs.study.run.executors.queue.Executor`."""
        queue = Queue(stacks, emit, shares=0 < self._gpus < 1)
        try:
            for wanted in {self._wants(stack) for stack in stacks}:
                if not self._room(*wanted):
                    raise _too_small(*wanted)
            while True:
                # A run that waits tells a cluster that can grow to do so.
                room = max(1, self._room(self._cpus, self._gpus))
                while len(self._out) < room and (stack := queue.pop()) is not None:
                    self._send(queue, stack)
                if self._out:
                    self._listen(queue)
                elif queue.held:
                    time.sleep(0.5)
                elif not queue.ready():
                    break
            queue.end()
        finally:
            self._end()

    def _wants(self, stack: Stack, alone: bool = False) -> tuple[int, float]:
        """Return the CPUs and GPUs that runs take together; of several devices each is a whole GPU."""
        each = max(devices(job.config) for job in stack)
        gpus = 1.0 if alone else self._gpus
        if all(keeps_to_cpu(job.config) for job in stack) or not self._gpus:
            gpus = 0.0
        elif each > 1:
            gpus = float(each * math.ceil(gpus))
        return self._cpus * each, gpus

    def _room(self, cpus: int, gpus: float) -> int:
        """Return how many runs of so many the machines that are alive have room for at once."""
        room = 0.0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                cards = has.get("GPU", 0.0) / gpus if gpus else math.inf
                room += min(has.get("CPU", 0.0) // cpus, cards // 1)
        return int(min(room, self._at_once or math.inf))

    def _send(self, queue: Queue, stack: Stack) -> None:
        """Send runs out, but for those that another command has finished; give back what it has taken just now."""
        with ExitStack() as locks:
            try:
                for job in sorted(stack, key=lambda job: job.run):
                    locks.enter_context(job.stored.lock(refuse))
            except Held:
                queue.held.append(stack)
                return
            left = []
            for job in stack:
                if (row := job.row()) is not None:
                    queue.emit(job.event("finished", row=row))
                else:
                    left.append(job)
            if left:
                events = self._remote(queue, tuple(left))
                self._out.append(_Sent(left, events, locks.pop_all()))

    def _remote(self, queue: Queue, stack: Stack) -> Any:
        first = stack[0]
        cpus, gpus = self._wants(stack, alone=first.run in queue.alone)
        needed = {Path(folder).name: Path(folder) for job in stack for folder in job.inputs.values()}
        for run, folder in needed.items():
            if run not in self._needed:
                self._needed[run] = self._ray.put(pack(folder))
        ours = {name: value for name, value in os.environ.items() if name.startswith("LIGHTNING_REGS_")}
        parcel = Parcel(
            stack,
            cpus,
            gpus,
            tuple(needed),
            {job.run: pack(Path(job.folder)) for job in stack if job.stored.goes_on() and not job.force},
            self._papers.name if self._papers else None,
            str(Path.cwd()),
            tuple(sys.path),
            ours,
        )
        task = self._ray.remote(carry_out).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=0,
            num_returns="streaming",
            name=f"{first.cell} seed {first.seed}",
        )
        return task.remote(parcel, *(self._needed[run] for run in needed))

    def _listen(self, queue: Queue) -> None:
        """Pass on the next event of each run that has one, within a second."""
        by_events = {id(sent.events): sent for sent in self._out}
        ready, _ = self._ray.wait([sent.events for sent in self._out], timeout=1.0, fetch_local=False)
        for events in ready:
            sent = by_events[id(events)]
            try:
                event, packed = self._ray.get(next(events))
                self._arrived(queue, sent, event, packed)
            except StopIteration:
                self._gone(queue, sent, "it ended without a result")
            except self._ray.exceptions.RayTaskError as error:  # of what surrounds the run there, not of the run
                self._gone(queue, sent, str(error.cause), for_good=True)
            except (self._ray.exceptions.RayError, DamagedFileError) as error:
                self._gone(queue, sent, type(error).__name__)

    def _arrived(self, queue: Queue, sent: _Sent, event: Event, packed: bytes | None) -> None:
        if packed is not None:
            [job] = [job for job in sent.left if job.run == event.run]
            job.stored.take(packed)
            sent.left.remove(job)
        queue.emit(event)

    def _gone(self, queue: Queue, sent: _Sent, why: str, for_good: bool = False) -> None:
        """Forget runs that are out no more, and let those that have not ended start again."""
        self._out.remove(sent)
        sent.locks.close()
        for job in sent.left:
            self._lost[job.run] += 1
            if for_good or self._lost[job.run] >= _TRIES:
                times = "" if for_good else f", {_TRIES} times"
                text = f"it was lost on the cluster ({' '.join(why.split())}{times})"
                job.stored.fail(text + "\n")
                queue.emit(job.event("failed", text=text))
                sent.left = [other for other in sent.left if other is not job]
            else:
                queue.emit(job.event("noted", text=f"was lost with its machine ({why}); it starts again"))
        if sent.left:
            queue.back(tuple(sent.left))

    def _end(self) -> None:
        """Cancel what is out, wait until it has cleared up where it was, and leave the cluster."""
        try:
            for sent in self._out:
                self._ray.cancel(sent.events)
            until = time.monotonic() + _ENDS_WITHIN
            while self._out and time.monotonic() < until:
                by_events = {id(sent.events): sent for sent in self._out}
                for events in self._ray.wait([sent.events for sent in self._out], timeout=0.5)[0]:
                    try:
                        self._ray.get(next(events))
                    except (StopIteration, self._ray.exceptions.RayError):
                        sent = by_events[id(events)]
                        self._out.remove(sent)
                        sent.locks.close()
            for sent in self._out:
                self._ray.cancel(sent.events, force=True)
        finally:
            for sent in self._out:
                sent.locks.close()
            self._needed.clear()
            self._leave()

    def _leave(self) -> None:
        if self._own:
            self._ray.shutdown()


def _too_small(cpus: int, gpus: float) -> ValueError:
    return ValueError(
        f"no machine of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a run; ask for less, or start more "
        "machines."
    )


def _connect(address: str | None, papers: Path | None) -> tuple[Any, bool]:
    """Return Ray, connected, and whether the connection is ours to end."""
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ValueError(
            "executor 'ray' needs Ray, which is not installed: pip install 'lightning-regs[cluster]'."
        ) from error
    if ray.is_initialized():
        return ray, False
    address = address or os.environ.get("RAY_ADDRESS") or None
    _check(address)
    modules = [str(folder) for folder in (_PACKAGE, papers) if folder is not None]
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_modules": modules, "excludes": _LEFT_OUT},
            **({} if address else {"include_dashboard": False}),
        )
    except Exception as error:
        with contextlib.suppress(Exception):
            ray.shutdown()
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"Ray could not be reached or started ({why}); see `ray status` on its machines.") from error
    return ray, True


def _check(address: str | None) -> None:
    """Refuse an address at which nobody answers: Ray itself would wait for minutes."""
    if address is None or address in ("auto", "local"):
        return
    if "://" in address:
        raise ValueError(
            f"address {address!r} is of Ray's client, which cannot pass on events of runs; on a machine of the "
            "cluster give HOST:PORT, or first join it with `ray start --num-cpus 0 --address HOST:PORT`."
        )
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), timeout=_ANSWERS_WITHIN).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(
            f"nobody answers at the address {address!r} ({error}); give the HOST:PORT that `ray start --head` printed."
        ) from error
