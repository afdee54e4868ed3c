"""What Weights & Biases is told about the results of a scale: the claims, the figures as images, the tables."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_regs.study.paper.claims import ClaimResult, count_verdicts
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.store.curves import Curves, parse_curves
from lightning_regs.study.wandb.record import label

if TYPE_CHECKING:
    from lightning_regs.study.paper.figure import Figure
    from lightning_regs.study.run.runner import Outcome

COLUMNS = ("id", "sentence", "paper", "ours", "low", "high", "seeds", "verdict", "reason")
_MAX_FILE, _MAX_IMAGE = 1_000_000, 300_000


def sources(outcome: Outcome) -> list[bytes]:
    """Return the bytes that everything :func:`describe` gives is made from."""
    figures = [f"{figure.id}\0{figure.title}\0{figure.caption}".encode() for figure in outcome.paper.figures]
    return [path.read_bytes() if path.is_file() else b"" for path in _files(outcome)] + figures


def describe(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Describe results as data that JSON can carry.

    Args:
        outcome: What the reproduction found.
        folder: An empty folder; the images are drawn into it.

    Returns:
        ``claims`` (``columns`` and ``data``), ``images`` (``id``, ``path``, ``caption``), ``summary`` (runs and
        verdicts), ``artifact`` (its name) and ``files`` (their paths).
    """
    verdicts = {name.replace(" ", "_"): number for name, number in count_verdicts(outcome.claims).items()}
    return {
        "claims": {"columns": list(COLUMNS), "data": [_claim(claim) for claim in outcome.claims]},
        "images": _images(outcome, folder),
        "summary": {"runs": len(outcome.rows), **verdicts},
        "artifact": _artifact_name(f"{outcome.paper.id}-{outcome.scale}-results"),
        "files": [str(path) for path in _files(outcome) if path.is_file() and path.stat().st_size < _MAX_FILE],
    }


def _files(outcome: Outcome) -> list[Path]:
    return [outcome.csv, outcome.claims_json, outcome.curves_csv]


def _artifact_name(text: str) -> str:
    """Leave the letters that W&B allows in the name of an artifact."""
    return label(re.sub(r"[^A-Za-z0-9._-]", "-", text))


def _claim(claim: ClaimResult) -> list[Any]:
    value = claim.paper_value
    paper = "" if value is None else value if isinstance(value, str) else f"{value:g}"
    if paper and claim.recalled:
        paper += " (recalled)"
    numbers = [_finite(number) for number in (claim.ours, claim.low, claim.high)]
    return [claim.id, claim.sentence, paper, *numbers, claim.n, claim.verdict, claim.reason]


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _images(outcome: Outcome, folder: Path) -> list[dict[str, str]]:
    if not outcome.paper.figures:
        return []
    from lightning_regs.study.report import plots

    rows = Rows(outcome.rows)
    try:
        curves = parse_curves(outcome.curves_csv.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        curves = Curves()
    images = []
    with plots.style(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # as on the page
        for number, figure in enumerate(outcome.paper.figures):
            path = folder / f"{number}.png"
            if _draw(figure, rows, curves, path):
                images.append({"id": figure.id, "path": str(path), "caption": figure.title})
    return images


def _draw(figure: Figure, rows: Rows, curves: Curves, path: Path) -> bool:
    """Draw a figure as a small image on white; tell whether there is one."""
    try:
        drawn = figure.render(rows, curves)
    except MissingRows:
        return False
    except Exception:  # the page says what is wrong with it
        return False
    for dpi in (150, 100, 60):
        drawn.savefig(path, format="png", dpi=dpi, facecolor="white", transparent=False)
        if path.stat().st_size <= _MAX_IMAGE:
            return True
    return False
