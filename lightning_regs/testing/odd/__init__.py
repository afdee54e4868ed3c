"""LightningModules as people write them: other batches, targets, losses and steps than the usual; float64 throughout.

A class, or a ``kind(...)``, in one of these files is a kind of module by being there.
"""

from __future__ import annotations

from lightning_regs.testing.odd import batches, losses, steps
from lightning_regs.testing.odd.base import ODD, Odd

__all__ = ["ODD", "Odd", "batches", "losses", "steps"]
