"""Max-norm: no unit's incoming weights grow longer than a bound."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.checks import Positive, Shape, checked
from lightning_regs.regularizers.base import Acts, Regularizer, example
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.selection import Parameters


@checked
def max_norm(weight: Annotated[Tensor, Shape("N I ...")], value: Positive) -> Tensor:
    r"""Project the incoming weights of each unit on the ball of a radius: :math:`w_i \min(1, c / \lVert w_i \rVert_2)`.

    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 5.1.

    Args:
        weight: One unit an entry of the first dimension: rows ``(N, I)`` of a linear layer, filters ``(N, C, H, W)`` of
            a convolution.
        value: The radius c, above 0.

    Returns:
        The weight, of the same shape; units within the ball are as they were, bit for bit.

    Raises:
        TypeError: If ``value`` is no number.
        ValueError: If ``value`` is not above 0, or ``weight`` has fewer than two dimensions.
    """
    precise = torch.promote_types(weight.dtype, torch.float32)
    norms = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True, dtype=precise)
    factors: Tensor = (value / norms).clamp(max=1.0)
    return weight * factors.to(weight.dtype)


class MaxNorm(Regularizer, acts=Acts.WEIGHTS):
    r"""Max-norm regularization (Srivastava et al. 2014, JMLR 15, section 5.1).

    After each optimizer step the vector of incoming weights :math:`w_i` of every unit, a row of a linear layer or a
    filter of a convolution, is projected on the ball of radius c: :math:`w_i \leftarrow w_i \min(1, c / \lVert w_i
    \rVert_2)`. Biases are no part of it. The bound lets a training start with large learning rates, which noise such as
    dropout's makes useful, without the weights blowing up.

    Does not help: with small learning rates or in short trainings, where the bound hardly binds; its use is together
    with dropout, a large learning rate and much momentum. Before a batch norm the length of a filter does not change
    the function, so there the bound acts through the effective learning rate.

    By default it acts on all weights: parameters of at least two dimensions that no normalisation layer owns. The
    first dimension is taken to count the units, so leave transposed convolutions and embeddings out by ``parameters``.
    Frozen parameters and those without a gradient are not touched, and the initial weights only after the first step.

    Composes with every method here, and with dropout; pruned weights stay zero. Not with a second MaxNorm on the same
    parameters, nor with FSDP or DeepSpeed, which cut weights in pieces. Each net of ``Classifier(replicas=...)`` is
    bounded by itself.

    Args:
        value: The radius c, above 0; the paper advises 3 to 4, and has 2 on MNIST.
        parameters: What to act on: None for weights; a glob of parameter names or a list of them
            (``"encoder.*.weight"``); or a function ``(name, parameter) -> bool``. What has one dimension is left out.

    Raises:
        TypeError: At construction, if an argument is of another type.
        ValueError: At construction, if ``value`` is not above 0.
        MisconfigurationException: When training starts, if a glob matches no name, or the strategy cuts weights.
    """

    value: Positive = example(0.5, default=3.0)  # what binds in small nets
    parameters: Parameters = None
    acts_on_replicas = True  # as each unit's norm does
    in_graph = True
    twice = "both bound the same parameters, so the smaller value counts; use one"
    unless = ("parameters",)

    def on_weights(self, weights: list[Tensor], at: Moment) -> None:
        """Project the units of each weight."""
        for w in weights:
            w.copy_(max_norm(w, self.value))
