"""Mean-only batch norm against closed forms, in training and at test time, small batches and half precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lightning_regs.layers import MeanOnlyBatchNorm, layer_replacements, replace_layers


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_it_subtracts_the_mean_and_keeps_a_running_one(shape):
    torch.manual_seed(0)
    layer, reference = MeanOnlyBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    nn.init.normal_(layer.bias)
    dims, view = (0, *range(2, len(shape))), (1, 3, *[1] * (len(shape) - 2))
    for _ in range(3):
        x = 2 + 3 * torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(layer(x), x - x.mean(dims, keepdim=True) + layer.bias.view(view))
        reference(x.movedim(1, -1).reshape(-1, 3))
    torch.testing.assert_close(layer.running_mean, reference.running_mean)
    layer.eval()
    torch.testing.assert_close(layer(x), x - (layer.running_mean - layer.bias).view(view))
    assert torch.autograd.gradcheck(layer.train(), (x.requires_grad_(),))


def test_with_weight_norm_it_is_salimans_and_kingmas_unit():
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 3).double(), torch.randn(7, 4, dtype=torch.float64)
    unit = nn.Sequential(weight_norm(linear), MeanOnlyBatchNorm(3).double())
    v, g = linear.parametrizations.weight.original1, linear.parametrizations.weight.original0
    t = x @ (g * v / v.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(unit(x), t - t.mean(0))
    unit(x).square().sum().backward()
    torch.testing.assert_close((v * v.grad).sum(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(linear.bias.grad, torch.zeros(3, dtype=torch.float64))


def test_half_precision_takes_the_mean_in_full():
    x = (300 + torch.arange(512.0).fmod(7)).view(512, 1).bfloat16()
    layer = MeanOnlyBatchNorm(1)
    out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), x.float() - x.float().mean(), atol=1.5, rtol=0)
    assert float(layer.running_mean) == pytest.approx(0.1 * x.double().mean().item(), rel=1e-6)


def test_what_it_cannot_do_is_refused():
    layer = MeanOnlyBatchNorm(3)
    with pytest.raises(ValueError, match=r"one value a channel in training, \(1, 3\).* give larger batches"):
        layer(torch.rand(1, 3))
    assert layer(torch.rand(1, 3, 2, 2)).shape == (1, 3, 2, 2)
    assert layer.eval()(torch.rand(1, 3)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"MeanOnlyBatchNorm\(3\) takes floats \(N, 3, ...\), got torch.float32"):
        layer(torch.rand(5, 1))
    with pytest.raises(ValueError, match=r"got torch.int64 of the shape \(5, 3\)"):
        layer(torch.ones(5, 3, dtype=torch.long))  # of which the mean would be cut to a whole number


def foreign():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    for _ in range(3):
        net(torch.randn(5, 1, 8, 8))
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    return net


def test_one_normalization_takes_the_place_of_another_in_a_foreign_net():
    x = torch.randn(5, 1, 8, 8)
    net, old = foreign(), foreign()
    entries = [{"replace": "BatchNorm2d", "by": "GroupNorm", "num_groups": 4}]
    for pair in layer_replacements(entries):
        assert replace_layers(net, pair) == {"BatchNorm2d": 2}
    maps = old[0](x)
    expected = nn.functional.group_norm(maps, 4, old[1].weight, old[1].bias)
    torch.testing.assert_close(net[:2](x), expected)
    assert net[4].num_channels == 4
    for by in ("MeanOnlyBatchNorm", "InstanceNorm2d"):
        net = foreign()
        for pair in layer_replacements([{"replace": "BatchNorm2d", "by": by}]):
            replace_layers(net, pair)
        assert net(x).shape == old(x).shape
    mean_only = MeanOnlyBatchNorm.like(old[1]).eval()
    torch.testing.assert_close(mean_only(maps), maps + (old[1].bias - old[1].running_mean).view(1, -1, 1, 1))
    (pair,) = layer_replacements([{"replace": "BatchNorm1d", "by": "LayerNorm"}])
    dense = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    replace_layers(dense, pair)
    torch.testing.assert_close(dense(x[0, 0, :, :4]), nn.functional.layer_norm(dense[0](x[0, 0, :, :4]), (6,)))
    for entry, message in (
        ({"by": "GroupNorm", "num_groups": 3}, "GroupNorm .*num_channels.*8.* divisible"),
        ({"by": "RMSNorm"}, "RMSNorm is over the last dimensions.* GroupNorm with num_groups=1"),
        ({"by": "LayerNorm"}, "LayerNorm is over the last dimensions.* GroupNorm with num_groups=1"),
    ):
        (pair,) = layer_replacements([{"replace": "BatchNorm2d", **entry}])
        with pytest.raises(ValueError, match=message):
            replace_layers(foreign(), pair)
    (pair,) = layer_replacements([{"replace": "ReLU", "by": "GroupNorm", "num_groups": 1}])
    with pytest.raises(
        ValueError, match=r"GroupNorm takes the place of a normalization, got ReLU\(\); say num_channels"
    ):
        replace_layers(foreign(), pair)


def test_it_keeps_momentum_and_what_is_frozen():
    old = nn.BatchNorm2d(3, momentum=0.3).requires_grad_(False)
    made = MeanOnlyBatchNorm.like(old)
    assert made.momentum == 0.3
    assert not made.bias.requires_grad
    assert MeanOnlyBatchNorm.like(nn.BatchNorm2d(3, momentum=None)).momentum == 0.1
    assert MeanOnlyBatchNorm.like(old, 0.2).momentum == 0.2
    assert MeanOnlyBatchNorm.like(nn.BatchNorm2d(3, device="meta")).running_mean.is_meta
