"""Why neural networks generalise: regularization as Lightning hooks, and honest reproductions of the papers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regs.data import ImageDataModule
    from lightning_regs.procedures.tickets import find_ticket
    from lightning_regs.pruning import Mask, Pruning, add_supermask
    from lightning_regs.regularizers import (
        AdversarialTraining,
        CutMix,
        Cutout,
        GradientPenalty,
        LabelSmoothing,
        Mixup,
        NormPenalty,
        Regularizer,
        WeightMask,
    )
    from lightning_regs.training.classifier import Classifier

__version__ = "0.1.0"

# Public name -> module that defines it. Resolved on first use, so that `import lightning_regs` costs nothing.
_PUBLIC = {
    "AdversarialTraining": "lightning_regs.regularizers",
    "Classifier": "lightning_regs.training.classifier",
    "CutMix": "lightning_regs.regularizers",
    "Cutout": "lightning_regs.regularizers",
    "GradientPenalty": "lightning_regs.regularizers",
    "ImageDataModule": "lightning_regs.data",
    "LabelSmoothing": "lightning_regs.regularizers",
    "Mask": "lightning_regs.pruning",
    "Mixup": "lightning_regs.regularizers",
    "NormPenalty": "lightning_regs.regularizers",
    "Pruning": "lightning_regs.pruning",
    "Regularizer": "lightning_regs.regularizers",
    "WeightMask": "lightning_regs.regularizers",
    "add_supermask": "lightning_regs.pruning",
    "find_ticket": "lightning_regs.procedures.tickets",
}

__all__ = [
    "AdversarialTraining",
    "Classifier",
    "CutMix",
    "Cutout",
    "GradientPenalty",
    "ImageDataModule",
    "LabelSmoothing",
    "Mask",
    "Mixup",
    "NormPenalty",
    "Pruning",
    "Regularizer",
    "WeightMask",
    "__version__",
    "add_supermask",
    "find_ticket",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
