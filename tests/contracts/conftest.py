from __future__ import annotations

import os
import pickle
from typing import Any

import pytest
from filelock import FileLock

Ends = list[dict[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """What two processes made of every job, for each rank; run once, also where pytest-xdist has several workers."""
    from accepted import ACCEPTED, DOCS, docs_methods

    from lightning_regs.testing.processes import run_jobs

    jobs: dict[str, Any] = {f"{variant} {case}": (case, [variant.make()]) for case, variant in ACCEPTED}
    jobs |= {"docs": (DOCS, docs_methods()), "docs-plain": (DOCS, [])}
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    done = folder / "two_processes.pkl"
    with FileLock(f"{done}.lock"):
        if not done.exists():
            done.write_bytes(pickle.dumps(run_jobs(jobs)))
    return pickle.loads(done.read_bytes())
