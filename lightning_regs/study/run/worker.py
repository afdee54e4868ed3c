"""A run, or a stack of them, from job to row, wherever it is carried out; and the body of a worker process."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lightning_regs.core.files import DamagedFileError, atomic_write, causes, disk_full, out_of_gpu_memory
from lightning_regs.core.runs import LEADING, TRAILING, RunContext, unfit
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.study.run import provenance
from lightning_regs.study.run.children import keep_to_parent, print_into
from lightning_regs.study.run.code import changed
from lightning_regs.study.run.events import Emit, Event, Job, Stack
from lightning_regs.study.run.executors.cards import devices
from lightning_regs.study.run.ranks import measure_here, measure_in_processes, portable


def perform(stack: Stack, threads: int, emit: Emit) -> None:
    """Carry out the runs of a stack in this process, but for complete ones; each ends ``finished`` or ``failed``.

    Raises:
        KeyboardInterrupt: On Ctrl-C, also where the task turned it into an exit.
    """
    missing = list(stack)
    ended: list[Event] = []
    try:
        with contextlib.ExitStack() as locks:
            # In one order everywhere, so that two commands never wait for each other.
            for job in sorted(stack, key=lambda job: job.run):
                locks.enter_context(job.stored.lock(functools.partial(_say_waiting, job, emit)))
            for job in stack:
                if (row := job.row()) is not None:
                    missing.remove(job)
                    ended.append(job.event("finished", row=row))
                elif job.force:
                    job.stored.clear()
            if missing:
                emit(missing[0].event("started", stacked=len(missing)))
                for event in _measure(tuple(missing), threads, emit):
                    missing.pop(0)
                    ended.append(event)
    except (Exception, SystemExit) as error:
        # Lightning turns Ctrl-C into SystemExit; what it came from tells it from an exit of the task's own.
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes(error)):
            raise KeyboardInterrupt from error
        ended += [_failed(job, error) for job in missing]
    for event in ended:
        emit(event)


def _say_waiting(job: Job, emit: Emit, pid: int | None) -> None:
    emit(job.event("waiting", text=str(pid or "")))


def _failed(job: Job, error: BaseException) -> Event:
    job.stored.fail("".join(traceback.format_exception(error)))
    full = disk_full(error, Path(job.folder))
    text = f"the disk that holds {Path(job.folder).parent} is full" if full else f"{type(error).__name__}: {error}"
    memory, spent = out_of_gpu_memory(error), _gpu_lost()
    return job.event("failed", text=" ".join(text.split()), full=full, memory=memory, spent=spent)


def _gpu_lost() -> bool:
    """Tell whether this process can use its GPU no more: after a failed assertion there all that it is asked fails.

    After a capture that failed the allocator takes it for unfinished, and refuses to give memory back.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception:
        return True
    return False


def _measure(stack: Stack, threads: int, emit: Emit) -> Iterator[Event]:
    """Measure the runs of a stack; give the event that each ends with, in their order."""
    first = stack[0]

    def progress(done: float, total: float, text: str) -> None:
        emit(first.event("progress", done=done, total=total, text=text, stacked=len(stack)))

    def note(text: str) -> None:
        emit(first.event("noted", text=text))

    for job in stack:
        config: dict[str, Any] = {"task": job.task, "config": job.config, "seed": job.seed}
        if job.force:
            config["forced"] = time.time()
        if (Path(job.folder) / "row.json").exists():
            text = "has a row.json that is damaged, or not with the curves of its run: it is redone"
            emit(job.event("noted", text=text))
        if code := _code(job, emit):
            config["code"] = code
        atomic_write(Path(job.folder) / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")

    def attempt() -> tuple[list[RunContext], list[Any]]:
        contexts = [
            RunContext(job.folder, job.seed, threads, progress if job is first else None, job.inputs, note)
            for job in stack
        ]
        try:
            return contexts, measure(first.task, [job.config for job in stack], contexts, threads)
        finally:
            for context in contexts:
                context.close()

    measure = measure_here
    if (number := devices(first.config)) > 1:
        measure = functools.partial(measure_in_processes, number, first.papers)
    elif first.papers is not None:
        add_to_path(first.papers)
    try:
        contexts, measured = attempt()
    except DamagedFileError as error:  # who reads a file that is not whole removes it
        note(f"{error}; the run starts over.")
        contexts, measured = attempt()
    for job, context, metrics in zip(stack, contexts, measured, strict=True):
        try:
            row = _row(job, context, metrics, len(stack), number)
            if why := unfit(row):
                raise ValueError(f"task {job.task} returned {why}.")
        except (TypeError, ValueError) as error:  # metrics that are none: the others' are good
            yield _failed(job, error)
            continue
        job.stored.finish(row)
        yield job.event("finished", row=row)


def _code(job: Job, emit: Emit) -> Mapping[str, str]:
    """Return the code that the run is begun with, which is not that of now where it goes on."""
    begun = job.stored.code()
    if begun is None or not job.stored.goes_on():
        return job.code
    if what := changed(begun, job.code):
        text = f"goes on where it was, though {what} has changed since it began; --force starts it over"
        emit(job.event("noted", text=text))
    return begun


def _row(job: Job, context: RunContext, metrics: object, stacked: int, processes: int) -> dict[str, Any]:
    row: dict[str, Any] = dict(sorted(_checked(job.task, metrics).items()))
    epochs = row.pop("epochs", context.epochs)
    cpu = context.device.startswith("cpu")
    together = [f"{stacked} replicas" if stacked > 1 else "", f"{processes} processes" if processes > 1 else ""]
    device = [context.device, provenance.processor() if cpu else "", *together]
    # Elsewhere, a GPU's float32 is TF32 in convolutions.
    full = " (no TF32)" if context.precision == "32-true" and not cpu else ""
    return row | {
        "epochs": epochs,
        # What it cost: the runs of a stack share its time.
        "wall_s": round(context.elapsed / stacked, 3),
        "device": ", ".join(filter(None, device)),
        "precision": context.precision + full,
        "commit": job.facts.get("commit", ""),
        "versions": job.facts.get("versions", ""),
        "seed": job.seed,
        "config_hash": job.run,
    }


def _checked(task: str, metrics: object) -> dict[str, float]:
    if not isinstance(metrics, Mapping) or not metrics:
        raise TypeError(f"task {task} returned {type(metrics).__name__}; return a mapping of metric names to numbers.")
    checked = {}
    for name, value in metrics.items():
        if name in LEADING or (name in TRAILING and name != "epochs"):
            raise ValueError(f"task {task} returned a metric named {name!r}, which is a column of its own; rename it.")
        try:
            checked[str(name)] = value if type(value) is int else float(value)
        except (TypeError, ValueError):
            raise TypeError(f"task {task} returned {name}={value!r}, which is not a number.") from None
    return checked


def _raised(function: Callable[[], None]) -> BaseException | None:
    try:
        function()
    except Exception as error:
        return portable(error)
    return None


def work(pipe: Connection, threads: int) -> None:
    """Body of a worker process: take jobs, or functions to call, until there are no more."""
    keep_to_parent()

    def emit(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:
            os._exit(1)

    while True:
        try:
            stack: Stack | Callable[[], None] = pipe.recv()
        except (EOFError, OSError):
            return
        if callable(stack):
            pipe.send(_raised(stack))
            continue
        print_into(Path(stack[0].folder))
        perform(stack, threads, emit)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
