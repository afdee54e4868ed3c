"""Two processes on the CPU (gloo) that run many trainings one after another: starting them is what takes the time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from contract_runs import fit
from modules import CASES, DOCS

from lightning_regs import Regularizer
from lightning_regs.core.lightning import pl

RANKS = 2


@dataclass(frozen=True)
class Job:
    """A module, by the name of its case, and the methods on it."""

    case: str
    methods: list[Regularizer]


def run_jobs(jobs: dict[str, Job], folder: Path) -> list[dict[str, dict[str, Any]]]:
    """Run each job in two processes that share the batches, and return for each rank what each job ended with.

    That is ``trajectory`` as in ``contract_runs.Run``, ``metrics`` as logged, and ``error``: what was raised, or None.
    """
    mp.start_processes(_rank, args=(jobs, str(folder)), nprocs=RANKS, start_method="fork")  # it imports nothing again
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def _rank(rank: int, jobs: dict[str, Job], folder: str) -> None:
    torch.set_num_threads(1)
    # What torchrun sets; Lightning then takes these processes for its own and starts none.
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "TORCHELASTIC_RUN_ID"]
    os.environ.update(zip(names, map(str, [rank, rank, RANKS, RANKS, 0, "contracts"]), strict=True))
    store = f"file://{folder}/store"
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS, timeout=limit)
    results = {name: _run(job) for name, job in jobs.items()}
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _run(job: Job) -> dict[str, Any]:
    case = next(case for case in [*CASES, DOCS] if case.name == job.case)
    strategy = pl.strategies.DDPStrategy(process_group_backend="gloo")
    try:
        run = fit(case, job.methods, each_batch=True, devices=RANKS, strategy=strategy)
    except Exception as error:  # whatever it is, the test of this job shows it
        return {"error": f"{type(error).__name__}: {error}", "trajectory": [], "metrics": {}}
    metrics = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
    return {"error": None, "trajectory": run.trajectory, "metrics": metrics}
