"""Layers that regularize, found by their place, and how they get into a net that was not written for them.

Their p is the probability of dropping, as torch's. What torch and torchvision have, they have not: ``Dropout``,
``StochasticDepth``, ``DropBlock2d`` and all others get into a net by name in the same way.
"""

from __future__ import annotations

from lightning_regs.core import registry

_PUBLIC = registry.definitions(__name__)

__all__ = sorted(_PUBLIC)
__getattr__, __dir__ = registry.lazy(__name__, _PUBLIC)
