"""What gradients of batches say: SGD's implicit regularizer, the noise in a batch, how smooth the loss is on a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis._points import one_number, outputs_at, trainable
from lightning_regs.core.checks import Count, Positive, Shape, checked, nonempty
from lightning_regs.core.undisturbed import undisturbed

Loss = Callable[[Tensor, Tensor], Tensor]
Samples = Annotated[Tensor, Shape("N ..."), nonempty]


@dataclass(frozen=True)
class NoiseScale:
    r"""How noisy gradients are.

    Attributes:
        noise: :math:`tr(\Sigma)`, the variance of the gradient of one sample, summed over the parameters.
        signal: :math:`|G|^2`, the squared norm of the true gradient. It is an estimate without bias, so it is negative
            now and then where the gradient is about zero.
    """

    noise: float
    signal: float

    @property
    def scale(self) -> float:
        r"""The simple noise scale :math:`tr(\Sigma) / |G|^2` in samples; infinite where the signal is at most 0."""
        return self.noise / self.signal if not self.signal <= 0 else math.inf


@dataclass(frozen=True)
class AlongGradient:
    """A batch's loss and its gradient at steps down that gradient.

    Attributes:
        norm: Of the gradient, before a step.
        losses: After each step ``(K,)``.
        changes: Norm ``(K,)`` of the gradient after each step less that before it.
        distances: How far the weights are moved by each step ``(K,)``.
    """

    norm: float
    losses: Tensor
    changes: Tensor
    distances: Tensor

    @property
    def loss_range(self) -> float:
        """By how much the loss varies over the steps."""
        return float(self.losses.max() - self.losses.min())

    @property
    def smoothness(self) -> float:
        """The largest change of the gradient over its distance, 1805.11604's effective smoothness; NaN at norm 0."""
        return float((self.changes / self.distances).max())


@checked
def along_gradient(
    network: nn.Module,
    x: Samples,
    y: Annotated[Tensor, Shape("N ...")],
    steps: Annotated[Sequence[Positive], nonempty],
    loss: Loss = F.cross_entropy,
) -> AlongGradient:
    r"""Follow a batch's gradient :math:`g = \nabla L(w)` for a step, and measure :math:`L` and its gradient there.

    Santurkar, Tsipras, Ilyas, Madry, "How Does Batch Normalization Help Optimization?" (1805.11604), section 3.2: where
    :math:`L(w - s g)` varies little over the steps s, and :math:`\nabla L(w - s g)` is near g, training may take large
    steps. These are numbers of one scale of the weights: they are no reason to prefer the net with the smaller ones.

    The network is left as it was, buffers and random streams too, and computes in the mode that it is in: in training
    mode batch norm takes the batch's statistics, and what it draws, such as dropout, is the same at each step.

    Args:
        network: Maps ``(N, ...)`` to what the loss takes.
        x: Samples ``(N, ...)``, as the network sees them.
        y: Their targets ``(N, ...)``.
        steps: Rates s, above 0; in the paper half to four times the training's.
        loss: Mean loss of outputs and targets.

    Example:
        >>> point = nn.Linear(1, 1, bias=False)  # of the loss w²
        >>> _ = nn.init.constant_(point.weight, 1.0)
        >>> found = along_gradient(point, torch.ones(1, 1), torch.zeros(1, 1), [0.25, 0.5], F.mse_loss)
        >>> found.norm, found.losses.tolist(), found.changes.tolist(), found.smoothness
        (2.0, [0.25, 0.0], [1.0, 2.0], 2.0)
    """
    start = {name: p.detach() for name, p in trainable(network).items()}

    def measured(weights: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        moved = {name: p.clone().requires_grad_() for name, p in weights.items()}
        with undisturbed(network, x, evaluate=False):
            value = one_number(loss(outputs_at(network, moved, x), y))
        return value.detach(), list(torch.autograd.grad(value, list(moved.values()), materialize_grads=True))

    def norm(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([part.double().square().sum() for part in parts]).sum().sqrt()

    with torch.inference_mode(False), torch.enable_grad():
        gradient = measured(start)[1]
        found = []
        for step in steps:
            value, there = measured({n: p - step * g for (n, p), g in zip(start.items(), gradient, strict=True)})
            found.append((value.double(), norm([a - b for a, b in zip(there, gradient, strict=True)])))
    losses, changes = (torch.stack(parts).cpu() for parts in zip(*found, strict=True))
    size = float(norm(gradient))
    return AlongGradient(size, losses, changes, size * torch.tensor(steps, dtype=torch.float64))


@checked
def implicit_regularizer(
    network: nn.Module, x: Samples, y: Annotated[Tensor, Shape("N", "integer")], batch_size: Count
) -> float:
    r"""Return the mean over full batches of the squared norm of the batch's gradient of the mean cross entropy.

    Smith, Dherin, Barrett, De, "On the Origin of Implicit Regularization in Stochastic Gradient Descent" (2101.12176):
    SGD over an epoch follows the gradient flow of :math:`C + \frac{\epsilon}{4m} \sum_k \|\nabla C_k\|^2`, in batches k
    at the learning rate :math:`\epsilon`; this is the mean of :math:`\|\nabla C_k\|^2`.

    Args:
        network: Maps ``(N, ...)`` to logits ``(N, K)``; it is evaluated in evaluation mode, and left as it was.
        x: Samples ``(N, ...)``, as the network sees them.
        y: Classes ``(N,)``.
        batch_size: Samples a batch; samples that fill no batch are left out, unless there is no other.
    """
    return _squared_norm(network, F.cross_entropy, x, y, min(batch_size, len(y)))


@checked
def gradient_noise_scale(
    network: nn.Module,
    x: Samples,
    y: Annotated[Tensor, Shape("N ...")],
    small: Count,
    large: Count,
    loss: Loss = F.cross_entropy,
) -> NoiseScale:
    r"""Estimate the simple noise scale: about the batch size above which larger batches stop to help.

    McCandlish, Kaplan, Amodei et al., "An Empirical Model of Large-Batch Training" (1812.06162), Appendix A.1. The
    gradient of b samples has the expected squared norm :math:`|G|^2 + tr(\Sigma) / b`; from its means over disjoint
    batches of two sizes both are estimated without bias:
    :math:`|G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b)` and :math:`tr(\Sigma) = (|G_b|^2 - |G_B|^2) / (1/b - 1/B)`.

    Does not help: at the end of a training, where G is about zero and its estimate mostly noise; nor from a few large
    batches, as the ratio of two estimates is not without bias. The true scale also has the Hessian in it.

    Args:
        network: Maps ``(N, ...)`` to what the loss takes; in evaluation mode, in which no sample changes another's
            gradient, and left as it was.
        x: Samples ``(N, ...)`` in random order, as the network sees them.
        y: Their targets ``(N, ...)``.
        small: b, below ``large``.
        large: B, at most N; samples that fill no batch of it are left out.
        loss: Mean loss of outputs and targets.

    Raises:
        ValueError: If the sizes are not in this order.
    """
    if not small < large <= len(x):
        raise ValueError(
            f"small={small} and large={large} must be two batch sizes, the one below the other, which is at most the "
            f"{len(x)} samples; choose two that lie far apart."
        )
    used = len(x) // large * large
    b, big = (_squared_norm(network, loss, x[:used], y[:used], size) for size in (small, large))
    return NoiseScale((b - big) / (1 / small - 1 / large), (large * big - small * b) / (large - small))


def _squared_norm(network: nn.Module, loss: Loss, x: Tensor, y: Tensor, size: int) -> float:
    """Return the mean squared norm of the gradients of full batches."""
    parameters = [*trainable(network).values()]
    values = []
    with torch.inference_mode(False), undisturbed(network, x), torch.enable_grad():
        for start in range(0, len(y) - size + 1, size):
            value = one_number(loss(outputs_at(network, {}, x[start : start + size]), y[start : start + size]))
            gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
            values.append(torch.stack([g.square().sum() for g in gradients]).sum())
    return float(torch.stack(values).mean())
