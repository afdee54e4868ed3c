"""Rules for initial weights, by name, on any module: a function in this folder is a rule."""

from __future__ import annotations

from lightning_regs.init.initialize import Initialized, initialize, rules

__all__ = ["Initialized", "initialize", "rules"]
