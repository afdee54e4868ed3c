"""The average over the nets that dropout samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision.ops import DropBlock2d, StochasticDepth

from lightning_regs.core.checks import Count, NoEffectWarning, Seed, check, checked, warn
from lightning_regs.core.rng import derive_seed, run_seed
from lightning_regs.core.undisturbed import every_layer_called, undisturbed
from lightning_regs.layers.drop_connect import DropConnect
from lightning_regs.layers.information_dropout import InformationDropout

_DRAW = (_DropoutNd, StochasticDepth, DropBlock2d, DropConnect, InformationDropout)
_WITHIN = (nn.RNNBase, nn.MultiheadAttention)  # that draw where their own ``dropout`` is above 0


@checked
def monte_carlo(
    module: nn.Module,
    x: Tensor,
    samples: Count = 50,
    average: Literal["probabilities", "outputs"] = "probabilities",
    seed: Seed | None = None,
    layers: Sequence[type[nn.Module]] = (),
) -> Tensor:
    """Average what a net says with its dropout at work, which evaluation by scaled weights approximates.

    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, section 7.5,
    where some 50 samples do as well as scaled weights. All other layers, batch norm among them, are in evaluation
    mode. The module and torch's random streams are as before, bit for bit.

    Args:
        module: Maps ``(N, ...)`` to logits ``(N, K)``, or for ``"outputs"`` to anything.
        x: The batch ``(N, ...)``, on the module's device.
        samples: How many nets are drawn.
        average: Class probabilities, which are the softmax over the last dimension; or the outputs as they are.
        seed: Of the draws, which are the same for the same seed and shape; give each batch its own. None: what
            ``seed_everything`` was given, else 0.
        layers: Classes that draw beside the dropout of torch, torchvision and this package. What another ``forward``
            calls as a function without a layer of its own stays off.

    Returns:
        The average, of the output's shape, in at least float32.

    Raises:
        TypeError: If the module returns something else than a tensor.
    """
    drawing = [
        layer
        for layer in module.modules()
        if isinstance(layer, (*_DRAW, *layers)) or (isinstance(layer, _WITHIN) and layer.dropout > 0)
    ]
    if not drawing:
        told = f"{type(module).__name__} has no layer of dropout that would draw; name the classes that do as layers."
        warn(told, NoEffectWarning)
    streams = [torch.default_generator, *([torch.cuda.default_generators[x.get_device()]] if x.is_cuda else [])]
    with undisturbed(module, x), every_layer_called(), torch.no_grad():
        for layer in drawing:
            layer.training = True
        for stream in streams:
            stream.manual_seed(derive_seed(run_seed(seed), "monte_carlo"))
        total: Any = 0
        for _ in range(samples):
            # A copy, as it may change the batch.
            out = check(f"what {type(module).__name__} returns", module(x.clone()), Tensor)
            out = out.to(torch.promote_types(out.dtype, torch.float32))  # a sum in 16 bits comes to a halt
            total = total + (out if average == "outputs" else out.softmax(dim=-1))
        made: Tensor = total / samples
        return made
