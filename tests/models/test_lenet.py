"""LeNet-5: layers and padding."""

from __future__ import annotations

import pytest
import torch
from random_images import images
from torch.nn import functional as F

from lightning_regs.models import build


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
