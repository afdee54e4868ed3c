"""ResNet-18 and VGG-11 against torchvision's, on the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, vgg11, vgg11_bn

from lightning_regs.models import build, num_parameters


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def torchvision_resnet() -> nn.Module:
    net = resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def test_resnet18_is_torchvision_s_with_the_cifar_stem():
    ours, theirs = build("resnet18", (3, 32, 32), 10), torchvision_resnet()
    assert num_parameters(ours) == num_parameters(theirs) == 11_173_962
    theirs.load_state_dict({k.replace("head.", "fc."): v for k, v in ours.state_dict().items()})
    x = images(2, 3, 16, 16)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)


def test_average_pool_shortcut_has_as_many_parameters_and_averages_before_the_projection():
    with torch.device("meta"):
        assert num_parameters(build("resnet18", (3, 32, 32), 10, shortcut="avgpool")) == 11_173_962
    block = build("resnet18", (3, 8, 8), 10, width=2, shortcut="avgpool").layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = images(2, 2, 6, 8)
    means = x.unflatten(3, (4, 2)).unflatten(2, (3, 2)).mean((3, 5))
    projected = F.conv2d(means, block.downsample[1].weight) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), F.relu(projected), atol=1e-6)


def test_convolution_shortcut_skips_what_it_does_not_look_at():
    block = build("resnet18", (3, 8, 8), 10, width=2).layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = images(2, 2, 6, 8)
    projected = F.conv2d(x[..., ::2, ::2], block.downsample[0].weight) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), F.relu(projected), atol=1e-6)


@pytest.mark.parametrize("shortcut", ["conv", "avgpool"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 11, 18)])
def test_narrow_resnet18_takes_many_sizes_and_trains_every_parameter(shortcut, shape):
    net = build("resnet18", shape, 5, width=4, shortcut=shortcut)
    assert [net.head.in_features, net.conv1.out_channels] == [32, 4]
    logits = net(images(4, *shape))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("norm", "reference", "count"), [(None, vgg11, 9_225_610), ("batch", vgg11_bn, 9_231_114)], ids=["plain", "batch"]
)
def test_vgg11_has_torchvision_s_features_and_a_linear_head(norm, reference, count):
    with torch.device("meta"):
        ours, theirs = build("vgg11", (3, 32, 32), 10, norm=norm), reference(init_weights=False)
    assert num_parameters(ours) == num_parameters(theirs.features) + 512 * 10 + 10 == count
    shapes = [{k: v.shape for k, v in net.features.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("norm", "reference"), [(None, vgg11), ("batch", vgg11_bn)], ids=["plain", "batch"])
def test_vgg11_computes_what_torchvision_s_features_compute(norm, reference):
    with torch.device("meta"):
        theirs = reference(init_weights=False).features
    ours = build("vgg11", (3, 32, 32), 10, norm=norm)
    theirs.load_state_dict(ours.features.state_dict(), assign=True)
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        expected = F.linear(theirs.eval()(x).flatten(1), ours.head.weight, ours.head.bias)
        assert expected.std() > 0.1
        assert torch.allclose(ours.eval()(x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (3, 70, 33)])
def test_narrow_vgg11_takes_many_sizes_and_trains_every_parameter(shape):
    net = build("vgg11", shape, 5, width=0.125)
    assert [net.features[0].out_channels, net.head.in_features] == [8, 64]
    logits = net(images(3, *shape))
    assert logits.shape == (3, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "options", "error", "message"),
    [
        ("resnet18", (3, 4, 4), {}, ValueError, "resnet18 cannot take 4x4 images, the minimum is 8x8"),
        ("resnet18", (3, 32, 32), {"width": 0.25}, TypeError, "width must be an integer, the filters of the first"),
        ("resnet18", (3, 32, 32), {"width": 0}, ValueError, "width must be at least 1"),
        ("resnet18", (3, 32, 32), {"shortcut": "avg_pool"}, ValueError, "Did you mean 'avgpool'"),
        ("vgg11", (3, 4, 4), {}, ValueError, "vgg11 cannot take 4x4 images, the minimum is 8x8"),
        ("vgg11", (3, 32, 32), {"norm": "layer"}, ValueError, "unknown norm 'layer'"),
        ("vgg11", (3, 32, 32), {"width": -1.0}, ValueError, "width must be finite and above 0"),
    ],
)
def test_what_resnet18_and_vgg11_refuse(name, shape, options, error, message):
    with pytest.raises(error, match=message):
        build(name, shape, 10, **options)
