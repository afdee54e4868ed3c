"""What is asked of every architecture: counts, sizes, options, refusals, memory format, stacking, precision."""

from __future__ import annotations

import copy

import pytest
import torch
from random_images import images
from torch import Tensor, nn

from lightning_regs.analysis.kernels import full_precision
from lightning_regs.layers import MeanOnlyBatchNorm
from lightning_regs.models import MODELS, build, model_options, num_parameters
from lightning_regs.models.inception import SmallInception
from lightning_regs.training.replicas import Replicated

# Options with which a net is small enough for a test.
SMALL = {
    "conv2": {"width": 0.125},
    "conv4": {"width": 0.125},
    "conv6": {"width": 0.125},
    "convpool": {"width": 0.125},
    "densenet": {"depth": 10, "width": 4, "bc": True},
    "lenet": {},
    "preact_resnet18": {"width": 4},
    "resnet110": {"depth": 8, "width": 4},
    "resnet18": {"width": 4},
    "resnet20": {"depth": 8, "width": 4},
    "small_alexnet": {"width": 0.125},
    "small_inception": {"width": 0.125},
    "squeezenet": {"expand": 16, "growth": 8},
    "vgg11": {"width": 0.125},
    "vgg19": {"width": 0.125},
    "wide_resnet": {},
}


# Li et al., arXiv 1712.09913: a bias and batch norm's two numbers for each filter.
VGG9 = {"stages": [[64, 64], [128, 128], [256, 256, 256]], "hidden": [256], "norm": "batch"}
VGG9_LAYERS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256))


def test_every_convolutional_net_of_ours_is_in_the_table_of_small_ones():
    assert set(SMALL) == set(MODELS) - {"mlp", "inception_v3", "signal_conv", "signal_gru"}


@pytest.mark.parametrize(
    ("name", "shape", "options", "count"),
    [
        ("mlp", (3, 28, 28), {}, 1_209_866),
        ("mlp", (3, 28, 28), {"hidden": [512, 512, 512]}, 1_735_178),
        ("mlp", (40,), {"hidden": []}, 410),
        ("mlp", (40,), {"hidden": [100, 100], "residual": "each"}, 15_210),
        ("signal_conv", (40,), {}, 5_210),
        ("signal_gru", (40,), {}, 5_134),
        ("small_alexnet", (3, 28, 28), {}, 1_387_786),
        ("small_inception", (3, 28, 28), {"norm": "batch"}, 1_649_402),
        ("small_inception", (3, 28, 28), {"norm": None}, 1_649_402),
        ("convpool", (3, 32, 32), {}, 28 * 96 + 865 * 384 + 1729 * 576 + 193 * 384 + 1930),
        ("lenet", (1, 28, 28), {}, 61_706),
        ("lenet", (1, 32, 32), {}, 61_706),
        ("lenet", (3, 32, 32), {}, 62_006),
        ("lenet", (3, 28, 28), {}, 62_006),
        ("squeezenet", (3, 32, 32), {}, 122_986),
        ("squeezenet", (3, 227, 227), {"version": "1.0"}, 1_248_424 - 990 * 513),
        ("resnet18", (3, 32, 32), {"shortcut": "avgpool"}, 11_173_962),
        ("preact_resnet18", (3, 32, 32), {}, 11_171_146 + 2 * 64),  # its authors have batch norm in the stem
        ("resnet20", (3, 32, 32), {"shortcut": "pad"}, 269_722),
        ("resnet20", (3, 32, 32), {"shortcut": None}, 269_722),  # He et al.: 0.27, 0.85 and 1.7 million, plain or not
        ("resnet20", (3, 32, 32), {"depth": 56, "shortcut": "pad"}, 853_018),
        ("resnet20", (3, 32, 32), {"depth": 56, "shortcut": None}, 853_018),
        ("resnet110", (3, 32, 32), {"shortcut": None}, 1_727_962),
        ("conv6", (3, 32, 32), VGG9, sum(9 * i * o + 3 * o for i, o in VGG9_LAYERS) + 4096 * 256 + 3 * 256 + 2570),
        ("resnet110", (3, 32, 32), {}, 1_727_962),
        ("densenet", (3, 32, 32), {}, 1_019_722),
        ("densenet", (3, 32, 32), {"depth": 100, "width": 24}, 27_249_082),
        ("densenet", (3, 32, 32), {"depth": 100, "bc": True}, 769_162),
        ("densenet", (3, 32, 32), {"depth": 190, "width": 40, "bc": True}, 25_624_430),
        ("wide_resnet", (3, 32, 32), {"depth": 16, "width": 8, "norm": "batch"}, 10_961_370),
        ("wide_resnet", (3, 32, 32), {"depth": 28, "width": 10, "norm": "batch"}, 36_479_194),
        ("wide_resnet", (3, 32, 32), {"depth": 28, "width": 10}, 36_471_350),
        ("wide_resnet", (3, 32, 32), {}, 77_709),
        ("wide_resnet", (3, 32, 32), {"norm": "batch"}, 77_850),
        ("wide_resnet", (3, 32, 32), {"width": 4}, 1_198_349),
        ("wide_resnet", (3, 32, 32), {"width": 4, "norm": "batch"}, 1_198_810),
        ("wide_resnet", (3, 32, 32), {"depth": 16, "width": 4}, 2_747_536),
        ("wide_resnet", (3, 32, 32), {"depth": 16, "width": 4, "norm": "batch"}, 2_748_890),
        ("wide_resnet", (3, 32, 32), {"depth": 28, "norm": "batch"}, 369_498),  # another implementation's log
    ],
)
def test_parameter_counts_of_the_papers(name, shape, options, count):
    with torch.device("meta"):
        assert num_parameters(build(name, shape, 10, **options)) == count


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
def test_counts_of_frankle_s_fact_sheet(name, shape, options, conv, fc, biases, norms):
    with torch.device("meta"):
        net = build(name, shape, 10, **options)
    assert counts(net) == {"conv": conv, "fc": fc, "biases": biases, "norms": norms}


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *(("mlp", shape, {}) for shape in [(40,), (1, 8, 8), (2, 3, 4, 5)]),
        *(
            (name, shape, {"width": 0.25})
            for name in ("small_alexnet", "small_inception")
            for shape in [(3, 32, 32), (1, 28, 28), (2, 4, 7)]
        ),
        *((f"conv{n}", shape, {"width": 0.1}) for n in (2, 4, 6) for shape in [(1, 28, 28), (3, 8, 11)]),
        ("conv2", (2, 2, 2), {}),
        *(("lenet", shape, {}) for shape in [(3, 12, 12), (1, 13, 40), (2, 33, 32)]),
        *(("resnet18", (3, 11, 18), {"width": 4, "shortcut": shortcut}) for shortcut in ("conv", "avgpool")),
        ("resnet18", (1, 8, 8), {"width": 4}),
        *(("densenet", (3, 5, 7), {"depth": 10, "width": 3, "bc": bc, "dropout": 0.1}) for bc in (False, True)),
        ("densenet", (1, 4, 4), {"depth": 7, "width": 3}),
        ("preact_resnet18", (3, 9, 14), {"width": 4, "dropout": 0.1}),
        ("resnet110", (1, 9, 5), {"depth": 8, "width": 4}),
        ("resnet20", (1, 28, 28), {"width": 4}),
        ("resnet20", (3, 4, 5), {"depth": 8}),
        *(("convpool", shape, {"width": 0.1}) for shape in [(1, 28, 28), (3, 8, 9)]),
        ("mlp", (1, 8, 8), {"hidden": [16] * 5, "residual": True}),
        *(("squeezenet", (1, 8, 9), {"expand": 8, "bypass": way}) for way in (None, "simple", "complex")),
        *(("vgg11", shape, {"width": 0.125}) for shape in [(1, 28, 28), (3, 8, 8), (3, 70, 33)]),
        *(("vgg19", shape, {"width": 0.1}) for shape in [(1, 28, 28), (3, 8, 9)]),
        *(("wide_resnet", (3, 9, 14), {"width": 2, "norm": norm, "dropout": 0.1}) for norm in (None, "batch")),
        ("wide_resnet", (1, 8, 8), {"width": 2}),
    ],
)
def test_takes_samples_of_many_shapes_and_trains_every_parameter(name, shape, options):
    torch.manual_seed(0)
    net = build(name, shape, 5, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.ndim:  # SkipInit's factors, without which the branches do not count
                parameter.fill_(0.7)
    logits = net(images(8, *shape))
    assert logits.shape == (8, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(m.weight.grad.any() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear))


NORMED = {**SMALL, "mlp": {"hidden": [16, 16]}}
LAYERS = {"batch": (nn.BatchNorm1d, nn.BatchNorm2d), "layer": (nn.LayerNorm, nn.GroupNorm), "group": (nn.GroupNorm,),
          "mean_only": (MeanOnlyBatchNorm,)}  # fmt: skip


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("norm", [None, *LAYERS, "weight"])
def test_every_net_takes_every_norm(name, norm):
    shape = (3, 12, 12)
    net = build(name, shape, 4, norm=norm, init="orthogonal", **NORMED[name])
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for key, kinds in LAYERS.items():
        found = [m for m in net.modules() if isinstance(m, kinds)]
        assert len(found) >= (len(layers) - 1) / 2 if key == norm else not found or {key, norm} == {"layer", "group"}
    assert all(m.num_groups == 1 for m in net.modules() if isinstance(m, nn.GroupNorm) and norm == "layer")
    parametrized = [m for m in layers if hasattr(m, "parametrizations")]
    assert parametrized == ([m for m in layers if m is not net.head] if norm in ("weight", "mean_only") else [])
    if norm in (None, "weight"):
        assert all(m.bias is not None for m in layers)
    x = torch.randn(16, *shape)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x)
    out = net(x)
    assert (half.float() - out).norm() < 0.2 * out.norm()
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    if norm not in ("batch", "mean_only", None):
        alone = torch.cat([net(one[None]) for one in x])
        assert torch.allclose(alone, out, atol=1e-4, rtol=1e-3), "no sample sees the others of its batch"
    stacked = Replicated([copy.deepcopy(net), net])
    with full_precision():
        assert torch.allclose(stacked(x, True)[1], net(x), atol=1e-4, rtol=1e-3)


def test_a_residual_mlp_is_the_sum_of_what_its_layers_make():
    torch.manual_seed(0)
    net = build("mlp", (6,), 3, hidden=[16] * 5, residual=True, activation="tanh", norm="layer", dropout=0.5).eval()
    first, *layers = [m for m in net.modules() if isinstance(m, nn.Linear)][:-1]
    norms = iter(m for m in net.modules() if isinstance(m, nn.LayerNorm))
    x = torch.randn(4, 6)
    out = torch.tanh(next(norms)(first(x)))
    for one, other in zip(layers[::2], layers[1::2], strict=True):
        inner = torch.tanh(next(norms)(one(out)))
        out = torch.tanh(out + next(norms)(other(inner)))
    assert torch.allclose(net(x), net.head(out))
    assert sum(isinstance(m, nn.Dropout) for m in net.modules()) == 5
    for hidden in ([16] * 4, [16, 8, 16]):
        with pytest.raises(ValueError, match=r"odd number of equal widths, got hidden=\[16"):
            build("mlp", (6,), 3, hidden=hidden, residual=True)


def test_norms_dropout_and_activation_are_built():
    net = build("small_alexnet", (3, 8, 8), 4, norm="batch", dropout=0.5, activation="tanh", width=0.125)
    kinds = [type(m) for m in net.modules()]
    assert nn.Tanh in kinds
    assert nn.ReLU not in kinds
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("name", NORMED)
def test_weight_norm_does_not_change_the_function_nor_a_norm_the_draws(name):
    nets = {}
    for norm in (None, "weight", "group"):
        torch.manual_seed(0)
        nets[norm] = build(name, (3, 12, 12), 4, norm=norm, **NORMED[name], init="xavier_normal")
    x = torch.randn(4, 3, 12, 12)
    if name != "wide_resnet":  # which without normalisation is SkipInit
        assert torch.allclose(nets[None](x), nets["weight"](x), rtol=1e-3, atol=1e-4)
    if name != "small_inception":  # whose convolutions draw no bias beside a layer that shifts
        assert torch.equal(nets["group"].head.weight, nets["weight"].head.weight)


@pytest.mark.slow
def test_inception_v3_takes_norms_too():
    net = build("inception_v3", (3, 75, 75), 3, norm="group", init="kaiming_normal")
    assert not [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    groups = {m.num_channels: m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)}
    assert groups[32] == 4
    assert groups[192] == 24
    assert groups[384] == 32


def test_mlp_flattens_and_is_linear_without_hidden_layers():
    net = build("mlp", (2, 3), 4, hidden=[])
    x = torch.randn(5, 2, 3)
    assert torch.allclose(net(x), x.reshape(5, 6) @ net.head.weight.T + net.head.bias, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"densenet", "lenet", "squeezenet", "wide_resnet"}))
def test_width_scales_every_layer_but_the_logits(name):
    widths = (64, 32) if name.endswith("resnet18") else (16, 8) if name.startswith("resnet") else (1.0, 0.5)
    with torch.device("meta"):
        full, half = (build(name, (3, 32, 32), 10, width=w) for w in widths)
    sizes = [[m.weight.shape[0] for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)] for net in (full, half)]
    assert [size // 2 for size in sizes[0][:-1]] == sizes[1][:-1]
    assert sizes[0][-1] == sizes[1][-1] == 10


@pytest.mark.parametrize("name", [*SMALL, "mlp"])
def test_state_dict_is_plain_tensors_and_the_seed_decides_it(name):
    nets = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        nets.append(build(name, (3, 16, 16), 3, **SMALL.get(name, {})))
    one, two, three = (net.state_dict() for net in nets)
    assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))
    assert not torch.equal(one["head.weight"], three["head.weight"])
    nets[2].load_state_dict(one)
    assert all(torch.equal(a, b) for a, b in zip(one.values(), nets[2].state_dict().values(), strict=True))
    # parameters_to_vector and other .view(-1) users need the plain memory format.
    assert all(p.is_contiguous() for p in nets[0].parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_convolutions_run_in_channels_last_whatever_comes_in(name, channels, memory_format):
    net = build(name, (channels, 16, 16), 4, **SMALL[name])
    seen = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda _m, _i, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    net(images(2, channels, 16, 16).contiguous(memory_format=memory_format))
    assert seen
    assert all(seen)


def small(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A small net of any architecture, and the shape of what it takes."""
    if name == "signal_conv":
        return build(name, (40,), 4, channels=4), (40,)
    if name != "inception_v3":
        return build(name, (3, 16, 16), 4, **SMALL.get(name, {})), (3, 16, 16)
    net = build(name, (3, 75, 75), 4, init="kaiming_normal", dropout=0.0)
    for again in ("Mixed_5d", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7c"):  # as the blocks before them
        setattr(net, again, nn.Identity())
    return net, (3, 75, 75)


def one_step(module: nn.Module, x: Tensor, precision: torch.dtype) -> dict[str, Tensor]:
    """Outputs, gradients, and parameters and buffers after one step of training; of many nets the sum of losses."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        out = module(x)
    out.float().square().mean((-2, -1)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.01).step()
    gradients = {f"grad of {name}": p.grad for name, p in module.named_parameters()}
    tensors = {"logits": out, **gradients, **dict([*module.named_parameters(), *module.named_buffers()])}
    return {name: tensor.detach() for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"signal_gru"}))  # recurrent layers cannot be stacked
@pytest.mark.slow
def test_replicas_take_a_training_step_as_single_nets_do(name, device):
    """In float64 up to rounding; in bfloat16 no farther from that than half as much again as single nets are.

    Gradients may be a tenth off: rounding chooses other maxima of overlapping pools, which can meet either more. That
    is why float32 is not asked: with batch norm over few values a net like Inception V3 makes much of its rounding.
    """
    nets, results = [], {}
    for seed in range(2):
        torch.manual_seed(seed)
        net, shape = small(name)
        nets.append(net.to(device))
    x = images(2, 4, *shape).to(device)
    with full_precision():
        for precision, kind in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
            of_kind, x = [copy.deepcopy(net).to(kind) for net in nets], x.to(kind)
            stack = one_step(Replicated(of_kind), x, precision)
            single = [one_step(net, own, precision) for net, own in zip(of_kind, x, strict=True)]
            results[precision] = stack, {key: torch.stack([own[key] for own in single]) for key in stack}
    for precision, (stack, single) in results.items():
        for key, value in single.items():
            assert stack[key].dtype == value.dtype, key
        exact = results[torch.float64][1]
        for part, least in {"logits": 0.0, "grad": 0.1, "": 0.01}.items():
            keys = [key for key in single if key.startswith(part) and exact[key].is_floating_point()]
            keys = [key for key in keys if part or not key.startswith(("logits", "grad"))]

            def far(found: dict[str, Tensor], keys=keys, exact=exact) -> float:
                off = sum((found[key].double() - exact[key]).square().sum() for key in keys)
                return float((off / sum(exact[key].square().sum() for key in keys)).sqrt())

            assert far(stack) <= (1e-9 if precision == torch.float64 else max(least, 1.5 * far(single))), part


# The others have no layers of another kind, and take longer.
@pytest.mark.parametrize(
    "name",
    ["conv2", "densenet", "lenet", "mlp", "small_alexnet", "small_inception", "vgg11", "wide_resnet"],
)
@pytest.mark.slow
def test_compiles_without_graph_break(name, monkeypatch):
    monkeypatch.setattr(SmallInception, "PLAN", SmallInception.PLAN[1:3])
    net, shape = small(name)
    with torch.autocast("cpu", torch.bfloat16):
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        compiled(images(2, *shape)).float().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_bf16_autocast_stays_close_to_float32(name):
    torch.manual_seed(0)
    net = build(name, (3, 28, 28), 10, **({"width": 0.5} if name.startswith("vgg") else SMALL[name]))
    x = images(8, 3, 28, 28)
    exact = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = net(x)
    assert cast.dtype == torch.bfloat16
    # Sixteen layers with batch norm and no shortcuts make any change of the input 13 times larger, in float64 too.
    assert (cast.float() - exact).norm() < (0.12 if name == "vgg19" else 0.05) * exact.norm()


def test_options_are_listed_with_their_defaults():
    own = {"filters": (6, 16), "hidden": (120, 84), "padding": None}
    assert model_options("lenet") == {"activation": "relu", "pool": "max", "norm": None, "init": None} | own
    assert [model_options(name)["norm"] for name in ("small_alexnet", "vgg11", "vgg19")] == ["lrn", None, "batch"]


REFUSED = [
    ("mlp", (), {}, ValueError, "input_shape"),
    ("mlp", (3, 0), {}, ValueError, "input_shape"),
    ("mlp", (3.0, 2), {}, TypeError, "input_shape"),
    ("inception_v3", (3, 150, 150), {"aux_logits": True}, ValueError, "the minimum is 299x299"),
    ("inception_v3", (1, 299, 299), {}, ValueError, "3 channels"),
    *(
        (name, shape, {}, ValueError, message)
        for name, shape, message in [
            ("conv2", (3, 1, 8), "conv2 cannot take 1x8 images, the minimum is 2x2: enlarge"),
            ("conv6", (3, 7, 8), "conv6 cannot take 7x8 images, the minimum is 8x8"),
            ("conv4", (40,), r"conv4 takes images \(C, H, W\).*use 'mlp'"),
            ("densenet", (3, 3, 8), "densenet cannot take 3x8 images, the minimum is 4x4"),
            ("lenet", (1, 11, 28), "lenet cannot take 11x28 images, the minimum is 12x12"),
            ("resnet18", (3, 4, 4), "resnet18 cannot take 4x4 images, the minimum is 8x8"),
            ("preact_resnet18", (3, 4, 4), "preact_resnet18 cannot take 4x4 images, the minimum is 8x8"),
            ("resnet110", (3, 3, 32), "resnet110 cannot take 3x32 images, the minimum is 4x4"),
            ("resnet20", (3, 3, 32), "resnet20 cannot take 3x32 images, the minimum is 4x4"),
            ("small_alexnet", (3, 3, 8), "cannot take 3x8 images, the minimum is 4x4"),
            ("small_inception", (3, 2, 2), "the minimum is 4x4"),
            ("vgg11", (3, 4, 4), "vgg11 cannot take 4x4 images, the minimum is 8x8"),
            ("vgg19", (3, 7, 7), "vgg19 cannot take 7x7 images, the minimum is 8x8"),
            ("wide_resnet", (3, 7, 32), "wide_resnet cannot take 7x32 images, the minimum is 8x8"),
            ("inception_v3", (3, 32, 32), "cannot take 32x32 images, the minimum is 75x75"),
        ]
    ),
    *(
        (name, (3, 32, 32), {option: value}, ValueError, message)
        for name, option, value, message in [
            ("smal_alexnet", "norm", None, "Did you mean 'small_alexnet'"),
            ("mlp", "hiden", [5], "option of model 'mlp': 'hiden'. Did you mean 'hidden'"),
            ("mlp", "hidden", [0], "at least 1"),
            ("mlp", "norm", "batchnorm", "Did you mean 'batch'"),
            ("mlp", "norm", "lrn", "unknown norm 'lrn'"),
            ("mlp", "init", "xavier", "Did you mean 'xavier_normal'|'xavier_uniform'"),
            ("wide_resnet", "init", "he", "unknown initialization 'he'"),
            ("mlp", "activation", "rulu", "Did you mean 'relu'"),
            ("lenet", "activation", "rulu", "Did you mean 'relu'"),
            ("lenet", "pool", "mean", "unknown pool 'mean'"),
            ("lenet", "pool", "avrage", "Did you mean 'average'"),
            *(
                (name, "dropout", 1.0, "dropout must be at least 0 and below 1")
                for name in ("mlp", "conv4", "densenet", "small_alexnet", "small_inception", "wide_resnet")
            ),
            *(
                (name, "width", width, "width must be above 0")
                for name in ("conv4", "small_alexnet", "small_inception", "vgg11")
                for width in (0.0, -1.0)
            ),
            *(
                (name, "width", 0, "width must be at least 1")
                for name in ("densenet", "resnet18", "resnet20", "wide_resnet")
            ),
            *((name, "norm", "lrn", "unknown norm 'lrn'") for name in ("lenet", "vgg19", "wide_resnet")),
            ("resnet18", "shortcut", "avg_pool", "Did you mean 'avgpool'"),
            ("resnet20", "depth", 18, r"depth must be 6n \+ 2.* got 18: take 8, 14, 20"),
            ("resnet20", "depth", 2, r"depth must be 6n \+ 2"),
            ("densenet", "depth", 41, r"depth must be 3n \+ 4.* got 41: take 7, 10, 13"),
            ("wide_resnet", "depth", 12, r"depth must be 6n \+ 4.* got 12: take 10, 16, 22"),
            ("wide_resnet", "depth", 4, r"depth must be 6n \+ 4"),
        ]
    ),
    *(
        (name, (3, 32, 32), {option: value}, TypeError, f"{option} must be an integer")
        for name, option, value in [
            ("resnet18", "width", 0.25),
            ("resnet20", "width", 0.5),
            ("resnet20", "depth", 20.0),
            ("wide_resnet", "width", 0.5),
            ("wide_resnet", "depth", 10.0),
        ]
    ),
    ("mlp", (3, 32, 32), {"hidden": 512}, TypeError, "hidden must be widths"),
]


@pytest.mark.parametrize(("name", "shape", "options", "error", "message"), REFUSED)
def test_what_cannot_be_built_says_why(name, shape, options, error, message):
    with pytest.raises(error, match=message):
        build(name, shape, 10, **options)


@pytest.mark.parametrize(("classes", "error"), [(0, ValueError), (2.0, TypeError)])
def test_a_number_of_classes_is_a_whole_number_from_1_on(classes, error):
    with pytest.raises(error, match="num_classes"):
        build("mlp", (3,), classes)
