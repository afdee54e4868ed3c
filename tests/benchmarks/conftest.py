"""Prints what the benchmarks measured as one table, and writes results.md beside this file when asked.

What was measured takes the place of the rows of the same name where software, threads and the processor's units are the
same. Another processor's table is a file of its own, named by its units.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness import Table

RESULTS = Path(__file__).with_name("results.md")


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
        flags = " ".join(f for f in ("amx_bf16", "avx512_bf16", "avx512f") if f in _cpu_flags())
        head = (
            "Written by `make bench`. Ratios within one process on the same work, medians of alternating rounds;\n"
            f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads, "
            f"{flags}.\n\n"
        )
        path = RESULTS
        if not path.read_text().startswith(head):
            path = path.with_name(f"results-{'-'.join(flags.split()) or 'plain'}.md")
        before = path.read_text() if path.exists() else ""
        same = before.removeprefix(head) if before.startswith(head) else ""
        path.write_text(f"{head}{collected.markdown(same)}\n")


def _cpu_flags() -> str:
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""
