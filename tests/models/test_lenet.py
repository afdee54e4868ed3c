"""LeNet-5: counts, layers, padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lightning_regs.models import build, num_parameters


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shape", "count"),
    [((1, 28, 28), 61_706), ((1, 32, 32), 61_706), ((3, 32, 32), 62_006), ((3, 28, 28), 62_006)],
)
def test_parameter_counts(shape, count):
    assert num_parameters(build("lenet", shape, 10)) == count


@pytest.mark.parametrize("pool", ["max", "average"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_layers_are_the_textbook_s(pool, activation):
    net = build("lenet", (1, 28, 28), 10, pool=pool, activation=activation)
    act = getattr(torch, activation)
    half = F.max_pool2d if pool == "max" else F.avg_pool2d
    (w1, b1), (w2, b2), *linear = list(zip(*[iter(net.parameters())] * 2, strict=True))
    x = images(2, 1, 28, 28)
    expected = half(act(F.conv2d(F.pad(x, (2, 2, 2, 2)), w1, b1)), 2)
    expected = half(act(F.conv2d(expected, w2, b2)), 2).reshape(2, 400)
    for weight, bias in linear[:-1]:
        expected = act(F.linear(expected, weight, bias))
    expected = F.linear(expected, *linear[-1])
    assert [len(bias) for _, bias in linear] == [120, 84, 10]
    assert torch.allclose(net(x), expected, atol=1e-6)


def test_28x28_is_32x32_in_a_frame_of_zeros():
    small, large = build("lenet", (1, 28, 28), 10), build("lenet", (1, 32, 32), 10)
    large.load_state_dict(small.state_dict())
    x = images(2, 1, 28, 28)
    assert torch.allclose(small(x), large(F.pad(x, (2, 2, 2, 2))), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 13, 40), (2, 33, 32)])
def test_takes_many_sizes_and_trains_every_parameter_of_lenet(shape):
    net = build("lenet", shape, 5)
    logits = net(images(3, *shape))
    assert logits.shape == (3, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 11, 28), {}, "lenet cannot take 11x28 images, the minimum is 12x12"),
        ((784,), {}, r"takes images \(C, H, W\)"),
        ((1, 28, 28), {"pool": "mean"}, "unknown pool 'mean'"),
        ((1, 28, 28), {"pool": "avrage"}, "Did you mean 'average'"),
        ((1, 28, 28), {"activation": "rulu"}, "Did you mean 'relu'"),
    ],
)
def test_what_lenet_refuses(shape, options, message):
    with pytest.raises(ValueError, match=message):
        build("lenet", shape, 10, **options)
