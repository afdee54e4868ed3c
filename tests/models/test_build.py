from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import Inception_V3_Weights, inception_v3

from lightning_regs.models import MODELS, build, model_options, num_parameters


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("mlp", {"hidden": [512]}, 1_209_866),
        ("mlp", {"hidden": [512, 512, 512]}, 1_735_178),
        ("small_alexnet", {}, 1_387_786),
        ("small_inception", {"norm": "batch"}, 1_649_402),
        ("small_inception", {"norm": None}, 1_649_402),
    ],
)
def test_parameter_counts_of_the_paper(name, options, count):
    assert num_parameters(build(name, (3, 28, 28), 10, **options)) == count


def test_mlp_defaults_are_the_paper_s_1x512():
    assert num_parameters(build("mlp", (3, 28, 28), 10)) == 1_209_866


@pytest.mark.parametrize("aux_logits", [False, True])
def test_inception_v3_has_torchvision_s_parameters(aux_logits):
    with torch.device("meta"):
        theirs = inception_v3(weights=None, aux_logits=aux_logits, init_weights=False)
    ours = build("inception_v3", (3, 299, 299), 1000, aux_logits=aux_logits, init="kaiming_normal")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    if aux_logits:
        assert num_parameters(ours) == Inception_V3_Weights.IMAGENET1K_V1.meta["num_params"]
    else:
        assert num_parameters(ours) == 23_834_568


def test_inception_v3_computes_what_torchvision_s_computes():
    ours = build("inception_v3", (3, 75, 75), 7, init="kaiming_normal").eval()
    theirs = inception_v3(weights=None, num_classes=7, aux_logits=False, init_weights=False).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-3, atol=1e-4)
    assert ours.train()(x).shape == (2, 7)


SIZES = [
    *(
        (name, shape)
        for name in ("small_alexnet", "small_inception")
        for shape in [(3, 32, 32), (1, 28, 28), (1, 8, 8)]
    ),
    *((name, (2, 4, 7)) for name in ("small_alexnet", "small_inception")),
    *(("mlp", shape) for shape in [(40,), (1, 8, 8), (2, 3, 4, 5)]),
]


@pytest.mark.parametrize(("name", "shape"), SIZES)
def test_takes_samples_of_many_shapes_and_trains_every_parameter(name, shape):
    options = {} if name == "mlp" else {"width": 0.25}
    net = build(name, shape, 5, **options)
    logits = net(torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ["mlp", "small_alexnet", "small_inception"])
@pytest.mark.parametrize("norm", [None, "batch", "layer", "weight"])
def test_norms_dropout_and_activation_are_built(name, norm):
    options = {"hidden": [16, 16]} if name == "mlp" else {"width": 0.125}
    net = build(name, (3, 8, 8), 4, norm=norm, dropout=0.5, activation="tanh", init="orthogonal", **options)
    kinds = [type(m) for m in net.modules()]
    assert nn.Tanh in kinds
    assert nn.ReLU not in kinds
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert any(issubclass(k, nn.BatchNorm1d | nn.BatchNorm2d) for k in kinds) == (norm == "batch")
    assert any(issubclass(k, nn.LayerNorm | nn.GroupNorm) for k in kinds) == (norm == "layer")
    parametrized = [m for m in net.modules() if hasattr(m, "parametrizations")]
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(parametrized) == (len(layers) - 1 if norm == "weight" else 0)
    assert not hasattr(net.head, "parametrizations")
    net(torch.randn(4, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("name", ["mlp", "small_alexnet", "small_inception"])
def test_weight_norm_does_not_change_the_function(name):
    options = {"hidden": [16]} if name == "mlp" else {"width": 0.125}
    nets = []
    for norm in (None, "weight"):
        torch.manual_seed(0)
        nets.append(build(name, (3, 8, 8), 4, norm=norm, **options))
    x = torch.randn(4, 3, 8, 8)
    assert torch.allclose(nets[0](x), nets[1](x), rtol=1e-4, atol=1e-5)


def test_mlp_flattens_and_is_linear_without_hidden_layers():
    net = build("mlp", (2, 3), 4, hidden=[])
    x = torch.randn(5, 2, 3)
    assert torch.allclose(net(x), x.reshape(5, 6) @ net.head.weight.T + net.head.bias, atol=1e-6)


def test_width_scales_the_layers():
    net = build("small_alexnet", (3, 28, 28), 10, width=0.25)
    assert [net.features.conv1.out_channels, net.classifier.fc3.out_features, net.head.in_features] == [16, 96, 48]
    net = build("small_inception", (3, 28, 28), 10, width=0.5)
    assert net.head.in_features == 168


@pytest.mark.parametrize("name", sorted(MODELS))
def test_state_dict_is_plain_tensors_and_goes_round(name):
    shape = (3, 75, 75) if name == "inception_v3" else (3, 12, 12)
    narrow = {name: {"width": 0.1} for name in ("conv2", "conv4", "conv6", "vgg11", "vgg19")}
    smaller = {"inception_v3": {"init": "kaiming_normal"}, "resnet18": {"width": 4}, **narrow}
    options = smaller.get(name, {})
    one, two = build(name, shape, 3, **options), build(name, shape, 3, **options)
    two.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    # parameters_to_vector and other .view(-1) users need the plain memory format.
    assert all(p.is_contiguous() for p in one.parameters())


def test_options_are_listed_with_their_defaults():
    assert model_options("mlp") == {
        "hidden": (512,),
        "activation": "relu",
        "norm": None,
        "dropout": 0.0,
        "init": None,
    }
    assert model_options("small_alexnet")["norm"] == "lrn"


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "error", "message"),
    [
        ("smal_alexnet", (3, 28, 28), 10, {}, ValueError, "Did you mean 'small_alexnet'"),
        ("mlp", (3, 28, 28), 10, {"hiden": [5]}, ValueError, "option of model 'mlp': 'hiden'. Did you mean 'hidden'"),
        ("mlp", (3, 28, 28), 10, {"norm": "batchnorm"}, ValueError, "Did you mean 'batch'"),
        ("mlp", (3, 28, 28), 10, {"norm": "lrn"}, ValueError, "unknown norm 'lrn'"),
        ("mlp", (3, 28, 28), 10, {"init": "xavier"}, ValueError, "Did you mean 'xavier_normal'|'xavier_uniform'"),
        ("mlp", (3, 28, 28), 10, {"activation": "rulu"}, ValueError, "Did you mean 'relu'"),
        ("mlp", (3, 28, 28), 10, {"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\)"),
        ("mlp", (3, 28, 28), 10, {"hidden": 512}, TypeError, "hidden must be a list"),
        ("mlp", (3, 28, 28), 10, {"hidden": [0]}, ValueError, "at least 1"),
        ("mlp", (), 10, {}, ValueError, "input_shape"),
        ("mlp", (3, 0), 10, {}, ValueError, "input_shape"),
        ("mlp", (3.0, 2), 10, {}, TypeError, "input_shape"),
        ("mlp", (3,), 0, {}, ValueError, "num_classes"),
        ("mlp", (3,), 2.0, {}, TypeError, "num_classes"),
        ("small_alexnet", (3, 3, 8), 10, {}, ValueError, "cannot take 3x8 images, the minimum is 4x4: enlarge"),
        ("small_alexnet", (3, 28, 28), 10, {"width": 0.0}, ValueError, "width must be"),
        ("small_inception", (40,), 10, {}, ValueError, r"takes images \(C, H, W\).*use 'mlp'"),
        ("small_inception", (3, 2, 2), 10, {}, ValueError, "the minimum is 4x4"),
        ("inception_v3", (3, 32, 32), 10, {}, ValueError, "cannot take 32x32 images, the minimum is 75x75"),
        ("inception_v3", (3, 150, 150), 10, {"aux_logits": True}, ValueError, "the minimum is 299x299"),
        ("inception_v3", (1, 299, 299), 10, {}, ValueError, "3 channels"),
    ],
)
def test_what_cannot_be_built_says_why(name, shape, classes, options, error, message):
    with pytest.raises(error, match=message):
        build(name, shape, classes, **options)
