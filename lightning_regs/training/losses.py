"""The losses of classification, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
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


def check_labels(y: Tensor, num_classes: int) -> None:
    """Refuse class indices outside 0 to ``num_classes`` - 1, which a GPU would report as a failed assertion.

    Raises:
        ValueError: If there are any.
    """
    if y.is_floating_point() or not y.numel():
        return
    low, high = (int(v) for v in torch.aminmax(y))
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"class index {low if low < 0 else high} is outside 0 to {num_classes - 1}: the network gives "
            f"{num_classes} logits a sample; make num_classes or the labels fit."
        )
