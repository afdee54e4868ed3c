"""VGG-11, VGG-19, Conv-2, Conv-4 and Conv-6: against torchvision's, and a written-out one."""

from __future__ import annotations

import math

import pytest
import torch
from random_images import images
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg11, vgg11_bn, vgg19, vgg19_bn

from lightning_regs.models import build, num_parameters


def test_layers_that_the_paper_names_have_its_sizes():
    with torch.device("meta"):
        vgg = build("vgg19", (3, 32, 32), 10)
        conv6 = build("conv6", (3, 32, 32), 10)
    convolutions = [m.weight.numel() for m in vgg.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 16
    assert (convolutions[:2], convolutions[-1]) == ([1_728, 36_864], 2_359_296)
    assert [m.weight.shape for m in conv6.modules() if isinstance(m, nn.Linear)] == [(256, 4096), (256, 256), (10, 256)]
    assert [m.out_channels for m in conv6.modules() if isinstance(m, nn.Conv2d)] == [64, 64, 128, 128, 256, 256]


def usual_order(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The net as the paper describes it: a ReLU after every convolution, then pools; torch's layers alone."""
    convolutions = [m for m in net.features if isinstance(m, nn.Conv2d)]
    for index, layer in enumerate(convolutions):
        x = F.relu(F.conv2d(x, layer.weight, layer.bias, padding=1))
        if index % 2:
            x = F.max_pool2d(x, 2, ceil_mode=True)
    x = torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], 1).flatten(1)
    for layer in (m for m in net.classifier if isinstance(m, nn.Linear)):
        x = F.relu(F.linear(x, layer.weight, layer.bias))
    return F.linear(x, net.head.weight, net.head.bias)


@pytest.mark.parametrize("name", ["conv2", "conv4", "conv6"])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 14, 9)])
def test_conv_nets_are_the_paper_s_order_in_value_and_gradient(name, shape):
    torch.manual_seed(0)
    net = build(name, shape, 10, width=0.2).double()
    x, y = images(4, *shape, dtype=torch.float64), torch.tensor([0, 3, 5, 9])
    ours, theirs = net(x), usual_order(net, x)
    assert theirs.std() > 1e-3
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-13)
    parameters = list(net.parameters())
    gradients = [torch.autograd.grad(F.cross_entropy(out, y), parameters) for out in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["conv2", "mlp"])
def test_initial_weights_are_gaussian_glorot_with_zero_biases(name):
    torch.manual_seed(0)
    options = {"hidden": [300, 100], "init": "xavier_normal"} if name == "mlp" else {}
    net = build(name, (3, 16, 16), 10, **options)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan = (layer.weight.shape[0] + layer.weight.shape[1]) * layer.weight[0, 0].numel()
            normalised = layer.weight.detach().flatten() * math.sqrt(fan / 2)
            error = 5 / math.sqrt(2 * normalised.numel())
            assert normalised.std().item() == pytest.approx(1, abs=error)
            # A Gaussian has 4.6 % of its values beyond two standard deviations, a uniform distribution none.
            assert (normalised.abs() > 2).float().mean().item() == pytest.approx(0.0455, abs=max(0.01, error / 4))
            assert not layer.bias.any()


def test_stages_and_hidden_layers_can_be_given():
    """VGG-9 of Li et al.: seven convolutions and a hidden layer with batch norm, three pools."""
    torch.manual_seed(0)
    stages = [[64, 64], [128, 128], [256, 256, 256]]
    net = build("conv6", (3, 16, 16), 10, stages=stages, hidden=[256], norm="batch", width=0.1).double().eval()
    x = images(2, 3, 16, 16, dtype=torch.float64)
    kept = iter([m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d)])
    expected = x
    for stage in stages:
        for _ in stage:
            expected = next(kept)(expected)
            expected = next(kept)(expected).relu()
        expected = F.max_pool2d(expected, 2)
    expected = next(kept)(expected.permute(0, 2, 3, 1).flatten(1))
    expected = next(kept)(expected).relu()
    assert torch.allclose(net(x), next(kept)(expected), rtol=1e-10)
    assert next(kept, None) is None


def test_dropout_acts_on_both_hidden_linear_layers_in_training_alone():
    net = build("conv2", (3, 8, 8), 10, dropout=0.5)
    seen = []
    for layer in (net.classifier[3], net.head):
        layer.register_forward_hook(lambda _m, inputs, _out: seen.append((inputs[0] == 0).float().mean().item()))
    x = images(8, 3, 8, 8)
    net.train()(x)
    net.eval()(x)
    assert seen[0] > 0.68 > 0.62 > seen[2]
    assert seen[1] > 0.68 > 0.62 > seen[3]
    assert torch.equal(net(x), net(x))
    assert not [m for m in build("conv2", (3, 8, 8), 10).modules() if isinstance(m, nn.Dropout)]


@pytest.mark.parametrize(
    ("name", "norm", "reference", "count"),
    [
        ("vgg11", None, vgg11, 9_225_610),
        ("vgg11", "batch", vgg11_bn, 9_231_114),
        ("vgg19", None, vgg19, 20_029_514),
        ("vgg19", "batch", vgg19_bn, 20_040_522),
    ],
)
def test_computes_what_torchvision_s_features_compute(name, norm, reference, count):
    with torch.device("meta"):
        theirs = reference(init_weights=False).features
    torch.manual_seed(0)
    ours = build(name, (3, 32, 32), 10, norm=norm)
    assert num_parameters(ours) == count
    theirs = theirs[: len(ours.features)]  # without VGG-19's last pool
    theirs.load_state_dict(ours.features.state_dict(), assign=True)
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        expected = ours.head(theirs.eval()(x).mean((2, 3)))
        assert expected.std() > 0.1
        assert torch.allclose(ours.eval()(x), expected, rtol=1e-3, atol=1e-4)
