"""Rules for a weight ``(out, in, ...)`` alone, most by the number of a unit's inputs and outputs; biases are zero.

Variances: LeCun 1 / fan_in; Xavier 2 / (fan_in + fan_out) (Glorot & Bengio, AISTATS 2010), and what they call the
standard rule, torch's own, 1 / (3 fan_in); Kaiming gain^2 / fan_in, 2 / fan_in for ReLU (He et al., arXiv:1502.01852).
The gain is :func:`torch.nn.init.calculate_gain` of the activation that follows, which is said by its name and not
looked up in the net; of ``leaky_relu`` the slope is 0.01. Orthogonal weights have orthonormal rows, or columns where
they have more rows than columns. Of a grouped convolution fan_in is a group's and fan_out that of all groups, as torch
counts them. Zeros and small numbers are there to see what they do: all units stay alike.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import init

from lightning_regs.core.checks import Number, Positive

__all__ = [
    "constant",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "orthogonal",
    "standard_uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Activation = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
Fan = Literal["fan_in", "fan_out"]
Source = torch.Generator | None


def zeros(weight: Tensor, generator: Source) -> None:
    """Set 0."""
    weight.zero_()


def constant(weight: Tensor, generator: Source, value: Number = 0.0) -> None:
    """Set ``value``."""
    weight.fill_(value)


def normal(weight: Tensor, generator: Source, std: Positive = 0.01) -> None:
    """Draw from N(0, std^2)."""
    weight.normal_(0, std, generator=generator)


def standard_uniform(weight: Tensor, generator: Source) -> None:
    """Draw uniformly within 1 / sqrt(fan_in)."""
    init.kaiming_uniform_(weight, 5**0.5, generator=generator)


def lecun_normal(weight: Tensor, generator: Source) -> None:
    """Draw normally, of variance 1 / fan_in."""
    kaiming_normal(weight, generator, "linear")


def lecun_uniform(weight: Tensor, generator: Source) -> None:
    """Draw uniformly, of variance 1 / fan_in."""
    kaiming_uniform(weight, generator, "linear")


def xavier_normal(weight: Tensor, generator: Source, activation: Activation = "linear") -> None:
    """Draw normally, of variance 2 gain^2 / (fan_in + fan_out)."""
    init.xavier_normal_(weight, init.calculate_gain(activation), generator)


def xavier_uniform(weight: Tensor, generator: Source, activation: Activation = "linear") -> None:
    """Draw uniformly, of variance 2 gain^2 / (fan_in + fan_out)."""
    init.xavier_uniform_(weight, init.calculate_gain(activation), generator)


def kaiming_normal(weight: Tensor, generator: Source, activation: Activation = "relu", mode: Fan = "fan_in") -> None:
    """Draw normally, of variance gain^2 / fan."""
    init.kaiming_normal_(weight, 0.01, mode, activation, generator)


def kaiming_uniform(weight: Tensor, generator: Source, activation: Activation = "relu", mode: Fan = "fan_in") -> None:
    """Draw uniformly, of variance gain^2 / fan."""
    init.kaiming_uniform_(weight, 0.01, mode, activation, generator)


def orthogonal(weight: Tensor, generator: Source, activation: Activation = "linear") -> None:
    """Draw orthonormal rows or columns, times the gain."""
    if weight.is_complex():
        raise ValueError("orthogonal weights are real here, and these are complex; use 'kaiming_normal'.")
    init.orthogonal_(weight, init.calculate_gain(activation), generator)
