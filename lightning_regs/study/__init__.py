"""The reproduction engine: papers, cells, claims, and the runs that measure them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regs.core.runs import RunContext, Store
    from lightning_regs.study.paper.claims import Claim, ClaimResult, MissingRows, Rows
    from lightning_regs.study.paper.config import config_hash, resolve
    from lightning_regs.study.paper.figure import Figure, Panel
    from lightning_regs.study.paper.paper import Cell, Paper, Scale, find_papers, load_paper
    from lightning_regs.study.run.runner import Outcome, reproduce

# Public name -> module that defines it. Resolved on first use, so that a paper's plain data load without the runner.
_PUBLIC = {
    "Cell": "lightning_regs.study.paper.paper",
    "Claim": "lightning_regs.study.paper.claims",
    "ClaimResult": "lightning_regs.study.paper.claims",
    "Figure": "lightning_regs.study.paper.figure",
    "MissingRows": "lightning_regs.study.paper.claims",
    "Outcome": "lightning_regs.study.run.runner",
    "Panel": "lightning_regs.study.paper.figure",
    "Paper": "lightning_regs.study.paper.paper",
    "Rows": "lightning_regs.study.paper.claims",
    "RunContext": "lightning_regs.core.runs",
    "Scale": "lightning_regs.study.paper.paper",
    "Store": "lightning_regs.core.runs",
    "config_hash": "lightning_regs.study.paper.config",
    "find_papers": "lightning_regs.study.paper.paper",
    "load_paper": "lightning_regs.study.paper.paper",
    "reproduce": "lightning_regs.study.run.runner",
    "resolve": "lightning_regs.study.paper.config",
}

__all__ = [
    "Cell",
    "Claim",
    "ClaimResult",
    "Figure",
    "MissingRows",
    "Outcome",
    "Panel",
    "Paper",
    "Rows",
    "RunContext",
    "Scale",
    "Store",
    "config_hash",
    "find_papers",
    "load_paper",
    "reproduce",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
