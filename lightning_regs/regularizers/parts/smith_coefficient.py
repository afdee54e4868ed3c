"""Coefficients of the gradient penalty as other papers write them."""

from __future__ import annotations

from typing import Literal

from lightning_regs.core.checks import Count, NotNegative, Positive, checked


@checked
def smith_coefficient(
    value: NotNegative,
    convention: Literal["smith", "plain", "mean", "block_strength"],
    *,
    num_parameters: Count | None = None,
    lr: Positive | None = None,
) -> float:
    r"""Convert a coefficient from another paper's convention to that of Smith et al.

    ====================  ====================================  ==================================================
    convention            the term that is added to the loss    who
    ====================  ====================================  ==================================================
    ``"smith"``           :math:`c/4 \, \lVert g \rVert^2`      Smith et al. (2101.12176), and this package
    ``"plain"``           :math:`c \, \lVert g \rVert^2`        Novack et al. (2211.15853); Barrett & Dherin's mu
    ``"mean"``            :math:`c \, \lVert g \rVert^2 / m`    Barrett & Dherin's lambda (2009.11162), m parameters
    ``"block_strength"``  :math:`c \, lr/8 \lVert g \rVert^2`   Geiping et al. (2109.14119), as in their code's defaults
    ====================  ====================================  ==================================================

    Args:
        value: The coefficient c there.
        convention: Whose it is.
        num_parameters: m, for ``"mean"``.
        lr: Learning rate, for ``"block_strength"``.

    Returns:
        The coefficient of :class:`~lightning_regs.GradientPenalty` that adds the same term.

    Raises:
        TypeError: If the coefficient is no number.
        ValueError: If it is negative, the convention is unknown, or what it needs is missing.
    """
    if convention == "smith":
        return value
    if convention == "plain":
        return 4 * value
    if convention == "mean":
        if num_parameters is None:
            raise ValueError("the convention 'mean' divides by the number of parameters; pass num_parameters=.")
        return 4 * value / num_parameters
    if lr is None:
        raise ValueError("the convention 'block_strength' is relative to the learning rate; pass lr=.")
    return value * lr / 2
