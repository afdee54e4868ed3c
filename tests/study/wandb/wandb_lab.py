"""Two made-up papers in a store of their own, and wandb's own inspector to look at what was logged."""

from __future__ import annotations

import csv
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

from lightning_regs.core.runs import Store
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.run.runner import reproduce
from lightning_regs.study.wandb.export import CellRun, Results
from lightning_regs.study.wandb.process import Exporter

VARIABLES = ("MODE", "API_KEY", "BASE_URL", "ENTITY", "PROJECT", "DIR", "IDENTITY_TOKEN_FILE")


class Lab:
    """A store, and the exporter on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.results = root, Store(root / "runs"), root / "results"
        self.said: list[str] = []

    def say(self, text: str) -> None:
        if not text.startswith("Waiting"):  # how long things take is the machine's affair
            self.said.append(text)

    def reproduce(self, mode="offline", *papers, on_event=lambda event: None):
        """Do as the command does, for the paper "made" or others: run what is missing, and export all.

        What starts takes seconds, whatever it exports: several papers have one exporter. Returns the last's outcome.
        """
        with Exporter(mode, self.store, say=self.say) as exporter:
            for paper in papers or ("made",):

                def both(event, paper=paper):
                    if event.kind in ("skipped", "finished"):
                        exporter.add(CellRun(paper, "quick", event.cell, event.seed, self.store.root / event.run))
                    on_event(event)

                folder = self.results / paper
                outcome = reproduce(paper, jobs=0, runs_dir=self.store.root, results_dir=folder, on_event=both)
                exporter.add(Results(paper, "quick", folder, self.store.root))
        return outcome

    def runs(self, paper="made") -> list[CellRun]:
        [scale] = load_paper(paper).scales
        every = [(cell, seed) for cell in scale.cells for seed in range(scale.seeds)]
        return [CellRun(paper, "quick", cell.name, seed, self.store.root / cell.hash(seed)) for cell, seed in every]

    def logs(self) -> list[Path]:
        """Return the folders that W&B has made."""
        return sorted(path for path in self.store.root.rglob("*run-*") if path.is_dir())

    def process(self):
        [child] = [each for each in multiprocessing.active_children() if each.name == "lightning-regs wandb"]
        return child


def inspect(folder: Path):
    """Read a W&B folder with wandb's inspector; gives records by kind, and the summary of all of them."""
    from wandb.util import get_core_path

    [log] = folder.glob("*.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(log)]

    def read(*options):
        return subprocess.run([*command, *options], capture_output=True, check=True, text=True).stdout

    records = {}
    for record in map(json.loads, read().splitlines()):
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records, json.loads(read("--summary"))


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def isolate(monkeypatch, folder):
    for name in VARIABLES:
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name, value in {"MAX": "1", "WAIT_MIN_SECONDS": "1", "WAIT_MAX_SECONDS": "1"}.items():
        for client in ("GRAPHQL", "FILE_STREAM"):  # whole seconds; else it tries for 20
            monkeypatch.setenv(f"WANDB__{client}_RETRY_{name}", value)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(Path(__file__).parent))
    monkeypatch.setattr(sys, "path", list(sys.path))
