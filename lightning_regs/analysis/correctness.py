"""How far two nets are right on the same samples: the correlation of their correctness."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor

from lightning_regs.core.checks import Shape, checked, nonempty

Right = Annotated[Tensor, Shape("N", "bool"), nonempty]


@checked
def agreement(right: Right, other: Right) -> float:
    r"""Return the correlation of two nets' correctness over the same samples, the phi coefficient.

    Kuncheva and Whitaker, "Measures of Diversity in Classifier Ensembles" (2003): 1 for nets that are right on the same
    samples, 0 for nets that are right independently of each other. With accuracies :math:`p` and :math:`r`, the
    difference of two accuracies on :math:`N` samples has the variance
    :math:`\bigl(p(1-p) + r(1-r) - 2 \phi \sqrt{p(1-p)\,r(1-r)}\bigr) / N` as a draw of these samples.

    Args:
        right: Whether one net is right, bool ``(N,)``.
        other: Whether the other net is right on the same samples, bool ``(N,)``.

    Returns:
        A number in [-1, 1]; NaN where one of the nets is right everywhere or nowhere.

    Raises:
        TypeError: If they are not bool.
        ValueError: If they have not one shape ``(N,)``, or hold nothing.

    Example:
        >>> agreement(torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False]))
        0.5773502691896258
    """
    both, first, second, n = int((right & other).sum()), int(right.sum()), int(other.sum()), len(right)
    spread = first * (n - first) * second * (n - second)
    return (n * both - first * second) / math.sqrt(spread) if spread else math.nan
