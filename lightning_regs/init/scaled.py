"""Rules by the number of a unit's inputs and outputs, for a weight ``(out, in, ...)``.

Variances: Kaiming 2 / fan_in (He et al., arXiv:1502.01852), LeCun 1 / fan_in, Xavier 2 / (fan_in + fan_out) (Glorot &
Bengio, AISTATS 2010). They do not look at the net's activation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "xavier_normal",
    "xavier_uniform",
]


def kaiming_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw from N(0, 2 / fan_in)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def kaiming_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw uniformly, with variance 2 / fan_in."""
    nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)


def lecun_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw from N(0, 1 / fan_in)."""
    nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)


def lecun_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw uniformly, with variance 1 / fan_in."""
    nn.init.kaiming_uniform_(weight, nonlinearity="linear", generator=generator)


def orthogonal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw a weight whose rows are orthonormal, or its columns where it has more rows than columns."""
    nn.init.orthogonal_(weight, generator=generator)


def xavier_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw from N(0, 2 / (fan_in + fan_out))."""
    nn.init.xavier_normal_(weight, generator=generator)


def xavier_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Draw uniformly, with variance 2 / (fan_in + fan_out)."""
    nn.init.xavier_uniform_(weight, generator=generator)
