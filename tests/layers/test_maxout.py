"""Maxout against loops by hand, closed forms and differences in float64, alone, in MLPs and in stacks of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_regs.layers import Maxout, layer_replacements, replace_layers
from lightning_regs.models import build
from lightning_regs.training.replicas import Replicated


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(z: torch.Tensor, pieces: int) -> torch.Tensor:
    """Take the largest of every p-th column, from each of the first p, as the authors' pylearn2 does it."""
    largest = z[:, ::pieces]
    for piece in range(1, pieces):
        largest = torch.maximum(largest, z[:, piece::pieces])
    return largest


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_units_are_the_largest_of_their_neighbours(pieces: int) -> None:
    z, maps = normal(7, 6 * pieces), normal(2, 3 * pieces, 4, 5)
    assert torch.equal(Maxout(pieces)(z), by_hand(z, pieces))
    assert torch.equal(Maxout(pieces, dim=1)(maps), by_hand(maps, pieces))
    assert torch.equal(Maxout(pieces, dim=-3)(maps), by_hand(maps, pieces))
    assert torch.autograd.gradcheck(Maxout(pieces), z.requires_grad_())


def test_two_pieces_are_the_absolute_value_and_the_rectifier() -> None:
    x = normal(9, 1)
    absolute, rectified = (nn.Sequential(nn.Linear(1, 2), Maxout(2)).double() for _ in range(2))
    for net, second in ((absolute, -1.0), (rectified, 0.0)):
        nn.init.zeros_(net[0].bias)
        net[0].weight.data = torch.tensor([[1.0], [second]], dtype=torch.float64)
    assert torch.equal(absolute(x), x.abs())
    assert torch.equal(rectified(x), x.relu())


def test_an_mlp_of_maxout_units_is_its_weights_by_hand() -> None:
    net, x = build("mlp", (2, 3), 4, hidden=[5, 3], activation="maxout", pieces=2).double(), normal(8, 2, 3)
    shapes = [tuple(weight.shape) for name, weight in net.named_parameters() if "weight" in name]
    assert shapes == [(10, 6), (6, 5), (4, 3)]
    w1, b1, w2, b2, w3, b3 = net.parameters()
    first = (x.flatten(1) @ w1.T + b1).view(8, 5, 2).max(2).values
    second = (first @ w2.T + b2).view(8, 3, 2).max(2).values
    torch.testing.assert_close(net(x), second @ w3.T + b3)
    assert build("mlp", (6,), 4, hidden=[240], activation="maxout").body[1].out_features == 1200
    residual = build("mlp", (6,), 4, hidden=[5, 5], activation="maxout", residual="each")
    assert residual(normal(2, 6).float()).shape == (2, 4)


def test_dropout_keeps_units_whole() -> None:
    body = build("mlp", (6,), 4, hidden=[50], activation="maxout", pieces=3, dropout=0.5).body.train()
    dropped = body(normal(20, 6).float()) == 0
    assert 0.4 < dropped.float().mean() < 0.6  # of units, of which 0.9 would keep a piece were pieces dropped


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_stacked_nets_are_the_single_ones(dropout: float) -> None:
    nets = [build("mlp", (6,), 4, hidden=[5, 3], activation="maxout", dropout=dropout).double().eval() for _ in "ab"]
    x = normal(2, 7, 6)
    alone = torch.stack([net(own) for net, own in zip(nets, x, strict=True)])
    torch.testing.assert_close(Replicated(nets).eval()(x), alone)


def test_it_gets_into_another_net_by_configuration() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(2, 4, 1))
    [pair] = layer_replacements([{"replace": "ReLU", "by": "Maxout", "pieces": 3, "dim": 1}])
    assert replace_layers(net, pair) == {"ReLU": 1}
    assert net(torch.rand(2, 1, 5, 5)).shape == (2, 4, 3, 3)


def test_what_does_not_go_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"of dimension -1, and \(2, 12\) has 12 there; give the layer before it"):
        Maxout()(torch.zeros(2, 12))
    with pytest.raises(ValueError, match="pieces must be at least 1, got 0"):
        Maxout(0)
    with pytest.raises(ValueError, match="pieces=3 are those of maxout, got activation='relu'; leave pieces out"):
        build("mlp", (6,), 4, pieces=3)
    with pytest.raises(ValueError, match="residual=True adds before the activation"):
        build("mlp", (6,), 4, hidden=[5, 5, 5], activation="maxout", residual=True)
