"""Nets of one architecture as one call of each layer, one after another or under ``torch.vmap`` over their weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.overrides import TorchFunctionMode

from lightning_regs.layers.maxout import Maxout
from lightning_regs.models.layers import ACTIVATIONS

# How they are called is known by their signatures: some torch hand their arguments on by position, others by name.
_SIGNATURES = {func: inspect.signature(func) for func in (F.batch_norm, F.group_norm, F.dropout)}
# Layers that do the same to each number.
_EACH_ALONE = {type(make()) for make in ACTIVATIONS.values()}


def straight(net: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return what maps ``(R, N, ...)`` to ``(R, N, K)`` without vmap, where layers are simple and in order; else None.

    Linear layers, batch norm, activations and branches of them take a third to half of the time so, and compute the
    same, bit for bit.

    Args:
        net: With parameters ``(R, ...)``: a Sequential, or one whose own class says ``in_order``, and ``adds_input`` of
            a branch.
    """
    if net._forward_hooks or net._forward_pre_hooks or net._backward_hooks or net._backward_pre_hooks:
        return None
    kind = type(net)
    if kind is nn.Sequential or "in_order" in vars(kind):  # a subclass may compute something else
        # Not children(), which leaves out a part that comes again.
        parts = [None if part is None else straight(part) for part in net._modules.values()]
        layers = [part for part in parts if part is not None]
        return partial(_in_order, layers, "adds_input" in vars(kind)) if len(layers) == len(parts) else None
    if isinstance(net, nn.Linear) and kind is nn.Linear and net.bias is not None:
        return partial(_linear, weight=net.weight, bias=net.bias)
    if isinstance(net, nn.BatchNorm1d) and kind is nn.BatchNorm1d and net.momentum is not None:
        return partial(_batch_norm, net)
    if isinstance(net, nn.Flatten) and kind is nn.Flatten and (net.start_dim, net.end_dim) == (1, -1):
        return partial(torch.flatten, start_dim=2)
    last = kind is Maxout and net.dim == -1
    return net if last or kind in _EACH_ALONE or (kind is nn.Dropout and not net.training) else None


def _in_order(layers: Iterable[Callable[[Tensor], Tensor]], branch: bool, x: Tensor) -> Tensor:
    y = x
    for layer in layers:
        y = layer(y)
    return x + y if branch else y


def _batch_norm(net: nn.BatchNorm1d, x: Tensor) -> Tensor:
    tracks = net.training and net.track_running_stats
    if tracks and net.num_batches_tracked is not None:
        net.num_batches_tracked.add_(1)
    kept = (net.running_mean, net.running_var) if tracks or not net.training else (None, None)
    own = net.training or net.running_mean is None
    return _norm(F.batch_norm, x, *kept, net.weight, net.bias, own, net.momentum, net.eps)


class OneCallForAll(TorchFunctionMode):
    """Sends layers under vmap to one call for all nets where vmap's own rule is worse than that.

    Of linear layers it makes gradients of transposed strides. It takes the scale out of batch norm, without which CUDA
    refuses half-precision activations beside float32 statistics; some torch have no group norm in channels_last. One
    draw of dropout for all nets (not ``draws_apart``) comes on CUDA from another kernel, and is not a single net's.
    """

    def __init__(self, draws_apart: bool) -> None:
        super().__init__()
        self.draws_apart = draws_apart
        # Vmap's over the nets; those of a network's own transforms come and go above it.
        self.interpreter: Any = None if torch.compiler.is_compiling() else retrieve_current_functorch_interpreter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():  # which traces vmap's own rules alone, and asks for images in channels_last
            return args[0] if func is Tensor.to and "memory_format" in kwargs else func(*args, **kwargs)
        batched = torch._C._functorch.is_batchedtensor
        if func is Tensor.bernoulli_ and len(args) == 2 and self.draws_apart and not batched(args[0]):
            return torch.bernoulli(args[0].fill_(torch.nan), args[1])  # drawn apart; NaN for who drops the result
        if func is torch._weight_norm and args[2] >= 0:  # of which vmap would make one call a net
            v, g, dim = args
            others = [d for d in range(v.ndim) if d != dim]
            return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))
        if torch._C._functorch.maybe_current_level() != self.interpreter.level():
            return func(*args, **kwargs)
        if func in (Tensor.__float__, Tensor.__int__) and batched(args[0]):  # of the batches that a norm has seen
            each, _ = torch._C._functorch._unwrap_batched(args[0], self.interpreter.level())
            with self.interpreter.lower():
                return func(torch.unique(each))  # as many in all nets; else torch refuses
        if func is F.linear and not kwargs and len(args) == 3 and all(isinstance(arg, Tensor) for arg in args):
            return self._once(_linear, *args)
        if func in _SIGNATURES and batched(args[0]):
            given = _SIGNATURES[func].bind(*args, **kwargs)
            given.apply_defaults()
            if func is not F.dropout:
                return self._once(partial(_norm, func), *given.args)
            if not self.draws_apart and given.arguments["training"]:
                return self._once(_same_dropout, *given.args[:2])
        return func(*args, **kwargs)

    def _once(self, rule: Callable[..., Tensor], *args: Any) -> Tensor:
        """Call a rule with the tensors of all nets ``(R, ...)``, outside vmap, which takes its result apart again."""
        level, replicas = self.interpreter.level(), self.interpreter.batch_size()
        with self.interpreter.lower():
            whole = []
            for arg in args:
                if isinstance(arg, Tensor):
                    arg, dim = torch._C._functorch._unwrap_batched(arg, level)
                    arg = arg.expand(replicas, *arg.shape) if dim is None else arg.movedim(dim, 0)
                whole.append(arg)
            return torch._C._functorch._add_batch_dim(rule(*whole), 0, level)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    rows = x.flatten(1, -2) if x.ndim > 3 else x if x.ndim == 3 else x.unsqueeze(1)
    out: Tensor = _Linear.apply(rows, weight, bias)
    return out.view(*x.shape[:-1], weight.shape[1])


def _norm(norm: Callable[..., Tensor], x: Tensor, *rest: Any) -> Tensor:
    replicas = len(x)
    x = x.movedim(0, 1).flatten(1, 2)  # (N, R * C, ...)
    # Of the statistics, which are contiguous, these are views: they are updated in place.
    each = [t.reshape(-1) if isinstance(t, Tensor) else t for t in rest]
    if norm is F.group_norm:
        each[0] *= replicas
        if x.is_cuda and torch.is_autocast_enabled("cuda"):  # which vmap's rules do not see
            x = x.float()
    y = norm(x, *each)
    return y.view(y.shape[0], replicas, y.shape[1] // replicas, *y.shape[2:]).movedim(1, 0)


def _same_dropout(x: Tensor, p: float) -> Tensor:
    return x * F.dropout(torch.ones_like(x[0]), p)


class _Linear(torch.autograd.Function):
    """Linear layers (R, N, I), (R, O, I), (R, O) to (R, N, O), whose weights' gradients have the weights' strides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if needs_x else None,
            torch.bmm(gradient.transpose(1, 2), x) if needs_weight else None,
            gradient.sum(1) if needs_bias else None,
        )
