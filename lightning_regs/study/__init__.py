"""The reproduction engine: papers, cells, claims, figures, and the runs that measure them."""

# ruff: noqa: F401, F403 (what type checkers see; at run time names are resolved on first use)

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regs.core import registry

if TYPE_CHECKING:
    from lightning_regs.core.metrics import Family, Metric
    from lightning_regs.core.runs import RunContext, Store
    from lightning_regs.study.paper.cells import Cell, Cells, Tuned, grid, grid_search, regularized
    from lightning_regs.study.paper.claims import Claim, Source, across, lower
    from lightning_regs.study.paper.conditions import trained
    from lightning_regs.study.paper.config import config_hash, override, resolve
    from lightning_regs.study.paper.estimates import Estimate
    from lightning_regs.study.paper.figure import Figure, Panel, bars, curves, points, sweep, tuning
    from lightning_regs.study.paper.loading import find_papers, load_paper
    from lightning_regs.study.paper.measures import *
    from lightning_regs.study.paper.paper import Deviation, Paper, Scale
    from lightning_regs.study.paper.rows import MissingRows, Rows
    from lightning_regs.study.paper.tasks import (
        AGREE,
        ATTACKED,
        SHARPNESS,
        SIGNALS,
        SNAPSHOTS,
        STOPPING,
        TOY,
        TRAIN,
        WEIGHTS,
    )
    from lightning_regs.study.paper.verdicts import ClaimResult
    from lightning_regs.study.run.runner import Outcome, reproduce
    from lightning_regs.study.studies.variance import share_of_variance, variance_cells, variance_figure

# Module -> its public names, resolved on first use, so that a paper's plain data load without the runner.
_PUBLIC = {
    "core.metrics": "Family Metric",
    "core.runs": "RunContext Store",
    "study.paper.cells": "Cell Cells Tuned grid grid_search regularized",
    "study.paper.claims": "Claim Source across lower",
    "study.paper.conditions": "trained",
    "study.paper.config": "config_hash override resolve",
    "study.paper.figure": "Figure Panel bars curves points sweep tuning",
    "study.paper.loading": "find_papers load_paper",
    "study.paper.estimates": "Estimate",
    "study.paper.measures": "Measure difference largest margin peak_distance per_seed percent_lower rank_correlation "
    "ratio share smallest smallest_step value weighted_sum",
    "study.paper.paper": "Deviation Paper Scale",
    "study.paper.rows": "MissingRows Rows",
    "study.paper.tasks": "AGREE ATTACKED SHARPNESS SIGNALS SNAPSHOTS STOPPING TOY TRAIN WEIGHTS",
    "study.paper.verdicts": "ClaimResult",
    "study.run.runner": "Outcome reproduce",
    "study.studies.variance": "share_of_variance variance_cells variance_figure",
}
_HOMES = {name: f"lightning_regs.{module}" for module, names in _PUBLIC.items() for name in names.split()}

__all__ = sorted(_HOMES)
__getattr__ = registry.lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
