"""Learned masks as parametrizations of one weight: Bernoulli masks and edge-popup."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Evaluation = Literal["sample", "expected", "threshold"]
"""What stands for a Bernoulli mask outside training."""


class Supermask(nn.Module):
    """A learned mask on one weight, as a parametrization: weight to masked weight; its scores have the same shape."""

    scores: nn.Parameter

    def __init__(self, scores: Tensor, rescale: bool) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.rescale = rescale

    def learned(self) -> Tensor:
        """Return what has been learned of the mask."""
        raise NotImplementedError


class BernoulliMask(Supermask):
    r"""Each weight is there with a learned probability; Zhou et al., arXiv 1905.01067.

    :math:`w \cdot m` with :math:`m \sim \mathrm{Bernoulli}(\sigma(s))`, drawn anew at every forward pass from torch's
    global generator, as dropout is. Its gradient is that of :math:`w \cdot \sigma(s)` (straight through). With
    ``rescale``, times size / number of ones, and the gradient goes through the number too, as in the authors' code.

    Attributes:
        scores: The logits s.
        evaluation: One of ``"sample"``, ``"expected"`` or ``"threshold"``.
    """

    def __init__(self, scores: Tensor, rescale: bool, evaluation: str) -> None:
        super().__init__(scores, rescale)
        self.evaluation = evaluation

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight under a mask drawn for this call."""
        probability = self.scores.sigmoid()
        if self.training or self.evaluation == "sample":
            # Twice as fast as torch.bernoulli. Not in fewer than 32 bits: bfloat16 has 256 different draws.
            dtype = torch.promote_types(probability.dtype, torch.float32)
            mask = straight_through(torch.rand_like(probability, dtype=dtype) < probability, probability)
        elif self.evaluation == "threshold":
            mask = straight_through(probability >= 0.5, probability)
        else:
            mask = probability
        masked = weight * mask
        # Of no ones at all, the factor would not be finite.
        return masked * (mask.numel() / mask.sum().clamp(min=1)) if self.rescale else masked

    def learned(self) -> Tensor:
        """Return the probabilities that weights are kept."""
        return self.scores.detach().sigmoid()


class EdgePopup(Supermask):
    r"""The weights with the largest scores are there; Ramanujan et al., arXiv 1911.13299.

    :math:`w \cdot m`, where m is 1 for the :math:`\max(1, \mathrm{round}(\mathrm{density} \cdot \mathrm{size}))`
    largest :math:`|s|`. The gradient is that of :math:`w \cdot |s|` (straight through). With ``rescale``, times
    :math:`1 / \sqrt{\mathrm{density}}`, which keeps the variance of the layer's sums.

    Attributes:
        scores: The scores s; of R stacked networks one dimension more, in front.
        kept: Number of weights that are there, of each network.
    """

    def __init__(self, scores: Tensor, rescale: bool, density: float) -> None:
        super().__init__(scores, rescale)
        self.density = density
        self.size = scores.numel()
        self.kept = max(1, round(density * self.size))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight under the mask of the largest scores."""
        masked = weight * straight_through(self.learned(), self.scores.abs())
        return masked / math.sqrt(self.density) if self.rescale else masked

    def learned(self) -> Tensor:
        """Return which weights are kept, in each network by itself."""
        if self.scores.numel() != self.size:
            # As the forward pass has it: among equal scores it keeps what vmap keeps.
            return torch.vmap(self._largest)(self.scores.detach())
        return self._largest(self.scores.detach())

    def _largest(self, scores: Tensor) -> Tensor:
        flat = scores.abs().flatten()
        mask = torch.zeros_like(flat, dtype=torch.bool)
        return mask.index_fill_(0, flat.topk(self.kept, sorted=False).indices, True).view_as(scores)


def straight_through(mask: Tensor, scores: Tensor) -> Tensor:
    """Return a mask as exact zeros and ones, through which a gradient passes to the scores as if it were they.

    Bengio, Léonard, Courville, arXiv 1308.3432. The mask is bool, of the scores' shape, and these are finite.
    """
    return mask.to(scores.dtype) + (scores - scores.detach())
