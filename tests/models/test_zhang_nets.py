"""The nets of Zhang et al. layer by layer, and the claims that their docstrings make about equivalences."""

from __future__ import annotations

import copy

import pytest
import torch
from random_images import images
from torch import nn
from torch.nn import functional as F
from torchvision.models import Inception_V3_Weights, inception_v3

from lightning_regs.models import build, num_parameters
from lightning_regs.models.inception import ShiftBatchNorm2d, SmallInception
from lightning_regs.models.lrn import LocalResponseNorm
from lightning_regs.models.small_alexnet import SmallAlexNet

# (channels, side, parameters) after each module, from the fact sheet.
INCEPTION_TABLE = [
    (96, 28, 2_688),
    (64, 28, 30_784),
    (80, 28, 29_776),
    (160, 14, 57_680),
    (160, 14, 87_200),
    (160, 14, 107_680),
    (160, 14, 128_160),
    (144, 14, 146_064),
    (240, 7, 124_512),
    (336, 7, 388_176),
    (336, 7, 543_312),
]
ALEXNET_TABLE = {
    "conv1": ((64, 28, 28), 4_864),
    "pool1": ((64, 14, 14), 0),
    "act1": ((64, 14, 14), 0),
    "norm1": ((64, 14, 14), 0),
    "conv2": ((64, 14, 14), 102_464),
    "pool2": ((64, 7, 7), 0),
    "act2": ((64, 7, 7), 0),
    "norm2": ((64, 7, 7), 0),
    "fc3": ((384,), 1_204_608),
    "act3": ((384,), 0),
    "fc4": ((192,), 73_920),
    "act4": ((192,), 0),
}


@pytest.mark.parametrize("norm", ["batch", None])
def test_small_inception_layers_are_those_of_the_table(norm):
    net = SmallInception((3, 28, 28), 10, norm=norm)
    x = images(2, 3, 28, 28)
    for module, (channels, side, parameters) in zip(net.features, INCEPTION_TABLE, strict=True):
        x = module(x)
        assert x.shape == (2, channels, side, side)
        assert num_parameters(module) == parameters
    assert num_parameters(net.head) == 3_370


def test_small_inception_batch_norm_has_a_shift_and_no_scale():
    net = SmallInception((3, 28, 28), 10)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(m.num_features for m in norms) == sum(m.bias.numel() for m in norms) == 1_712
    assert all([name for name, _ in m.named_parameters()] == ["bias"] for m in norms)
    assert all(m.bias is None for m in net.modules() if isinstance(m, nn.Conv2d))


def test_shift_batch_norm_is_its_formula_forward_and_backward(device):
    norm = ShiftBatchNorm2d(3).double().to(device)
    # The names in checkpoints, which files of nets trained before have.
    assert list(norm.state_dict()) == ["bias", "running_mean", "running_var", "num_batches_tracked"]
    norm.load_state_dict(norm.state_dict() | {"bias": torch.tensor([0.5, -1.0, 2.0])})
    x = images(4, 3, 5, 5, dtype=torch.float64).to(device).requires_grad_()
    weight = images(4, 3, 5, 5, dtype=torch.float64, seed=1).to(device)
    bias = norm.bias.detach().clone().requires_grad_()

    def derivatives(y: torch.Tensor, bias: torch.Tensor) -> list[torch.Tensor]:
        first = torch.autograd.grad((y * weight).sum(), (x, bias), create_graph=True)
        return [y, *first, *torch.autograd.grad(first[0].pow(3).sum(), x)]

    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
    formula = (x - mean) / (variance + 1e-5).sqrt() + bias.view(1, 3, 1, 1)
    for ours, theirs in zip(derivatives(norm(x), norm.bias), derivatives(formula, bias), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    running = 0.9 + 0.1 * variance.flatten() * 100 / 99
    torch.testing.assert_close(norm.running_mean, 0.1 * mean.flatten())
    torch.testing.assert_close(norm.running_var, running)
    still = (x - 0.1 * mean) / (running.view(1, 3, 1, 1) + 1e-5).sqrt() + bias.view(1, 3, 1, 1)
    torch.testing.assert_close(norm.eval()(x), still)
    norm.reset_parameters()
    assert not norm.bias.any()


def test_small_alexnet_layers_are_those_of_the_table():
    net = SmallAlexNet((3, 28, 28), 10)
    shapes = {}
    for part in (net.features, net.classifier):
        for name, module in part.named_children():
            module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    net(images(2, 3, 28, 28))
    modules = dict([*net.features.named_children(), *net.classifier.named_children()])
    assert {n: (shapes[n], num_parameters(modules[n])) for n in modules} == ALEXNET_TABLE
    assert num_parameters(net.head) == 1_930


def test_small_alexnet_has_the_tutorial_s_normalisation_constants():
    layers = [m for m in SmallAlexNet((3, 28, 28), 10).modules() if isinstance(m, LocalResponseNorm)]
    assert [(m.size, m.alpha, m.beta, m.k) for m in layers] == [(9, 0.001, 0.75, 1.0)] * 2


def paper_alexnet(net: SmallAlexNet, x: torch.Tensor, tensorflow_padding: bool) -> torch.Tensor:
    """The paper's order with torch's own layers: ReLU before the pool, channels first until the flattening."""
    for conv in (net.features.conv1, net.features.conv2):
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=2))
        if tensorflow_padding:
            x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
        else:
            x = F.max_pool2d(x, 3, 2, padding=1)
        x = F.local_response_norm(x, 9, 0.001, 0.75, 1.0)
    x = torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], 1).flatten(1)
    x = F.relu(F.linear(x, net.classifier.fc3.weight, net.classifier.fc3.bias))
    x = F.relu(F.linear(x, net.classifier.fc4.weight, net.classifier.fc4.bias))
    return F.linear(x, net.head.weight, net.head.bias)


def test_small_alexnet_is_the_paper_s_order_in_value_and_gradient():
    net = SmallAlexNet((3, 28, 28), 10).double()
    x, y = images(4, 3, 28, 28, dtype=torch.float64), torch.tensor([0, 3, 5, 9])
    ours, theirs = net(x), paper_alexnet(net, x, tensorflow_padding=False)
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(F.cross_entropy(out, y), list(net.parameters())) for out in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def turned(net: nn.Module) -> nn.Module:
    """The same net with every kernel turned by 180 degrees."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(layer.weight.flip(2, 3))
    return net


def test_small_alexnet_is_tensorflow_s_padding_on_turned_images():
    net = SmallAlexNet((3, 28, 28), 10).double()
    other = turned(net)
    with torch.no_grad():
        weight = net.classifier.fc3.weight
        other.classifier.fc3.weight.copy_(weight.unflatten(1, (7, 7, 64)).flip(1, 2).flatten(1))
    x = images(2, 3, 28, 28, dtype=torch.float64)
    expected = paper_alexnet(other, x.flip(2, 3), tensorflow_padding=True)
    assert torch.allclose(net(x), expected, rtol=1e-10, atol=1e-12)


def test_small_inception_is_tensorflow_s_padding_on_turned_images():
    net = SmallInception((3, 28, 28), 10, width=0.25).double()
    other = turned(net)

    def forward(x: torch.Tensor) -> torch.Tensor:
        for module in other.features:
            if hasattr(module, "pool"):
                branch = module.conv3x3
                conv = F.conv2d(F.pad(x, (0, 1, 0, 1)), branch.conv.weight, stride=2)
                pool = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
                x = torch.cat([branch.act(branch.norm(conv)), pool], 1)
            else:
                x = module(x)
        return other.head(x.mean((2, 3)))

    x = images(4, 3, 28, 28, dtype=torch.float64)
    assert torch.allclose(net(x), forward(x.flip(2, 3)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_activation_comes_before_the_pool_unless_it_is_monotone(activation):
    net = SmallAlexNet((3, 8, 8), 4, width=0.125, activation=activation, norm=None)
    act = getattr(F, activation)
    x = images(2, 3, 8, 8)
    conv = net.features.conv1
    expected = F.max_pool2d(act(F.conv2d(x, conv.weight, conv.bias, padding=2)), 3, 2, padding=1)
    assert torch.allclose(net.features[:3](x), expected, atol=1e-6)


@pytest.mark.parametrize("aux_logits", [False, True])
def test_inception_v3_has_torchvision_s_parameters(aux_logits):
    with torch.device("meta"):
        theirs = inception_v3(weights=None, aux_logits=aux_logits, init_weights=False)
        ours = build("inception_v3", (3, 299, 299), 1000, aux_logits=aux_logits, init="kaiming_normal")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    published = Inception_V3_Weights.IMAGENET1K_V1.meta["num_params"]
    assert num_parameters(ours) == (published if aux_logits else 23_834_568)


@pytest.mark.slow
def test_inception_v3_computes_what_torchvision_s_computes():
    ours = build("inception_v3", (3, 75, 75), 7, init="kaiming_normal").eval()
    theirs = inception_v3(weights=None, num_classes=7, aux_logits=False, init_weights=False).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-3, atol=1e-4)
    assert ours.train()(x).shape == (2, 7)
