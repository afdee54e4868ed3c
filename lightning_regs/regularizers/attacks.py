"""FGSM and PGD: the change of a sample that raises its loss the most, within a small box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.checks import Number, Positive, Shape, Whole, checked

__all__ = ["fgsm", "pgd"]

Loss = Callable[[Tensor], Tensor]


def _rising(name: str, clip: tuple[float, float] | None) -> tuple[float, float] | None:
    if clip is not None and not clip[0] < clip[1]:
        raise ValueError(f"{name} must be (low, high) with low below high, got {clip!r}.")
    return clip


Bounds = Annotated[tuple[Number, Number] | None, "(low, high) with low below high, or None", _rising]
Samples = Annotated[Tensor, Shape("...", "floating-point", "convert and scale them first")]


@checked
def fgsm(loss: Loss, x: Samples, epsilon: Positive, clip: Bounds = None) -> Tensor:
    r"""Change samples by one step along the sign of their gradient.

    The fast gradient sign method, Goodfellow et al. 2015, arXiv:1412.6572:
    :math:`x + \epsilon \, sign(\nabla_x J(x))`.

    Args:
        loss: Scalar loss J of samples ``(N, ...)``.
        x: Floating-point samples ``(N, ...)``.
        epsilon: Change of each entry, above 0.
        clip: ``(low, high)`` of valid entries; None for no bounds.

    Returns:
        The changed samples, detached, of the shape of ``x``.

    Raises:
        TypeError: If the samples are integers.
        ValueError: If ``epsilon`` is not above 0, ``clip`` is no range, or the loss does not depend on ``x``.
        RuntimeError: Within ``torch.inference_mode()``.
    """
    return pgd(loss, x, epsilon, epsilon, 1, None, clip)


@checked
def pgd(
    loss: Loss,
    x: Samples,
    epsilon: Positive,
    step_size: Positive,
    steps: Whole,
    noise: Tensor | None = None,
    clip: Bounds = None,
) -> Tensor:
    r"""Change samples by projected gradient ascent on the sign of their gradient.

    Madry et al. 2018, arXiv:1706.06083: from :math:`x_0 = x + noise`,
    :math:`x_{k+1} = \Pi(x_k + \eta \, sign(\nabla_x J(x_k)))`, where :math:`\Pi` projects on
    :math:`|x' - x|_\infty \le \epsilon` and on the valid range.

    Args:
        loss: Scalar loss J of samples ``(N, ...)``.
        x: Floating-point samples ``(N, ...)``.
        epsilon: Largest change of an entry, above 0.
        step_size: Length :math:`\eta` of a step, above 0.
        steps: Number of steps; with 0 the samples are where they start from.
        noise: Where to start from, relative to ``x`` and of its shape, projected like each step; None for 0.
        clip: ``(low, high)`` of valid entries; None for no bounds. Entries that are outside stay within epsilon.

    Returns:
        The changed samples, detached, of the shape of ``x``.

    Raises:
        TypeError: If the samples or ``steps`` are not of their type.
        ValueError: If a number is outside its range, or the loss does not depend on ``x``.
        RuntimeError: Within ``torch.inference_mode()``.
    """
    if noise is not None and noise.shape != x.shape:
        raise ValueError(f"noise must have the shape {tuple(x.shape)} of x, got {tuple(noise.shape)}.")
    if torch.is_inference_mode_enabled():
        raise RuntimeError("an attack takes gradients, which torch.inference_mode() has none of; leave it before.")
    x = x.detach()
    low, high = x - epsilon, x + epsilon
    if clip is not None:
        # What is outside already is brought nearer, but by no more than epsilon.
        low, high = torch.minimum(low.clamp(min=clip[0]), high), torch.maximum(high.clamp(max=clip[1]), low)
    changed = x if noise is None else torch.clamp(x + noise, low, high)
    for _ in range(steps):
        at = changed.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(at)
            gradient = torch.autograd.grad(value, at, allow_unused=True)[0] if value.requires_grad else None
        if gradient is None:
            raise ValueError(
                "the loss does not depend on x, so that there is nothing to attack; compute it from its x."
            )
        # Of an overflow under fp16 remain NaNs, and the samples must not become NaN: they would reach batch norms.
        changed = torch.clamp(changed + step_size * torch.nan_to_num(gradient.sign(), nan=0.0), low, high)
    return changed
