"""A module that is only looked at is as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_regs.core.undisturbed import undisturbed


class Net(nn.Module):
    """Has a batch norm that is frozen, as its ``train`` sees to, a noisy layer, and counts its calls."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.norm, self.noise = nn.BatchNorm1d(3).eval(), nn.BatchNorm1d(3), nn.Dropout()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def train(self, mode: bool = True) -> Net:
        raise RuntimeError("modes are set by flag")

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.noise(self.norm(self.frozen(x)))


def modes(net: nn.Module) -> list[bool]:
    return [part.training for part in net.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_modes_streams_and_buffers_come_back(fails: bool) -> None:
    net, x = Net(), torch.randn(8, 3)
    before, stream, start = modes(net), torch.get_rng_state(), {n: b.clone() for n, b in net.named_buffers()}
    try:
        with undisturbed(net, x, buffers=True):
            assert not any(modes(net))
            net.noise.training = net.norm.training = True  # as who wants some of its layers at work
            assert bool((net(x) == 0).any())
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert modes(net) == before == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(buffer, start[name]) for name, buffer in net.named_buffers())


@pytest.mark.parametrize("options", [{}, {"evaluate": False}])
def test_what_is_not_asked_for_goes_on(options: dict[str, Any]) -> None:
    net, x = Net(), torch.randn(8, 3)
    stream = torch.get_rng_state()
    with undisturbed(net, **options):
        assert any(modes(net)) == bool(options)
        net(x)
        torch.rand(1)
    assert net.calls == 1
    assert not torch.equal(torch.get_rng_state(), stream)
