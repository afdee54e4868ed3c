from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_regs.init import initialize, rules

FAN_IN, FAN_OUT = 32 * 9, 128 * 9
VARIANCES = {
    "constant": 0, "kaiming": 2 / FAN_IN, "lecun": 1 / FAN_IN, "normal": 1e-4, "orthogonal": 1 / FAN_IN,
    "standard": 1 / 3 / FAN_IN, "xavier": 2 / (FAN_IN + FAN_OUT), "zeros": 0,
}  # fmt: skip
DRAWN = [name for name in rules() if name.split("_")[0] in VARIANCES]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DRAWN)
def test_variance_is_the_rule_s_and_biases_are_zero(name):
    net = nn.Sequential(nn.Conv2d(32, 128, 3), nn.BatchNorm2d(128))
    nn.init.constant_(net[1].bias, 3)
    initialize(net, name, seeded())
    weight, variance = net[0].weight.detach(), VARIANCES[name.split("_")[0]]
    assert weight.var().item() == pytest.approx(variance, rel=0.03)
    if name.endswith("uniform"):
        assert weight.abs().max().item() <= math.sqrt(3 * variance) * (1 + 1e-6)
    assert not net[0].bias.any()
    assert (net[1].bias == 3).all()


def test_only_data_dependent_rules_are_tested_elsewhere():
    assert set(rules()) - set(DRAWN) == {"autoencoder", "data_statistics", "fixup", "lsuv", "pca"}


@pytest.mark.parametrize(
    ("name", "options", "variance"),
    [
        ("constant", {"value": 0.5}, 0),
        ("normal", {"std": 0.4}, 0.16),
        ("kaiming_normal", {"activation": "tanh"}, 25 / 9 / FAN_IN),
        ("kaiming_uniform", {"activation": "leaky_relu"}, 2 / 1.0001 / FAN_IN),
        ("kaiming_normal", {"mode": "fan_out"}, 2 / FAN_OUT),
        ("xavier_uniform", {"activation": "relu"}, 4 / (FAN_IN + FAN_OUT)),
        ("orthogonal", {"activation": "selu"}, 9 / 16 / FAN_IN),
    ],
)
def test_options(name, options, variance):
    net = nn.Conv2d(32, 128, 3)
    initialize(net, name, seeded(), **options)
    assert net.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert options.get("value") in (None, net.weight.mean().item())


def test_orthogonal_rows_are_orthonormal():
    net = nn.Linear(40, 20)
    initialize(net, "orthogonal", seeded())
    assert torch.allclose(net.weight @ net.weight.T, torch.eye(20), atol=1e-5)


def test_generator_decides_and_the_global_stream_is_untouched():
    before = torch.get_rng_state()
    nets = [nn.Linear(5, 4, device="meta").to_empty(device="cpu") for _ in range(2)]
    for net in nets:
        initialize(net, "kaiming_normal", seeded(3))
    assert torch.equal(nets[0].weight, nets[1].weight)
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_is_what_float32_rounds_to():
    nets = [nn.Linear(6, 6), nn.Linear(6, 6).bfloat16()]
    for net in nets:
        initialize(net, "orthogonal", seeded())
    assert torch.equal(nets[0].weight.bfloat16(), nets[1].weight)


def test_a_net_without_storage_can_be_set():
    with torch.device("meta"):
        done = initialize(nn.Sequential(nn.Linear(3, 2), nn.Conv2d(2, 2, 1)), "kaiming_normal")
    assert done == (["0.weight", "1.weight"], ["0.bias", "1.bias"], {})


def test_none_keeps_torch_s_weights():
    layer = nn.Linear(5, 4)
    weight = layer.weight.clone()
    done = initialize(layer, None)
    assert torch.equal(layer.weight, weight)
    assert done == ([], [], {"weight": "the rule is None", "bias": "the rule is None"})


def test_says_what_it_set_and_what_it_left():
    net = nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Embedding(4, 5), nn.Linear(5, 4, bias=False), nn.LazyLinear(2),
        nn.Linear(2, 2), nn.Linear(5, 4), nn.Linear(5, 4),
    )  # fmt: skip
    net[5].weight.requires_grad_(False)
    net[6].weight, net[7].weight = net[2].weight, net[3].weight
    kept = [net[2].weight.clone(), net[5].weight.clone()]
    nn.init.ones_(net[5].bias)
    net[3].weight = net[7].weight = nn.Parameter(torch.ones(4, 5))
    done = initialize(net, "xavier_uniform")
    assert done.drawn == ["0.weight", "3.weight"]
    assert done.zeroed == ["0.bias", "5.bias", "6.bias", "7.bias"]
    lazy = "lazy, without a shape before the first batch"
    assert done.skipped == {
        "1.weight": "of BatchNorm1d", "1.bias": "of BatchNorm1d", "2.weight": "tied to a parameter of Embedding",
        "7.weight": "tied to 3.weight", "4.weight": lazy, "4.bias": lazy, "5.weight": "frozen",
    }  # fmt: skip
    assert net[3].weight is net[7].weight
    assert net[3].weight.std() > 0
    assert torch.equal(net[2].weight, kept[0])
    assert torch.equal(net[5].weight, kept[1])


def test_a_weight_under_weight_norm_is_set_by_its_parts():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)))
    held, plain = set(net.parameters()), nn.Linear(6, 4)
    done = initialize(net, "kaiming_normal", seeded())
    initialize(plain, "kaiming_normal", seeded())
    assert done == (["0.weight"], ["0.bias"], {})
    assert set(net.parameters()) == held
    assert torch.allclose(net[0].weight, plain.weight, atol=1e-7)


def test_a_rule_of_ones_own():
    net = nn.Linear(3, 2)
    done = initialize(net, lambda weight, generator: weight.fill_(2.0))
    assert (net.weight == 2).all()
    assert done.drawn == ["weight"]


def test_draws_as_one_layer_after_the_other():
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Conv2d(3, 2, 1)))
    initialize(net, "kaiming_normal", seeded())
    generator = seeded()
    for weight in (net[0].weight, net[1][0].weight):
        assert torch.equal(
            weight, nn.init.kaiming_normal_(torch.empty_like(weight), nonlinearity="relu", generator=generator)
        )


@pytest.mark.parametrize(
    ("rule", "options", "said"),
    [
        ("kaiming_norm", {}, "Did you mean 'kaiming_normal'"),
        ("orthogonal", {"batch": torch.ones(1, 2)}, "looks at no data; leave batch out"),
        ("lsuv", {}, "looks at a batch, and got none"),
        ("normal", {"sd": 0.1}, "option of the initialization 'normal': 'sd'"),
        ("normal", {"std": -1.0}, "std must be above 0, got -1"),
    ],
)
def test_refuses(rule, options, said):
    with pytest.raises(ValueError, match=said):
        initialize(nn.Linear(2, 2), rule, **options)


def test_refuses_a_module_in_which_there_is_nothing_to_set():
    frozen = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    frozen[0].requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"nothing to initialize: 0.weight is frozen; 0.bias is frozen; 1.weight is of"
    ):
        initialize(frozen, "kaiming_normal")
    with pytest.raises(ValueError, match="ReLU has nothing to initialize: it has no parameters"):
        initialize(nn.ReLU(), "kaiming_normal")
