"""Layers that regularize, found by their place, and how they get into a net that was not written for them."""

from __future__ import annotations

from lightning_regs.layers.ghost_batch_norm import GhostBatchNorm
from lightning_regs.layers.replace import layer_replacements, replace_layers

__all__ = ["GhostBatchNorm", "layer_replacements", "replace_layers"]
