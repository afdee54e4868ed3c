"""The losses of classification, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_regs.regularizers.parts.targets import count_odd_rows


def squared_error(logits: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance between ``logits`` ``(N, K)`` and ``target``, mean over the batch.

    The target is one-hot of class indices ``(N,)``, or float ``(N, K)`` as it is.
    """
    wanted = target if target.is_floating_point() else F.one_hot(target, logits.shape[1])
    return 0.5 * (logits - wanted.to(logits.dtype)).square().sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "squared_error": squared_error,
}
"""Mean loss of logits ``(N, K)`` and class indices ``(N,)`` or probabilities ``(N, K)``, by name."""


def losses_of_replicas(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each replica ``(R,)``; labels are each one's own, or ``(N, ...)`` for all."""
    own = y.ndim == logits.ndim - (not y.is_floating_point())
    if loss is F.cross_entropy and logits.ndim == 3:  # one call, of which vmap makes ten
        target = y if own else y.expand(len(logits), *y.shape)
        return losses_of_samples(loss, logits.flatten(0, 1), target.flatten(0, 1)).view(logits.shape[:2]).mean(1)
    found: Tensor = torch.vmap(loss, in_dims=(0, 0 if own else None))(logits, y)
    return found


def losses_of_samples(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each of N samples, where the loss is their mean."""
    if loss is F.cross_entropy:
        if len(logits) > 512 and logits.shape[1] < 16 and not (logits.is_cuda or y.is_floating_point()):
            # Few classes do not fill a CPU's vectors; as the pixels of one image samples stand side by side in them.
            return F.cross_entropy(logits.t().unsqueeze(0), y.unsqueeze(0), reduction="none")[0]
        return F.cross_entropy(logits, y, reduction="none")
    found: Tensor = torch.vmap(loss)(logits[:, None], y[:, None])
    return found


def labels_for(logits: Tensor, y: Tensor) -> Tensor:
    """Return labels in a type that the losses take: int64 for class indices, single precision or less for floats."""
    probabilities = y.is_floating_point()
    wanted = logits.shape if probabilities else logits.shape[:-1]
    # Replicas may have the same labels.
    if y.shape not in (wanted, wanted[1:] if logits.ndim > 2 else wanted):
        raise ValueError(
            f"labels are class indices as integers, of shape {tuple(logits.shape[:-1])} for these logits, or "
            f"probabilities as floats, of shape {tuple(logits.shape)}, and these are {y.dtype} of shape "
            f"{tuple(y.shape)}; {'use .long() on class indices' if y.shape == logits.shape[:-1] else 'reshape them'}."
        )
    if probabilities:
        return y.to(logits.dtype) if y.dtype == torch.float64 else y
    return y if y.dtype == torch.int64 else y.long()


def check_labels(y: Tensor, num_classes: int) -> None:
    """Refuse class indices outside 0 to ``num_classes`` - 1, and floats that are no probabilities.

    A GPU would report the former as a failed assertion, and nobody the latter.
    """
    if not y.numel():
        return
    if y.is_floating_point():
        if odd := int(count_odd_rows(y.reshape(-1, num_classes))):
            raise ValueError(
                f"float labels are probabilities of the classes, and {odd} rows of {tuple(y.shape)} are negative or do "
                "not sum to 1; normalise them, or give class indices as integers."
            )
        return
    low, high = (int(v) for v in torch.aminmax(y))
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"class index {low if low < 0 else high} is outside 0 to {num_classes - 1}: the network gives "
            f"{num_classes} logits a sample; make num_classes or the labels fit."
        )
