"""The implicit regularizer of SGD: the mean squared norm of the gradients of batches."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.core.checks import Count, Shape, checked, nonempty


@checked
def implicit_regularizer(
    network: nn.Module,
    x: Annotated[Tensor, Shape("N ..."), nonempty],
    y: Annotated[Tensor, Shape("N", "integer")],
    batch_size: Count,
) -> float:
    r"""Return the mean over full batches of the squared norm of the batch's gradient of the mean cross entropy.

    Smith, Dherin, Barrett, De, "On the Origin of Implicit Regularization in Stochastic Gradient Descent" (2101.12176):
    SGD over an epoch follows the gradient flow of :math:`C + \frac{\epsilon}{4m} \sum_k \|\nabla C_k\|^2`, in batches k
    at the learning rate :math:`\epsilon`; this is the mean of :math:`\|\nabla C_k\|^2`.

    Args:
        network: Maps ``(N, ...)`` to logits ``(N, K)``; it is left in evaluation mode.
        x: Samples ``(N, ...)``, as the network sees them.
        y: Classes ``(N,)``.
        batch_size: Samples a batch; samples that fill no batch are left out, unless there is no other.
    """
    network.eval()
    parameters = [p for p in network.parameters() if p.requires_grad]
    size = min(batch_size, len(y))
    values = []
    for start in range(0, len(y) - size + 1, size):
        loss = F.cross_entropy(network(x[start : start + size]), y[start : start + size])
        gradients = torch.autograd.grad(loss, parameters)
        values.append(torch.stack([g.square().sum() for g in gradients]).sum())
    return float(torch.stack(values).mean())
