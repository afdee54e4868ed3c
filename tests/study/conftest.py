from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TASKS = '''
import os, signal, time


def count(config, run):
    """Write what it does into a journal, so that a test can tell what ran, how often and where."""
    with open(run.folder.parent / "journal", "a") as journal:
        journal.write(f"{config['name']} {run.seed} {os.getpid()}\\n")
    while not os.path.exists(config.get("until", "/")):
        time.sleep(0.02)
    done = len(run.curves) if config.get("resumes") else 0
    for step in range(done, config.get("steps", 1)):
        time.sleep(config.get("sleep", 0))
        run.log_curve({"epoch": step + 1, "value": step / 3})
        run.progress(step + 1, config.get("steps", 1), f"value {step / 3:.2f}")
    if config.get("fail"):
        raise RuntimeError("it broke\\nin two lines")
    if config.get("die") and run.seed == 0:
        os.kill(os.getpid(), getattr(signal, config["die"]))
    if config.get("exit"):
        raise SystemExit(3)
    run.epochs = config.get("steps", 1)
    return {"value": config.get("value", 0.0) + run.seed / 10, "threads": run.threads}


def environment(config, run):
    before = os.environ.get("LEFT_BEHIND", "")
    os.environ["LEFT_BEHIND"] = "yes"
    print("said to standard output")
    return {"omp": int(os.environ["OMP_NUM_THREADS"]), "left": len(before), "pid": os.getpid()}


def on_a_gpu(config, run):
    import torch

    run.device = "1 x Some GPU"
    return {"tf32": float(torch.backends.cudnn.allow_tf32)}


def full(config, run):
    import errno

    if config["name"] == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    return {"value": 1.0}


def bad(config, run):
    return config["returns"]
'''

PAPER = """
from lightning_regs.study import Cell, Claim, Paper, Scale, value

CELLS = (
    {cells}
)
PAPER = Paper(
    id="toy",
    title="A toy",
    authors="Nobody",
    year=2017,
    arxiv="",
    scales=(Scale("quick", "small", CELLS, seeds={seeds}),),
    claims=tuple(
        Claim("value", "The value is small.", value("one", "value"), at_least=-9, at_most=9, kind="control")
        for cell in CELLS
        if cell.name == "one"
    ),
)
"""


class Toy:
    """A folder with one paper, and where its runs and results go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "reproductions" / "toy"
        self.runs = root / "runs"
        self.results = self.runs / "results" / "toy"
        self.committed = self.folder / "results"

    def write(self, *cells: str, seeds: int = 2) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tasks.py").write_text(TASKS)
        (self.folder / "paper.py").write_text(PAPER.format(cells="\n    ".join(f"{c}," for c in cells), seeds=seeds))
        for name in [n for n in sys.modules if n == "toy" or n.startswith("toy.")]:
            del sys.modules[name]

    def cell(self, name: str, task: str = "count", seeds: int | None = None, **config: object) -> str:
        return f"Cell({name!r}, 'toy.tasks:{task}', {dict(config, name=name)!r}, seeds={seeds})"

    def journal(self) -> list[tuple[str, int, int]]:
        path = self.runs / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, int(seed), int(pid)) for name, seed, pid in map(str.split, lines)]

    def ran(self) -> list[tuple[str, int]]:
        return sorted((name, seed) for name, seed, _ in self.journal())

    def start(self, **arguments: object) -> subprocess.Popen[str]:
        """Reproduce in a process of its own, in the foreground of a session of its own."""
        code = textwrap.dedent(f"""
            from lightning_regs.study import reproduce
            from lightning_regs.study.run.progress import Reporter

            if __name__ == "__main__":
                with Reporter() as reporter:
                    outcome = reproduce("toy", on_event=reporter, **{arguments!r})
                raise SystemExit(outcome.exit_code)
        """)
        script = self.root / f"command-{time.monotonic_ns()}.py"
        # A shell starts background jobs with SIGINT ignored, and children inherit that; a terminal's command has it.
        listening = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        script.write_text(listening + code)
        return subprocess.Popen(
            [sys.executable, "-u", str(script)],
            cwd=self.root,
            env=os.environ | {"LIGHTNING_REGS_PAPERS": str(self.root), "LIGHTNING_REGS_RUNS": str(self.runs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    paper = Toy(tmp_path)
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    monkeypatch.setenv("LIGHTNING_REGS_RUNS", str(paper.runs))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "reproductions").mkdir()
    yield paper
    for name in [n for n in sys.modules if n == "toy" or n.startswith("toy.")]:
        del sys.modules[name]


@pytest.fixture
def eventually() -> Callable[[Callable[[], object], str], None]:
    def wait(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"never happened: {what}"
            time.sleep(0.02)

    return wait
