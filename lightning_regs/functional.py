"""The pure functions behind the methods: tensors in, tensors out, randomness as arguments."""

from __future__ import annotations

from lightning_regs.pruning.prune import prune
from lightning_regs.regularizers.attacks import fgsm, pgd
from lightning_regs.regularizers.conventions import smith_coefficient
from lightning_regs.regularizers.cutmix import cutmix, cutmix_box
from lightning_regs.regularizers.cutout import cutout
from lightning_regs.regularizers.gradient_penalty import gradient_penalty
from lightning_regs.regularizers.label_smoothing import label_smoothing
from lightning_regs.regularizers.mixup import mixup
from lightning_regs.regularizers.norm_penalty import norm_penalty
from lightning_regs.regularizers.targets import MixedTarget, mix_targets
from lightning_regs.regularizers.zeroing import zero_pruned

__all__ = [
    "MixedTarget",
    "cutmix",
    "cutmix_box",
    "cutout",
    "fgsm",
    "gradient_penalty",
    "label_smoothing",
    "mix_targets",
    "mixup",
    "norm_penalty",
    "pgd",
    "prune",
    "smith_coefficient",
    "zero_pruned",
]
