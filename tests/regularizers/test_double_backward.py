from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lightning_regs.models import build
from lightning_regs.regularizers.parts.double_backward import efficient_double_backward, sum_of_squares

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def derivatives(function, inputs, order=2):
    """Return the value and, order by order, the derivatives of random functionals by all inputs that need them."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    y = function(*inputs)
    results = [y]
    for level in range(order):
        # A product with y keeps the second derivative from vanishing in layers that are linear.
        probe = sum((normal(*t.shape, seed=level).to(t) * t).sum() + (t * t).sum() for t in results if t is not None)
        grads = torch.autograd.grad(probe, wanted, create_graph=True, allow_unused=True)
        results = [g for g in grads if g is not None]
        yield from grads
    yield y


def same(ours, theirs, tolerance=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            assert torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def compare(function, inputs, order=2):
    with efficient_double_backward():
        ours = list(derivatives(function, inputs, order))
    same(ours, list(derivatives(function, inputs, order)))
    return ours[-1]


@settings(max_examples=40, deadline=None)
@given(
    dimensions=st.sampled_from([1, 2, 2, 2, 3]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    channels_last=st.booleans(),
    needs=st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any),
)
def test_convolution_is_torch_s_to_the_second_derivative(
    dimensions, stride, padding, dilation, groups, bias, channels_last, needs
):
    sizes = (5, 6, 4)[:dimensions]
    x, weight = normal(2, 2 * groups, *sizes), normal(2 * groups, 2, *(2, 1, 2)[:dimensions], seed=1)
    if channels_last and dimensions == 2:
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    inputs = [x, weight, normal(2 * groups, seed=2) if bias else None]
    if not bias and needs == (False, False, True):
        needs = (True, False, False)
    for t, need in zip(inputs, needs, strict=True):
        if t is not None:
            t.requires_grad_(need)

    def layer(x, weight, bias):
        y = CONVOLUTIONS[dimensions](x, weight, bias, stride, padding, dilation, groups)
        return y * y

    compare(layer, inputs)


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.sampled_from([2, 3, (2, 3), (3,)]),
    stride=st.sampled_from([None, 1, 2, (2, 1)]),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
    channels=st.integers(1, 3),
    channels_last=st.booleans(),
)
def test_max_pooling_is_torch_s_to_the_second_derivative(
    kernel, stride, padding, dilation, ceil_mode, channels, channels_last
):
    x = normal(2, channels, 6, 7)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    compare(lambda x: F.max_pool2d(x * x, kernel, stride, padding, dilation, ceil_mode).pow(2), [x])


def small_net(dtype=torch.float64, inplace=False):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2, bias=False),
        nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    return net.to(dtype)


def loss_of(net, x):
    return F.cross_entropy(net(x), torch.arange(len(x)) % 3)


def penalized(net, x, context, parameters=None, autocast=False):
    """Return value and gradients of loss + ||gradient||^2 with the layers' derivatives as ``context`` has them."""
    parameters = list(net.parameters()) if parameters is None else parameters
    with context():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
            loss = loss_of(net, x)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        total = loss + sum_of_squares(gradients)
        return [total, *torch.autograd.grad(total, list(net.parameters()), allow_unused=True)]


def by_torch(net, x, parameters=None):
    parameters = list(net.parameters()) if parameters is None else parameters
    loss = loss_of(net, x)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    total = loss + sum(g.square().sum() for g in gradients)
    return [total, *torch.autograd.grad(total, list(net.parameters()), allow_unused=True)]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("chosen", [slice(None), slice(0, 2), slice(1, 2), slice(2, 3), slice(-2, None)])
def test_penalty_of_some_parameters(chosen, inplace):
    net, x = small_net(inplace=inplace), normal(4, 2, 10, 10)
    parameters = list(net.parameters())[chosen]
    same(penalized(net, x, efficient_double_backward, parameters), by_torch(net, x, parameters))


def test_frozen_layers():
    net, x = small_net(), normal(4, 2, 10, 10)
    net[0].requires_grad_(False)
    net[3].requires_grad_(False)
    trained = [p for p in net.parameters() if p.requires_grad]
    with efficient_double_backward():
        gradients = torch.autograd.grad(loss_of(net, x), trained, create_graph=True)
    ours = torch.autograd.grad(sum_of_squares(gradients), trained, allow_unused=True)
    gradients = torch.autograd.grad(loss_of(net, x), trained, create_graph=True)
    same(ours, torch.autograd.grad(sum(g.square().sum() for g in gradients), trained, allow_unused=True))


@pytest.mark.parametrize(("name", "shape"), [("small_alexnet", (3, 8, 8)), ("wide_resnet", (3, 8, 8))])
def test_penalty_of_our_nets(name, shape):
    torch.manual_seed(0)
    net = build(name, shape, 3).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    x = normal(4, *shape)
    same(penalized(net, x, efficient_double_backward), by_torch(net, x), tolerance=1e-9)


def test_third_derivatives():
    net = small_net()

    def layers(x, weight):
        y = F.max_pool2d(F.relu(F.conv2d(x, weight, padding=1)), 2)
        return y.pow(3)

    inputs = [normal(1, 2, 4, 4).requires_grad_(), net[0].weight.detach()[:2].requires_grad_()]
    compare(layers, inputs, order=3)
    with efficient_double_backward():
        assert torch.autograd.gradgradcheck(layers, inputs)


def test_autocast_casts_as_torch_does():
    net, x = small_net(torch.float32), normal(8, 2, 10, 10, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), efficient_double_backward():
        y = net[0](x)
        assert y.dtype == torch.bfloat16
        assert net[0].double()(x.double()).dtype == torch.float64
    net = small_net(torch.float32)
    ours, theirs = (
        torch.cat([t.flatten() for t in penalized(net, x, context, autocast=True)])
        for context in (efficient_double_backward, nullcontext)
    )
    assert ours.dtype == torch.float32
    assert (ours - theirs).norm() <= 0.01 * theirs.norm()


def test_backward_inside_autocast_is_the_one_outside():
    net, x = small_net(torch.float32), normal(4, 2, 10, 10, dtype=torch.float32)
    weights = [net[0].weight, net[3].weight]
    results = []
    for autocast in (False, True):
        with efficient_double_backward():
            loss = loss_of(net[:6], x)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            results.append(torch.autograd.grad(sum_of_squares(gradients), weights))
    same(*results, tolerance=1e-6)


class Convolutions(TorchDispatchMode):
    """Counts convolutions of all three kinds, and copies of images."""

    def __init__(self) -> None:
        super().__init__()
        self.number = self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.number += 1
        if func is torch.ops.aten.convolution_backward.default:
            self.number += sum(args[-1][:2])
        if func in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default):
            self.copies += args[0].dim() == 4
        return func(*args, **(kwargs or {}))


def test_nine_convolutions_for_three_and_no_copies():
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)), nn.MaxPool2d(2), nn.ReLU())
    net.to(memory_format=torch.channels_last)
    x = normal(2, 4, 6, 6, dtype=torch.float32).contiguous(memory_format=torch.channels_last).requires_grad_()
    with Convolutions() as plain:
        net(x).square().sum().backward()
    with Convolutions() as exact, efficient_double_backward():
        gradients = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()], create_graph=True)
        sum_of_squares(gradients).backward()
    assert (plain.number, exact.number) == (9, 27)
    assert exact.copies == plain.copies == 0
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_first_derivatives_alone_are_bit_equal():
    net, x = small_net(torch.float32), normal(4, 2, 10, 10, dtype=torch.float32)
    with efficient_double_backward():
        ours = torch.autograd.grad(loss_of(net, x), list(net.parameters()))
    theirs = torch.autograd.grad(loss_of(net, x), list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_activation_checkpointing():
    net, x = small_net(), normal(4, 2, 10, 10)
    head, tail = net[:4], net[4:]

    def checkpointed(x):
        return tail(checkpoint(head, x, use_reentrant=False))

    checkpointed.parameters = net.parameters
    same(penalized(checkpointed, x, efficient_double_backward), by_torch(net, x))


def test_contexts_nest_and_end():
    x, weight = normal(1, 1, 3, 3), normal(1, 1, 2, 2).requires_grad_()
    names = []
    with efficient_double_backward():
        with efficient_double_backward():
            names.append(type(F.conv2d(x, weight).grad_fn).__name__)
        names.append(type(F.conv2d(x, weight).grad_fn).__name__)
    names.append(type(F.conv2d(x, weight).grad_fn).__name__)
    assert names == ["_ConvolutionBackward", "_ConvolutionBackward", "ConvolutionBackward0"]


class Labelled(torch.Tensor):
    pass


X, W = normal(2, 1, 4, 4), normal(1, 1, 2, 2, seed=1).requires_grad_()


@pytest.mark.parametrize(
    "layer",
    [
        lambda: F.conv2d(X, W, padding="valid"),
        lambda: F.conv2d(X[0], W),
        lambda: F.conv2d(X.as_subclass(Labelled), W),
        lambda: F.conv2d(X.to(torch.complex128), W.to(torch.complex128)),
        lambda: F.conv_transpose2d(X, W),
        lambda: F.max_pool2d(W, 2, return_indices=True)[0],
        lambda: F.max_pool2d(W[0], 2),
        lambda: torch.func.vmap(lambda x: F.conv2d(x[None], W))(X),
        lambda: torch.func.grad(lambda x: F.relu(F.conv2d(x, W)).square().sum())(X),
        lambda: torch.func.jvp(lambda w: F.relu(F.conv2d(X, w)), (W,), (W,))[1],
    ],
)
def test_what_is_not_covered_is_torch_s(layer):
    with efficient_double_backward():
        ours = layer()
    theirs = layer()
    assert type(ours) is type(theirs)
    assert torch.equal(ours, theirs)


def test_forward_mode_inside():
    with torch.autograd.forward_ad.dual_level(), efficient_double_backward():
        dual = torch.autograd.forward_ad.make_dual(X, X)
        tangent = torch.autograd.forward_ad.unpack_dual(F.relu(F.conv2d(dual, W))).tangent
    assert torch.equal(tangent, torch.func.jvp(lambda x: F.relu(F.conv2d(x, W)), (X,), (X,))[1])


@pytest.mark.parametrize(
    "layer",
    [
        lambda: F.conv2d(X.repeat(1, 3, 1, 1), W),
        lambda: F.conv2d(X.float(), W),
        lambda: F.conv2d(X, W, padding=-1),
        lambda: F.max_pool2d(W, 2, padding=3),
    ],
)
def test_wrong_arguments_get_torch_s_own_message(layer):
    with pytest.raises(RuntimeError) as theirs:
        layer()
    with pytest.raises(RuntimeError) as ours, efficient_double_backward():
        layer()
    assert str(ours.value) == str(theirs.value)


def test_without_gradients_nothing_is_recorded():
    with efficient_double_backward(), torch.no_grad():
        assert F.conv2d(X, W).grad_fn is None
    with efficient_double_backward():
        assert F.conv2d(X, W.detach()).grad_fn is None


def test_sum_of_squares_and_its_derivatives():
    tensors = [normal(2, 3).requires_grad_(), normal(4, seed=1).requires_grad_()]
    assert sum_of_squares(tensors).item() == pytest.approx(sum(t.square().sum().item() for t in tensors), rel=1e-12)
    assert torch.autograd.gradcheck(lambda *t: sum_of_squares(t), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: sum_of_squares(t), tensors)


def test_sum_of_squares_of_low_precision_is_in_float32():
    t = torch.full((70_000,), 1.0, dtype=torch.float16).requires_grad_()
    total = sum_of_squares([t])
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(70_000, rel=1e-6)
    (grad,) = torch.autograd.grad(total, t)
    assert grad.dtype == torch.float16
    assert torch.all(grad == 2)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_weight_norm_has_the_derivatives_of_its_formula(dim: int) -> None:
    v = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    shape = [1] * 3 if dim < 0 else [n if d == dim else 1 for d, n in enumerate(v.shape)]
    g = torch.rand(shape if dim >= 0 else (), dtype=torch.float64, requires_grad=True)
    with efficient_double_backward():
        assert torch.allclose(torch._weight_norm(v, g, dim), torch._weight_norm(v.detach(), g.detach(), dim))
        assert torch.autograd.gradcheck(lambda v, g: torch._weight_norm(v, g, dim), (v, g))
        assert torch.autograd.gradgradcheck(lambda v, g: torch._weight_norm(v, g, dim), (v, g))
