from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_regs.init import initialize, rules

FAN_IN, FAN_OUT = 32 * 9, 128 * 9


def variance(name: str) -> float:
    family = name.split("_")[0]
    return {"kaiming": 2 / FAN_IN, "lecun": 1 / FAN_IN, "xavier": 2 / (FAN_IN + FAN_OUT), "orthogonal": 1 / FAN_IN}[
        family
    ]


@pytest.mark.parametrize("name", sorted(rules()))
def test_variance_is_the_rule_s_and_biases_are_zero(name):
    net = nn.Sequential(nn.Conv2d(32, 128, 3), nn.BatchNorm2d(128))
    nn.init.constant_(net[1].bias, 3)
    initialize(net, name, torch.Generator().manual_seed(0))
    weight = net[0].weight.detach()
    assert weight.var().item() == pytest.approx(variance(name), rel=0.03)
    if name.endswith("uniform"):
        assert weight.abs().max().item() <= math.sqrt(3 * variance(name)) * (1 + 1e-6)
    assert not net[0].bias.any()
    assert (net[1].bias == 3).all()


def test_orthogonal_rows_are_orthonormal():
    net = nn.Linear(40, 20)
    initialize(net, "orthogonal", torch.Generator().manual_seed(0))
    assert torch.allclose(net.weight @ net.weight.T, torch.eye(20), atol=1e-5)


def test_generator_decides_and_the_global_stream_is_untouched():
    before = torch.get_rng_state()
    nets = [nn.Linear(5, 4, device="meta").to_empty(device="cpu") for _ in range(2)]
    for net in nets:
        initialize(net, "kaiming_normal", torch.Generator().manual_seed(3))
    assert torch.equal(nets[0].weight, nets[1].weight)
    assert torch.equal(before, torch.get_rng_state())


def test_none_keeps_torch_s_weights():
    layer = nn.Linear(5, 4)
    weight = layer.weight.clone()
    done = initialize(layer, None)
    assert torch.equal(layer.weight, weight)
    assert done == ([], [], ["weight", "bias"])


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'kaiming_normal'"):
        initialize(nn.Linear(2, 2), "kaiming_norm")


def test_says_what_it_set_and_what_it_left():
    net = nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Embedding(4, 5), nn.Linear(5, 4, bias=False), nn.ReLU()
    )
    net[3].weight = nn.Parameter(torch.ones(4, 5))
    done = initialize(net, "xavier_uniform")
    assert done.drawn == ["0.weight", "3.weight"]
    assert done.zeroed == ["0.bias"]
    assert done.skipped == ["1.weight", "1.bias", "2.weight"]
    assert not torch.equal(net[3].weight, torch.ones(4, 5))


def test_a_rule_of_ones_own():
    net = nn.Linear(3, 2)
    done = initialize(net, lambda weight, generator: weight.fill_(2.0))
    assert (net.weight == 2).all()
    assert done.drawn == ["weight"]


def test_a_rule_that_looks_at_no_data_refuses_some():
    with pytest.raises(ValueError, match="looks at no data; leave batch out"):
        initialize(nn.Linear(2, 2), "orthogonal", batch=torch.ones(1, 2))


def test_draws_as_one_layer_after_the_other():
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Conv2d(3, 2, 1)))
    initialize(net, "kaiming_normal", torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for weight in (net[0].weight, net[1][0].weight):
        assert torch.equal(
            weight, nn.init.kaiming_normal_(torch.empty_like(weight), nonlinearity="relu", generator=generator)
        )
