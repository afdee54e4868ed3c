"""Frankle & Carbin's nets: every count of the fact sheet's table, and each net against torch's or a written-out one."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg19, vgg19_bn
from torchvision.models.resnet import BasicBlock

from lightning_regs.models import build, num_parameters

CONV_NETS = ("conv2", "conv4", "conv6")


def images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def counts(net: nn.Module) -> dict[str, int]:
    """Weights of convolutions, of linear layers, biases of both, and everything else."""
    layers = list(net.modules())
    found = {
        "conv": sum(m.weight.numel() for m in layers if isinstance(m, nn.Conv2d)),
        "fc": sum(m.weight.numel() for m in layers if isinstance(m, nn.Linear)),
        "biases": sum(m.bias.numel() for m in layers if isinstance(m, nn.Conv2d | nn.Linear) if m.bias is not None),
    }
    return {**found, "norms": num_parameters(net) - sum(found.values())}


@pytest.mark.parametrize(
    ("name", "shape", "options", "conv", "fc", "biases", "norms"),
    [
        ("mlp", (1, 28, 28), {"hidden": [300, 100], "init": "xavier_normal"}, 0, 235_200 + 30_000 + 1_000, 410, 0),
        ("conv2", (3, 32, 32), {}, 38_592, 4_262_400, 650, 0),
        ("conv4", (3, 32, 32), {}, 259_776, 2_165_248, 906, 0),
        ("conv6", (3, 32, 32), {}, 1_144_512, 1_116_672, 1_418, 0),
        ("resnet20", (3, 32, 32), {}, 267_696 + 2_560, 640, 10, 1_568),
        ("vgg19", (3, 32, 32), {}, 20_018_880, 5_120, 5_504 + 10, 11_008),
        ("vgg19", (3, 32, 32), {"norm": None}, 20_018_880, 5_120, 5_504 + 10, 0),
    ],
)
def test_counts_of_the_fact_sheet(name, shape, options, conv, fc, biases, norms):
    with torch.device("meta"):
        net = build(name, shape, 10, **options)
    assert counts(net) == {"conv": conv, "fc": fc, "biases": biases, "norms": norms}


def test_totals_of_the_fact_sheet_and_of_the_docstrings():
    with torch.device("meta"):
        nets = {name: build(name, (3, 32, 32), 10) for name in (*CONV_NETS, "resnet20", "vgg19")}
        plain = build("vgg19", (3, 32, 32), 10, norm=None)
        lenet = build("mlp", (1, 28, 28), 10, hidden=[300, 100])
    weights = {name: counts(net)["conv"] + counts(net)["fc"] for name, net in nets.items()}
    assert weights == {
        "conv2": 4_300_992,
        "conv4": 2_425_024,
        "conv6": 2_261_184,
        "resnet20": 270_896,
        "vgg19": 20_024_000,
    }
    assert counts(lenet)["fc"] == 266_200
    assert {name: num_parameters(net) for name, net in nets.items()} == {
        "conv2": 4_301_642,
        "conv4": 2_425_930,
        "conv6": 2_262_602,
        "resnet20": 272_474,
        "vgg19": 20_040_522,
    }
    assert num_parameters(plain) == 20_029_514


def test_layers_that_the_paper_names_have_its_sizes():
    with torch.device("meta"):
        vgg = build("vgg19", (3, 32, 32), 10)
        lenet = build("mlp", (1, 28, 28), 10, hidden=[300, 100])
        conv6 = build("conv6", (3, 32, 32), 10)
    convolutions = [m.weight.numel() for m in vgg.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 16
    assert (convolutions[:2], convolutions[-1]) == ([1_728, 36_864], 2_359_296)
    assert [m.weight.numel() for m in lenet.modules() if isinstance(m, nn.Linear)] == [235_200, 30_000, 1_000]
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


@pytest.mark.parametrize("name", CONV_NETS)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 14, 9)])
def test_conv_nets_are_the_paper_s_order_in_value_and_gradient(name, shape):
    torch.manual_seed(0)
    net = build(name, shape, 10, width=0.2).double()
    x, y = images(4, *shape, dtype=torch.float64), torch.tensor([0, 3, 5, 9])
    ours, theirs = net(x), usual_order(net, x)
    assert ours.shape == (4, 10)
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


@pytest.mark.parametrize("name", [*CONV_NETS, "resnet20", "vgg19"])
def test_the_seed_decides_the_initial_weights(name):
    options = {"width": 4} if name == "resnet20" else {"width": 0.1}
    nets = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        nets.append(build(name, (3, 16, 16), 10, **options).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].values(), nets[1].values(), strict=True))
    assert not torch.equal(nets[0]["head.weight"], nets[2]["head.weight"])


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


@pytest.mark.parametrize("name", [*CONV_NETS, "vgg19"])
def test_width_scales_every_layer_but_the_logits(name):
    with torch.device("meta"):
        full, half = (build(name, (3, 32, 32), 10, width=w) for w in (1.0, 0.5))
    sizes = [[m.weight.shape[0] for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)] for net in (full, half)]
    assert [size // 2 for size in sizes[0][:-1]] == sizes[1][:-1]
    assert sizes[0][-1] == sizes[1][-1] == 10


@pytest.mark.parametrize(("norm", "reference"), [(None, vgg19), ("batch", vgg19_bn)], ids=["plain", "batch"])
def test_vgg19_computes_what_torchvision_s_features_compute_before_their_last_pool(norm, reference):
    with torch.device("meta"):
        theirs = reference(init_weights=False).features[:-1]
    torch.manual_seed(0)
    ours = build("vgg19", (3, 32, 32), 10, norm=norm)
    theirs.load_state_dict(ours.features.state_dict(), assign=True)
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        expected = F.linear(F.avg_pool2d(theirs.eval()(x), 2).flatten(1), ours.head.weight, ours.head.bias)
        assert expected.std() > 0.1
        assert torch.allclose(ours.eval()(x), expected, rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *((name, shape, {"width": 0.1}) for name in CONV_NETS for shape in [(1, 28, 28), (3, 8, 11)]),
        ("conv2", (2, 2, 2), {}),
        ("resnet20", (1, 28, 28), {"width": 4}),
        ("resnet20", (3, 4, 5), {"depth": 8}),
        ("vgg19", (1, 28, 28), {"width": 0.1}),
        ("vgg19", (3, 8, 9), {"width": 0.1}),
    ],
)
def test_takes_images_of_many_sizes_and_trains_every_parameter(name, shape, options):
    torch.manual_seed(0)
    net = build(name, shape, 5, **options)
    logits = net(images(8, *shape))
    assert logits.shape == (8, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(m.weight.grad.any() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear))


@pytest.mark.parametrize(
    ("name", "shape", "options", "error", "message"),
    [
        ("conv2", (3, 1, 8), {}, ValueError, "conv2 cannot take 1x8 images, the minimum is 2x2"),
        ("conv6", (3, 7, 8), {}, ValueError, "conv6 cannot take 7x8 images, the minimum is 8x8"),
        ("conv4", (40,), {}, ValueError, r"conv4 takes images \(C, H, W\)"),
        ("conv4", (3, 32, 32), {"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\)"),
        ("conv4", (3, 32, 32), {"width": 0.0}, ValueError, "width must be finite and above 0"),
        ("conv4", (3, 32, 32), {"init": "glorot_normal"}, ValueError, "unknown initialization 'glorot_normal'"),
        ("conv_2", (3, 32, 32), {}, ValueError, "Did you mean 'conv2'"),
        ("resnet20", (3, 3, 32), {}, ValueError, "resnet20 cannot take 3x32 images, the minimum is 4x4"),
        ("resnet20", (3, 32, 32), {"depth": 18}, ValueError, r"depth must be 6n \+ 2.* got 18: take 8, 14, 20"),
        ("resnet20", (3, 32, 32), {"depth": 2}, ValueError, r"depth must be 6n \+ 2"),
        ("resnet20", (3, 32, 32), {"depth": 20.0}, TypeError, "depth and width must be integers"),
        ("resnet20", (3, 32, 32), {"width": 0.5}, TypeError, "depth and width must be integers"),
        ("resnet20", (3, 32, 32), {"width": 0}, ValueError, "width must be at least 1"),
        ("vgg19", (3, 7, 7), {}, ValueError, "vgg19 cannot take 7x7 images, the minimum is 8x8"),
        ("vgg19", (3, 32, 32), {"norm": "layer"}, ValueError, "unknown norm 'layer'"),
    ],
)
def test_what_they_refuse(name, shape, options, error, message):
    with pytest.raises(error, match=message):
        build(name, shape, 10, **options)
