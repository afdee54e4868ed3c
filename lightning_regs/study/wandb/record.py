"""What Weights & Biases is told about a run, as plain data: who it is, its history, its summary."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_regs.core.runs import FIXED

PROJECT = "lightning-regs"
AXIS = "trainer/global_step"
# The columns of a row that are known only when the run is finished and that belong to its configuration.
ORIGIN = ("commit", "versions", "device", "precision")
# W&B refuses longer names of runs and groups, and longer tags.
_NAME, _TAG = 128, 64
# To be raised when the same run is to be told differently: what was told before is then told anew.
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One W&B run, before anything was measured.

    Attributes:
        id: Its id: 16 hexadecimal digits, the same whenever the same run is told of.
        name: Its name.
        group: What it is grouped by.
        job_type: ``"results"``, or the name of the scale.
        tags: Its tags.
        config: Its configuration.
        folder: The folder that holds its ``wandb/`` folder: the run's, or the store for a run of results.
        paper: Id of the paper.
        project: The W&B project.
        entity: The W&B user or team; None for the login's own.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    folder: str
    paper: str
    project: str = PROJECT
    entity: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as data that JSON can carry."""
        return asdict(self)

    def digest(self, *told: bytes) -> str:
        """Hash all that W&B is told, to know later whether it has changed.

        Args:
            told: What comes to the entry: the bytes of the files that the records are read from.
        """
        about = self.as_dict()
        del about["folder"]
        text = json.dumps([_FORMAT, about], sort_keys=True).encode()
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (text, *told))).hexdigest()

    def digest_of_run(self) -> str:
        """Hash the entry together with the finished run in its folder; files that are missing count as empty."""
        parts = []
        for name in ("row.json", "curves.csv"):
            path = Path(self.folder) / name
            parts.append(path.read_bytes() if path.is_file() else b"")
        return self.digest(*parts)


def run_entry(
    paper: str,
    scale: str,
    cell: str,
    seed: int,
    config: Mapping[str, Any],
    folder: Path,
    project: str = PROJECT,
    entity: str | None = None,
) -> Entry:
    """Describe the W&B run of one cell and seed.

    Args:
        paper: Id of the paper.
        scale: Name of the scale.
        cell: Name of the cell.
        seed: The seed.
        config: The cell's configuration. A key of it that W&B's configuration needs for one of ours (``seed``) is
            called ``cell_seed`` there.
        folder: The run's folder; its name is the run's hash.
        project: The W&B project.
        entity: The W&B user or team.
    """
    ours = {"paper": paper, "scale": scale, "cell": cell, "seed": seed, "config_hash": folder.name}
    taken = {*ours, *ORIGIN}
    own = {f"cell_{key}" if key in taken else key: value for key, value in config.items()}
    return Entry(
        id=_id("run", paper, scale, cell, seed, folder.name),
        name=label(f"{cell} seed {seed}"),
        group=label(f"{paper}/{scale}/{cell}"),
        job_type=label(scale),
        tags=tuple(dict.fromkeys(label(tag, _TAG) for tag in (paper, scale))),
        config=_clean(own | ours),
        folder=str(folder),
        paper=paper,
        project=project,
        entity=entity,
    )


def results_entry(paper: str, scale: str, store: Path, project: str = PROJECT, entity: str | None = None) -> Entry:
    """Describe the W&B run that holds the results of a scale; the arguments are those of :func:`run_entry`."""
    return Entry(
        id=_id("results", paper, scale),
        name=label(f"{paper} {scale} results"),
        group=label(f"{paper}/{scale}"),
        job_type="results",
        tags=tuple(dict.fromkeys(label(tag, _TAG) for tag in (paper, scale))),
        config=_clean({"paper": paper, "scale": scale}),
        folder=str(store),
        paper=paper,
        project=project,
        entity=entity,
    )


def label(text: str, limit: int = _NAME) -> str:
    """Make any text a name that W&B takes: one line, not empty, not too long; what is cut keeps a mark of its own."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in _text(text)).split()) or "-"
    if len(line) <= limit:
        return line
    return f"{line[: limit - 9]}~{hashlib.sha256(line.encode()).hexdigest()[:8]}"


def column(name: str) -> str:
    """Return the name of a metric in W&B, which takes an empty one, or one with a leading underscore, for its own."""
    name = _text(name)
    return name if name and not name.startswith("_") else f"metric{name}"


def history(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Turn the rows of ``curves.csv`` into those of a W&B history, with their position on the step axis."""
    return [_point(index, row) for index, row in enumerate(rows)]


def _point(index: int, row: Mapping[str, float]) -> dict[str, float]:
    position = next((row[name] for name in ("step", "epoch") if name in row and math.isfinite(row[name])), index)
    point: dict[str, float] = {AXIS: int(position) if float(position).is_integer() else position}
    return point | {column(name): value for name, value in row.items() if name != "step"}


def summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of a finished run: the metrics of its row, ``epochs`` and ``wall_s``.

    W&B's records are JSON, which has no NaN: such numbers are the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``,
    as W&B itself writes them into a history. ``float()`` of each gives the number back.
    """
    left_out = set(FIXED) - {"epochs", "wall_s"}
    return {column(name): _number(value) for name, value in row.items() if name not in left_out and value is not None}


def origin(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a finished row adds to the configuration."""
    return {name: _text(str(row[name])) for name in ORIGIN if row.get(name)}


def _id(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _number(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(text: str) -> str:
    """Replace what UTF-8, and with it W&B, cannot carry: halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, (list, tuple)) else value
