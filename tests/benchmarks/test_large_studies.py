"""What runs cost beside their training, where there are many."""

from __future__ import annotations

import time
from pathlib import Path

from harness import Table

from lightning_regs.core.runs import Store
from lightning_regs.study import value
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.claims import Claim
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.report.report import write_report
from lightning_regs.study.store.ledger import Ledger

SEEDS = 10


def made_up(runs: int) -> Paper:
    cells = tuple(Cell(f"net/{at}", "made_up:train", {"at": at}) for at in range(runs // SEEDS))
    claim = Claim("fits", "Nets fit.", value(cells[0].name, "test_acc"), above=50, kind="control")
    return Paper("many2020", "Many", "Doe", 2020, "", (Scale("quick", "", cells, seeds=SEEDS),), (claim,))


def finish(paper: Paper, folder: Path, timed: int) -> tuple[Ledger, float]:
    """Finish every run of a paper and return the CPU seconds that each of the last ones cost."""
    [scale] = paper.scales
    book = Ledger(paper, scale, Store(folder / "runs"), folder / "results")
    places = [(cell.hash(seed), seed) for cell in scale.cells for seed in range(SEEDS)]
    rows = [(run, {"test_acc": 80 + seed / 10, "wall_s": 12.345, "config_hash": run}) for run, seed in places]
    for row in rows[timed:]:
        book.add(*row)
    book.write()
    began = time.process_time()
    for row in rows[:timed]:
        book.finished(*row)
    spent = time.process_time() - began
    book.write(finish=True)
    return book, spent / max(1, timed)


def test_a_finished_run(table: Table, tmp_path: Path) -> None:
    few = min(finish(made_up(200), tmp_path / str(number), 100)[1] for number in range(3))
    many = finish(made_up(10_000), tmp_path / "many", 1000)[1]
    table.add("a finished run beside 10,000 others, to one beside 200", many / few, 2.0, at_most=True)
    table.add("CPU of a finished run beside 10,000 others", 1000 * many, 20.0, "ms", at_most=True)
    assert many < 0.02


def test_report(table: Table, tmp_path: Path) -> None:
    paper = made_up(100_000)
    book, _ = finish(paper, tmp_path, 0)
    began = time.process_time()
    write_report(paper, book.folder, tmp_path / "page", book.store)
    spent = time.process_time() - began
    table.add("CPU of a page of 100,000 runs", spent, 10.0, "s", at_most=True)
    assert spent < 30
