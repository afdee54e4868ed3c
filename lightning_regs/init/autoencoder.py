"""Layer-wise pre-training: each layer begins as the encoder of an auto-encoder of what it sees."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Positive, Range
from lightning_regs.init.layers import drawn, put
from lightning_regs.init.scaled import xavier_uniform

_ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


def autoencoder(
    layer: nn.Module,
    x: Tensor,
    generator: torch.Generator | None,
    last: bool,
    activation: Literal["sigmoid", "tanh", "relu"] = "sigmoid",
    noise: Annotated[float, Range(0, below=1)] = 0.0,
    epochs: Count = 10,
    lr: Positive = 0.1,
    batch_size: Count = 20,
) -> str:
    r"""Train a linear layer, which makes h, to have x back from it, with tied weights; the last layer stays as it was.

    Bengio, Lamblin, Popovici, Larochelle, "Greedy layer-wise training of deep networks", NIPS 2006; with ``noise``
    Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008. From Xavier's
    weights, by SGD on minibatches of the whole batch, which is a data set without labels:
    :math:`h = s(W \tilde x + b)`, and x again from :math:`W^T h + c`. The loss of a sample is its cross-entropy behind
    a sigmoid where all inputs are in [0, 1], else half its squared error. Layers behind see the trained h of clean
    inputs, so the layers of the net have to be followed by this activation.

    Does not help: with many labels, and rectifiers well begun.

    Args:
        layer: The layer; convolutions stay as they were.
        x: What it sees, ``(N, ..., I)``.
        generator: Source of all draws.
        last: Whether it is the last of the net.
        activation: s.
        noise: Probability with which an input is set to zero, in [0, 1); 0 for a plain auto-encoder.
        epochs: Passes over the batch.
        lr: Learning rate.
        batch_size: Of a step.

    Raises:
        ValueError: If the loss is no longer finite.
    """
    if last or not isinstance(layer, nn.Linear):
        return "the last layer" if last else "no linear layer"
    rows = x.detach().reshape(-1, x.shape[-1]).float()
    put(layer, drawn(layer.weight, xavier_uniform, generator))
    weight = layer.weight.detach().float().clone().requires_grad_()
    bias, back = (rows.new_zeros(size, requires_grad=True) for size in weight.shape)
    optimizer, chances = torch.optim.SGD([weight, bias, back], lr=lr), torch.ones_like(rows[:batch_size])
    binary = bool(((rows >= 0) & (rows <= 1)).all())
    error: Any = F.binary_cross_entropy_with_logits if binary else lambda *args, **how: F.mse_loss(*args, **how) / 2

    def random(draw: Any, *args: Any) -> Tensor:
        source: Tensor = draw(*args, generator=generator, device=None if generator is None else generator.device)
        return source.to(rows.device)

    with torch.enable_grad():
        for _ in range(epochs):
            for chosen in torch.split(random(torch.randperm, len(rows)), batch_size):
                clean = rows[chosen]
                kept = random(torch.rand, clean.shape) >= noise if noise else chances[: len(clean)]
                hidden = _ACTIVATIONS[activation](F.linear(clean * kept, weight, bias))
                made = F.linear(hidden, weight.T, back)
                loss = error(made, clean, reduction="sum") / len(clean)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
            if not loss.isfinite():
                raise ValueError(f"its auto-encoder diverges at lr={lr:g}; take a smaller rate.")
    put(layer, weight.detach(), bias.detach())
    return ""
