from __future__ import annotations

import copy

import pytest
import torch
from lsuv import lsuv_with_singlebatch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from lightning_regs.init import initialize

DATA = ("data_statistics", "lsuv", "pca")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(number: int = 128) -> Tensor:
    return torch.rand(number, 3, 12, 12, generator=seeded())


def foreign() -> nn.Sequential:
    """Convolutions with groups, strides, gaps and padding, then linear layers, one with more units than inputs."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, padding_mode="reflect"), nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=2, dilation=2, padding="same"), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(432, 30), nn.ReLU(), nn.Linear(30, 70), nn.Sigmoid(), nn.Linear(70, 10),
    )  # fmt: skip


def outputs(net: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return what each layer with weights makes of a batch in evaluation mode, one row a position."""
    found = []
    net.eval()
    for layer in net:
        x = layer(x)
        if hasattr(layer, "weight"):
            found.append((x if x.ndim == 2 else x.movedim(1, -1).flatten(0, -2)).detach())
    net.train()
    return found


@pytest.mark.parametrize("rule", DATA)
def test_outputs_have_variance_one_layer_by_layer(rule):
    net, x, before = foreign(), images(), torch.get_rng_state()
    done = initialize(net, rule, seeded(), x)
    assert len(done.drawn) == (5 if rule == "lsuv" else 10)
    assert not done.skipped
    assert torch.equal(before, torch.get_rng_state())
    assert net.training
    for out in outputs(net, x):
        assert out.var(correction=0) == pytest.approx(1, abs=0.02 if rule == "lsuv" else 1e-4)
        if rule != "lsuv":
            assert torch.allclose(out.var(0, correction=0), torch.ones(out.shape[1]), atol=1e-3)
            assert out.mean(0).abs().max() < 1e-5
    again = foreign()
    initialize(again, rule, seeded(), x)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_lsuv_is_its_author_s():
    ours, theirs = foreign(), foreign()
    torch.manual_seed(1)
    initialize(ours, "lsuv", None, images(), tolerance=1e-6)
    torch.manual_seed(1)
    lsuv_with_singlebatch(theirs, images(), std_tol=1e-6, verbose=False)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_lsuv_s_weights_are_orthonormal_up_to_their_scale_and_logits_can_be_left():
    net = foreign()
    head = net[-1].weight.clone()
    done = initialize(net, "lsuv", seeded(), images(), logits=False)
    gram = net[6].weight @ net[6].weight.T
    assert torch.allclose(gram / gram[0, 0], torch.eye(30), atol=1e-5)
    assert torch.equal(net[-1].weight, head)
    assert done.skipped == dict.fromkeys(("10.weight", "10.bias"), "the last layer, and logits=False")


def test_data_statistics_are_weight_norm_s_formulas():
    x = torch.randn(200, 6, generator=seeded()) * 3 + 1
    plain, normed = nn.Linear(6, 4), weight_norm(nn.Linear(6, 4))
    for net in (plain, normed):
        initialize(net, "data_statistics", seeded(), x)
    assert torch.allclose(plain.weight, normed.weight, atol=1e-6)
    assert torch.allclose(plain.bias, normed.bias)
    v = nn.init.normal_(torch.empty(4, 6), 0, 0.05, generator=seeded())
    t = x @ (v / v.norm(dim=1, keepdim=True)).T
    sd, mean = t.std(0, correction=0), t.mean(0)
    assert torch.allclose(normed.parametrizations.weight.original0.squeeze(), 1 / sd, rtol=1e-4)
    assert torch.allclose(normed.bias, -mean / sd, rtol=1e-4, atol=1e-5)


def test_pca_has_the_directions_of_scikit_learn():
    x = torch.randn(300, 8, generator=seeded()) @ torch.randn(8, 8, generator=seeded(1)) + 2
    net = nn.Linear(8, 5)
    initialize(net, "pca", seeded(), x)
    whitened = PCA(5, whiten=True).fit(x.numpy()).transform(x.numpy()) * (300 / 299) ** 0.5
    own = net(x).detach()
    signs = (own * torch.tensor(whitened)).sum(0).sign()
    assert torch.allclose(own * signs, torch.tensor(whitened, dtype=torch.float32), atol=1e-3)


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_pca_of_a_convolution_is_that_of_its_patches(kind):
    size = {nn.Conv1d: 9, nn.Conv2d: 7, nn.Conv3d: 5}[kind]
    spatial = int(kind.__name__[4])
    x = torch.randn(40, 4, *[size] * spatial, generator=seeded())
    net = kind(4, 6, 2, stride=2, padding=1, dilation=1)
    initialize(net, "pca", seeded(), x)
    out = net(x).movedim(1, -1).flatten(0, -2).detach()
    # Uncorrelated outputs of variance 1, of directions whose variance falls, as the inverse of the weight's length.
    assert torch.allclose(out.T.cov(correction=0), torch.eye(6), atol=1e-3)
    assert (net.weight.flatten(1).norm(dim=1).diff() > -1e-6).all()


def test_more_units_than_directions_are_uncorrelated_in_sets():
    x = torch.randn(300, 8, generator=seeded())
    x[:, 3] = x[:, 2]  # seven directions
    net = nn.Linear(8, 20)
    initialize(net, "pca", seeded(), x)
    covariance = net(x).detach().T.cov(correction=0)
    for start in (0, 7, 14):
        block = covariance[start : start + 7, start : start + 7]
        assert torch.allclose(block, torch.eye(len(block)), atol=1e-4)
    assert covariance.triu(1).abs().max() < 0.999  # no copies


def test_layers_are_set_in_the_order_of_their_calls_tied_ones_by_the_first():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.third, self.frozen = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
            self.third.weight = self.first.weight
            self.frozen.weight.requires_grad_(False)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            x = self.second(self.first(x) * scale)
            return self.frozen(self.third(x))

    net, x = Backwards(), torch.randn(64, 4, generator=seeded())
    kept = net.frozen.bias.clone()
    done = initialize(net, "lsuv", seeded(), [x, torch.tensor(3.0)])
    first = net.first(x).detach()
    assert first.var(correction=0) == pytest.approx(1, abs=0.02)
    assert net.second(3 * first).detach().var(correction=0) == pytest.approx(1, abs=0.02)
    assert torch.equal(net.frozen.bias, kept)
    assert done.drawn == ["second.weight", "first.weight"]
    assert done.skipped == {
        "unused.weight": "not used by the batch", "unused.bias": "not used by the batch",
        "third.weight": "tied to first.weight",
        "frozen.weight": "frozen", "frozen.bias": "beside a weight that stays",
    }  # fmt: skip
    named = initialize(Backwards(), "lsuv", seeded(), {"x": x, "scale": torch.tensor(3.0)})
    assert named == done


def test_a_tied_layer_has_a_bias_of_its_own():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    done = initialize(net, "lsuv", seeded(), torch.randn(64, 4, generator=seeded()))
    assert not net[2].bias.any()
    assert done == (["0.weight"], ["0.bias", "2.bias"], {"2.weight": "tied to 0.weight"})


@pytest.mark.slow
def test_lazy_layers_get_their_shape_and_a_compiled_net_is_set():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    done = initialize(net, "lsuv", seeded(), images())
    assert done.drawn == ["0.weight", "3.weight"]
    net.compile(backend="eager")
    with torch.no_grad():
        net[0].weight.mul_(100)
    initialize(net, "lsuv", seeded(), images())
    assert net(images()).detach().var(correction=0) == pytest.approx(1, abs=0.02)


def test_transformers_are_set_by_calls_that_their_fast_path_leaves_out():
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    done = initialize(net, "lsuv", seeded(), torch.randn(16, 5, 8, generator=seeded()))
    assert {"linear1.weight", "linear2.weight"} == set(done.drawn)
    assert done.skipped["self_attn.out_proj.weight"] == "not used by the batch"
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("rule", DATA)
@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (
            torch.ones(5, 7),
            r"Sequential cannot take the batch, of the shape \(5, 7\).*give initialize what it is called with",
        ),
        (["no"], "Sequential cannot take the batch, which is a list of 1"),
        (torch.zeros(64, 3, 12, 12), "0: what it sees in this batch does not vary"),
        (torch.full((64, 3, 12, 12), torch.nan), "0: what it sees in this batch is empty, infinite or no number"),
        (torch.full((64, 3, 12, 12), torch.inf), "0: what it sees in this batch is empty, infinite or no number"),
        (torch.zeros(0, 3, 12, 12), "0: what it sees in this batch is empty"),
    ],
)
def test_a_refused_batch_leaves_the_weights(rule, batch, said):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 2))
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(ValueError, match=said):
        initialize(net, rule, seeded(), batch)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not any(module._forward_hooks for module in net.modules())


def test_an_unbatched_sample_is_a_batch_of_one():
    x, nets = torch.randn(3, 8, 8, generator=seeded()), [nn.Conv2d(3, 4, 3) for _ in range(2)]
    for rule in DATA:
        for net, batch in zip(nets, (x, x[None]), strict=True):
            initialize(net, rule, seeded(), batch)
        assert torch.equal(nets[0].weight, nets[1].weight)


@pytest.mark.parametrize("rule", DATA)
def test_under_autocast_layers_see_the_new_weights_of_those_before(rule):
    net, x = foreign(), images()
    with torch.autocast("cpu", torch.bfloat16):
        net.eval()(x)
        initialize(net, rule, seeded(), x)
        out = net(x).float().detach()
    assert out.var(correction=0) == pytest.approx(1, abs=0.1)


def test_what_is_left_is_said_beside_a_weight_of_another_kind_too():
    net, odd = nn.Sequential(spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)), nn.Linear(3, 2)
    kept, x = net[0].bias.clone(), torch.randn(64, 4, generator=seeded())
    done = initialize(net, "pca", seeded(), x)
    assert torch.equal(net[0].bias, kept)
    assert done.drawn == ["2.weight", "2.bias"]
    assert done.skipped["0.bias"] == "beside a weight that stays"
    for parameter in odd.parameters():
        parameter.data = parameter.data.to(torch.complex64)
    with pytest.raises(ValueError, match=r"nothing to initialize: weight is complex; bias is complex"):
        initialize(odd, "pca", seeded(), x[:, :3].to(torch.complex64))


def test_buffers_stay_and_a_way_that_is_not_taken_again_is_said():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.large, self.small = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            h = self.first(x)
            return self.large(h) if h.var() > 2 else self.small(h)

    net = Branching()
    nn.init.constant_(net.first.weight, 9)
    kept = net.large.weight.clone()
    done = initialize(net, "lsuv", seeded(), torch.randn(64, 4, generator=seeded()))
    assert net.calls == 0
    assert done.drawn == ["first.weight"]
    assert done.skipped["large.weight"].startswith("not called again")
    assert torch.equal(net.large.weight, kept)


@pytest.mark.parametrize("rule", ["lsuv", "pca", "autoencoder"])
def test_inference_mode_changes_nothing(rule):
    nets, x = [net := foreign(), copy.deepcopy(net)], images()
    initialize(nets[0], rule, seeded(), x)
    with torch.inference_mode():
        initialize(nets[1], rule, seeded(), x)
    assert all(torch.equal(a, b) for a, b in zip(nets[0][6:9].parameters(), nets[1][6:9].parameters(), strict=True))
