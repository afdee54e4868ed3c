"""Regularization methods: a pure function plus a thin Lightning callback, one file each."""

from __future__ import annotations

from lightning_regs.regularizers.adversarial import AdversarialTraining
from lightning_regs.regularizers.base import NoEffectWarning, Regularizer
from lightning_regs.regularizers.cutmix import CutMix
from lightning_regs.regularizers.cutout import Cutout
from lightning_regs.regularizers.gradient_penalty import GradientPenalty
from lightning_regs.regularizers.label_smoothing import LabelSmoothing
from lightning_regs.regularizers.mixup import Mixup
from lightning_regs.regularizers.norm_penalty import NormPenalty
from lightning_regs.regularizers.targets import MixedTarget
from lightning_regs.regularizers.weight_mask import WeightMask

__all__ = [
    "AdversarialTraining",
    "CutMix",
    "Cutout",
    "GradientPenalty",
    "LabelSmoothing",
    "MixedTarget",
    "Mixup",
    "NoEffectWarning",
    "NormPenalty",
    "Regularizer",
    "WeightMask",
]
