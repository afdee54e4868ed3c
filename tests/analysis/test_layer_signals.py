"""Signals of layers against autograd by hand and closed forms; nothing of the module's changes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs.analysis import LayerSignals, layer_jacobians, layer_outputs, layer_signals
from lightning_regs.core.lightning import pl
from lightning_regs.init import initialize
from lightning_regs.training.replicas import Replicated

X, Y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def test_they_are_those_of_autograd_by_hand():
    torch.manual_seed(0)
    first, second, head = nn.Linear(5, 40), nn.Linear(40, 30), nn.Linear(30, 3)
    net = nn.Sequential(first, nn.Tanh(), second, nn.ReLU(), head).double()
    with torch.no_grad():
        first.weight.mul_(5)
        second.bias[:6] = -100.0
    x = X.double()
    found = layer_signals(net, x, Y)
    assert list(found) == ["0", "1", "2", "3", "4"]
    a = torch.tanh(first(x))
    z = second(a)
    b = z.relu()
    a.retain_grad(), b.retain_grad()
    each = F.cross_entropy(head(b), Y, reduction="sum")
    each.backward(retain_graph=True)
    outs = {"1": a, "3": b}
    for name, out in outs.items():
        assert found[name].mean == pytest.approx(out.mean().item())
        assert found[name].deviation == pytest.approx(out.detach().numpy().std())
        assert found[name].gradient == pytest.approx(out.grad.square().mean().sqrt().item())
        assert math.isnan(found[name].weights)
    by_hand = (second.weight.grad.square().sum() + second.bias.grad.square().sum()).sqrt() / len(x)
    assert found["2"].weights == pytest.approx(by_hand.item())
    assert math.isnan(found["2"].saturation)
    assert found["1"].saturation == pytest.approx(100 * (1 - a.square() < 0.05).double().mean().item())
    assert 5 < found["1"].saturation < 95
    assert found["1"].dead == 0
    assert found["3"].saturation == pytest.approx(100 * (z <= 0).double().mean().item())
    assert found["3"].dead == pytest.approx(100 * (z <= 0).all(0).double().mean().item())
    assert found["3"].dead >= 20
    assert all(math.isnan(s.gradient) and math.isnan(s.weights) for s in layer_signals(net, x).values())


def test_a_sigmoid_is_flat_by_its_own_slope_and_maps_count_channels():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 8), nn.Sigmoid())
    with torch.no_grad():
        net[0].bias[0] = -100.0
    found = layer_signals(net, torch.rand(7, 1, 8, 8))
    assert found["1"].dead == 25
    assert found["4"].saturation == 0
    assert found["0"].mean < found["1"].mean, "the convolution is seen before the activation works in its place"


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(5, 6), nn.Linear(6, 3), nn.ReLU(inplace=True)
        self.norm, self.dropout = nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, x):
        return self.relu(self.b(self.relu(self.dropout(self.norm(self.a(x))))))


def test_nothing_of_the_module_changes_and_a_layer_that_is_called_twice_comes_twice():
    net = Shared()
    net.b.eval()
    net(X).sum().backward()
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    gradients, stream = [p.grad.clone() for p in net.parameters() if p.grad is not None], torch.get_rng_state()
    assert list(layer_signals(net, X, Y)) == list(layer_outputs(net, X)) == ["a", "relu", "b", "relu#2"]
    assert list(layer_outputs(net, X, "b")) == ["b"]
    net.norm.eval()
    assert list(layer_jacobians(net, X)) == ["relu#2"]
    net.norm.train()
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert modes == [m.training for m in net.modules()]
    assert torch.equal(stream, torch.get_rng_state())
    assert all(map(torch.equal, gradients, (p.grad for p in net.parameters() if p.grad is not None)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with pytest.raises(ValueError, match="the glob 'c' matches none of the 6 modules; near ones"):
        layer_signals(net, X, layers="c")
    with pytest.raises(ValueError, match=r"no activation, linear or convolutional layer; it has Embedding\. Name"):
        layer_signals(nn.Sequential(nn.Embedding(5, 5)), X)
    with pytest.raises(ValueError, match=r"has stacked nets, .*give one, network_of\(0\)"):
        layer_outputs(Replicated([nn.Sequential(nn.Linear(5, 2))]), X[None])
    with pytest.raises(ValueError, match="between two layers, and only 1 was called"):
        layer_jacobians(nn.Sequential(nn.Linear(5, 2), nn.Tanh()), X)
    with pytest.raises(ValueError, match=r"from 1 to 3 have 16 x 5000 x 5000 numbers, more than 2\^28; give fewer"):
        layer_jacobians(nn.Sequential(nn.Linear(5, 5000), nn.Tanh(), nn.Linear(5000, 5000), nn.Tanh()), X)


def test_kernels_that_were_compiled_before_do_not_hide_the_layers():
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    expected = layer_signals(net, X, Y)
    net.compile(backend="eager")
    net(X)
    assert layer_signals(net, X, Y)["1"] == expected["1"]


def test_jacobians_are_those_of_the_formula_and_shrink_as_glorot_says():
    torch.manual_seed(0)
    n = 200
    net = nn.Sequential(nn.Linear(n, n), nn.Tanh(), nn.Linear(n, n), nn.Tanh())
    x = torch.randn(3, n)
    (values,) = layer_jacobians(net, x).values()
    a, w = net[:2](x).detach().numpy(), net[2].weight.detach().numpy()
    slopes = 1 - net(x).detach().numpy() ** 2
    for own, slope in zip(values, slopes, strict=True):
        expected = np.linalg.svd(slope[:, None] * w, compute_uv=False)
        np.testing.assert_allclose(own.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert a.shape == (3, n)
    for rule, variance in ((None, 1 / 3), ("xavier_uniform", 1.0)):
        initialize(net, rule)
        (values,) = layer_jacobians(net, 1e-3 * x[:1]).values()
        assert float(values.mean()) == pytest.approx(8 / (3 * math.pi) * variance**0.5, rel=0.03)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.tanh = nn.Embedding(9, 4), nn.LSTM(4, 5, batch_first=True), nn.Tanh()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(input=self.tanh(self.lstm(self.embedding(x))[0][:, -1]))


def test_whole_numbers_go_in_and_layers_may_return_several_and_be_called_by_name():
    net, x = Words(), torch.randint(0, 9, (16, 6), generator=torch.Generator().manual_seed(0))
    found = layer_signals(net, x, Y, layers=["lstm", "head"])
    out = net.lstm(net.embedding(x))[0].detach().requires_grad_()
    F.cross_entropy(net.head(net.tanh(out[:, -1])), Y, reduction="sum").backward()
    assert found["lstm"].deviation == pytest.approx(out.detach().std(correction=0).item(), rel=1e-5)
    assert found["lstm"].gradient == pytest.approx(out.grad.square().mean().sqrt().item(), rel=1e-4)
    assert list(layer_signals(net, x, Y)) == ["tanh", "head"]
    with torch.inference_mode():
        assert layer_signals(net, x.clone(), Y.clone(), layers="lstm")["lstm"] == pytest.approx(
            found["lstm"], nan_ok=True
        )


def test_units_of_volumes_are_channels_and_no_number_is_neither_flat_nor_dead():
    net = nn.Sequential(nn.Conv3d(1, 4, 2), nn.ReLU())
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([-100.0, 9, 9, 9]))
    assert layer_signals(net, torch.rand(3, 1, 4, 4, 4))["1"].dead == 25
    broken = layer_signals(net, torch.full((3, 1, 4, 4, 4), torch.nan))["1"]
    assert math.isnan(broken.saturation)
    assert math.isnan(broken.dead)


class Regression(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithoutForward(Regression):
    forward = pl.LightningModule.forward


def test_of_a_regression_there_are_signals_but_no_gradients_of_a_cross_entropy():
    data = DataLoader(TensorDataset(X, X[:, :1]), 16)
    trainer = pl.Trainer(max_epochs=1, callbacks=[seen := LayerSignals()], enable_checkpointing=False)
    trainer.fit(Regression(), data)
    assert {name.partition("/")[0] for name in seen.last} == {"mean", "deviation", "saturation", "dead"}
    with pytest.raises(
        pl.utilities.exceptions.MisconfigurationException, match="WithoutForward has no forward; give it"
    ):
        pl.Trainer(max_epochs=1, callbacks=[LayerSignals()], enable_checkpointing=False).fit(WithoutForward(), data)


class OfWords(Regression):
    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch["words"]), batch["score"])


def test_unusual_keys_are_named_and_what_is_said_of_them_helps():
    data = DataLoader([{"words": x, "score": x[:1]} for x in X], 16)
    options = {"max_epochs": 1, "enable_checkpointing": False}
    with pytest.raises(
        pl.utilities.exceptions.MisconfigurationException,
        match=r'LayerSignals reads the samples and labels .*\(batch=\("image", "label"\)\)',
    ):
        pl.Trainer(callbacks=[LayerSignals()], **options).fit(OfWords(), data)
    pl.Trainer(callbacks=[seen := LayerSignals(batch=("words", "score"))], **options).fit(OfWords(), data)
    assert "deviation/net.1" in seen.last
