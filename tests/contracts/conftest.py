from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    """What two processes made of every job, for each rank; run once, also where pytest-xdist has several workers."""
    from contract_runs import all_pairs, ids
    from modules import docs_methods
    from two_processes import Job, run_jobs

    jobs = {ids(pair): Job(pair[0].name, [pair[1].make()]) for pair in all_pairs()[0]}
    jobs |= {"docs": Job("docs", docs_methods()), "docs-plain": Job("docs", [])}
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    done = folder / "two_processes.pkl"
    with FileLock(f"{done}.lock"):
        if not done.exists():
            done.write_bytes(pickle.dumps(run_jobs(jobs, Path(tempfile.mkdtemp(dir=folder)))))
    return pickle.loads(done.read_bytes())
