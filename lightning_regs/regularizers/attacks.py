"""FGSM and PGD: the change of a sample that raises its loss the most, within a small box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lightning_regs.core.checks import Number, Positive, Shape, Whole, checked, shown

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


@contextmanager
def undisturbed(module: nn.Module, x: Tensor) -> Iterator[None]:
    """Put a module into evaluation mode; leave its modes and torch's random streams, of the CPU and x's, as before."""
    # By flag, not by eval(): a module that overrides train() would not come back as it was.
    training = [m for m in module.modules() if m.training]
    try:
        for m in training:
            m.training = False
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            yield
    finally:
        for m in training:
            m.training = True


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name, or raise a ``ValueError`` where there is none."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not named:
        raise ValueError(
            f"{type(network).__name__} has no parameter that requires a gradient, so that none can move; set "
            "requires_grad where they were frozen."
        )
    return named


def outputs_at(network: nn.Module, weights: Mapping[str, Tensor], x: Any) -> Any:
    """Call a network at other weights, on copies of its other buffers and of the samples, which it may change.

    Of the samples, a sequence is several arguments, and a mapping named ones.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers() if name not in weights}
    x = tree_map_only(Tensor, Tensor.clone, x)
    args, named = ((), dict(x)) if isinstance(x, Mapping) else ((x,) if isinstance(x, Tensor) else tuple(x), {})
    return torch.func.functional_call(network, (dict(weights), buffers), args, named)


def one_number(value: Tensor, differentiable: bool = True) -> Tensor:
    """Return a loss, or raise a ``ValueError`` where it is not one number, or has no gradient and needs one."""
    if not isinstance(value, Tensor) or value.numel() != 1 or (differentiable and not value.requires_grad):
        raise ValueError(
            f"the loss has to be one number that depends on the parameters, got {shown(value)}; give a mean that is "
            "not detached, such as torch.nn.functional.cross_entropy."
        )
    return value
