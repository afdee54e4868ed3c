"""The statistics of batch norm, estimated anew without the noise of other layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_regs.core.checks import NoEffectWarning, checked, warn
from lightning_regs.core.undisturbed import undisturbed
from lightning_regs.layers.mean_only_batch_norm import MeanOnlyBatchNorm


@checked
@torch.no_grad()
def update_batch_norm(module: nn.Module, batches: Iterable[Any]) -> None:
    """Estimate the running statistics of batch norm anew, as means over batches, with all other layers in evaluation.

    In training a batch norm behind noise sees other units than in evaluation: behind
    :class:`~lightning_regs.layers.InformationDropout` of a larger mean, behind a dropout of a larger variance (Li et
    al. 2019, arXiv:1801.05134). The authors of information dropout do this before each test; ``update_bn`` of
    ``torch.optim.swa_utils`` keeps the noise. Call it between training and test, on a module after ``trainer.fit`` too.

    Args:
        module: Changed in place; its modes stay. Where it is in training mode, a batch norm that is not is frozen, and
            stays as it is.
        batches: Inputs ``(N, ...)`` of training samples as the module gets them, on its device, or lists that begin
            with these, as those of a loader.
    """
    found = (layer for layer in module.modules() if isinstance(layer, (_BatchNorm, MeanOnlyBatchNorm)))
    running = (layer for layer in found if layer.running_mean is not None)
    norms = [layer for layer in running if layer.training or not module.training]
    if not norms:
        told = f"{type(module).__name__} has no batch norm with running statistics that is not frozen by eval()."
        warn(told, NoEffectWarning)
        return
    momenta = [norm.momentum for norm in norms]
    try:
        with undisturbed(module):
            for norm in norms:
                norm.reset_running_stats()
                norm.training, norm.momentum = True, None
            for batch in batches:
                module(batch[0] if isinstance(batch, (list, tuple)) else batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
