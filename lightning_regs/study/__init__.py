"""The reproduction engine: papers, cells, claims, and the runs that measure them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regs.study.claims import Claim, ClaimResult, MissingRows, Rows
    from lightning_regs.study.config import config_hash, resolve
    from lightning_regs.study.figure import Figure, Panel
    from lightning_regs.study.paper import Cell, Paper, Scale, find_papers, load_paper
    from lightning_regs.study.runner import Outcome, reproduce
    from lightning_regs.study.store import RunContext, Store

# Public name -> module that defines it. Resolved on first use, so that a paper's plain data load without the runner.
_PUBLIC = {
    "Cell": "paper",
    "Claim": "claims",
    "ClaimResult": "claims",
    "Figure": "figure",
    "MissingRows": "claims",
    "Outcome": "runner",
    "Panel": "figure",
    "Paper": "paper",
    "Rows": "claims",
    "RunContext": "store",
    "Scale": "paper",
    "Store": "store",
    "config_hash": "config",
    "find_papers": "paper",
    "load_paper": "paper",
    "reproduce": "runner",
    "resolve": "config",
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
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
