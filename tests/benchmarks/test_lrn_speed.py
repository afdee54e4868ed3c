"""The whole training step of the small AlexNet with its banded normalisation against the same net with torch's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from harness import Table, alternate, ratio, seconds
from torch import nn
from torch.nn import functional as F

from lightning_regs.models import build
from lightning_regs.models.lrn import LocalResponseNorm

BATCH, ROUNDS = 128, 15


def with_layers(net: nn.Module, make: Callable[[LocalResponseNorm], nn.Module]) -> nn.Module:
    net = copy.deepcopy(net)
    for name, layer in net.features.named_children():
        if isinstance(layer, LocalResponseNorm):
            setattr(net.features, name, make(layer))
    return net


def torch_s(layer: LocalResponseNorm) -> nn.Module:
    return nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)


def training_step(net: nn.Module, precision: str) -> Callable[[], None]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 28, 28, generator=generator).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,), generator=generator)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@pytest.mark.parametrize(("precision", "goal"), [("fp32", 1.5), ("bf16", 2.2)])
def test_small_alexnet_step_with_banded_normalisation(table: Table, precision: str, goal: float) -> None:
    ours = build("small_alexnet", (3, 28, 28), 10)
    nets = {"banded": ours, "torch": with_layers(ours, torch_s), "none": with_layers(ours, lambda _: nn.Identity())}
    steps = {name: training_step(net, precision) for name, net in nets.items()}
    for step in steps.values():
        step()
    times = alternate({name: lambda step=step: seconds(step) for name, step in steps.items()}, ROUNDS)
    measured = ratio(times, "torch", "banded")
    table.add(f"small AlexNet step, torch's LRN / banded, {precision}", measured, goal)
    images = {name: BATCH / sorted(values)[ROUNDS // 2] for name, values in times.items()}
    print(f"\n{precision} images/s: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in images.items()))
    assert measured > 0.5 * goal
