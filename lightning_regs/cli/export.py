"""What the command ``export`` does: trained weights of a run as a safetensors file, with a model card."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_regs.cli.common import short
from lightning_regs.core.files import atomic_write
from lightning_regs.core.runs import FIXED, RunContext, Store
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.study.report.rendering import write
from lightning_regs.study.report.specification import command
from lightning_regs.study.run.events import Event
from lightning_regs.study.run.progress import Reporter
from lightning_regs.study.run.ranks import measure_here
from lightning_regs.training.fit import Trained
from lightning_regs.training.weights import save_weights


def export(options: argparse.Namespace) -> int:
    """Write the weights that a run of the store trained, and a card that says what they are."""
    paper, store = load_paper(options.paper), Store(options.runs)
    scale = paper.scale(options.scale)
    cells = scale.select(options.cell)
    if len(cells) != 1:
        names = ", ".join(cell.name for cell in cells[:5])
        raise ValueError(f"--cell {options.cell} names {len(cells)} cells ({names}, ...); export takes one.")
    [cell] = cells
    run = store.run(cell.hash(options.seed))
    if (row := run.row()) is None:
        again = f"{command(paper, scale.name, cell.name)} --seeds {options.seed},"
        raise ValueError(f"{cell.name} seed {options.seed} is not complete in {store.root}; run `{again}` first.")
    folder = options.output or Path(f"{paper.id}-{cell.name.replace('/', '-')}-seed{options.seed}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder} is a file; name the folder of the weights and their card.")
    inputs = {other.name: str(store.root / other.hash(options.seed)) for other in scale.with_needs(cell)[:-1]}
    with Reporter() as reporter:
        trained, measured = _train_again(paper, cell, options.seed, row, inputs, reporter)
    other = {name: value for name, value in measured.items() if row.get(name) != value and value == value}
    file = folder / "model.safetensors"
    facts = {"paper": paper.id, "scale": scale.name, "cell": cell.name, "seed": str(options.seed), "run": run.hash}
    model, data = cell.config["model"], trained.data
    save_weights(file, trained.network(), model, data.input_shape, data.num_classes, **facts)
    metrics = {name: value for name, value in row.items() if name not in FIXED and isinstance(value, (int, float))}
    atomic_write(folder / "README.md", write("weights", paper, facts, row, metrics, other) + "\n")
    for each in (file, folder / "README.md"):
        print(short(each))
    return 0


def _train_again(
    paper: Paper,
    cell: Cell,
    seed: int,
    row: Mapping[str, Any],
    inputs: Mapping[str, str],
    tell: Callable[[Event], None],
) -> tuple[Trained, dict[str, float]]:
    """Carry out a run once more: the store keeps numbers, not weights."""

    def on_progress(done: float, total: float, text: str) -> None:
        tell(Event("progress", cell.name, cell.name, seed, done, total, text))

    tell(Event("plan", total=1, jobs=1, text=f"carrying out {cell.name} seed {seed} once more"))
    tell(Event("started", cell.name, cell.name, seed))
    if paper.folder:
        add_to_path(paper.folder.parent)
    threads = re.search(r"\((\d+) thread", str(row.get("device")))
    with tempfile.TemporaryDirectory() as scratch:
        # Rounding depends on the number of threads.
        number = int(threads[1]) if threads else torch.get_num_threads()
        context = RunContext(scratch, seed, number, on_progress, inputs=inputs)
        [measured] = measure_here(cell.task, [cell.config], [context], number)
    if not isinstance(context.trained, Trained):
        raise ValueError(
            f"cell {cell.name!r} trains no single Classifier, whose weights could be exported; name another."
        )
    return context.trained, measured
