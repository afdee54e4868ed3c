"""Adversarial errors against closed forms, a loop by hand in float64, and what must stay as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_regs.analysis import adversarial_error
from lightning_regs.regularizers.attacks import fgsm

EPSILON = 0.03


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_two_classes_and_a_linear_net_the_error_is_that_of_the_margin_less_the_dual_norm():
    """The worst change of a linear margin m within the box is -eps |w|_1: FGSM finds it, and more steps no worse."""
    net = nn.Linear(20, 2).double()
    x, y = 0.5 + 0.1 * normal(400, 20), torch.arange(400) % 2
    w = net.weight[1] - net.weight[0]
    with torch.no_grad():
        net.bias -= net(x).mean(0)
        margin = (net(x)[:, 1] - net(x)[:, 0]) * (2 * y - 1)
        expected = (margin < EPSILON * w.abs().sum()).double().mean().item()
        clean = (margin < 0).double().mean().item()
    assert clean < expected < 1
    for steps in (1, 4):
        assert adversarial_error(net, x, y, EPSILON, steps, clip=None) == expected
    # On another net's examples: a linear one of the opposite margin moves the samples the other way.
    away = nn.Linear(20, 2).double()
    away.load_state_dict({name: -value for name, value in net.state_dict().items()})
    helped = (margin < -EPSILON * w.abs().sum()).double().mean().item()
    assert adversarial_error(net, x, y, EPSILON, clip=None, crafted_on=away) == helped < clean


def by_hand(net, source, x, y, steps, size, low, high, transform):
    changed = x.clone()
    for _ in range(steps):
        changed.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(source(transform(changed)), y), changed)
        changed = (changed.detach() + size * gradient.sign()).clamp(x - EPSILON, x + EPSILON).clamp(low, high)
    with torch.no_grad():
        return (net(transform(changed)).argmax(1) != y).double().mean().item()


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 4)).double()


@pytest.mark.parametrize(("steps", "size", "given"), [(1, EPSILON, None), (5, EPSILON / 2, None), (3, 0.02, 0.02)])
def test_it_is_the_loop_by_hand_with_any_normalization_and_batch(steps, size, given):
    net, source = network(0).eval(), network(1).eval()
    x, y = normal(101, 12, seed=3).mul(0.3).add(0.5).clamp(0, 1), torch.arange(101) % 4

    def transform(t):
        return (t - t.mean(1, keepdim=True)) / t.std(1, keepdim=True)

    errors = []
    for crafted_on in (None, source):
        expected = by_hand(net, crafted_on or net, x, y, steps, size, 0, 1, transform)
        options = {"step_size": given, "transform": transform, "crafted_on": crafted_on}
        for batch_size in (7, 500):
            assert adversarial_error(net, x, y, EPSILON, steps, **options, batch_size=batch_size) == expected
        errors.append(expected)
    assert errors[0] > errors[1]


def test_the_nets_and_random_streams_stay_as_they_were():
    nets = [network(0), network(1)]
    nets[0][1].eval()
    nets[0](normal(8, 12)).sum().backward()
    before = [[t.clone() for t in net.state_dict().values()] for net in nets]
    grads, stream = [p.grad.clone() for p in nets[0].parameters()], torch.get_rng_state()
    x, y = normal(30, 12).clamp(0, 1), torch.arange(30) % 4
    adversarial_error(nets[0], x, y, EPSILON, 2, crafted_on=nets[1])
    assert all(
        torch.equal(a, b)
        for net, old in zip(nets, before, strict=True)
        for a, b in zip(net.state_dict().values(), old, strict=True)
    )
    assert [m.training for m in nets[0]] == [True, False, True, True, True]
    assert nets[1][3].training
    assert all(torch.equal(p.grad, old) for p, old in zip(nets[0].parameters(), grads, strict=True))
    assert all(p.grad is None for p in nets[1].parameters())
    assert torch.equal(torch.get_rng_state(), stream)


def test_what_makes_no_sense_is_refused():
    net, x = network(0), torch.zeros(2, 12)
    with pytest.raises(TypeError, match=r"x must be floating-point.*divide bytes by 255"):
        adversarial_error(net, x.byte(), torch.zeros(2).long(), EPSILON)
    with pytest.raises(ValueError, match="with N = 2"):
        adversarial_error(net, x, torch.zeros(3).long(), EPSILON)
    with pytest.raises(ValueError, match=r"x reaches from 0 to 255, .* clip=\(0.0, 1.0\) .* transform="):
        adversarial_error(net, torch.tensor([[0.0] * 12, [255.0] * 12]), torch.zeros(2).long(), EPSILON)
    net, x = net.float(), torch.full((2, 12), 0.4)
    for label in (4, -100):
        with pytest.raises(ValueError, match=f"labels from .*{label}.* logits of 4 classes; labels are from 0 to 3"):
            adversarial_error(net, x, torch.tensor([0, label]), EPSILON)
    for wrong, found in ((nn.Linear(12, 1), r"shape \(1, 1\)"), (nn.LSTM(12, 4), "tuple")):
        with pytest.raises(TypeError, match=f"{found}, and an attack needs logits"):
            adversarial_error(wrong, x, torch.zeros(2).long(), EPSILON)
    with pytest.warns(UserWarning, match="no entry of x was changed, .* a transform that rounds"):
        adversarial_error(net, x, torch.zeros(2).long(), EPSILON, transform=torch.round)


def test_it_attacks_within_a_test_of_lightning_too():
    net, y = network(0), torch.arange(101) % 4
    x = normal(101, 12, seed=3).mul(0.3).add(0.5).clamp(0, 1)
    with torch.inference_mode():
        assert adversarial_error(net, x.clone(), y.clone(), EPSILON) == adversarial_error(net, x, y, EPSILON) > 0
        with pytest.raises(RuntimeError, match=r"gradients, which torch\.inference_mode\(\) has none of"):
            fgsm(lambda t: net(t).sum(), x, EPSILON)
