"""Pruning: masks, the scores of weights, and what a round removes."""

from __future__ import annotations

from lightning_regs.pruning.compact import compact
from lightning_regs.pruning.gates import add_gates, open_gates
from lightning_regs.pruning.layers import prunable
from lightning_regs.pruning.masks import Mask, random_mask
from lightning_regs.pruning.prune import prune
from lightning_regs.pruning.rounds import Pruning
from lightning_regs.pruning.scores import SCORES
from lightning_regs.pruning.supermask import add_supermask, apply_supermask, learned_mask, set_evaluation

__all__ = [
    "SCORES",
    "Mask",
    "Pruning",
    "add_gates",
    "add_supermask",
    "apply_supermask",
    "compact",
    "learned_mask",
    "open_gates",
    "prunable",
    "prune",
    "random_mask",
    "set_evaluation",
]
