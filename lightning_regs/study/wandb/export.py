"""One Weights & Biases run from a folder on disk: a finished run of a cell, or the results of a scale.

The run store holds everything that is told, so nothing is lost when it is not told, or told again: a W&B run has the
same id whenever it is written, and what is complete has a small mark.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_regs.core.files import atomic_write, digest, lock
from lightning_regs.core.runs import FIXED, Run
from lightning_regs.study.paper.figure import AXIS
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.report import plots
from lightning_regs.study.report.drawing import draw, name_figure
from lightning_regs.study.report.headline import picture
from lightning_regs.study.report.legible import legible
from lightning_regs.study.report.specification import specify
from lightning_regs.study.report.tables import ORIGIN
from lightning_regs.study.store.results import ENDINGS
from lightning_regs.study.wandb.target import Target

# To be raised when the same run is to be told differently: what was told before is then told anew.
_FORMAT = 3
# W&B refuses longer names of runs and groups, and longer tags.
_NAME, _TAG = 128, 64
# Seconds until what wandb's service has finished must be on the disk, or on the server.
_ARRIVED = 10.0
# A run of ours is plain numbers: nothing of the process, the machine or the working directory belongs to it.
_SETTINGS: dict[str, Any] = {
    **{"console": "off", "save_code": False, "symlink": False, "x_save_requirements": False},
    **dict.fromkeys(("disable_code", "disable_git", "silent"), True),
    **dict.fromkeys(("x_disable_machine_info", "x_disable_meta", "x_disable_stats"), True),
    # Seconds to start a run on the server, and to upload what is left of it at its end.
    **{"init_timeout": 30.0, "finish_timeout": 120.0, "finish_timeout_raises": True},
}


@dataclass(frozen=True)
class CellRun:
    """A finished run as one cell of a scale; ``home`` is its folder, which cells that are configured alike share."""

    paper: str
    scale: str
    cell: str
    seed: int
    home: Path

    @property
    def id(self) -> str:
        """Its id in W&B: 16 hexadecimal digits."""
        return _id("run", self.paper, self.scale, self.cell, self.seed, self.home.name)

    def digest(self) -> str:
        """Hash what is told."""
        files = (self.home / name for name in ("row.json", "config.json", "curves.csv"))
        return _id(_FORMAT, *(digest(file) if file.is_file() else "" for file in files))

    def about(self) -> dict[str, Any]:
        """Return name, group and configuration, in which a cell's own ``seed`` is called ``cell_seed``."""
        row = self._row()
        ours = {"paper": self.paper, "scale": self.scale, "cell": self.cell, "seed": self.seed}
        ours |= {"config_hash": self.home.name} | {name: str(row[name]) for name in ORIGIN if row.get(name)}
        own = json.loads((self.home / "config.json").read_text(encoding="utf-8"))["config"]
        taken = {*ours, *ORIGIN}
        return {
            "name": label(f"{self.cell} seed {self.seed}"),
            "group": label(f"{self.paper}/{self.scale}/{self.cell}"),
            "job_type": label(self.scale),
            "config": legible({f"cell_{key}" if key in taken else key: own[key] for key in own} | ours),
        }

    def tell(self, run: Any) -> None:
        """Log the curves over the training step, and the row as the summary."""
        curves = Run(self.home).curves()
        run.define_metric(AXIS, summary="none")
        run.define_metric("*", step_metric=AXIS, summary="none")
        for name in dict.fromkeys(column(name) for row in curves for name in row if "." in name):
            # W&B takes a dot for a path, and its `*` leaves those out.
            run.define_metric(name.replace("\\", "\\\\").replace(".", "\\."), step_metric=AXIS, summary="none")
        for number, row in enumerate(curves):
            run.log(_point(number, row), step=number)
        run.summary.update(_summary(self._row()))

    def _row(self) -> dict[str, Any]:
        row = Run(self.home).row()
        if row is None:
            raise ValueError(f"the row of {self.home} cannot be read")
        return row


@dataclass(frozen=True)
class Results:
    """The results of a scale: the claims, the figures, and the tables in ``folder``; ``store`` is the run store."""

    paper: str
    scale: str
    folder: Path
    store: Path

    @property
    def id(self) -> str:
        """Its id in W&B."""
        return _id("results", self.paper, self.scale)

    @property
    def home(self) -> Path:
        """The folder that W&B writes into."""
        return self.store / "wandb" / self.id

    def digest(self) -> str:
        """Hash what is told."""
        texts = [text for figure in self._paper().figures for text in (figure.id, figure.title, figure.caption)]
        return _id(_FORMAT, *map(digest, self._files()), *texts)

    def about(self) -> dict[str, Any]:
        """Return the name, group and configuration."""
        return {
            "name": label(f"{self.paper} {self.scale} results"),
            "group": label(f"{self.paper}/{self.scale}"),
            "job_type": "results",
            "config": legible({"paper": self.paper, "scale": self.scale}),
        }

    def tell(self, run: Any) -> None:
        """Log the claims as a table, the figures as pictures on white, the tables as files."""
        import PIL.Image
        import wandb

        paper = self._paper()
        told = specify(paper, self.folder, show=name_figure)
        section = next(each for each in told.sections if each.scale == self.scale)
        columns: list[str | int] = ["id", "sentence", "kind", "paper", "ours", "low", "high", "seeds", "verdict"]
        claims = wandb.Table([*columns, "exploratory", "reason"])
        for claim in section.claims:
            said = f"{claim.paper} (recalled)" if claim.recalled else claim.paper
            numbers = (claim.numbers[name] for name in ("ours", "low", "high"))
            shown = (*numbers, claim.n, claim.verdict, claim.exploratory, claim.reason)
            claims.add_data(claim.id, claim.sentence, claim.kind, said, *shown)
        logged: dict[str, Any] = {"claims": claims}
        for figure in (picture(told.headlines), *paper.figures_at(self.scale)):
            drawn = draw(figure, section.found, figure.id, paper.published(self.scale)).drawing
            if drawn:  # the page says why one is not drawn
                image = io.BytesIO()
                with plots.style():
                    drawn.savefig(image, dpi=120, facecolor="white", transparent=False)
                logged[f"figure/{figure.id}"] = wandb.Image(PIL.Image.open(image), caption=legible(figure.title))
        run.log(logged, step=0)
        verdicts = {verdict.replace(" ", "_"): count for verdict, count in section.counts.items()}
        run.summary.update({"runs": section.rows} | verdicts)
        artifact = wandb.Artifact(label(re.sub(r"[^\w.-]", "-", f"{self.paper}-{self.scale}-results")), type="results")
        for path in self._files():
            artifact.add_file(str(path), name=path.name)
        run.log_artifact(artifact)

    def _paper(self) -> Paper:
        return load_paper(self.paper)

    def _files(self) -> list[Path]:
        paths = (self.folder / f"{self.scale}{end}" for end in ENDINGS)
        return [path for path in paths if path.is_file()]


def export(told: CellRun | Results, target: Target) -> str | None:
    """Write one W&B run, unless it was written before; a crash in the middle leaves no mark, and it is written again.

    It goes online where the target has a server. There, a run that W&B knows by this id starts anew and takes the place
    of what was there; offline, its folder does.

    Returns:
        Its address, or where its folder is; None where it was written before.

    Raises:
        Exception: Whatever wandb raises, and ``OSError`` where the log did not reach the disk whole.
    """
    folder, online = told.home / "wandb", target.server is not None
    with lock(folder):
        now = told.digest()
        mark = folder / f"{told.id}.json"
        if _is_current(mark, now, target):
            return None
        import wandb

        run = wandb.init(
            id=told.id,
            tags=list(dict.fromkeys(label(tag, _TAG) for tag in (told.paper, told.scale))),
            project=target.project,
            entity=target.entity,
            reinit="create_new",
            settings={"mode": "online" if online else "offline", "root_dir": str(told.home)} | _SETTINGS,
            **told.about(),
        )
        try:
            told.tell(run)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()
        written = Path(run.settings.sync_dir)
        log = written / f"run-{told.id}.wandb"
        if online:
            _confirm(lambda: wandb.Api().run(f"{run.entity}/{run.project}/{run.id}").state, str(run.url))
        else:
            _confirm(lambda: _inspect(log, wandb.util.get_core_path()), str(log))
            with log.open("rb") as file:
                os.fsync(file.fileno())
        for old in folder.glob(f"*run-*-{told.id}*"):  # wandb counts those of one second: -1, -2
            if online or old != written:
                shutil.rmtree(old, ignore_errors=True)
        for name in ("logs", "tmp"):
            shutil.rmtree(written / name, ignore_errors=True)
        said = {"digest": now, "log": None if online else f"{written.name}/{log.name}"}
        atomic_write(mark, json.dumps(said | asdict(target)) + "\n")
        return str(run.url) if online else str(log)


def _is_current(mark: Path, now: str, target: Target) -> bool:
    """Tell whether W&B was told exactly this, and still has it; what is on a server need not be told offline."""
    try:
        said = json.loads(mark.read_text(encoding="utf-8"))
        there = Target(said["entity"], said["project"], said["server"])
        if said["digest"] != now:
            return False
        if there.server is not None and target.server is None:
            return True
        return there == target and (target.server is not None or (mark.parent / said["log"]).is_file())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _confirm(look: Callable[[], str], what: str) -> None:
    """Wait until W&B calls a run finished: its service does not say when the disk is full, or the server refuses."""
    until = time.monotonic() + _ARRIVED
    while look() != "finished":
        if time.monotonic() > until:
            raise OSError(f"{what} did not arrive as a whole: the disk may be full, or the server out of order")
        time.sleep(0.05)


def _inspect(log: Path, core: str) -> str:
    """Read the state that an offline log ends in, with wandb's inspector."""
    command = [core, "leet", "inspect", "--no-observability", "--summary", "--json", "--run-file", str(log)]
    seen = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    return str(json.loads(seen.stdout)["state"]) if seen.returncode == 0 else "damaged"


def label(text: str, limit: int = _NAME) -> str:
    """Make any text a name that W&B takes: one line, not empty, not too long; what is cut keeps a mark of its own."""
    line = " ".join(legible(text, None).split()) or "-"
    return line if len(line) <= limit else f"{line[: limit - 9]}~{_id(line)[:8]}"


def column(name: str) -> str:
    """Return the name of a metric in W&B, which takes an empty one, or one with a leading underscore, for its own."""
    name = legible(name)
    return name if name and not name.startswith("_") else f"metric{name}"


def _point(number: int, row: Mapping[str, float]) -> dict[str, float]:
    """Turn a row of ``curves.csv`` into one of a W&B history, with its position on the step axis."""
    at = next((row[name] for name in ("step", "epoch") if math.isfinite(row.get(name, math.nan))), number)
    return {AXIS: at} | {column(name): value for name, value in row.items() if name != "step"}


def _summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of a finished run: the metrics of its row, ``epochs`` and ``wall_s``.

    W&B's records are JSON, which has no NaN: such numbers are the texts that W&B itself writes into a history, of which
    ``float()`` gives the number back.
    """
    left_out = set(FIXED) - {"epochs", "wall_s"}
    texts = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    kept = {column(name): value for name, value in row.items() if name not in left_out and value is not None}
    return {name: texts.get(str(value), value) for name, value in kept.items()}


def _id(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
