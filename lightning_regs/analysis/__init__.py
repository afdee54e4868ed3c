"""What one measures beside training: expressivity, kernel machines, fixed features, paths, tickets and solutions.

Every public class and function of the modules is one of this package's names.
"""

from __future__ import annotations

from lightning_regs.core import registry

_ROOMS = ("", ".landscape", ".signal", ".weights")
_PUBLIC = {k: v for room in _ROOMS for k, v in registry.definitions(f"lightning_regs.analysis{room}").items()}

__all__ = sorted(_PUBLIC)
__getattr__, __dir__ = registry.lazy(__name__, _PUBLIC)
