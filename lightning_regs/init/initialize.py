"""Initial weights by name, on any module."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_regs.core import registry
from lightning_regs.core.checks import checked
from lightning_regs.core.names import unknown_name

Rule = Callable[[Tensor, "torch.Generator | None"], None]
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Initialized(NamedTuple):
    """What an initialization did: names of parameters, in the module's order."""

    drawn: list[str]
    zeroed: list[str]
    skipped: list[str]


def rules() -> dict[str, str]:
    """Return the name of each rule and where it is, as ``module:function``."""
    found = registry.functions(__package__ or "")
    return {name: f"{module}:{name}" for name, module in found.items() if name != "initialize"}


@checked
@torch.no_grad()
def initialize(
    module: nn.Module, rule: str | Rule | None, generator: torch.Generator | None = None, batch: Tensor | None = None
) -> Initialized:
    """Draw the weights of every linear and convolutional layer anew, by a rule, and zero their biases.

    Everything else is left as it is: the scales of normalisation layers, embeddings, transposed convolutions, recurrent
    layers. A weight that several layers share is drawn once.

    Args:
        module: Changed in place. Weight norm has to come afterwards, since it splits the weight.
        rule: A name, see :func:`rules`, or a function that draws a weight ``(out, in, ...)`` in place from a generator;
            None keeps what torch drew: uniform within 1 / sqrt(fan_in).
        generator: Source of the draws; None takes torch's global one, as torch's own layers do.
        batch: For rules that look at data, of which there is none yet.

    Returns:
        The names of the parameters that were drawn, set to zero and left alone.

    Raises:
        ValueError: If the name is unknown, or a batch is given to a rule that looks at none.
    """
    if isinstance(rule, str) and rule not in rules():
        raise unknown_name("initialization", rule, rules())
    if batch is not None:
        raise ValueError(f"the rule {rule!r} looks at no data; leave batch out.")
    done = Initialized([], [], [])
    draw: Rule | None = registry.resolve(rules()[rule]) if isinstance(rule, str) else rule
    owners = {id(p): (owner, name) for owner in module.modules() for name, p in owner.named_parameters(recurse=False)}
    for full, parameter in module.named_parameters():
        owner, name = owners[id(parameter)]
        if draw is None or not isinstance(owner, _LAYERS) or name not in ("weight", "bias"):
            done.skipped.append(full)
        elif name == "weight":
            draw(parameter, generator)
            done.drawn.append(full)
        else:
            parameter.zero_()
            done.zeroed.append(full)
    return done
