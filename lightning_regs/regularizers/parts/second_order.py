"""What a loss needs so that its gradient can be differentiated again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_regs.core.lightning import MisconfigurationException, is_compiled, pl
from lightning_regs.regularizers.parts.double_backward import efficient_double_backward


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter], create_graph: bool = False) -> list[Tensor | None]:
    """Return the gradient for each parameter, None for one that the loss does not depend on.

    Raises:
        MisconfigurationException: If reentrant checkpointing hides parameters from the graph.
    """
    if not parameters or not loss.requires_grad:
        return [None] * len(parameters)
    gradients: list[Tensor | None] = list(
        torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True)
    )
    if any(gradient is None for gradient in gradients) and _has_node(loss, "CheckpointFunctionBackward"):
        raise MisconfigurationException(
            "the gradient penalty cannot see parameters inside torch.utils.checkpoint(..., use_reentrant=True); "
            "use use_reentrant=False."
        )
    return gradients


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


def twice_differentiable() -> ExitStack:
    """Return a context for a forward pass that is to be differentiated twice, and fast where that can be had."""
    stack = ExitStack()
    stack.enter_context(efficient_double_backward())
    # The fused kernels of attention have no second derivative.
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


def compiled_module(pl_module: pl.LightningModule) -> str | None:
    """Return the name of a part of the module that torch.compile has compiled, or None."""
    for name, module in pl_module.named_modules():
        if is_compiled(module):
            return repr(name) if name else type(pl_module).__name__
    return None
