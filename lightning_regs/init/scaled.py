"""Rules by the number of a unit's inputs and outputs, for a weight ``(out, in, ...)``.

Variances: Kaiming 2 / fan_in (He et al., arXiv:1502.01852), LeCun 1 / fan_in, Xavier 2 / (fan_in + fan_out) (Glorot &
Bengio, AISTATS 2010). They do not look at the net's activation. Orthogonal weights have orthonormal rows, or columns
where they have more rows than columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn import init

from lightning_regs.init.initialize import Rule

__all__ = [
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "xavier_normal",
    "xavier_uniform",
]


def _rule(draw: Callable[..., Any], **options: Any) -> Rule:
    return lambda weight, generator: draw(weight, generator=generator, **options)


kaiming_normal = _rule(init.kaiming_normal_, nonlinearity="relu")
kaiming_uniform = _rule(init.kaiming_uniform_, nonlinearity="relu")
lecun_normal = _rule(init.kaiming_normal_, nonlinearity="linear")
lecun_uniform = _rule(init.kaiming_uniform_, nonlinearity="linear")
orthogonal = _rule(init.orthogonal_)
xavier_normal = _rule(init.xavier_normal_)
xavier_uniform = _rule(init.xavier_uniform_)
