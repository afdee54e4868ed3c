"""R small nets stacked against the same R nets apart, through the study engine, counting everything."""

from __future__ import annotations

import math
import os
import platform
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from harness import Table, alternate, ratio, seconds
from recipes import EpochTimer

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.study import Cell, Paper, Scale, reproduce

REPLICAS, BATCH, EPOCHS, GOAL = 20, 60, 2, 3.0
RESULTS = Path(__file__).with_name("replicas.md")
MODEL: dict[str, Any] = {
    "architecture": "mlp",
    "architecture_args": {"hidden": [300, 100], "init": "xavier_normal"},
    "optimizer": {"name": "Adam", "lr": 1.2e-3, "fused": True},
}
# Name -> shape of a sample and number of training samples: MNIST's images, and MNIST-1D's signals.
NETS: dict[str, tuple[tuple[int, ...], int]] = {
    "LeNet-300-100 on 28x28 images": ((28, 28), 20_000),
    "LeNet-300-100 on signals of 40": ((40,), 20_000),
}
# Jobs at once, and runs that are trained together.
WAYS = {
    "apart, one at a time": (1, 1),
    "apart, two at a time": (2, 1),
    "stacked": (1, 20),
    "stacked, two halves": (2, 10),
}
HELD_OUT = 1000


def write_data(path: Path, shape: tuple[int, ...], number: int) -> Path:
    """Write ten noisy patterns of a shape."""
    rng = np.random.Generator(np.random.PCG64(0))
    patterns = rng.integers(0, 256, (10, *shape))
    y = rng.integers(0, 10, number + 2 * HELD_OUT).astype(np.uint8)
    x = np.clip(patterns[y] * 0.3 + rng.integers(0, 180, (len(y), *shape)), 0, 255)
    x = x.astype(np.uint8) if len(shape) == 2 else (x / 255).astype(np.float32)
    train = slice(number + HELD_OUT)
    np.savez(path, x_train=x[train], y_train=y[train], x_test=x[train.stop :], y_test=y[train.stop :])
    return path


def paper(data: Path) -> Paper:
    """One cell, with a validation set, over R seeds."""
    options = {"source": str(data), "batch_size": BATCH, "val_split": HELD_OUT, "whiten": False}
    config = {"model": MODEL, "data": options, "trainer": {"max_epochs": EPOCHS, "accelerator": "cpu"}}
    cell = Cell("net", "lightning_regs.training.fit:train", config, stack="net")
    return Paper("replicas", "", "", 2020, "", (Scale("quick", "", (cell,), seeds=REPLICAS),))


def measured(data: Path, folder: Path, jobs: int, together: int) -> tuple[float, dict[int, dict[str, Any]]]:
    """Return the seconds of the command, processes and reading the data included, and the rows by seed."""
    start = time.perf_counter()
    outcome = reproduce(paper(data), jobs=jobs, replicas=together, runs_dir=folder / "runs", results_dir=folder)
    seconds = time.perf_counter() - start
    assert outcome.finished == REPLICAS
    return seconds, {row["seed"]: row for row in outcome.rows}


def largest_difference(rows: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]], metric: str) -> float:
    """Return the largest difference of a metric over seeds."""
    return max(abs(float(rows[seed][metric]) - float(others[seed][metric])) for seed in rows)


def floor(inputs: int) -> float:
    """Return the seconds of a step of all nets when nothing is done but its matrix products and the optimizer."""
    sizes = [inputs, 300, 100, 10]
    weights = [torch.randn(REPLICAS, o, i).requires_grad_() for i, o in pairwise(sizes)]
    for w in weights:
        w.grad = torch.zeros_like(w)
    x = [torch.randn(REPLICAS, BATCH, size) for size in sizes]
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=True)

    @torch.no_grad()
    def step() -> None:
        for layer, w in enumerate(weights):
            torch.bmm(x[layer], w.transpose(1, 2), out=x[layer + 1])
        for layer, w in reversed(list(enumerate(weights))):
            assert w.grad is not None
            torch.bmm(x[layer + 1].transpose(1, 2), x[layer], out=w.grad)
            if layer:
                torch.bmm(x[layer + 1], w, out=x[layer])
        optimizer.step()

    for _ in range(10):
        step()
    return min(seconds(step) for _ in range(100))


def test_replicas(table: Table, tmp_path: Path) -> None:
    parts = [
        f"{REPLICAS} runs at batch {BATCH}, trained by the study engine: processes, reading the data, a validation",
        "after each epoch and the test included. Written by `make bench`;",
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores. The last line is no",
        "training: the step's matrix products and fused Adam alone, which read and write every weight, gradient and",
        "moment once, on both cores.",
    ]
    for title, (shape, number) in NETS.items():
        data = write_data(tmp_path / f"{len(shape)}d.npz", shape, number)
        runs = {name: measured(data, tmp_path / f"{title}-{name}", *way) for name, way in WAYS.items()}
        apart, stacked = (min(runs[n][0] for n in WAYS if n.startswith(kind)) for kind in ("apart", "stacked"))
        table.add(
            f"{title}, apart / stacked, in one process", runs["apart, one at a time"][0] / runs["stacked"][0], GOAL
        )
        table.add(f"{title}, the faster apart / the faster stacked", apart / stacked, GOAL)
        reference = runs["apart, one at a time"][1]
        steps = EPOCHS * -(-number // BATCH) * REPLICAS
        parts += [
            "",
            f"{title}, {steps // REPLICAS} steps (processes x runs in a stack):",
            "",
            "| way | seconds | µs a step and net | largest difference in test loss | in test accuracy |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, (took, rows) in runs.items():
            loss, accuracy = (largest_difference(rows, reference, metric) for metric in ("test_loss", "test_acc"))
            assert loss < 1e-2
            entries = f"{took:.1f} | {1e6 * took / steps:.0f} | {loss:.1e} | {accuracy:.2f} points"
            parts.append(f"| {name} ({WAYS[name][0]} x {WAYS[name][1]}) | {entries} |")
        parts.append(f"| matrix products and optimizer alone | | {1e6 * floor(math.prod(shape)) / REPLICAS:.0f} | | |")
    text = "\n".join(parts) + "\n"
    print(text)
    if os.environ.get("LIGHTNING_REGS_BENCH_WRITE"):
        RESULTS.write_text(text)


RATES: dict[str, list[float]] = {"lr": [0.01 * (1 + i % 5) for i in range(25)]}
PLANE: dict[str, list[float]] = {"lr": [0.003 * (1 + i // 25) for i in range(100)],
                                 "weight_decay": [0.01 * (i // 5 % 5) for i in range(100)]}  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "numbers", "rounds"),
    [({"name": "SGD", "momentum": 0.9}, RATES, 5), ({"name": "Adam"}, RATES, 5), ({"name": "AdamW"}, PLANE, 3)],
    ids=["SGD", "Adam", "AdamW"],
)
def test_a_grid_as_one_stack(
    table: Table, optimizer: dict[str, Any], numbers: dict[str, list[float]], rounds: int
) -> None:
    """Five rates, or 4 rates with 5 decays, of five seeds at once, against the five seeds of one cell at a time."""

    def epoch(nets: int, **numbers: Any) -> float:
        timer = EpochTimer()
        trainer = pl.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, callbacks=[timer], enable_checkpointing=False,
            enable_model_summary=False, enable_progress_bar=False,
        )  # fmt: skip
        module = Classifier("mlp", {"hidden": [128, 128]}, optimizer | numbers, replicas=nets)
        trainer.fit(module, datamodule=ImageDataModule("mnist1d", batch_size=64, replicas=nets))
        return timer.seconds[-1]

    nets, alike = len(numbers["lr"]), {name: given[-1] for name, given in numbers.items()}
    ways = {
        "apart": lambda: nets / 5 * epoch(5, **alike),
        "together": lambda: epoch(nets, **numbers),
        "alike": lambda: epoch(nets, **alike),
    }
    times = alternate(ways, rounds)
    net = f"MLP 2x128 on MNIST-1D, {optimizer['name']}, {nets // 5} cells of {' and '.join(numbers)}"
    table.add(f"{net}: a stack a cell / one stack", measured := ratio(times, "apart", "together"), 1.5)
    table.add(f"{net}: one stack / one of equal cells", ratio(times, "together", "alike"), 1.5, at_most=True)
    print(table.markdown())
    assert measured >= 1.2
