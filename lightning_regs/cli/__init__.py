"""The command ``lightning-regs``."""

from __future__ import annotations

from lightning_regs.cli.parser import main

__all__ = ["main"]
