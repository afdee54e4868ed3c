"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from lightning_regs.core.checks import Count, Probability, checked
from lightning_regs.layers.maxout import Maxout
from lightning_regs.models.layers import InputShape, Norm, activation_layer, finish, normalized


class _Branch(nn.Sequential):
    in_order = adds_input = True

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + super().forward(x)  # type: ignore[no-untyped-call]
        return out


class MLP(nn.Module):
    """Fully connected net; the MLP 1x512 and MLP 3x512 of Zhang et al., arXiv 1611.03530.

    Each hidden layer is linear, normalisation, activation, dropout; the last layer, ``head``, makes the logits. With
    the defaults and input 3x28x28 these are the paper's 1,209,866 parameters, with ``hidden=[512, 512, 512]`` its
    1,735,178. Shape: ``(N, *input_shape)`` to ``(N, num_classes)``.

    Args:
        input_shape: Shape of one sample, any number of dimensions; flattened in its order.
        num_classes: Number of logits.
        hidden: Width of each hidden layer; empty for a linear model.
        activation: A key of :data:`~lightning_regs.models.layers.ACTIVATIONS`, or ``"maxout"``, see
            :class:`~lightning_regs.layers.Maxout`. Default ``"relu"``.
        pieces: Linear pieces of each unit with ``activation="maxout"``, by default 5, and with no other.
        norm: A :data:`~lightning_regs.models.layers.Norm`, on all layers but the head; or None.
        residual: Whether each two layers behind the first are a branch, added to what they see before the activation of
            the second (He et al., arXiv 1512.03385). ``hidden`` then has an odd number of equal widths. ``"each"``:
            each layer behind the first is one, with its activation (MNIST-1D's net, arXiv 2011.14439).
        dropout: Probability of dropping a hidden unit, in [0, 1). Default 0.
        input_dropout: Probability of dropping an input, in [0, 1). Default 0.
        init: A rule of :func:`~lightning_regs.init.initialize`; None keeps torch's.
    """

    architecture = "mlp"
    in_order = True  # its parts are called in the order in which they were registered

    @checked
    def __init__(
        self,
        input_shape: InputShape,
        num_classes: Count,
        *,
        hidden: Annotated[Sequence[Count], "widths of at least 1, one a layer, such as [512]"] = (512,),
        activation: str = "relu",
        pieces: Count | None = None,
        norm: Norm | None = None,
        residual: bool | Literal["each"] = False,
        dropout: Probability = 0.0,
        input_dropout: Probability = 0.0,
        init: str | None = None,
    ) -> None:
        super().__init__()
        if residual and ((len(hidden) % 2 == 0 and residual != "each") or len(set(hidden)) > 1):
            number = "" if residual == "each" else "an odd number of "
            raise ValueError(f"residual={residual!r} takes {number}equal widths, got hidden={list(hidden)}.")
        maxout = activation == "maxout"
        if maxout and residual is True:
            raise ValueError("residual=True adds before the activation, where maxout has pieces; use residual='each'.")
        if pieces and not maxout:
            raise ValueError(f"pieces={pieces} are those of maxout, got activation={activation!r}; leave pieces out.")
        pieces = (pieces or 5) if maxout else 1
        layers: list[nn.Module] = [nn.Flatten(), *([nn.Dropout(input_dropout)] if input_dropout else [])]
        features, branch = math.prod(input_shape), list[nn.Module]()
        for at, size in enumerate(hidden):
            linear = normalized(norm, nn.Linear(features, size * pieces))
            unit = Maxout(pieces) if maxout else activation_layer(activation)
            active = [unit, *([nn.Dropout(dropout)] if dropout else [])]
            if residual == "each" and at:
                layers.append(_Branch(*linear, *active))
            elif residual and at % 2:
                branch = [*linear, *active]
            else:
                layers += [*([_Branch(*branch, *linear)] if branch else linear), *active]
            features = size
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(features, num_classes)
        finish(self, norm, init, self.head)

    def forward(self, x: Tensor) -> Tensor:
        """Map samples ``(N, *input_shape)`` to logits ``(N, num_classes)``."""
        logits: Tensor = self.head(self.body(x))
        return logits
