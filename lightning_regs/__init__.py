"""Why neural networks generalise: regularization as Lightning hooks, and honest reproductions of the papers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regs.classifier import Classifier
    from lightning_regs.data import ImageDataModule
    from lightning_regs.regularizers import GradientPenalty, Regularizer

__version__ = "0.1.0"

# Public name -> module that defines it. Resolved on first use, so that `import lightning_regs` costs nothing.
_PUBLIC = {
    "Classifier": "lightning_regs.classifier",
    "GradientPenalty": "lightning_regs.regularizers",
    "ImageDataModule": "lightning_regs.data",
    "Regularizer": "lightning_regs.regularizers",
}

__all__ = ["Classifier", "GradientPenalty", "ImageDataModule", "Regularizer", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
