"""The pure functions behind the methods: tensors in, tensors out, randomness as arguments."""

from __future__ import annotations

from lightning_regs.core import registry

_ROOMS = ("lightning_regs.pruning", "lightning_regs.regularizers", "lightning_regs.regularizers.parts")
_PUBLIC = {name: module for room in _ROOMS for name, module in registry.functions(room).items()}

__all__ = sorted(_PUBLIC)
__getattr__, __dir__ = registry.lazy(__name__, _PUBLIC)
