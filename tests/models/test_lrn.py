from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lightning_regs.models.lrn import LocalResponseNorm, local_response_norm

PAPER = {"size": 9, "alpha": 0.001, "beta": 0.75, "k": 1.0}


def images(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x.to(dtype)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 12),
    size=st.integers(1, 14),
    alpha=st.floats(0, 2),
    beta=st.sampled_from([0.5, 0.75, 1.0, 0.0]),
    k=st.floats(0.5, 3),
    channels_last=st.booleans(),
)
def test_equals_torch_in_float64(channels, size, alpha, beta, k, channels_last):
    x = images(2, channels, 3, 4, dtype=torch.float64, scale=2)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    expected = F.local_response_norm(x, size, alpha, beta, k)
    assert torch.allclose(local_response_norm(x, size, alpha, beta, k), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_torch_in_float32_with_its_gradient(scale, channels_last):
    x = images(4, 64, 7, 7, scale=scale)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    x.requires_grad_()
    weight = images(4, 64, 7, 7, seed=1)
    ours, theirs = local_response_norm(x, **PAPER), F.local_response_norm(x, **PAPER)
    (our_grad,) = torch.autograd.grad(ours, x, weight)
    (their_grad,) = torch.autograd.grad(theirs, x, weight)
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert torch.allclose(our_grad, their_grad, rtol=1e-6, atol=1e-6)


def test_one_value_by_hand():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).reshape(1, 3, 1)
    y = local_response_norm(x, size=2, alpha=0.5, beta=1.0, k=1.0)
    # An even window looks one channel further down than up: (1), (1, 2), (2, 3).
    expected = [1 / (1 + 0.25 * 1), 2 / (1 + 0.25 * 5), 3 / (1 + 0.25 * 13)]
    assert y.flatten().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "beta", "channels_last"), [(1, 0.75, False), (4, 0.5, True), (4, 0.75, False), (9, 0.75, True)]
)
def test_first_and_second_derivatives(size, beta, channels_last):
    x = images(2, 5, 2, 2, dtype=torch.float64)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()

    def layer(t):
        return local_response_norm(t, size, 0.3, beta, 1.5)

    assert torch.autograd.gradcheck(layer, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)


def test_gradient_penalty_differentiates_through_the_layer():
    def penalty(layer):
        x = images(2, 6, 3, 3, dtype=torch.float64).requires_grad_()
        (grad,) = torch.autograd.grad(layer(x, 3, 0.5).square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), x)[0]

    assert torch.allclose(penalty(local_response_norm), penalty(F.local_response_norm), rtol=1e-10, atol=1e-12)


def test_per_sample_gradients_with_torch_func():
    x = images(3, 6, 2, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last)

    def gradients(layer):
        return torch.func.vmap(torch.func.grad(lambda t: layer(t[None], 3, 0.5).square().sum()))(x)

    assert torch.allclose(gradients(local_response_norm), gradients(F.local_response_norm), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("in_dim", [0, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_a_batch_of_nets_under_vmap(memory_format, in_dim):
    x = images(10, 6, 2, 2, dtype=torch.float64).contiguous(memory_format=memory_format).unflatten(0, (2, 5))
    x = x.movedim(0, in_dim).requires_grad_()

    def gradient(layer):
        y = torch.vmap(lambda own: layer(own, 3, 0.5), in_dims=in_dim, out_dims=in_dim)(x)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.stack([first, *torch.autograd.grad(first.square().sum(), x)])

    torch.testing.assert_close(gradient(local_response_norm), gradient(F.local_response_norm), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_keeps_memory_format_and_dtype(memory_format, dtype):
    x = images(2, 8, 3, 4, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()
    y = local_response_norm(x, **PAPER)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    for tensor in (y, grad):
        assert tensor.is_contiguous(memory_format=memory_format)
        assert tensor.dtype == dtype


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 5, 2, 3, 2), (0, 5, 3, 3)])
def test_other_numbers_of_dimensions(shape):
    x = images(*shape)
    y = local_response_norm(x, 3, 0.5)
    assert y.shape == shape
    if shape[0]:
        assert torch.allclose(y, F.local_response_norm(x, 3, 0.5), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
def test_bfloat16_error_is_within_what_the_docstring_says(scale):
    x = images(8, 64, 7, 7, dtype=torch.bfloat16, scale=scale).contiguous(memory_format=torch.channels_last)
    exact = F.local_response_norm(x.double(), **PAPER)
    error = (local_response_norm(x, **PAPER).double() - exact)[exact != 0] / exact[exact != 0]
    assert error.abs().max() <= 0.014
    assert error.square().mean().sqrt() <= 0.003
    assert error.mean().abs() <= 0.001


def test_bfloat16_gradient_is_close_to_the_exact_one():
    x = images(8, 64, 7, 7, dtype=torch.bfloat16, scale=3).requires_grad_()
    weight = images(8, 64, 7, 7, dtype=torch.bfloat16, seed=1)
    (ours,) = torch.autograd.grad(local_response_norm(x, **PAPER), x, weight)
    x64 = x.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(F.local_response_norm(x64, **PAPER), x64, weight.double())
    assert (ours.double() - exact).norm() <= 0.005 * exact.norm()


def test_autocast_leaves_float32_alone_forward_and_backward():
    x = images(2, 64, 3, 3, scale=5).requires_grad_()
    weight = images(2, 64, 3, 3, seed=1)
    plain = local_response_norm(x, **PAPER)
    (plain_grad,) = torch.autograd.grad(plain, x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        cast = local_response_norm(x, **PAPER)
        (cast_grad,) = torch.autograd.grad(cast, x, weight)
    assert torch.equal(plain, cast)
    assert torch.equal(plain_grad, cast_grad)


def test_float16_squares_do_not_overflow():
    x = torch.full((1, 4, 1, 1), 300.0, dtype=torch.float16)
    expected = F.local_response_norm(x.double(), **PAPER)
    assert torch.allclose(local_response_norm(x, **PAPER).double(), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "autocast", "tolerance"),
    # Under autocast the compiler runs the gradient's product in bfloat16; it is a small term of the gradient.
    [(torch.float32, False, 1e-6), (torch.float32, True, 1e-4), (torch.bfloat16, True, 0.01)],
)
@pytest.mark.slow
def test_compiles_without_graph_break(dtype, autocast, tolerance):
    compiled = torch.compile(local_response_norm, fullgraph=True, backend="aot_eager")
    x = images(2, 8, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours, eager = compiled(x, **PAPER), local_response_norm(x, **PAPER)
    our_grad, eager_grad = (torch.autograd.grad(y.sum(), x)[0] for y in (ours, eager))
    assert torch.allclose(ours, eager, rtol=tolerance, atol=tolerance)
    assert torch.allclose(our_grad, eager_grad, rtol=tolerance, atol=tolerance)


def test_layer_is_the_function_and_shows_its_constants():
    layer = LocalResponseNorm(**PAPER)
    x = images(2, 12, 3, 3)
    assert torch.equal(layer(x), local_response_norm(x, **PAPER))
    assert repr(layer) == "LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)"
    assert not layer.state_dict()


@pytest.mark.parametrize(
    ("constants", "error", "message"),
    [
        ({"size": 0}, ValueError, "size must be at least 1"),
        ({"size": 2.5}, TypeError, "size must be an integer"),
        ({"size": 3, "alpha": -1.0}, ValueError, "alpha must be"),
        ({"size": 3, "k": 0.0}, ValueError, "k must be"),
        ({"size": 3, "beta": float("nan")}, ValueError, "beta must be"),
    ],
)
def test_constants_out_of_range_are_refused(constants, error, message):
    with pytest.raises(error, match=message):
        LocalResponseNorm(**constants)
    with pytest.raises(error, match=message):
        local_response_norm(torch.zeros(1, 3, 2, 2), **constants)


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match="x must have the shape"):
        local_response_norm(torch.zeros(2, 3), 3)
    with pytest.raises(TypeError, match="floating-point"):
        local_response_norm(torch.zeros(2, 3, 4, dtype=torch.int64), 3)


@pytest.mark.parametrize("beta", [0.75, 0.0])
@pytest.mark.parametrize("channels_last", [False, True])
def test_forward_over_reverse_and_third_derivative(beta, channels_last):
    x = images(1, 4, 2, 2, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    direction = images(1, 4, 2, 2, dtype=torch.float64, seed=1)

    def hessian_product(layer, t):
        gradient = torch.func.grad(lambda s: layer(s, 3, 0.5, beta).pow(3).sum())
        return torch.func.jvp(gradient, (t,), (direction,))[1]

    ours, theirs = (hessian_product(layer, x) for layer in (local_response_norm, F.local_response_norm))
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)

    def second(t):
        (grad,) = torch.autograd.grad(local_response_norm(t, 3, 0.5, beta).pow(3).sum(), t, create_graph=True)
        return torch.autograd.grad(grad, t, direction, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, x.detach().requires_grad_())
