"""Nets of signals, and the residual layers of MNIST-1D's MLP, against the same written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lightning_regs.models import build
from lightning_regs.training.replicas import Replicated

X = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))


def test_each_layer_behind_the_first_is_added_with_its_activation():
    net = build("mlp", (40,), 10, hidden=[30, 30, 30], residual="each")
    w = list(net.parameters())
    h = F.linear(X, *w[:2]).relu()
    for at in (2, 4):
        h = h + F.linear(h, *w[at : at + 2]).relu()
    assert torch.allclose(net(X), F.linear(h, *w[6:]), atol=1e-6)
    with pytest.raises(ValueError, match="residual='each' takes equal widths"):
        build("mlp", (40,), 10, hidden=[30, 20], residual="each")


def test_convolutions_are_those_of_the_paper_alone_and_in_a_stack():
    nets = [build("signal_conv", (40,), 10, channels=4) for _ in range(2)]
    expected = []
    for net in nets:
        w, h = list(net.parameters()), X[:, None]
        for at in (0, 2, 4):
            h = F.conv1d(h, w[at], w[at + 1], stride=2, padding=1).relu()
        expected.append(F.linear(h.flatten(1), *w[6:]))
    assert torch.allclose(nets[0](X), expected[0], atol=1e-6)
    assert torch.allclose(Replicated(nets)(X, shared=True), torch.stack(expected), atol=1e-5)


def test_the_recurrent_net_reads_in_both_directions():
    net = build("signal_gru", (40,), 10, units=2).double()
    w = dict(net.gru.named_parameters())
    both = []
    for end, x in (("l0", X.double()), ("l0_reverse", X.double().flip(1))):
        h, outs = torch.zeros(3, 2, dtype=torch.float64), []
        for t in range(40):
            i = F.linear(x[:, t : t + 1], w[f"weight_ih_{end}"], w[f"bias_ih_{end}"]).chunk(3, 1)
            k = F.linear(h, w[f"weight_hh_{end}"], w[f"bias_hh_{end}"]).chunk(3, 1)
            r, z = (i[0] + k[0]).sigmoid(), (i[1] + k[1]).sigmoid()
            h = (1 - z) * (i[2] + r * k[2]).tanh() + z * h
            outs.append(h)
        both.append(torch.stack(outs if end == "l0" else outs[::-1], 1))
    assert torch.allclose(net(X.double()), net.head(torch.cat(both, 2).flatten(1)))


@pytest.mark.parametrize("name", ["signal_conv", "signal_gru"])
def test_images_are_refused(name):
    with pytest.raises(ValueError, match="use 'lenet' for images"):
        build(name, (1, 8, 8), 10)
