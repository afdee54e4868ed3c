"""Counts, SkipInit, the blocks against the paper's formula, and second derivatives against differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_regs.models import build, num_parameters
from lightning_regs.models.wide_resnet import WideBlock


def images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def wake(net: nn.Module) -> None:
    """Give the SkipInit scalars values, so that the branches count."""
    with torch.no_grad():
        for block in net.modules():
            if isinstance(block, WideBlock) and block.skip_scale is not None:
                block.skip_scale.fill_(0.7)


@pytest.mark.parametrize(
    ("depth", "width", "with_batch_norm", "with_skip_init"),
    [(10, 1, 77_850, 77_709), (10, 4, 1_198_810, 1_198_349), (16, 4, 2_748_890, 2_747_536)],
)
def test_parameter_counts_of_the_fact_sheet(depth, width, with_batch_norm, with_skip_init):
    with torch.device("meta"):
        nets = [build("wide_resnet", (3, 32, 32), 10, depth=depth, width=width, norm=norm) for norm in ("batch", None)]
    assert [num_parameters(net) for net in nets] == [with_batch_norm, with_skip_init]


def test_28_1_with_batch_norm_has_the_count_of_another_implementation_s_log():
    with torch.device("meta"):
        assert num_parameters(build("wide_resnet", (3, 32, 32), 10, depth=28, norm="batch")) == 369_498


def test_defaults_are_smith_s_10_1_without_normalisation():
    net = build("wide_resnet", (3, 32, 32), 10)
    assert num_parameters(net) == 77_709
    assert not [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def test_each_block_has_the_shape_of_the_fact_sheet():
    net = build("wide_resnet", (3, 32, 32), 10)
    x = net.stem(images(2, 3, 32, 32))
    shapes = [x.shape[1:]]
    for block in net.blocks:
        x = block(x)
        shapes.append(x.shape[1:])
    assert shapes == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_without_norm_each_block_starts_as_its_shortcut():
    net = build("wide_resnet", (3, 8, 8), 4, depth=16)
    x = net.stem(images(2, 3, 8, 8))
    identities = 0
    for block in net.blocks:
        if block.shortcut is None:
            expected, identities = x, identities + 1
        else:
            expected = F.conv2d(F.relu(x), block.shortcut.weight, block.shortcut.bias, block.shortcut.stride)
        assert torch.equal(block(x), expected)
        x = expected
    assert identities == 4
    logits = net(images(2, 3, 8, 8))
    logits.square().sum().backward()
    assert all(block.skip_scale.grad != 0 for block in net.blocks)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_block_is_the_paper_s_formula(norm):
    block = WideBlock(4, 6, 2, norm, 0.0).double()
    if norm == "batch":
        nn.init.uniform_(block.norm1.weight, 0.5, 2)
    wake(block)
    x = images(3, 4, 5, 7, dtype=torch.float64)

    def normalise(values: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        if norm is None:
            return values
        var, mean = torch.var_mean(values, (0, 2, 3), correction=0, keepdim=True)
        weight, bias = (p[:, None, None] for p in (layer.weight, layer.bias))
        return (values - mean) / (var + 1e-5).sqrt() * weight + bias

    active = normalise(x, block.norm1).clamp_min(0)
    inner = F.conv2d(active, block.conv1.weight, block.conv1.bias, 2, padding=1)
    branch = F.conv2d(normalise(inner, block.norm2).clamp_min(0), block.conv2.weight, block.conv2.bias, padding=1)
    projected = F.conv2d(active[..., ::2, ::2], block.shortcut.weight, block.shortcut.bias)
    expected = projected + (0.7 if norm is None else 1.0) * branch
    assert expected.shape == (3, 6, 3, 4)
    assert torch.allclose(block(x), expected, rtol=1e-6, atol=1e-9)


def test_dropout_acts_in_training_alone_and_between_the_convolutions():
    block = WideBlock(4, 4, 1, "batch", 0.5)
    x = images(2, 4, 8, 8)
    seen = []
    block.conv2.register_forward_hook(lambda _m, inputs, _out: seen.append((inputs[0] == 0).float().mean().item()))
    block.train()(x)
    block.eval()(x)
    assert seen[0] > 0.65 > 0.6 > seen[1]
    assert torch.equal(block(x), block(x))


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14)])
def test_takes_any_size_from_8x8_up_and_trains_every_parameter(norm, shape):
    net = build("wide_resnet", shape, 5, width=2, norm=norm, dropout=0.1)
    wake(net)
    logits = net(images(3, *shape))
    assert logits.shape == (3, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


def test_default_weights_are_he_s_for_relu():
    torch.manual_seed(0)
    net = build("wide_resnet", (3, 32, 32), 10, width=4)
    for block in net.blocks:
        fan_in = block.conv2.weight[0].numel()
        assert block.conv2.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
        assert not block.conv2.bias.any()


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("wide_resnet", (3, 8, 8), {}),
        ("wide_resnet", (3, 8, 8), {"norm": "batch"}),
        ("resnet18", (3, 16, 16), {"width": 2}),
        ("resnet18", (3, 16, 16), {"width": 2, "shortcut": "avgpool"}),
        ("vgg11", (3, 16, 16), {"width": 0.05}),
        ("lenet", (1, 12, 12), {}),
        ("lenet", (1, 12, 12), {"pool": "average", "activation": "tanh"}),
    ],
)
def test_gradient_of_the_squared_gradient_norm_is_the_difference_quotient_s(name, shape, options):
    torch.manual_seed(0)
    net = build(name, shape, 3, **options).double()
    wake(net)
    x, y = images(4, *shape, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    parameters = list(net.parameters())

    def penalty() -> torch.Tensor:
        gradients = torch.autograd.grad(F.cross_entropy(net(x), y), parameters, create_graph=True)
        return sum(g.square().sum() for g in gradients)

    second = torch.autograd.grad(penalty(), parameters)
    direction = [g / torch.sqrt(sum(h.square().sum() for h in second)) for g in second]
    slope = sum((g * d).sum() for g, d in zip(second, direction, strict=True)).item()
    step, values = 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=sign * step)
        values.append(penalty().item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "error", "message"),
    [
        ((3, 7, 32), {}, ValueError, "wide_resnet cannot take 7x32 images, the minimum is 8x8"),
        ((40,), {}, ValueError, r"takes images \(C, H, W\)"),
        ((3, 32, 32), {"depth": 12}, ValueError, r"depth must be 6n \+ 4.* got 12: take 10, 16, 22"),
        ((3, 32, 32), {"depth": 4}, ValueError, r"depth must be 6n \+ 4"),
        ((3, 32, 32), {"depth": 10.0}, TypeError, "depth and width must be integers"),
        ((3, 32, 32), {"width": 0.5}, TypeError, "depth and width must be integers"),
        ((3, 32, 32), {"width": 0}, ValueError, "width must be at least 1"),
        ((3, 32, 32), {"norm": "layer"}, ValueError, "unknown norm 'layer'"),
        ((3, 32, 32), {"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\)"),
        ((3, 32, 32), {"init": "he"}, ValueError, "unknown initialization 'he'"),
    ],
)
def test_what_wide_resnet_refuses(shape, options, error, message):
    with pytest.raises(error, match=message):
        build("wide_resnet", shape, 10, **options)
