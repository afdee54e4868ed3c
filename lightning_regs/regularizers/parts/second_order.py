"""What a loss needs so that its gradient can be differentiated again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.parts.double_backward import efficient_double_backward

# By the name that torch's message has, without underscores: what to use instead.
_INSTEAD = {
    "embeddingbag": "nn.Embedding and the mean or sum of its rows",
    "hardsigmoid": "F.relu6(x + 3) / 6, which is the same, or nn.Sigmoid",
    "checkpoint": "torch.utils.checkpoint(..., use_reentrant=False)",
    "cudnnrnn": "torch.backends.cudnn.flags(enabled=False) around the forward pass",
}
_MESSAGES = {
    r"derivative for '?(?:aten::)?(\w+?)(?:_backward\w*)?'? is not implemented": r"\1",
    r"use_reentrant=True": "checkpoint",
    r"Double backwards is not supported for CuDNN": "cudnn_rnn",
    r"once_differentiable": "once_differentiable",
    r"aot_autograd does not currently support double backward": "torch.compile",
}


def gradients_of(loss: Tensor, parameters: Sequence[Tensor], create_graph: bool = False) -> list[Tensor | None]:
    """Return the gradient for each parameter, dense, and None for one that the loss does not depend on."""
    if not parameters or not loss.requires_grad:
        return [None] * len(parameters)
    gradients = torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True)
    if any(gradient is None for gradient in gradients) and _has_node(loss, "CheckpointFunctionBackward"):
        raise MisconfigurationException(
            "the gradient penalty cannot see parameters inside torch.utils.checkpoint(..., use_reentrant=True); "
            "use use_reentrant=False."
        )
    return [g.to_dense() if g is not None and g.is_sparse else g for g in gradients]


@contextmanager
def explained(pl_module: nn.Module) -> Iterator[None]:
    """Say which layer of a module torch cannot differentiate twice, and what to do, instead of torch's own error."""
    try:
        yield
    except RuntimeError as error:
        found = ((re.search(pattern, str(error)), name) for pattern, name in _MESSAGES.items())
        operation = next((match.expand(name) for match, name in found if match), None)
        if operation is None:
            raise
        plain, owner = operation.replace("_", ""), type(pl_module).__name__
        layers = [f"{n!r} ({type(m).__name__})" if n else owner for n, m in pl_module.named_modules() if _is(m, plain)]
        whose = ", ".join(layers) or f"{operation}, an operation of {owner}"
        instead = _INSTEAD.get(plain, "")
        if plain != "checkpoint":
            once = "estimator='forward_difference' with lightning_regs.Classifier, which differentiates once"
            instead = f"{instead}, or {once}" if instead else once
        raise MisconfigurationException(
            f"GradientPenalty differentiates gradients, and torch cannot differentiate those of {whose}; use {instead}."
        ) from error


def _is(module: nn.Module, operation: str) -> bool:
    """Whether a layer's class has the name of an operation, or its code the call."""
    if operation == "checkpoint":
        steps = (getattr(type(module), name, None) for name in ("forward", "training_step"))
        codes = [step.__code__ for step in steps if inspect.isfunction(step)]
        return any("checkpoint" in name for code in codes for name in code.co_names)
    kinds = {cls.__name__.lower() for cls in type(module).__mro__}
    return operation in kinds or (operation == "cudnnrnn" and isinstance(module, nn.RNNBase))


def _has_node(loss: Tensor, name: str) -> bool:
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == name:
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Let a forward pass be differentiated twice, and fast where that can be had."""
    # The fused kernels of attention have no second derivative.
    with efficient_double_backward(), sdpa_kernel(SDPBackend.MATH):
        yield
