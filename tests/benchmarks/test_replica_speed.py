"""R small nets stacked against the same R nets apart, through the study engine, counting everything."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Table
from torch.profiler import ProfilerActivity, profile

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.study import Cell, Paper, Scale, reproduce

REPLICAS, BATCH, IMAGES, EPOCHS, GOAL = 20, 60, 13_000, 3, 3.0
RESULTS = Path(__file__).with_name("replicas.md")
MODEL = {
    "architecture": "mlp",
    "architecture_args": {"hidden": [300, 100], "init": "xavier_normal"},
    "optimizer": {"name": "Adam", "lr": 1.2e-3, "fused": True},
}
# Jobs at once, and runs that are trained together.
WAYS = {
    "apart, one at a time": (1, 1),
    "apart, two at a time": (2, 1),
    "stacked": (1, 20),
    "stacked, two halves": (2, 10),
}


def write_digits(folder: Path) -> Path:
    """Write images of MNIST's shape: ten noisy patterns."""
    rng = np.random.Generator(np.random.PCG64(0))
    patterns = rng.integers(0, 256, (10, 28, 28))
    y = rng.integers(0, 10, IMAGES + 1000).astype(np.uint8)
    x = np.clip(patterns[y] * 0.3 + rng.integers(0, 180, (len(y), 28, 28)), 0, 255).astype(np.uint8)
    path = folder / "digits28.npz"
    np.savez(path, x_train=x[:IMAGES], y_train=y[:IMAGES], x_test=x[IMAGES:], y_test=y[IMAGES:])
    return path


def paper(data: Path) -> Paper:
    """One cell: LeNet-300-100 at batch 60, with a validation set, over R seeds."""
    options = {"source": str(data), "batch_size": BATCH, "val_split": 1000, "whiten": False}
    config = {"model": MODEL, "data": options, "trainer": {"max_epochs": EPOCHS, "accelerator": "cpu"}}
    cell = Cell("lenet-300-100", "lightning_regs.study.train:train", config, stack="lenet-300-100")
    return Paper("replicas", "", "", 2020, "", (Scale("quick", "", (cell,), seeds=REPLICAS),))


def measured(data: Path, folder: Path, jobs: int, together: int) -> tuple[float, dict[int, dict[str, Any]]]:
    """Return the seconds of the command, processes and reading the data included, and the rows by seed."""
    start = time.perf_counter()
    outcome = reproduce(paper(data), jobs=jobs, replicas=together, runs_dir=folder / "runs", results_dir=folder)
    seconds = time.perf_counter() - start
    assert outcome.finished == REPLICAS
    return seconds, {row["seed"]: row for row in outcome.rows}


def largest_difference(rows: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]]) -> dict[str, float]:
    """Return the largest difference of each metric over seeds."""
    names = ("train_loss", "test_loss", "train_acc", "test_acc")
    return {name: max(abs(rows[s][name] - others[s][name]) for s in rows) for name in names}


def where_time_goes(data: Path) -> list[tuple[str, float]]:
    """Return the shares of a stacked training's kernels, of those above 1 %."""
    shared: dict[str, Any] = {"replicas": REPLICAS}
    model = Classifier(**MODEL, **shared, input_shape=(1, 28, 28), num_classes=10)
    module = ImageDataModule(str(data), batch_size=BATCH, whiten=False, **shared)
    module.setup()
    (optimizer,) = [model.configure_optimizers()]
    batches = iter(module.train_dataloader())
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(30):
            x, y = next(batches)
            x = module._eval_transform(x, stacked=True)
            optimizer.zero_grad()
            model._losses(model(x), y).sum().backward()
            optimizer.step()
    events = seen.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = [(event.key, event.self_cpu_time_total / total) for event in events]
    return sorted((entry for entry in shares if entry[1] > 0.01), key=lambda entry: -entry[1])


def test_replicas(table: Table, tmp_path: Path) -> None:
    data = write_digits(tmp_path)
    runs = {name: measured(data, tmp_path / name.replace(" ", "-"), *way) for name, way in WAYS.items()}
    apart = min(runs[name][0] for name in WAYS if name.startswith("apart"))
    best = min(runs[name][0] for name in WAYS if name.startswith("stacked"))
    one_by_one = runs["apart, one at a time"][0] / runs["stacked"][0]
    title = f"LeNet-300-100, batch {BATCH}, {REPLICAS} runs"
    table.add(f"{title}: in one process, apart / stacked", one_by_one, GOAL)
    table.add(f"{title}: the fastest apart / the fastest stacked", apart / best, GOAL)
    reference = runs["apart, one at a time"][1]
    steps = EPOCHS * -(-(IMAGES - 1000) // BATCH) * REPLICAS
    lines = [
        "| way | seconds | µs a step and net | largest difference in test loss | in test accuracy |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (seconds, rows) in runs.items():
        off = largest_difference(rows, reference)
        assert off["test_loss"] < 1e-2
        numbers = f"{seconds:.1f} | {1e6 * seconds / steps:.0f} | {off['test_loss']:.1e} | {off['test_acc']:.2f} points"
        lines.append(f"| {name} ({WAYS[name][0]} x {WAYS[name][1]}) | {numbers} |")
    shares = [f"| `{name}` | {100 * share:.0f} % |" for name, share in where_time_goes(data)]
    text = "\n".join(
        [
            f"{title} of {steps // REPLICAS} steps, trained by the study engine: processes, reading the "
            "data, validation after each epoch and the test included. Written by `make bench`; "
            f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores.",
            "",
            *lines,
            "",
            "Where the time of a stacked step goes (30 steps without Trainer, kernels above 1 %):",
            "",
            "| kernel | share |",
            "| --- | ---: |",
            *shares,
            "",
        ]
    )
    print(text)
    if os.environ.get("LIGHTNING_REGS_BENCH_WRITE"):
        RESULTS.write_text(text)
