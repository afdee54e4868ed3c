"""A second backward pass that runs on the kernels of the first.

PyTorch differentiates a convolution's gradient through a transposed convolution that has the batch as channels, and a
pooling's through a dense tensor of zeros: up to a third more for an exact gradient penalty. Here the same derivatives
are written out with the kernels that the first backward uses. Every term is linear in each argument:

    y = conv(x, w, b)    grads (gy, x, w) -> (gx, gw, gb), and for weights (v, u, c) on these three
                         gy: conv(v, w) + conv(x, u) + c    x: gx of conv(., u) at gy    w: gw of conv(v, .) at gy
    y = pool(x)          its gradient is linear in gy alone: pick v where gy was put
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
Sizes = int | Sequence[int]


class efficient_double_backward(TorchFunctionMode):
    r"""A context in which convolution and max pooling have a fast second derivative; contexts nest.

    What runs inside has the values, the first and the second (and higher) derivatives of PyTorch's own, to rounding.
    Only the forward pass has to be inside; with ``torch.utils.checkpoint`` the backward passes too, which run parts of
    the forward again. Covered are ``conv1d``, ``conv2d``, ``conv3d`` and ``max_pool2d`` of batches of plain
    floating-point tensors, under autocast as well; and weight norm, whose second derivative in PyTorch (2.15 and
    before) is not the derivative of its first, so that it is written out. Everything else is left to PyTorch: padding
    given by name, ``return_indices``, samples without a batch dimension, tensor subclasses, ``torch.func`` transforms,
    forward mode, compiled code. It costs a plain step some percent, and gains nothing without a second backward.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        layer, output = _LAYERS.get(func), NotImplemented
        traced = layer is None or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        if layer is not None and torch.is_grad_enabled() and not traced:
            output = layer(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if output is NotImplemented else output


def sum_of_squares(tensors: Iterable[Tensor]) -> Tensor:
    r"""Return :math:`\sum_i \lVert t_i \rVert^2` over at least one tensor, a scalar in float32 at least."""
    total: Tensor = _SumOfSquares.apply(*tensors)
    return total


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor is one that the Functions below treat as PyTorch's own layers would."""
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.is_floating_point()
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and forward_ad.unpack_dual(tensor).tangent is None  # type: ignore[no-untyped-call]
    )


def _convolution(
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    if isinstance(padding, str) or not all(_is_plain(t) for t in (input, weight, bias) if t is not None):
        return NotImplemented
    x, w, b = _autocast(input), _autocast(weight), None if bias is None else _autocast(bias)
    # What does not fit together gets PyTorch's own message.
    if x.dim() != dimensions + 2 or w.dim() != x.dim() or x.dtype != w.dtype or (b is not None and b.dim() != 1):
        return NotImplemented
    sizes = [_sizes(value, dimensions) for value in (stride, padding, dilation)]
    return _Convolution.apply(x, w, b, (*sizes, False, [0] * dimensions, groups))


def _max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if return_indices or not _is_plain(input) or input.dim() != 4:
        return NotImplemented
    kernel = _sizes(kernel_size, 2)
    steps = kernel if stride is None or stride == () or stride == [] else _sizes(stride, 2)
    return _MaxPool2d.apply(input, (kernel, steps, _sizes(padding, 2), _sizes(dilation, 2), ceil_mode))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Any:
    others = [d for d in range(v.dim()) if d != dim]
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=dim >= 0)) if _is_plain(v) else NotImplemented


_LAYERS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch._weight_norm: _weight_norm,
    torch.conv1d: partial(_convolution, 1),
    torch.conv2d: partial(_convolution, 2),
    torch.conv3d: partial(_convolution, 3),
    torch.max_pool2d: _max_pool2d,
    F.max_pool2d: _max_pool2d,
}


def _sizes(value: Sizes, dimensions: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dimensions if len(values) == 1 else values


def _autocast(tensor: Tensor) -> Tensor:
    """Cast as autocast would cast the argument of a convolution, with autograd's own cast."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not _autocasts(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _autocasts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def outside_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Leave autocast, as a backward pass has to."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if _autocasts(device) else nullcontext()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.bias_sizes = geometry, None if bias is None else list(bias.shape)
        ctx.set_materialize_grads(False)
        y: Tensor = aten.convolution(x, weight, bias, *geometry)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        wanted = list(ctx.needs_input_grad[:3])
        return *_ConvolutionBackward.apply(grad, *ctx.saved_tensors, (ctx.bias_sizes, ctx.geometry, wanted)), None


class _ConvolutionBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, how: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
        bias_sizes, ctx.geometry, wanted = how
        ctx.save_for_backward(grad, x, weight)
        ctx.set_materialize_grads(False)
        return tuple(aten.convolution_backward(grad, x, weight, bias_sizes, *ctx.geometry, wanted))

    @staticmethod
    def backward(ctx: Any, v: Tensor | None, u: Tensor | None, c: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, x, weight = ctx.saved_tensors
        of_grad = of_x = of_weight = None
        with outside_autocast(grad):
            if ctx.needs_input_grad[0]:
                pairs = [(a, b) for a, b in ((v, weight), (x, u)) if a is not None and b is not None]
                of_grad = _sum_of_convolutions(pairs, c, grad, ctx.geometry)
            if ctx.needs_input_grad[1] and u is not None:
                of_x = aten.convolution_backward(grad, x, u, None, *ctx.geometry, [True, False, False])[0]
            if ctx.needs_input_grad[2] and v is not None:
                of_weight = aten.convolution_backward(grad, v, weight, None, *ctx.geometry, [False, True, False])[1]
        return of_grad, of_x, of_weight, None


def _sum_of_convolutions(
    pairs: list[tuple[Tensor, Tensor]], bias: Tensor | None, like: Tensor, geometry: tuple[Any, ...]
) -> Tensor | None:
    if not pairs:
        return None if bias is None else bias.reshape(-1, *[1] * (like.dim() - 2)).expand_as(like)
    *others, (x, weight) = pairs
    total: Tensor = aten.convolution(x, weight, bias, *geometry)
    for x, weight in others:
        other: Tensor = aten.convolution(x, weight, None, *geometry)
        # On a CPU, adding in place takes twice as long in bfloat16, and two thirds as long in float32.
        total = other + total if torch.is_grad_enabled() or other.element_size() == 2 else other.add_(total)
    return total


class _MaxPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: tuple[Any, ...]) -> Tensor:
        y: Tensor
        y, indices = aten.max_pool2d_with_indices(x, *geometry)
        ctx.save_for_backward(x, indices)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        return None if grad is None else _MaxPool2dBackward.apply(grad, *ctx.saved_tensors, ctx.geometry), None


class _MaxPool2dBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, indices: Tensor, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.set_materialize_grads(False)
        of_x: Tensor = aten.max_pool2d_with_indices_backward(grad, x, *geometry, indices)
        return of_x

    @staticmethod
    def backward(ctx: Any, v: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        if v is None:
            return None, None, None, None
        (indices,) = ctx.saved_tensors
        if indices.is_contiguous():
            return v.flatten(2).gather(2, indices.flatten(2)).view_as(indices), None, None, None
        # Channels last, where each pixel's channels lie side by side: no copy in, and the same format out.
        n, channels, height, width = indices.shape
        pixels, picks = (t.permute(0, 2, 3, 1).reshape(n, -1, channels) for t in (v, indices))
        picked = pixels.gather(1, picks).view(n, height, width, channels).permute(0, 3, 1, 2)
        return picked, None, None, None


class _SumOfSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        norms = [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]
        return torch.stack(norms).square().sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple((2 * grad).to(t.dtype) * t for t in ctx.saved_tensors)
