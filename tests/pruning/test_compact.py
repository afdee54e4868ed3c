"""What compact exports computes what the gated net computes, and is as small as its gates say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lightning_regs.models import build
from lightning_regs.pruning import add_gates, compact, open_gates


class Functional(nn.Module):
    """Written in functions, with a layer that two others read."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three, self.four = (nn.Linear(a, b) for a, b in ((36, 9), (9, 9), (9, 9), (9, 3)))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.one(torch.flatten(x, 1)))
        return self.four(torch.tanh(self.two(h)) + self.three(h))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.Tanh(),
        nn.ConvTranspose2d(8, 5, 2), nn.ReLU(), nn.Conv2d(5, 4, 2), nn.Dropout2d(), nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip


class Attention(nn.Module):
    """Whose last layer is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x[:, 0], x[:, 0], x[:, 0])[0])


class Encoder(nn.Module):
    """Whose layers torch reads in evaluation without a call, where it can."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x[:, 0]))


NETS = {
    "attention": Attention,
    "transformer": Encoder,
    "mlp": lambda: build("mlp", (1, 6, 6), 3, hidden=[20, 12], dropout=0.5),
    "functions": Functional,
    "convolutions": convolutions,
    "batch norm": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)),
    "one layer": lambda: nn.Conv2d(1, 3, 6),
}


@pytest.mark.parametrize("closed", [0.6, 1.0])
@pytest.mark.parametrize("name", NETS)
def test_the_outputs_are_those_of_the_gated_net(name: str, closed: float) -> None:
    torch.manual_seed(0)
    network = NETS[name]().double().eval()
    for gate in add_gates(network).values():
        gate.log_alpha.data.copy_(torch.where(torch.rand(gate.log_alpha.shape) < closed, -4.0, 1.0))
    x = torch.randn(5, 1, 6, 6, dtype=torch.float64)
    small = compact(network)
    torch.testing.assert_close(small(x), network(x), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(small(x), network(x), rtol=1e-12, atol=1e-12)
    assert not [n for n, _ in small.named_parameters() if "l0_gate" in n]
    assert open_gates(network), "the gated net stays as it was"


def test_units_that_nobody_reads_are_not_computed() -> None:
    frozen = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), weight_norm(nn.Linear(6, 5)), nn.Linear(5, 2)).eval()
    frozen[0].requires_grad_(False)
    add_gates(frozen, "3")["3"].log_alpha.data[2:] = -9
    small, x = compact(frozen), torch.randn(3, 4)
    torch.testing.assert_close(small(x), frozen(x))  # a weight that is computed stays whole
    assert [p.requires_grad for p in small.parameters()] == [p.requires_grad for p in frozen.parameters()][:-1]
    network: Any = NETS["mlp"]()
    add_gates(network)
    kept = {"body.1": 7, "body.4": 5, "head": 3}
    for name, number in kept.items():
        network.get_submodule(name).l0_gate.log_alpha.data[number:] = -9
    small: Any = compact(network)
    layers = [part for part in small.modules() if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in layers] == [(7, 5), (5, 3), (3, 3)]
    assert [tuple(part.weight.shape) for part in layers] == [(5, 7), (3, 5), (3, 3)]
    conv: Any = convolutions()
    add_gates(conv)[str(3)].log_alpha.data[2:] = -9
    conv[10].l0_gate.log_alpha.data[9:] = -9
    conv[7].l0_gate.log_alpha.data[1:] = -9
    small = compact(conv)
    assert small[0].out_channels == 6, "a convolution in groups reads all"
    assert small[5].weight.shape == (8, 1, 2, 2)
    assert small[7].weight.shape == (1, 1, 2, 2)
    assert small[10].in_features == 9
