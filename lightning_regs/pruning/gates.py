"""Hard-concrete gates on the inputs of layers: noise while they are trained, and exactly closed or open in the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Range, Shape, checked, unchecked
from lightning_regs.core.names import uncompiled
from lightning_regs.pruning.layers import Globs, prunable

__all__ = ["expected_l0", "hard_concrete"]

# Temperature and ends of the stretched distribution, as in the paper.
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_SHIFT = BETA * math.log(-GAMMA / ZETA)
Logits = Annotated[Tensor, Shape("...", "floating-point")]


@checked
def hard_concrete(log_alpha: Logits, uniform: Tensor | None = None) -> Tensor:
    r"""Return gates in [0, 1]: samples of the hard-concrete distribution, or what stands for them at test time.

    Louizos, Welling, Kingma 2018, arXiv:1712.01312, equations 10 to 13: :math:`\min(1, \max(0, s (\zeta - \gamma) +
    \gamma))` with :math:`s = \sigma((\log u - \log(1 - u) + \log \alpha) / \beta)` for u uniform in (0, 1), and
    :math:`s = \sigma(\log \alpha)` at test time; :math:`\beta = 2/3, \gamma = -0.1, \zeta = 1.1`.

    Args:
        log_alpha: One a gate, of any shape.
        uniform: u, of that shape; None for the gates of test time.
    """
    s = log_alpha.sigmoid() if uniform is None else ((uniform.logit() + log_alpha) / BETA).sigmoid()
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


@checked
def expected_l0(log_alpha: Logits, size: Count = 1) -> Tensor:
    r"""Return how many weights are not zero in expectation.

    :math:`n \sum \sigma(\log \alpha - \beta \log(-\gamma / \zeta))`: n times the sum of the probabilities that gates
    are not closed (arXiv:1712.01312, equation 12).

    Args:
        log_alpha: One a gate ``(I,)``; of stacked nets ``(R, I)``.
        size: n, the number of weights that a gate stands before.

    Returns:
        A scalar; of stacked nets ``(R,)``.
    """
    return size * (log_alpha - _SHIFT).sigmoid().sum(-1)


class HardConcrete(nn.Module):
    """The gates of a layer's inputs, features or channels: each input times its gate.

    Drawn gates are a function of ``uniform``, which whoever trains them fills anew for each batch, and are those of all
    samples of the batch; in evaluation they are what stands for them.

    Attributes:
        log_alpha: What is learned, ``(I,)``; of stacked nets ``(R, I)``.
        uniform: Of its shape.
        size: Weights of the layer that each gate stands before.
    """

    uniform: Tensor

    def __init__(self, log_alpha: Tensor, size: int, dimensions: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(log_alpha)
        self.register_buffer("uniform", torch.full_like(log_alpha, 0.5), persistent=False)
        self.size, self.dimensions = size, dimensions

    def values(self, drawn: bool = False) -> Tensor:
        """Return the gates, of the shape of ``log_alpha``."""
        return unchecked(hard_concrete)(self.log_alpha, self.uniform if drawn else None)

    def forward(self, x: Tensor) -> Tensor:
        """Gate samples ``(..., I)`` or ``(..., I, *space)``, with as many dimensions of space as the layer has."""
        return x * self.values(self.training).to(x.dtype).view(-1, *[1] * self.dimensions)

    def expected(self) -> Tensor:
        """Return the expected number of weights that are not zero; of stacked nets ``(R,)``."""
        return unchecked(expected_l0)(self.log_alpha, self.size)

    def slope(self) -> Tensor:
        """Return the gradient of :meth:`expected`, of the shape of ``log_alpha``."""
        probability = (self.log_alpha - _SHIFT).sigmoid()
        return self.size * probability * (1 - probability)


@checked
def add_gates(
    network: nn.Module,
    layers: Globs | None = None,
    initial_dropout: Annotated[float, Range(above=0, below=1)] = 0.5,
) -> dict[str, HardConcrete]:
    r"""Put gates before the inputs of linear and convolutional layers, where there are none yet.

    What :class:`~lightning_regs.L0` does when a training starts; before a ``state_dict`` with gates is loaded it is to
    be called. They are a child of the layer, ``l0_gate``, so that the layer's ``parameters()`` have their ``log_alpha``
    and all other parameters keep their names. Frozen weights get none, nor does a layer after the first that shares
    its weight, nor the ``out_proj`` of torch's attention, which is not called.

    Args:
        network: Changed in place; a network of stacked ones too.
        layers: Glob or list of globs of parameter or module names; default: all linear and convolutional layers.
        initial_dropout: p in (0, 1), about the probability that a gate is closed: :math:`\log \alpha` starts as
            :math:`\log(1 - p) - \log p`.

    Returns:
        The name of each of these layers -> its gates.

    Raises:
        ValueError: If there is no such layer, a glob matches none, or a weight is computed from others or lazy.
    """
    parts = {uncompiled(name): part for name, part in network.named_modules()}
    found = {}
    for weight_name, weight in prunable(network, layers).items():
        name = weight_name.rpartition(".")[0]
        layer: Any = parts[name]
        if not weight.requires_grad or isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
            continue
        if not hasattr(layer, "l0_gate"):
            linear = isinstance(layer, nn.Linear)
            inputs, space = (layer.in_features, 0) if linear else (layer.in_channels, len(layer.kernel_size))
            stack = weight.shape[: weight.ndim - 2 - space]
            start = math.log((1 - initial_dropout) / initial_dropout)
            log_alpha = torch.full((*stack, inputs), start, dtype=weight.dtype, device=weight.device)
            _gate(layer, HardConcrete(log_alpha, weight.numel() // log_alpha.numel(), space))
        found[name] = layer.l0_gate
    return found


def gates_missing(network: nn.Module, names: Iterable[str]) -> str:
    """Say in a sentence, behind a space, that a state with such names has gates and a network none; else nothing."""
    if gates_of(network) or not has_gates(names):
        return ""
    return " The weights have the gates of L0; call lightning_regs.pruning.add_gates(module) before they are loaded."


def has_gates(names: Iterable[str]) -> bool:
    """Whether a state with such names is one of a network with gates."""
    return any(".l0_gate." in f".{name}" for name in names)


def gates_of(network: nn.Module) -> dict[str, HardConcrete]:
    """Return the name of each layer that has gates -> these."""
    ending = ".l0_gate"
    found = {uncompiled(n): part for n, part in network.named_modules() if isinstance(part, HardConcrete)}
    return {f".{name}".removesuffix(ending).lstrip("."): part for name, part in found.items()}


@checked
@torch.no_grad()
def open_gates(network: nn.Module) -> dict[str, Tensor]:
    """Return the gates of test time, 0 where an input is pruned.

    Args:
        network: One that has gates, see :func:`add_gates`, or a module around it.

    Returns:
        The name of each layer that has gates -> these, in [0, 1]: ``(I,)``, of stacked nets ``(R, I)``.

    Raises:
        ValueError: If there are none.
    """
    found = {name: gate.values() for name, gate in gates_of(network).items()}
    if not found:
        raise ValueError(f"{type(network).__name__} has no gates; train it with L0, or use add_gates(network).")
    return found


def remove_gates(layer: nn.Module) -> None:
    """Take the gates off a layer."""
    for key in [key for key, hook in layer._forward_pre_hooks.items() if hook is _gated]:
        layer._forward_pre_hooks.pop(key)
        layer._forward_pre_hooks_with_kwargs.pop(key, None)
    del layer.l0_gate


def _gate(layer: nn.Module, gate: HardConcrete) -> None:
    layer.l0_gate = gate.train(layer.training)
    layer.register_forward_pre_hook(_gated, with_kwargs=True)


# A function of the module, not one that a layer's own hook makes, so that layers can be copied and pickled.
def _gated(layer: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Any, Any]:
    if args:
        return (layer.l0_gate(args[0]), *args[1:]), options
    return args, {**options, "input": layer.l0_gate(options["input"])}
