"""The losses of classification, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def squared_error(logits: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance between ``logits`` ``(N, K)`` and one-hot ``target`` ``(N,)``, mean over the batch."""
    one_hot = F.one_hot(target, logits.shape[1]).to(logits.dtype)
    return 0.5 * (logits - one_hot).square().sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "squared_error": squared_error,
}
"""Mean loss of logits ``(N, K)`` and class indices ``(N,)``, by name."""
