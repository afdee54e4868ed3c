"""Dropout by Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from lightning_regs.core.checks import Probability, checked


class GaussianDropout(_DropoutNd):
    r"""Multiplies each unit by noise of :math:`N(1, p / (1 - p))`, the mean and variance of dropout's.

    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, section 10,
    whose p is the probability of keeping a unit. In evaluation the input is the output. Shapes: any, unchanged.

    Args:
        p: Probability of dropping a unit in the dropout with such a variance, in [0, 1).

    Raises:
        ValueError: If ``p`` is outside [0, 1).
    """

    @checked
    def __init__(self, p: Probability = 0.5) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy units in training, and the units in evaluation."""
        return x * (1 + (self.p / (1 - self.p)) ** 0.5 * torch.randn_like(x)) if self.training else x
