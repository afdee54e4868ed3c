"""A made-up paper whose tasks are cheap, and wandb's own inspector, for the tests of the logging."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import subprocess
import time
from pathlib import Path

from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.claims import Claim
from lightning_regs.study.paper.figure import Figure
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report.plots import canvas
from lightning_regs.study.run.runner import reproduce
from lightning_regs.study.wandb import log as wandb_log
from lightning_regs.study.wandb.log import Writer

NASTY = "a/b'c\"d\n<script>e</script> \u2028é #?%:\\ " + "x" * 500
VARIABLES = ("MODE", "API_KEY", "BASE_URL", "ENTITY", "PROJECT", "DIR", "IDENTITY_TOKEN_FILE", "CONFIG_DIR")


def measure(config, run):
    """Log rows as a training does, and go on where an earlier attempt stopped."""
    total = config["rows"]
    for number in range(len(run.curves), total):
        row = {"step": 24 * (number + 1), "epoch": number + 1, "train_loss": 1 / (number + 3), "val.acc": number / 7}
        if config.get("odd") and number == 1:
            row |= {"train_loss": math.nan, "val.acc": -math.inf, "_runtime": 0.1, "a \"b'\n": 1e-300}
        run.log_curve(row)
        run.progress(number + 1, total, "")
        time.sleep(config.get("sleep", 0))
        flag = run.folder.parent / config.get("trouble", "none")
        if number == 1 and flag.exists():
            raise {"interrupt": KeyboardInterrupt, "fail": RuntimeError}[flag.name]("by the test")
    run.epochs = total
    metrics = {"train_acc": 100 / 3 + run.seed, "fit_epoch": math.nan, "count": 7, "tiny": 5e-324, "val.acc": 0.1 + 0.2}
    return metrics | ({"best": math.inf, "_step": 3.5, "worst": -math.inf} if config.get("odd") else {})


def nothing(config, run):
    """Measure something that has no curve."""
    return {"norm": 2.5}


def draw(rows, curves):
    figure, axes = canvas()
    axes.plot(rows.values("net/plain", "train_acc"))
    return figure


def draw_missing(rows, curves):
    raise MissingRows("there is nothing")


def draw_broken(rows, curves):
    raise ZeroDivisionError("no length")


def make_paper(paper_id="made", cells=None, seeds=2, **changes):
    cells = cells or (
        Cell(
            "net/plain", "wandb_made:measure", {"rows": 3, "seed": "its own", "options": {"source": "digits", "p": 0.1}}
        ),
        Cell(NASTY, "wandb_made:measure", {"rows": 2, "odd": True, "text": "\0" + NASTY}),
        Cell("twin/a", "wandb_made:nothing", {"same": 1}),
        Cell("twin/b", "wandb_made:nothing", {"same": 1}),
    )
    claims = (
        Claim("1", "It is 33 %.", 33.0, "recalled", "%", lambda r: r.values("net/plain", "train_acc"), (30, 36)),
        Claim("2", "It is something.", "some", "seen", "", None, out_of_reach=NASTY),
    )
    figures = (
        Figure("loss", "Figure 1", "A line.", draw),
        Figure("missing", "Figure 2", "", draw_missing),
        Figure("broken", "Figure 3", "", draw_broken),
    )
    scale = Scale("quick", "small", tuple(cells), seeds=seeds)
    return Paper(paper_id, "Made", "Nobody", 2020, "", (scale,), claims, figures, **changes)


def logs(store, kind="*run-*"):
    """Return the folders that W&B has made in a store, sorted."""
    return sorted(path for path in store.glob(f"*/wandb/{kind}") if path.is_dir())


def inspect(folder):
    """Read a W&B folder with wandb's inspector; gives records by kind, and the summary of all of them."""
    [log] = folder.glob("*.wandb")
    core = Path(importlib.util.find_spec("wandb").origin).parent / "bin" / "wandb-core"
    command = [core, "leet", "inspect", "--no-observability", "--json", "--run-file", log]

    def read(*options):
        return subprocess.run([*command, *options, folder.parent], capture_output=True, check=True, text=True).stdout

    records = {}
    for record in map(json.loads, read().splitlines()):
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records, json.loads(read("--summary"))


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Made:
    """A store, and the command that reproduces the made-up paper into it."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.results = root, root / "runs", root / "results"
        self.said: list[str] = []

    def reproduce(self, mode="offline", paper=None, on_event=None, results=True, **writer):
        paper = paper or make_paper()
        with Writer(mode, self.store, paper, "quick", say=self.said.append, **writer) as log:

            def both(event):
                log(event)
                if on_event is not None:
                    on_event(event)

            outcome = reproduce(paper, jobs=0, runs_dir=self.store, results_dir=self.results / paper.id, on_event=both)
            if results:
                log.results(outcome)
        return outcome

    def trouble(self, kind: str, there: bool = True) -> None:
        self.store.mkdir(exist_ok=True)
        (self.store / kind).touch() if there else (self.store / kind).unlink()

    def writers(self) -> list[int]:
        """Process ids of the writers of this store."""
        found = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = command.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"lightning_regs.study.wandb.writer" in words and str(self.store).encode() in words:
                found.append(int(command.parent.name))
        return found


def forget_login(monkeypatch, folder):
    monkeypatch.setattr(wandb_log, "_PATIENCE", math.inf)  # how long things take is the machine's affair
    for name in VARIABLES:
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
