from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_regs.models.initialization import INITIALIZATIONS, initialize

FAN_IN, FAN_OUT = 32 * 9, 128 * 9


def variance(name: str) -> float:
    family = name.split("_")[0]
    return {"kaiming": 2 / FAN_IN, "lecun": 1 / FAN_IN, "xavier": 2 / (FAN_IN + FAN_OUT), "orthogonal": 1 / FAN_IN}[
        family
    ]


@pytest.mark.parametrize("name", sorted(INITIALIZATIONS))
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
    net = initialize(nn.Linear(40, 20), "orthogonal", torch.Generator().manual_seed(0))
    assert torch.allclose(net.weight @ net.weight.T, torch.eye(20), atol=1e-5)


def test_generator_decides_and_the_global_stream_is_untouched():
    before = torch.get_rng_state()
    nets = [nn.Linear(5, 4, device="meta").to_empty(device="cpu") for _ in range(2)]
    weights = [initialize(n, "kaiming_normal", torch.Generator().manual_seed(3)).weight for n in nets]
    assert torch.equal(*weights)
    assert torch.equal(before, torch.get_rng_state())


def test_none_keeps_torch_s_weights():
    layer = nn.Linear(5, 4)
    weight = layer.weight.clone()
    assert torch.equal(initialize(layer, None).weight, weight)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'kaiming_normal'"):
        initialize(nn.Linear(2, 2), "kaiming_norm")
