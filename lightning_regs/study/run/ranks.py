"""A task, carried out: in this process, or in several that train one net together, one process a device."""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.tasks import add_to_path, import_task
from lightning_regs.study.run.children import keep_to_parent, start, surroundings, undone

_ALONE = ("spawn", "fork", "notebook")  # strategies whose processes would be started once more


def measure_here(task: str, configs: Sequence[Any], contexts: Sequence[RunContext], threads: int) -> list[Any]:
    """Return the metrics of runs, measured together in this process by the task of that import path.

    Raises:
        TypeError: If there are several runs and the task has no form for that.
    """
    function = import_task(task)
    with undone({}), _torch_set(threads):
        if len(contexts) == 1:
            return [function(configs[0], contexts[0])]
        if (stacked := getattr(function, "stacked", None)) is None:
            raise TypeError(
                f"task {task} has no `stacked` form, which cells with a stack label need; leave the label out."
            )
        measured = stacked(list(configs), list(contexts))
    if not isinstance(measured, list) or len(measured) != len(contexts):
        raise TypeError(f"the stacked form of task {task} returned no list of {len(contexts)} metrics, one a run.")
    return measured


def measure_in_processes(
    number: int, papers: str | None, task: str, configs: Sequence[Any], contexts: Sequence[RunContext], threads: int
) -> list[Any]:
    """Return the metrics of runs, measured by so many processes each of which is one of a Trainer's devices.

    Every process carries out the whole task, as in any training by DDP that ``torchrun`` starts. What the first writes
    and says is what is written and said. When one fails or dies, all end. The threads are those of all of them
    together; ``papers`` is a folder to be put on their module path.
    """
    strategy = configs[0]["trainer"].get("strategy", "auto")
    if isinstance(strategy, str) and any(word in strategy for word in _ALONE):
        raise ValueError(
            f"strategy {strategy!r} starts processes itself, and a run with devices={number} has them already; "
            "leave it out, or write 'ddp'."
        )
    folders = [(str(run.folder), run.seed, {name: str(path) for name, path in run.inputs.items()}) for run in contexts]
    share = max(1, threads // number)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    ranks: list[tuple[Connection, BaseProcess]] = []
    try:
        for rank in range(number):
            with surroundings(share, world | {"LOCAL_RANK": str(rank)}):
                name = f"lightning-regs run, process {rank}"
                ranks.append(start(_body, name, rank, papers, task, list(configs), folders, share))
        measured, facts = _collect(ranks, contexts[0])
    finally:
        for pipe, process in ranks:
            process.kill()
            process.join()
            pipe.close()
    for context, (device, precision, epochs) in zip(contexts, facts, strict=True):
        context.device, context.precision, context.epochs = device, precision, epochs
    return measured


class _Silent(RunContext):
    """A run seen from a process that writes and says nothing: the first one does."""

    def note(self, sentence: str) -> None:
        """Leave it to the first process."""

    def log_curve(self, row: Mapping[str, float]) -> None:
        """Leave it to the first process."""

    def restore_curves(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Leave it to the first process."""

    def _save_elapsed(self, every: float = 0.0) -> None:
        """Leave it to the first process."""


def _collect(ranks: Sequence[tuple[Connection, BaseProcess]], run: RunContext) -> tuple[list[Any], list[Any]]:
    """Wait until all have returned, and give what the first did; what it says of the run is said of this one."""
    waiting = dict(enumerate(ranks))
    answer: tuple[list[Any], list[Any]] = ([], [])
    while waiting:
        wait([pipe for pipe, _ in waiting.values()], timeout=0.5)
        for rank, (pipe, process) in list(waiting.items()):
            try:
                if not pipe.poll():
                    continue
                kind, content = pipe.recv()
            except (EOFError, OSError):
                raise RuntimeError(_death(rank, process, len(ranks))) from None
            if kind == "failed":
                _look_for_dead(waiting, len(ranks))
                error, text = content
                raise error from RuntimeError(f"in process {rank} of {len(ranks)}:\n{text}")
            if kind == "returned":
                del waiting[rank]
                answer = content if rank == 0 else answer
            else:
                getattr(run, kind)(*content)
    return answer


def _look_for_dead(waiting: Mapping[int, tuple[Connection, BaseProcess]], number: int) -> None:
    """Raise that a process has died, where one has: what the others say then is that they miss it."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        for rank, (_, process) in waiting.items():
            if not process.is_alive():
                raise RuntimeError(_death(rank, process, number))
        time.sleep(0.05)


def _death(rank: int, process: BaseProcess, number: int) -> str:
    process.join(timeout=5)
    code = process.exitcode or 0
    return f"process {rank} of {number} " + (f"died of {signal.Signals(-code).name}" if code < 0 else f"exited: {code}")


def _body(
    pipe: Connection, rank: int, papers: str | None, task: str, configs: list[Any],
    folders: list[tuple[str, int, dict[str, str]]], threads: int,
) -> None:  # fmt: skip
    """Carry out a task as one process of several, and wait for the end that the parent makes."""
    keep_to_parent()
    if papers is not None:
        add_to_path(papers)

    def progress(*said: Any) -> None:
        pipe.send(("progress", said))

    def note(*said: Any) -> None:
        pipe.send(("note", said))

    contexts = [
        (_Silent if rank else RunContext)(folder, seed, threads, None if rank or at else progress, inputs, note)
        for at, (folder, seed, inputs) in enumerate(folders)
    ]
    try:
        measured = measure_here(task, configs, contexts, threads)
        pipe.send(("returned", (measured, [(run.device, run.precision, run.epochs) for run in contexts])))
    except BaseException as error:
        pipe.send(("failed", (portable(error), "".join(traceback.format_exception(error)))))
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()  # one that left would make the others fail for want of it


def portable(error: BaseException) -> BaseException:
    """Return an error that can be sent: itself, or what it says."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def _torch_set(threads: int) -> Iterator[None]:
    """Give torch so many threads and full float32, if the task uses it, and leave it as it was.

    The process may be the user's own, and what a row calls float32 is not to be TF32 on a GPU.
    """
    if (torch := sys.modules.get("torch")) is None:
        yield
        return
    from lightning_regs.analysis.kernels import full_precision

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with full_precision():
            yield
    finally:
        torch.set_num_threads(before)
