"""Gaussian dropout, DropConnect and stochastic depth against closed forms, alone, in foreign nets and in stacks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from lightning_regs import Classifier
from lightning_regs.layers import (
    DropConnect,
    GaussianDropout,
    InformationDropout,
    layer_replacements,
    monte_carlo,
    replace_layers,
)
from lightning_regs.regularizers import NoEffectWarning
from lightning_regs.training.replicas import Replicated

SAMPLES = 40_000


def assert_moments(drawn: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Each column has this mean and this variance, to within five standard errors (normal, or less heavy-tailed)."""
    assert (drawn.mean(0) - mean).abs().max() <= 5 * (variance.max() / len(drawn)) ** 0.5
    torch.testing.assert_close(drawn.var(0), variance, rtol=5 * (2 / len(drawn)) ** 0.5, atol=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_gaussian_dropout_has_the_mean_and_variance_of_dropout(p: float) -> None:
    torch.manual_seed(0)
    x = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)
    layer = GaussianDropout(p)
    assert_moments(layer(x.expand(SAMPLES, 3)), x, x.square() * p / (1 - p))
    assert layer.eval()(x) is x


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(3,), (3, 1, 2)], ids=["linear", "conv"])
def test_each_sample_drops_connections_of_its_own(shape: tuple[int, ...], p: float) -> None:
    torch.manual_seed(0)
    x, old = torch.randn(1, *shape).double(), nn.Linear(3, 2) if len(shape) == 1 else nn.Conv2d(3, 2, (1, 2))
    layer = DropConnect(old.double(), p)
    squares = DropConnect(type(old)(*((3, 2) if len(shape) == 1 else (3, 2, (1, 2)))).double()).eval()
    squares.load_state_dict({name: value.square() for name, value in layer.state_dict().items()})
    drawn = layer(x.expand(SAMPLES, *shape)).flatten(1).detach()
    variance = p / (1 - p) * squares(x.square()).flatten().detach()
    assert_moments(drawn, old(x).flatten().detach(), variance)
    assert torch.equal(layer.eval()(x), old(x))


def test_of_a_normed_weight_the_norm_is_taken_before() -> None:
    torch.manual_seed(0)
    layer, x = DropConnect(weight_norm(nn.Linear(2, 1, bias=False)), 0.5), torch.eye(2).repeat(50, 1)
    plain, drawn = layer.layer(x), layer(x)
    assert ((drawn == 0) | ((drawn - 2 * plain).abs() < 1e-6)).all()
    assert 0 < (drawn == 0).sum() < 100
    with pytest.raises(TypeError, match="begin with a plain linear or convolutional one, got ParametrizedLinear"):
        InformationDropout(weight_norm(nn.Linear(2, 1)))


def test_one_mask_a_batch_where_that_is_asked_for() -> None:
    torch.manual_seed(0)
    layer, x = DropConnect(nn.Linear(8, 4), per_sample=False), torch.ones(16, 8)
    assert (layer(x) == layer(x)[:1]).all(dim=0).logical_not().any()  # another in each pass
    out = layer(x)
    torch.testing.assert_close(out, out[:1].expand_as(out))


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: DropConnect(nn.Linear(8, 8)),
        lambda: nn.Sequential(nn.Linear(8, 8), torchvision.ops.StochasticDepth(0.5, "row")),
        lambda: GaussianDropout(0.5),
        lambda: InformationDropout(nn.Linear(8, 8), max_alpha=1e-3),
    ],
    ids=["connections", "depth", "gaussian", "information"],
)
def test_stacked_nets_draw_apart_or_alike_and_always_for_each_sample(
    make: Callable[[], nn.Module], apart: bool
) -> None:
    torch.manual_seed(0)
    net = make()
    stack, x = Replicated([net, net]), torch.ones(2, 64, 8, requires_grad=True)
    out = stack(x, draws_apart=apart)
    assert torch.equal(out[0], out[1]) is not apart
    assert len(out[0].unique(dim=0)) > 1
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    # On average what a net in evaluation says.
    drawn = torch.cat([stack(x, draws_apart=apart).flatten(0, 1) for _ in range(40)]).detach()
    assert_close = torch.testing.assert_close
    assert_close(drawn.mean(0), net.eval()(x[0, 0]).detach(), atol=5 * float(drawn.std(0).max()) / 40**0.5 / 8, rtol=0)


def test_a_stack_whose_layer_drops_what_it_drew_apart_says_so_by_nan() -> None:
    class Discards(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = torch.empty(len(x), 1)
            mask.bernoulli_(0.5)
            return x * mask

    assert Replicated([Discards(), Discards()])(torch.ones(2, 4, 3)).isnan().all()


@pytest.mark.parametrize("replicas", [None, 2])
def test_each_gets_into_a_net_by_name_where_it_is_wanted(replicas: int | None) -> None:
    layers = [
        {"before": "Linear", "named": "body.1", "add": "GaussianDropout", "p": 0.2},
        {"replace": "Linear", "named": "body.3*", "by": "DropConnect", "p": 0.5},
        {"replace": "Linear", "named": "head", "by": "DropConnect", "per_sample": False},
        {"after": "ReLU", "named": "*.4", "add": "StochasticDepth", "p": 0.1, "mode": "row"},
    ]
    shapes = {"input_shape": (1, 4, 4), "num_classes": 3, "seed": 1, "replicas": replicas}
    module = Classifier("mlp", {"hidden": [6, 5]}, layers=layers, **shapes)
    plain = Classifier("mlp", {"hidden": [6, 5]}, **shapes)
    kinds = "Gaussian|Linear|ReLU|DropConnect|Linear|ReLU|Stochastic|DropConnect|Linear"
    found = [type(m).__name__ for m in module.network.modules() if type(m).__name__.startswith(tuple(kinds.split("|")))]
    assert [name for name, kind in zip(found, kinds.split("|"), strict=True) if not name.startswith(kind)] == []
    x = torch.rand(2, 7, 1, 4, 4)[0 if replicas is None else slice(2)]
    assert not torch.equal(module(x), plain(x))
    assert torch.equal(module.eval()(x), plain.eval()(x))


def test_a_residual_net_of_others_drops_its_branches() -> None:
    net = torchvision.models.resnet18(num_classes=4).eval()
    x = torch.rand(2, 3, 32, 32)
    before = net(x)
    (pair,) = layer_replacements(
        [{"after": "BatchNorm2d", "named": "layer*.bn2", "add": "StochasticDepth", "p": 0.5, "mode": "row"}]
    )
    assert replace_layers(net, pair) == {"BatchNorm2d named layer*.bn2": 8}
    assert torch.equal(net(x), before)
    with pytest.warns(NoEffectWarning, match=r"ResNet has no layer Linear named head to replace"):
        replace_layers(net, {(nn.Linear, "head"): DropConnect})


@pytest.mark.parametrize("p", [1.0, -0.1, 2])
@pytest.mark.parametrize(
    "entry",
    [
        {"after": "ReLU", "add": "Dropout"},
        {"after": "ReLU", "add": "GaussianDropout"},
        {"after": "ReLU", "add": "StochasticDepth", "mode": "row"},
        {"replace": "Linear", "by": "DropConnect"},
    ],
    ids=lambda entry: entry.get("add", entry.get("by")),
)
def test_a_share_that_drops_all_is_refused(entry: dict[str, object], p: float) -> None:
    with pytest.raises(ValueError, match=r"p must be at least 0 and below 1, got .* probability of dropping"):
        layer_replacements([{**entry, "p": p}])


def test_what_has_no_connections_is_refused() -> None:
    with pytest.raises(TypeError, match=r"linear or convolutional, .*got ReLU"):
        replace_layers(nn.Sequential(nn.ReLU()), {nn.ReLU: DropConnect})


class Rectified(nn.Linear):
    """Is more than its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rectified(3, 2),
        lambda: prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5),
        lambda: nn.utils.spectral_norm(nn.Linear(3, 2)),
        lambda: nn.LazyLinear(2),
    ],
    ids=["own forward", "pruned by torch", "old spectral norm", "lazy"],
)
def test_what_dropped_weights_alone_do_not_compute_is_refused(make: Callable[[], nn.Module]) -> None:
    """Training would be of another function than evaluation."""
    with pytest.raises(TypeError, match=r"without a call of it, .* has a forward or hooks of its own; let it see"):
        DropConnect(make())


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3), lambda: nn.Conv2d(4, 3, 1)], ids=["linear", "conv"])
def test_under_autocast_training_has_the_precision_of_evaluation(
    make: Callable[[], nn.Module], per_sample: bool
) -> None:
    torch.manual_seed(0)
    layer, x = DropConnect(make(), 0.0, per_sample), torch.randn(5, 4, 2, 4)
    for samples in (x, x.bfloat16()):  # such as behind a convolution
        with torch.autocast("cpu", torch.bfloat16):
            drawn, expected = layer.train()(samples), layer.eval()(samples)
        assert drawn.dtype == expected.dtype == torch.bfloat16
        torch.testing.assert_close(drawn, expected, rtol=0.02, atol=0.02)


# -- the average over sampled nets -----------------------------------------------------------------------------------


def test_sampled_nets_have_the_mean_of_a_linear_net_by_scaled_weights() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)).double(), torch.randn(4, 6).double()
    variance = x.square() @ net[1].weight.detach().square().T
    found = monte_carlo(net, x, samples=4000, average="outputs")
    assert ((found - net.eval()(x)).abs() < 5 * (variance / 4000).sqrt()).all()


def test_probabilities_are_averaged_over_all_masks() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 4)).double(), torch.randn(5, 3).double()
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 2.0])] * 3).double()
    each = F.softmax(net[1](masks[:, None] * x), dim=-1).detach()
    found = monte_carlo(net, x, samples=4000)
    assert ((found - each.mean(0)).abs() < 5 * each.std(0) / 4000**0.5).all()
    scaled = F.softmax(net.eval()(x), dim=-1)
    assert ((each.mean(0) - scaled).abs() > 5 * each.std(0) / 4000**0.5).any()  # which is another number


def test_the_module_its_modes_and_the_random_streams_are_as_before() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), DropConnect(nn.Linear(8, 3)), nn.Dropout())
    net[4].eval()
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    x, random = torch.rand(16, 4), torch.get_rng_state()
    found = monte_carlo(net, x, samples=3, seed=1)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert torch.equal(found, monte_carlo(net.eval(), x, samples=3, seed=1))
    assert not torch.equal(found, monte_carlo(net, x, samples=3, seed=2))
    assert not net[4].training
    torch.testing.assert_close(found.sum(1), torch.ones(16))


def test_a_net_without_dropout_is_told_and_one_whose_layers_are_not_called_draws() -> None:
    with pytest.warns(NoEffectWarning, match="Linear has no layer of dropout"):
        monte_carlo(nn.Linear(3, 2), torch.rand(2, 3), samples=2)
    with pytest.raises(TypeError, match=r"what GRU returns must be a Tensor"):
        monte_carlo(nn.GRU(3, 2, 2, dropout=0.5), torch.rand(2, 3), samples=2)
    transformer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    assert not torch.equal(*(monte_carlo(transformer, torch.rand(2, 3, 6), 1, seed=seed) for seed in (1, 2)))
    assert torch.backends.mha.get_fastpath_enabled()
    assert not torch.equal(*(monte_carlo(Own(), torch.ones(2, 8), 1, seed=seed, layers=[Own]) for seed in (1, 2)))


def test_many_draws_of_few_bits_are_averaged_without_rounding_each() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)).bfloat16(), torch.randn(2, 6).bfloat16()
    torch.testing.assert_close(monte_carlo(net, x, samples=1000).sum(1), torch.ones(2))
    with torch.autocast("cpu", torch.bfloat16):
        drawn = monte_carlo(nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 3)), x, samples=1000, average="outputs")
    assert drawn.dtype == torch.float32


class Within(nn.Module):
    """Calls a layer of torch that has its dropout inside, in an LSTM or an attention, beside one that does nothing."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.drop = layer, nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.layer(*[x] * (3 if isinstance(self.layer, nn.MultiheadAttention) else 1))[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda p: nn.LSTM(4, 6, num_layers=2, dropout=p, batch_first=True),
        lambda p: nn.MultiheadAttention(4, 2, dropout=p, batch_first=True),
    ],
    ids=["recurrent", "attention"],
)
def test_torchs_dropout_within_other_layers_draws_too(make: Callable[[float], nn.Module]) -> None:
    x = torch.rand(2, 3, 4)
    for p, draws in ((0.5, True), (0.0, False)):
        net = Within(make(p))
        assert torch.equal(*(monte_carlo(net, x, 1, "outputs", seed=seed) for seed in (1, 2))) is not draws


class Own(nn.Module):
    """A layer that calls dropout as a function."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)
