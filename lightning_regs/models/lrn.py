"""Local response normalisation as a banded product over channels."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.core.checks import Count, NotNegative, Positive, Shape, checked


@checked
def local_response_norm(
    x: Annotated[Tensor, Shape("N C D ...", "floating-point")],
    size: Count,
    alpha: NotNegative = 1e-4,
    beta: float = 0.75,
    k: Positive = 1.0,
) -> Tensor:
    r"""Normalise each activation by the energy of its neighbouring channels.

    Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS 2012):

    .. math:: y_c = x_c \, d_c^{-\beta}, \qquad d_c = k + \frac{\alpha}{size} \sum_{c'} x_{c'}^2

    with :math:`c'` from :math:`c - \lfloor size / 2 \rfloor` to :math:`c + \lfloor (size - 1) / 2 \rfloor`. The same
    function as :func:`torch.nn.functional.local_response_norm`, whose constants it shares; the sum over channels is
    one matrix product with a banded matrix of ones, and the gradient is its closed form

    .. math:: \frac{\partial L}{\partial x_c} = g_c d_c^{-\beta}
              - \frac{2 \alpha \beta}{size} x_c \sum_{c''} g_{c''} x_{c''} d_{c''}^{-\beta - 1}

    The gradient can itself be differentiated. The memory format of ``x`` is kept, and ``channels_last`` is the fast
    one. Autocast changes nothing; the dtype of ``x`` decides. In bfloat16 the denominator is held in float32, and the
    result differs from the float32 one by at most 1.4 % of it, 0.2 to 0.3 % in root mean square (rounding a result to
    bfloat16 costs 0.4 % and 0.17 % by itself). Float16 is computed in float32, because a square overflows it at 256.
    The product costs C operations an activation, so this is for nets of at most some hundred channels.

    Args:
        x: Activations (N, C, ...), any floating dtype.
        size: Number of neighbouring channels in the sum, at least 1.
        alpha: Weight of the mean square, at least 0.
        beta: Exponent; 0.75 takes two square roots instead of a power.
        k: Added constant, above 0.

    Returns:
        Normalised activations, of the shape, dtype and memory format of ``x``.

    Raises:
        TypeError: If ``x`` is not floating point, or ``size`` not an integer.
        ValueError: If ``x`` has fewer than 3 dimensions, or a constant is out of its range.
    """
    with _without_autocast(x):
        wide = x.float() if x.dtype == torch.float16 else x
        constants = (size, alpha, beta, k, x.stride(1) == 1)
        y: Tensor
        if torch.compiler.is_compiling():
            # The compiler derives and fuses the gradient itself, and does not trace a Function that has a jvp.
            y = wide * _denominator(wide, *constants)[1]
        else:
            y = _LocalResponseNorm.apply(wide, *constants)[0]
    return y.to(x.dtype)


class LocalResponseNorm(nn.LocalResponseNorm):
    """Layer form of :func:`local_response_norm`, drop-in for torch's, whose defaults it has: 1e-4, 0.75 and 1.

    Shape: (N, C, ...) to the same.

    Args:
        size: Number of neighbouring channels in the sum, at least 1.
        alpha: Weight of the mean square, at least 0.
        beta: Exponent.
        k: Added constant, above 0.

    Raises:
        TypeError: If ``size`` is not an integer.
        ValueError: If a constant is out of its range.
    """

    @checked
    def __init__(self, size: Count, alpha: NotNegative = 1e-4, beta: float = 0.75, k: Positive = 1.0) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, ...) over its channels."""
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k)


class _LocalResponseNorm(torch.autograd.Function):
    """Returns (y, d, d ** -beta); the last two are outputs only so that functorch transforms can save them."""

    @staticmethod
    def forward(
        x: Tensor, size: int, alpha: float, beta: float, k: float, channels_last: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        d, factor = _denominator(x, size, alpha, beta, k, channels_last)
        return x * factor, d, factor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, *ctx.constants = inputs
        ctx.save_for_backward(x, *output[1:])
        ctx.save_for_forward(x)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, None, None, None, None, None]:
        if grad is None:
            return None, None, None, None, None, None
        x, d, factor = ctx.saved_tensors
        size, alpha, beta, _k, channels_last = ctx.constants
        # Autograd calls backward outside the context that forward ran in, so autocast has to be left again.
        with _without_autocast(x):
            if torch.is_grad_enabled():
                # A second derivative flows through d as well, which forward saved without its graph.
                d, factor = _denominator(x, *ctx.constants)
            direct = grad * factor
            spread = _window_sum(direct * x / d, size, channels_last, adjoint=True)
            total = torch.addcmul(direct, x, spread, value=-2 * alpha * beta / size)
        return total, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *constants: Any) -> tuple[tuple[Tensor, ...], int]:
        # A net a row is a larger batch. The rule that torch makes hands undefined gradients to vmap, which fails.
        x = x.movedim(in_dims[0], 0)
        return tuple(y.unflatten(0, x.shape[:2]) for y in _LocalResponseNorm.apply(x.flatten(0, 1), *constants)), 0

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, None, None]:
        size, alpha, beta, k, channels_last = ctx.constants
        (x,) = ctx.saved_tensors
        with _without_autocast(x):
            d, factor = _denominator(x, size, alpha, beta, k, channels_last)
            spread = _window_sum(x * tangent, size, channels_last)
            total = factor * (tangent - (2 * alpha * beta / size) * x / d * spread)
        return total, None, None


def _denominator(
    x: Tensor, size: int, alpha: float, beta: float, k: float, channels_last: bool
) -> tuple[Tensor, Tensor]:
    """Return d and d ** -beta, in the dtype of ``x`` but computed in at least float32."""
    total = _window_sum(x * x, size, channels_last)
    # Next to k = 1, bfloat16 would round away everything below 0.004.
    d = (total.float() if x.dtype == torch.bfloat16 else total).mul_(alpha / size).add_(k)
    if beta == 0.75:
        root = d.rsqrt()
        factor = root * root.sqrt()
    else:
        factor = d.pow(-beta)
    return d.to(x.dtype), factor.to(x.dtype)


def _window_sum(x: Tensor, size: int, channels_last: bool, adjoint: bool = False) -> Tensor:
    """Sum (N, C, ...) over windows of ``size`` channels; ``adjoint`` gives the transposed map (even sizes differ).

    The caller says where the channels of the layer's input lie: a gradient's strides can be anything.
    """
    below, above = size // 2, (size - 1) // 2
    if adjoint:
        below, above = above, below
    channels = x.shape[1]
    band = x.new_ones(channels, channels).triu(-below).tril(above)
    if channels_last:
        return F.linear(x.movedim(1, -1), band).movedim(-1, 1)
    return (band @ x.reshape(x.shape[0], channels, math.prod(x.shape[2:]))).reshape(x.shape)


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    device = x.device.type
    # The compiler of torch 2.7 does not trace the question, and compiles for devices with autocast alone.
    known = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()
