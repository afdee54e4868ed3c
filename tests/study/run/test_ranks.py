"""Runs whose Trainer has several devices: a process each, of which the first one speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_regs.core.runs import Store
from lightning_regs.study import reproduce
from lightning_regs.study.run.executors.local import Processes

TASKS = """
import os, signal, time


def each(config, run):
    rank = int(os.environ["LOCAL_RANK"])
    with open(run.folder / "pids", "a") as pids:
        pids.write(f"{os.getpid()}\\n")
    run.log_curve({"epoch": 1, "rank": rank})
    run.progress(1, 2, f"rank {rank}")
    trouble = config.get("trouble", "none")
    if rank == 1 and trouble == "raise":
        raise RuntimeError("only here")
    if rank == 1 and trouble == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble != "none":
        time.sleep(60)
    run.epochs = 1 + rank
    return {"rank": rank, "threads": run.threads, "world": len([n for n in os.environ if n == "SLURM_PROCID"])}
"""


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("jobs", [0, 1])
@pytest.mark.slow
def test_the_first_process_speaks_for_all_and_one_that_fails_ends_all(toy, monkeypatch, jobs):
    monkeypatch.setenv("SLURM_PROCID", "1")  # as under `srun`
    cells = {"good": {}, "raises": {"trouble": "raise"}, "dies": {"trouble": "die"}, "spawns": {}}
    lines = []
    for name, config in cells.items():
        trainer = {"devices": 2, "strategy": "ddp_spawn" if name == "spawns" else "ddp"}
        lines.append(f"Cell({name!r}, 'toy.ranks:each', {dict(config, name=name, trainer=trainer)!r})")
    toy.write(*lines, seeds=1)
    (toy.folder / "ranks.py").write_text(TASKS)
    events = []
    executor = Processes(1, threads=4) if jobs else None
    outcome = reproduce("toy", jobs=jobs, executor=executor, on_event=events.append)
    assert {failed.cell: failed.text for failed in outcome.failed} == {
        "raises": "RuntimeError: only here",
        "dies": "RuntimeError: process 1 of 2 died of SIGKILL",
        "spawns": "ValueError: strategy 'ddp_spawn' starts processes itself, and a run with devices=2 has them "
        "already; leave it out, or write 'ddp'.",
    }
    [error] = [Path(failed.folder, "error.txt") for failed in outcome.failed if failed.cell == "raises"]
    assert "in process 1 of 2" in error.read_text()
    assert "in each" in error.read_text()
    [row] = outcome.rows
    assert (row.metrics["rank"], row.metrics["world"], row.origin["epochs"]) == (0, 0, "1")
    assert row.metrics["threads"] == (2 if jobs else 1)
    assert row.origin["device"].endswith(", 2 processes")
    assert Store().run(row.origin["config_hash"]).curves() == [{"epoch": 1, "rank": 0}]
    assert {e.text for e in events if e.kind == "progress"} == {"rank 0"}
    pids = [pid for file in toy.runs.glob("*/pids") for pid in file.read_text().split()]
    assert len(pids) >= 4  # the first process may be ended before it writes its own
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
def test_two_devices_train_what_one_does_with_batches_of_both(toy):
    """Lightning's own DDP within: gradients averaged, metrics of all, curves and rows once."""
    lines = []
    for devices in (1, 2):
        config = {
            "model": {
                "architecture": "mlp",
                "architecture_args": {"hidden": [8]},
                "optimizer": {"name": "SGD", "lr": 0.1},
            },
            "data": {"source": "digits", "train_size": 80, "test_size": 97, "batch_size": 40 // devices},
            "trainer": {"devices": devices, "accelerator": "cpu", "max_epochs": 2},
        }
        lines.append(f"Cell('on{devices}', 'lightning_regs.training.fit:train', {config!r})")
    toy.write(*lines, seeds=1)
    outcome = reproduce("toy", jobs=0)
    assert outcome.failed == []
    one, two = outcome.rows
    assert two.metrics == pytest.approx(one.metrics, rel=1e-3, nan_ok=True)
    curves = [Store().run(row.origin["config_hash"]).curves() for row in (one, two)]
    assert [len(curve) for curve in curves] == [2, 2]
    assert two.origin["device"].endswith(", 2 processes")
