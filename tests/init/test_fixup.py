from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from lightning_regs.init import initialize
from lightning_regs.layers import MeanOnlyBatchNorm, replace_layers
from lightning_regs.models import build
from lightning_regs.training.replicas import Replicated


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torchvision_net(block: type[nn.Module], blocks: int) -> nn.Module:
    net = ResNet(block, [blocks] * 4, num_classes=5)
    replace_layers(net, {nn.BatchNorm2d: lambda _: nn.Identity()})
    return net


class Blocks(nn.Module):
    """A residual MLP in other words: branches of m layers by name, sums in place and not."""

    def __init__(self, blocks: int = 3, m: int = 2, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Linear(4, width)
        self.branches = nn.ModuleList(nn.ModuleList(nn.Linear(width, width) for _ in range(m)) for _ in range(blocks))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) + 1
        for i, branch in enumerate(self.branches):
            h = x
            for layer in branch:
                h = layer(F.relu(h))
            if i % 2:
                h += x
                x = h
            else:
                x = torch.add(x, h)
        return self.head(F.relu(x))


@pytest.mark.parametrize(("block", "blocks", "m"), [(BasicBlock, 2, 2), (Bottleneck, 1, 3)])
def test_rules_of_a_foreign_net(block, blocks, m):
    net, number = torchvision_net(block, blocks), 4 * blocks
    done = initialize(net, "fixup", seeded(), torch.rand(2, 3, 32, 32))
    assert done.skipped == {}
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        expected = math.sqrt(2 / (layer.out_channels * layer.kernel_size[0] ** 2))
        if name.endswith(f".conv{m}"):
            expected = 0
        elif ".conv" in name:
            expected *= number ** (-1 / (2 * m - 2))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.03), name
        assert hasattr(layer, "fixup_before") == (".conv" in name)
        assert hasattr(layer, "fixup_scale") == name.endswith(f".conv{m}")
    assert not net.fc.weight.any()
    assert not net.fc.bias.any()
    assert not net(torch.rand(2, 3, 32, 32)).any()


@pytest.mark.parametrize("m", [1, 2, 4])
def test_layers_of_a_branch_are_found_by_the_sums(m):
    net, x = Blocks(m=m), torch.randn(5, 4)
    initialize(net, "fixup", seeded(), x, scalars=False)
    plain = Blocks(m=m)
    initialize(plain, "kaiming_normal", seeded())
    assert torch.equal(net.stem.weight, plain.stem.weight)  # the first that is drawn
    assert not any(branch[-1].weight.any() for branch in net.branches)
    assert not net.head.weight.any()
    unscaled = Blocks(m=m)
    initialize(unscaled, "fixup", seeded(), x, scalars=False, scaled=False)
    for ours, he in zip(unscaled.branches, net.branches, strict=True):
        for a, b in zip(ours, he, strict=True):
            assert torch.allclose(b.weight, a.weight * (3 ** (-0.5 / (m - 1)) if m > 1 else 1))


def test_scalars_are_before_and_behind_each_layer_of_a_branch():
    net, x = Blocks(blocks=1), torch.randn(5, 4)
    done = initialize(net, "fixup", seeded(), x)
    scalars = {name: p for name, p in net.named_parameters() if "fixup_" in name}
    assert len(scalars) == 5
    assert set(scalars) <= set(done.drawn)
    assert [p.item() for n, p in scalars.items() if n.endswith("scale")] == [1]
    for parameter in net.parameters():
        nn.init.normal_(parameter, generator=seeded(2))
    one, two = net.branches[0]
    start = F.linear(x, net.stem.weight, net.stem.bias) + 1
    h = F.linear(F.relu(start) + one.fixup_before, one.weight, one.bias) + one.fixup_after
    h = F.linear(F.relu(h) + two.fixup_before, two.weight, two.bias) * two.fixup_scale + two.fixup_after
    expected = F.linear(F.relu(start + h), net.head.weight, net.head.bias)
    assert torch.allclose(net(x), expected, rtol=1e-4, atol=1e-5)
    other = copy.deepcopy(net)
    nn.init.zeros_(other.branches[0][1].fixup_scale)
    assert torch.allclose(net(x), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other(x), expected)
    stack = Replicated([net, other])
    assert torch.allclose(stack(x, shared=True), torch.stack([net(x), other(x)]), rtol=1e-4, atol=1e-5)
    again = initialize(net, "fixup", seeded(), x)
    assert again == done
    assert len(net.branches[0][0]._forward_hooks) == 1


@pytest.mark.slow
def test_a_deep_net_trains_where_he_s_weights_overflow():
    x = torch.randn(64, 4, generator=seeded())
    y = (x[:, 0] > 0).long()
    losses: dict[str, list[float]] = {"kaiming_normal": [], "fixup": []}
    for rule, found in losses.items():
        net = Blocks(blocks=30)
        initialize(net, rule, seeded(), x if rule == "fixup" else None)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
        for _ in range(15):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    assert losses["fixup"][0] == pytest.approx(math.log(3))
    assert losses["fixup"][-1] < 0.8
    assert losses["kaiming_normal"][0] > 10


def normed(norm: nn.Module) -> nn.Module:
    net = Blocks(width=192)
    net.stem = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), norm)
    return net


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (normed(nn.RMSNorm(192)), "Blocks has RMSNorm; replace it first"),
        (normed(MeanOnlyBatchNorm(192)), "Blocks has MeanOnlyBatchNorm; replace it first"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 2)), "Sequential adds no branch"),
        (build("resnet20", (3, 8, 8), 4, width=2), r"ResNet20 has BatchNorm2d; replace it first: replace_layers\(net"),
        (build("wide_resnet", (3, 8, 8), 4), "blocks.0.skip_scale is a scalar of WideResNet that is zero too"),
    ],
)
def test_refuses(net, said):
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(ValueError, match=said):
        initialize(net, "fixup", seeded(), torch.rand(2, 3, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
