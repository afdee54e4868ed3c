"""The pure functions behind the methods: tensors in, tensors out, randomness as arguments."""

from __future__ import annotations

from lightning_regs.core import registry

_PUBLIC = registry.functions("lightning_regs.pruning") | registry.functions("lightning_regs.regularizers")

__all__ = sorted(_PUBLIC)
__getattr__ = registry.lazy(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return __all__
