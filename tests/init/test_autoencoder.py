from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_regs.init import initialize


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(activation: type[nn.Module] = nn.Sigmoid) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), activation(), nn.Linear(8, 5), activation(), nn.Linear(5, 3))


def patterns(number: int = 200) -> Tensor:
    """Return mixtures of three patterns, in [0, 1]."""
    basis = torch.rand(3, 16, generator=seeded(7))
    return torch.softmax(3 * torch.randn(number, 3, generator=seeded(8)), 1) @ basis


@pytest.mark.parametrize(
    ("shift", "activation"), [(0.0, "sigmoid"), (0.0, "tanh"), (1.0, "sigmoid"), (1.0, "tanh"), (-1.0, "relu")]
)
def test_a_step_is_that_of_the_formula(shift, activation):
    x = patterns(30) - shift
    made = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 2))
    initialize(made, "autoencoder", seeded(), x, activation=activation, epochs=1, batch_size=30, lr=0.5)
    w = nn.init.xavier_uniform_(torch.empty(8, 16), generator=seeded()).double().requires_grad_()
    b = torch.zeros(8).double().requires_grad_()
    clean = x.double()
    back = getattr(torch, activation)(clean @ w.T + b) @ w
    if shift:
        loss = (back - clean).square().sum(1) / 2
    else:
        q = 1 / (1 + torch.exp(-back))
        loss = -(clean * q.log() + (1 - clean) * (1 - q).log()).sum(1)
    loss.mean().backward()
    assert torch.allclose(made[0].weight.double(), w - 0.5 * w.grad, atol=1e-5)
    assert torch.allclose(made[0].bias.double(), b - 0.5 * b.grad, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.slow
def test_layers_learn_what_they_see_one_after_another(noise):
    x, made, start = patterns(), net(), net()
    head, before = made[-1].weight.clone(), torch.get_rng_state()
    done = initialize(made, "autoencoder", seeded(), x, noise=noise, epochs=40, lr=0.1)
    assert done.drawn == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert done.skipped == {"5.weight": "the last layer", "5.bias": "the last layer"}
    assert torch.equal(made[-1].weight, head)
    assert torch.equal(torch.get_rng_state(), before)
    initialize(start, "xavier_uniform", seeded())
    codes = {key: whole[:3](x).detach() for key, whole in (("made", made), ("start", start))}
    # How much of the inputs' variance the codes tell, by least squares: a third party to both.
    told = {}
    for key, code in codes.items():
        columns = torch.cat([code, torch.ones(len(x), 1)], 1)
        left = x - columns @ torch.linalg.lstsq(columns, x).solution
        told[key] = left.var().item() / x.var().item()
    assert told["made"] <= told["start"] + 1e-3
    spread = {key: code.std(0).mean() for key, code in codes.items()}
    assert spread["made"] > 1.5 * spread["start"]
    again = net()
    initialize(again, "autoencoder", seeded(), x, noise=noise, epochs=40, lr=0.1)
    assert torch.equal(made[3].weight, again[3].weight)


def test_noise_sets_inputs_to_zero():
    weights = []
    for noise in (0.0, 0.5):
        made = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 2))
        initialize(made, "autoencoder", seeded(), patterns(), noise=noise, epochs=2)
        weights.append(made[0].weight)
    assert not torch.allclose(*weights)


def test_refuses_and_leaves():
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))
    x = torch.randn(64, 1, 4, 4, generator=seeded())
    before = [p.clone() for p in made.parameters()]
    with pytest.raises(ValueError, match="2: its auto-encoder diverges at lr=1e"):
        initialize(made, "autoencoder", seeded(), x, lr=1e6, activation="relu")
    with pytest.raises(ValueError, match="noise must be"):
        initialize(made, "autoencoder", seeded(), x, noise=1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))
    done = initialize(made, "autoencoder", seeded(), x, epochs=1)
    assert done.skipped["0.weight"] == "no linear layer"
