"""Weight initialisation by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_regs.core.names import unknown_name

_Rule = Callable[[Tensor, "torch.Generator | None"], object]

INITIALIZATIONS: dict[str, _Rule] = {
    "kaiming_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "kaiming_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "lecun_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="linear", generator=g),
    "lecun_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="linear", generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
    "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
}
"""Rules for a weight (out, in, ...); variances: kaiming 2 / fan_in, lecun 1 / fan_in, xavier 2 / (fan_in + fan_out)."""


def initialize(module: nn.Module, name: str | None, generator: torch.Generator | None = None) -> nn.Module:
    """Draw the weights of every linear and convolutional layer anew, by a named rule, and zero their biases.

    Kaiming: He et al., arXiv 1502.01852; Xavier: Glorot & Bengio, AISTATS 2010. The rules do not look at the net's
    activation, and normalisation layers are left alone.

    Args:
        module: Changed in place. Weight norm has to come afterwards, since it splits the weight.
        name: A key of :data:`INITIALIZATIONS`; None keeps what torch drew: uniform within 1 / sqrt(fan_in).
        generator: Source of the draws; None takes torch's global one, as torch's own layers do.

    Returns:
        ``module``.

    Raises:
        ValueError: If the name is unknown.
    """
    if name is None:
        return module
    if name not in INITIALIZATIONS:
        raise unknown_name("initialization", name, INITIALIZATIONS)
    rule = INITIALIZATIONS[name]
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            with torch.no_grad():
                rule(layer.weight, generator)
                if layer.bias is not None:
                    layer.bias.zero_()
    return module
