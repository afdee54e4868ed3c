"""Residual and dense nets: against torchvision's, written-out ones, the formula, and differences."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from random_images import images
from torch import nn
from torch.nn import functional as F
from torchvision.models import DenseNet, resnet18
from torchvision.models.resnet import BasicBlock

from lightning_regs.models import build, num_parameters
from lightning_regs.models.preact import PreActBlock


def torchvision_resnet() -> nn.Module:
    net = resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


@pytest.mark.slow
def test_resnet18_is_torchvision_s_with_the_cifar_stem():
    ours, theirs = build("resnet18", (3, 32, 32), 10), torchvision_resnet()
    assert num_parameters(ours) == num_parameters(theirs) == 11_173_962
    theirs.load_state_dict({k.replace("head.", "fc."): v for k, v in ours.state_dict().items()})
    x = images(2, 3, 16, 16)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)


def test_padded_shortcut_takes_every_other_pixel_and_zeros_for_the_new_channels():
    block = build("resnet110", (3, 8, 8), 10, width=2, depth=8).layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = images(2, 2, 5, 8)
    out = block(x)
    assert torch.equal(out[:, :2], x[..., ::2, ::2].clamp_min(0))
    assert not out[:, 2:].any()
    assert len(build("resnet110", (3, 8, 8), 10, width=1).layer3) == 18


@pytest.mark.parametrize("shortcut", ["conv", "avgpool"])
def test_shortcuts_average_or_skip_before_the_projection(shortcut):
    block = build("resnet18", (3, 8, 8), 10, width=2, shortcut=shortcut).layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = images(2, 2, 6, 8)
    halved = x[..., ::2, ::2] if shortcut == "conv" else x.unflatten(3, (4, 2)).unflatten(2, (3, 2)).mean((3, 5))
    projected = F.conv2d(halved, block.downsample[-2].weight) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), F.relu(projected), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet20", "resnet110"])
def test_without_shortcuts_a_resnet_is_a_chain_of_its_layers(name):
    torch.manual_seed(0)
    net = build(name, (3, 8, 8), 10, depth=14, width=2, shortcut=None).double().eval()
    x = images(2, 3, 8, 8, dtype=torch.float64)
    expected = x
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            expected = layer(expected)
        elif isinstance(layer, nn.BatchNorm2d):
            expected = layer(expected).relu()
    assert net(x).std() > 1e-3
    assert torch.allclose(net(x), net.head(expected.mean((2, 3))), rtol=1e-12)
    with_them = build(name, (3, 8, 8), 10, depth=14, width=2, shortcut="pad")
    assert [n for n, _ in with_them.named_parameters()] == [n for n, _ in net.named_parameters()]


def test_densenet_bc_is_torchvision_s_with_the_cifar_stem():
    ours = build("densenet", (3, 16, 16), 10, depth=16, width=4, bc=True)
    theirs = DenseNet(4, (2, 2, 2), num_init_features=8, num_classes=10)
    theirs.features.conv0 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(theirs.features, name, nn.Identity())
    names = [name for name in theirs.state_dict() if not name.startswith("classifier")]
    shapes = [value.shape for value in ours.features.state_dict().values()]
    assert [theirs.state_dict()[name].shape for name in names] == shapes
    state = dict(zip(names, ours.features.state_dict().values(), strict=True))
    theirs.load_state_dict({**state, "classifier.weight": ours.head.weight, "classifier.bias": ours.head.bias})
    x = images(2, 3, 16, 16)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_layers_of_the_plain_densenet_see_all_maps_before_them_and_keep_them():
    net = build("densenet", (3, 8, 8), 10, depth=10, width=3).double().eval()
    first, second = net.features[1:3]
    x = net.features[0](images(2, 3, 8, 8, dtype=torch.float64))
    scale = (1 + 1e-5) ** -0.5
    new = F.conv2d((x * scale).clamp_min(0), first[2].weight, padding=1)
    y = torch.cat([x, new], 1)
    assert torch.allclose(first(x), y)
    assert torch.equal(first(x)[:, :16], x)
    assert second[2].weight.shape == (3, 19, 3, 3)
    halved = net.features[3:7](second(y))
    expected = F.conv2d((second(y) * scale).clamp_min(0), net.features[5].weight)
    assert torch.allclose(halved, F.avg_pool2d(expected, 2))


def written_out_preact(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The forward of the authors' code in evaluation mode: conv, BN, ReLU, then blocks; nothing behind the last."""

    def norm_relu(x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        mean, var, weight, bias = (t[:, None, None] for t in (norm.running_mean, norm.running_var, *norm.parameters()))
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp_min(0)

    x = norm_relu(F.conv2d(x, net.stem[0].weight, padding=1), net.stem[1])
    for number, block in enumerate(net.blocks):
        stride = 2 if number in (2, 4, 6) else 1
        out = norm_relu(x, block.norm1)
        shortcut = out if block.shortcut is None else F.conv2d(out, block.shortcut.weight, stride=stride)
        out = F.conv2d(out, block.conv1.weight, stride=stride, padding=1)
        x = F.conv2d(norm_relu(out, block.norm2), block.conv2.weight, padding=1) + shortcut
    return x.mean((2, 3)) @ net.head.weight.T + net.head.bias


def test_preact_resnet18_is_the_authors_forward():
    torch.manual_seed(0)
    net = build("preact_resnet18", (3, 16, 16), 10, width=3).double().eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
    x = images(2, 3, 16, 16, dtype=torch.float64)
    assert torch.allclose(net(x), written_out_preact(net, x), rtol=1e-9)
    assert len(net.blocks) == 8


def written_out_resnet(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Figure 2 of He et al. with batch statistics, from the tensors of the state_dict."""
    state = net.state_dict()

    def conv_bn(x: torch.Tensor, conv: str, norm: str, stride: int, padding: int) -> torch.Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], None, stride, padding)
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        scale, shift = (state[f"{norm}.{n}"][:, None, None] for n in ("weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = conv_bn(x, "conv1", "bn1", 1, 1).clamp_min(0)
    for stage in (1, 2, 3):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            branch = conv_bn(x, f"{name}.conv1", f"{name}.bn1", stride, 1).clamp_min(0)
            branch = conv_bn(branch, f"{name}.conv2", f"{name}.bn2", 1, 1)
            if stride == 2:
                x = conv_bn(x, f"{name}.downsample.0", f"{name}.downsample.1", 2, 0)
            x = (x + branch).clamp_min(0)
    return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]


def test_resnet20_is_the_written_out_one():
    torch.manual_seed(0)
    net = build("resnet20", (3, 16, 16), 10, width=4).double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    x = images(4, 3, 16, 16, dtype=torch.float64)
    expected = written_out_resnet(copy.deepcopy(net), x)
    assert expected.std() > 0.1
    assert torch.allclose(net(x), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("depth", "width", "blocks", "parameters"), [(8, 16, 1, 78_042), (20, 16, 3, 272_474), (56, 16, 9, 855_770)]
)
def test_depth_of_the_resnet_counts_its_layers(depth, width, blocks, parameters):
    with torch.device("meta"):
        net = build("resnet20", (3, 32, 32), 10, depth=depth, width=width)
    assert [len(layer) for layer in (net.layer1, net.layer2, net.layer3)] == [blocks] * 3
    on_the_path = [m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in n]
    assert len(on_the_path) == depth
    assert num_parameters(net) == parameters
    assert all(isinstance(block, BasicBlock) for block in net.layer1)


def wake(net: nn.Module) -> None:
    """Give the SkipInit scalars values, so that the branches count."""
    with torch.no_grad():
        for block in net.modules():
            if isinstance(block, PreActBlock) and block.skip_scale is not None:
                block.skip_scale.fill_(0.7)


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
    block = PreActBlock(4, 6, 2, norm, 0.0).double()
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
    torch.manual_seed(0)
    block = PreActBlock(4, 4, 1, "batch", 0.5)
    x = images(2, 4, 8, 8)
    seen = []
    block.conv2.register_forward_hook(lambda _m, inputs, _out: seen.append((inputs[0] == 0).float().mean().item()))
    block.train()(x)
    block.eval()(x)
    assert seen[0] > 0.65 > 0.6 > seen[1]
    assert torch.equal(block(x), block(x))


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
