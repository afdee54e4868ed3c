"""What every method promises, for methods of your own too."""

from __future__ import annotations

from lightning_regs.testing.check import check_regularizer

__all__ = ["check_regularizer"]
