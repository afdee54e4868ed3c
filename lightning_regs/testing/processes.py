"""Two processes on the CPU (gloo) that run many trainings one after another: starting them is what takes the time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from lightning_regs.core.lightning import pl
from lightning_regs.regularizers import Regularizer
from lightning_regs.testing.modules import Case
from lightning_regs.testing.runs import fit

RANKS = 2
Jobs = Mapping[str, tuple[Case, Sequence[Regularizer]]]


def run_jobs(jobs: Jobs) -> list[dict[str, dict[str, Any]]]:
    """Run each job, a module and methods, in two processes that share the batches.

    Returns:
        For each rank what each job ended with: ``trajectory`` as of a ``Run``, ``metrics`` as logged, and ``error``,
        what was raised, or None.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Forked, so that nothing is imported again, and what was defined within a function can be run.
        start_processes(_rank, args=(jobs, folder), nprocs=RANKS, start_method="fork")  # type: ignore[no-untyped-call]
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def _rank(rank: int, jobs: Jobs, folder: str) -> None:
    torch.set_num_threads(1)
    # Forked from a process that has started CUDA, this one cannot, and Lightning would ask for its generators.
    torch.cuda.is_available = lambda: False
    # What torchrun sets; Lightning then takes these processes for its own and starts none.
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "TORCHELASTIC_RUN_ID"]
    os.environ.update(zip(names, map(str, [rank, rank, RANKS, RANKS, 0, "contracts"]), strict=True))
    store, limit = f"file://{folder}/store", timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS, timeout=limit)
    torch.save({name: _run(*job) for name, job in jobs.items()}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _run(case: Case, methods: Sequence[Regularizer]) -> dict[str, Any]:
    strategy = pl.strategies.DDPStrategy(process_group_backend="gloo")
    try:
        run = fit(case, methods, each_batch=True, accelerator="cpu", devices=RANKS, strategy=strategy)
    except Exception as error:  # whatever it is, the contract of this job shows it
        return {"error": f"{type(error).__name__}: {error}", "trajectory": [], "metrics": {}}
    metrics = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
    return {"error": None, "trajectory": run.trajectory, "metrics": metrics}
