"""Pruning: masks, the scores of weights, what a round removes, and compression."""

from __future__ import annotations

from lightning_regs.pruning.compact import compact
from lightning_regs.pruning.compression.compress import Compressed, compress, decompress
from lightning_regs.pruning.compression.sharing import share_weights
from lightning_regs.pruning.gates import add_gates, open_gates
from lightning_regs.pruning.layers import prunable
from lightning_regs.pruning.masks import Mask, random_mask
from lightning_regs.pruning.prune import prune
from lightning_regs.pruning.rounds import Pruning
from lightning_regs.pruning.scores import SCORES
from lightning_regs.pruning.supermask import add_supermask, apply_supermask, learned_mask, set_evaluation

__all__ = [
    "SCORES",
    "Compressed",
    "Mask",
    "Pruning",
    "add_gates",
    "add_supermask",
    "apply_supermask",
    "compact",
    "compress",
    "decompress",
    "learned_mask",
    "open_gates",
    "prunable",
    "prune",
    "random_mask",
    "set_evaluation",
    "share_weights",
]
