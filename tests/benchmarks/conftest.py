"""Prints what the benchmarks measured as one table, which `make bench`, where all of them run, writes to results.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness import Table

from lightning_regs.study.run import provenance


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """All cores, in the place of the one thread of the other tests."""
    torch.set_num_threads(os.cpu_count() or 1)


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    collected = Table()
    yield collected
    if collected.rows:
        print(f"\n\n{collected.markdown()}\n")
    if os.environ.get("LIGHTNING_REGS_BENCH_WRITE") and collected.rows:
        head = (
            "Written by `make bench`. Ratios within one process on the same work, medians of alternating rounds;\n"
            f"commit {provenance.commit()}, {provenance.versions()},\n"
            f"{torch.get_num_threads()} threads of {provenance.processor()}.\n\n"
        )
        Path(__file__).with_name("results.md").write_text(f"{head}{collected.markdown()}\n")
