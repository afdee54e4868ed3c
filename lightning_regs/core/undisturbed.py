"""A module that computes for somebody who only looks at it, and is as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_regs.core.lightning import is_compiled


@contextmanager
def undisturbed(
    module: nn.Module, x: Tensor | None = None, evaluate: bool = True, buffers: bool = False
) -> Iterator[None]:
    """Put a module into evaluation mode for a while; afterwards, after an exception too, it is as it was.

    The mode of each of its parts comes back, so that a batch norm that was frozen within a training is so again. Modes
    are set by the flag ``training`` and not by ``eval()`` and ``train()``, which modules override: what keeps a part
    frozen, or merges weights, would not come back as it was.

    Gradients are the caller's to turn off or on, as are the random streams of NumPy and Python.

    Args:
        module: Any; in evaluation mode its batch norms keep their statistics.
        x: What it computes on: torch's random streams, of the CPU and of x's device, go on afterwards from where they
            are. None leaves them alone, for what draws nothing.
        evaluate: False to compute in the modes that the parts are in.
        buffers: Whether buffers come back too, which training mode changes, and some modules in any mode.
    """
    modes = [(part, part.training) for part in module.modules()]
    found = module.buffers() if buffers else ()
    kept = [(buffer, buffer.detach().clone()) for buffer in found if not is_lazy(buffer)]
    devices = [x.device] if x is not None and x.is_cuda else []
    try:
        for part, _ in modes if evaluate else ():
            part.training = False
        with torch.random.fork_rng(devices, enabled=x is not None):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        for part, training in modes:
            part.training = training


@contextmanager
def every_layer_called() -> Iterator[None]:
    """Have torch's transformers call each of their layers, past which they take a faster way in evaluation mode."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def eager(module: nn.Module) -> AbstractContextManager[Any]:
    """Have what is compiled of a module run as Python does; a compiler is imported only where there is such."""
    compiled: Any = any(map(is_compiled, module.modules()))
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
