"""Layers that regularize, found by their place, and how they get into a net that was not written for them.

Their p is the probability of dropping, as torch's. What torch and torchvision have, they have not: ``Dropout``,
``StochasticDepth``, ``DropBlock2d`` and all others get into a net by name in the same way.
"""

from __future__ import annotations

from lightning_regs.layers.drop_connect import DropConnect
from lightning_regs.layers.gaussian_dropout import GaussianDropout
from lightning_regs.layers.ghost_batch_norm import GhostBatchNorm
from lightning_regs.layers.information_dropout import InformationDropout
from lightning_regs.layers.information_penalty import InformationPenalty
from lightning_regs.layers.maxout import Maxout
from lightning_regs.layers.mean_only_batch_norm import MeanOnlyBatchNorm
from lightning_regs.layers.monte_carlo import monte_carlo
from lightning_regs.layers.replace import layer_replacements, replace_layers
from lightning_regs.layers.update_batch_norm import update_batch_norm

__all__ = [
    "DropConnect",
    "GaussianDropout",
    "GhostBatchNorm",
    "InformationDropout",
    "InformationPenalty",
    "Maxout",
    "MeanOnlyBatchNorm",
    "layer_replacements",
    "monte_carlo",
    "replace_layers",
    "update_batch_norm",
]
