"""Layers that regularize, found by their place, and how they get into a net that was not written for them."""

from __future__ import annotations

from lightning_regs.layers.replace import layer_replacements, replace_layers

__all__ = ["layer_replacements", "replace_layers"]
