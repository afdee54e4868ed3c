"""The reproduction engine: papers, cells, claims, figures, and the runs that measure them."""

from __future__ import annotations

from lightning_regs.core import registry

# Module -> its public names, resolved on first use, so that a paper's plain data load without the runner.
_MODULES = {
    "core.metrics": "Family Metric",
    "core.runs": "RunContext Store",
    "study.paper.cells": "Cell Cells Tuned grid grid_search regularized",
    "study.paper.claims": "Claim Source across lower",
    "study.paper.conditions": "trained",
    "study.paper.config": "override resolve",
    "study.paper.figure": "Figure bars curves points sweep tuning",
    "study.paper.loading": "find_papers load_paper",
    "study.paper.estimates": "Estimate",
    "study.paper.measures.measure": "Measure per_seed",
    "study.paper.measures.orders": "peak_distance rank_correlation",
    "study.paper.measures.quotients": "percent_lower ratio share",
    "study.paper.measures.sums": "difference largest margin smallest smallest_step value weighted_sum",
    "study.paper.measures.turns": "fall peak_over_fit peak_position rise second_descent",
    "study.paper.paper": "Deviation Paper Scale",
    "study.paper.rows": "MissingRows Rows",
    "study.paper.tasks": "AGREE ATTACKED COURSE FEATURES GROWN INITIALIZED PADDED SHARPNESS SIGNALS SNAPSHOTS "
    "STOPPING TOY TRAIN WEIGHTS",
    "study.paper.verdicts": "ClaimResult",
    "study.run.runner": "Outcome reproduce",
    "study.trials.search": "search",
    "study.studies.variance": "share_of_variance variance_cells variance_figure",
}
_PUBLIC = {name: f"lightning_regs.{module}" for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_PUBLIC)
__getattr__, __dir__ = registry.lazy(__name__, _PUBLIC)
