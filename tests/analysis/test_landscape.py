"""Surfaces, directions and planes: closed forms, torch's own evaluation, sklearn's PCA, and nets left as they were."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regs.analysis import direction_to, interpolate, loss_surface, path_plane, random_direction
from lightning_regs.core.lightning import pl
from lightning_regs.layers import update_batch_norm
from lightning_regs.testing.modules import DICT


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=draws(seed), dtype=torch.float64)


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Nothing of a net changes, bit for bit, nor does torch's random stream."""
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    stream, wanted = torch.get_rng_state(), [p.requires_grad for p in net.parameters()]
    yield
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items() if isinstance(v, Tensor))
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == wanted
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), stream)


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.coder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decoder.weight = self.coder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.coder(x).tanh())


class Counting(nn.Module):
    """Counts its calls in a buffer, which vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += x.sum().abs() * 0 + 1 if self.layer.weight.sum() > -1e9 else 0
        return self.layer(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.unflatten(1, (2, 2)))[0][:, -1])


class Greedy(nn.Module):
    """Changes its samples in place, and returns more than vmap takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.layer(x.mul_(2).sub_(0.5).tanh_()), None


class Several(nn.Module):
    """Has two inputs, one by name, and a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(2, 4)

    def forward(self, x: Tensor, *, more: Tensor, scale: float | Tensor = 1.0) -> dict[str, Tensor]:
        return {"logits": self.left(x).tanh() + scale * self.right(more)}

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def batch_normed() -> nn.Module:
    layers = nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    net = nn.Sequential(*layers, nn.Linear(3, 4))
    net(double(64, 4, seed=5).float())
    return net


NETS = {
    "perceptron": lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 4)),
    "tied": Tied,
    "counting": Counting,
    "recurrent": Recurrent,
    "batch norm": batch_normed,
    "transformer": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.TransformerEncoderLayer(2, 1, 3, batch_first=True), nn.Flatten(), nn.Linear(4, 4)
    ),
    "greedy": lambda: Greedy(),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh()),
}


def network(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return NETS[kind]().double()


def first(out: Tensor | tuple[Tensor, None], y: Tensor) -> Tensor:
    return F.cross_entropy(out if isinstance(out, Tensor) else out[0], y)


def test_of_a_quadratic_the_surface_is_the_closed_form() -> None:
    """sum(h (w - c)²) / 2 at w + a d + b e, whatever is taken at a time."""
    h, c, w, d, e = double(5, seed=1).abs() + 0.1, *(double(5, seed=k) for k in range(2, 6))
    net = nn.Linear(5, 1, bias=False, dtype=torch.float64)
    net.weight.data = w[None]
    x = (5 * h).sqrt().diag()
    y = (x @ c)[:, None]
    for options in ({"together": 1}, {"together": 7, "batch_size": 2}, {}):
        with untouched(net):
            made = loss_surface(net, x, y, [{"weight": d[None]}, {"weight": e[None]}], 5, (-0.5, 1.5),
                                lambda o, t: F.mse_loss(o, t) / 2, **options)  # fmt: skip
        for i, a in enumerate(made.at[0]):
            for j, b in enumerate(made.at[1]):
                assert made.losses[i, j] == pytest.approx(float((h * (w + a * d + b * e - c) ** 2).sum() / 2))
        assert made.at[0].tolist() == [-0.5, 0, 0.5, 1, 1.5]
        assert made.accuracies.isnan().all()


@pytest.mark.parametrize("kind", NETS)
def test_of_any_module_it_is_what_the_module_computes_at_these_weights(kind: str) -> None:
    net, x, y = network(kind), double(20, 4), torch.arange(20) % 4
    directions = [random_direction(net, draws(k)) for k in (1, 2)]
    samples = x.clone()
    with untouched(net):
        made = loss_surface(net, x, y, directions, 3, (-1, 1), first, together=4, batch_size=8)
    assert torch.equal(x, samples)
    for i, a in enumerate(made.at[0]):
        for j, b in enumerate(made.at[1]):
            other = copy.deepcopy(net).eval()
            with torch.no_grad():
                for name, p in other.named_parameters():
                    p += a * directions[0][name] + b * directions[1][name]
                out = other(x.clone())
            assert made.losses[i, j] == pytest.approx(first(out, y).item(), rel=1e-9)
            if kind == "greedy":
                assert made.accuracies.isnan().all()
            else:
                assert made.accuracies[i, j] == pytest.approx(100 * (out.argmax(1) == y).double().mean().item())
    assert made.losses[1, 1] != made.losses[0, 0]


@pytest.mark.parametrize("together", [1, 3])
def test_several_inputs_are_arguments_or_a_mapping_of_named_ones(together: int) -> None:
    net, x, more, y = Several().double(), double(20, 4), double(20, 2, seed=1), torch.arange(20) % 4
    direction = random_direction(net, draws())

    def loss(out: dict[str, Tensor], to: Tensor) -> Tensor:
        return F.cross_entropy(out["logits"], to)

    inputs = {"x": x, "more": more, "scale": torch.tensor(2.0).double()}
    with untouched(net):
        made = loss_surface(net, inputs, y, [direction], 3, loss=loss, batch_size=7, together=together)
    assert made.losses[1] == pytest.approx(loss(net(**inputs), y).item())
    assert made.accuracies.isnan().all()
    joined = nn.Bilinear(4, 2, 4).double()
    pair = loss_surface(joined, (x, more), y, [random_direction(joined, draws())], 3, together=together)
    assert pair.losses[1] == pytest.approx(F.cross_entropy(joined(x, more), y).item())
    assert pair.accuracies[1] == pytest.approx(100 * (joined(x, more).argmax(1) == y).double().mean().item())
    other = Several().double()
    assert direction_to(net, other).keys() == direction.keys()
    with pytest.raises(
        ValueError, match=r"x must have as many samples .* which has 20; its tensors are \(20, 4\), \(19,"
    ):
        loss_surface(net, {"x": x, "more": more[:19]}, y, [direction], loss=loss)
    with pytest.raises(ValueError, match="x must have as many samples"):
        loss_surface(net, [], y, [direction])
    with pytest.raises(TypeError, match="the network returns dict, which cross_entropy does not take; give loss="):
        loss_surface(net, inputs, y, [direction], 3)


def test_one_output_has_no_accuracy() -> None:
    net, x, y = nn.Linear(4, 1), torch.randn(9, 4), torch.arange(9) % 2

    def loss(out: Tensor, to: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out[:, 0], to.float())

    assert loss_surface(net, x, y, [random_direction(net, draws())], 3, loss=loss).accuracies.isnan().all()


def test_few_samples_of_a_large_net_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = nn.Linear(2**12, 2**12, bias=False), torch.randn(2, 2**12), torch.arange(2)
    module, sizes = importlib.import_module("lightning_regs.analysis.landscape.loss_surface"), []
    monkeypatch.setattr(module, "moved", lambda _, __, at: sizes.append(len(at)) or {"weight": net.weight[None]})
    monkeypatch.setattr(module, "_measured", lambda _, __, ___, ____, *_____, **______: torch.zeros(sizes[-1], 2))
    module.loss_surface(net, x, y, [random_direction(net, draws())], 21)
    assert sum(sizes) == 21
    assert max(sizes) * net.weight.numel() <= 2**26


@pytest.mark.parametrize("together", [1, 4])
def test_a_net_is_as_it_was_after_an_error_too(together: int) -> None:
    net, x, y, calls = network("batch norm"), double(20, 4), torch.arange(20) % 4, []

    def loss(out: Tensor, to: Tensor) -> Tensor:
        calls.append(out)
        if len(calls) == 3:
            raise KeyError("lost")
        return F.cross_entropy(out, to)

    with untouched(net), pytest.raises(KeyError):
        loss_surface(net, x, y, [random_direction(net, draws())], 5, loss=loss, together=together)
    assert len(calls) == 3


def test_tensors_of_inference_mode_and_narrow_numbers_are_taken() -> None:
    net, y = network("perceptron"), torch.arange(20) % 4
    direction = random_direction(net, draws())
    with torch.inference_mode():
        x, labels = double(20, 4) * 1, y * 1
        made = loss_surface(net, x, labels, [direction], 5).losses
    exact = loss_surface(net, double(20, 4), y, [direction], 5).losses
    assert torch.equal(made, exact)
    narrow = copy.deepcopy(net).bfloat16()
    found = loss_surface(narrow, x.clone().bfloat16(), y, [random_direction(narrow, draws())], 5).losses
    assert torch.allclose(found, exact, rtol=0.05)
    single = copy.deepcopy(net).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_surface(single, x.clone().float(), y, [direction], 5).losses
    assert torch.allclose(found, exact, rtol=0.05)
    assert not torch.equal(found, exact)


def test_each_filter_of_a_direction_is_as_long_as_the_net_s_and_biases_and_norms_stay() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.LayerNorm([3, 4, 4]), nn.Flatten(), nn.Linear(48, 5))
    net[0].weight.data[1] = 0
    net[4].bias.requires_grad_(False)
    direction = random_direction(net, draws())
    assert list(direction) == [name for name, p in net.named_parameters() if p.requires_grad]
    for layer in (0, 4):
        length, weight = (w.flatten(1).norm(dim=1) for w in (direction[f"{layer}.weight"], net[layer].weight))
        assert torch.allclose(length, weight, rtol=1e-5)
    assert not any(direction[f"{name}"].any() for name in ("0.bias", "1.weight", "1.bias", "2.weight", "2.bias"))
    plain = random_direction(net, draws(), normalized=False)
    assert plain["4.weight"].std().item() == pytest.approx(1, abs=0.1)
    cosine = F.cosine_similarity(plain["4.weight"], direction["4.weight"])
    assert torch.allclose(cosine, torch.ones(5), atol=1e-5)
    assert not torch.equal(random_direction(net, draws(1))["4.weight"], direction["4.weight"])


@pytest.mark.parametrize("normalized", [True, False])
def test_a_net_scaled_without_changing_its_function_has_the_same_surface_if_filters_are_normalized(
    normalized: bool,
) -> None:
    torch.manual_seed(0)
    net, x, y = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 4)).double(), double(20, 4), torch.arange(20) % 4
    scaled = copy.deepcopy(net)
    for p, factor in zip(scaled.parameters(), (8, 8, 1 / 8, 1), strict=True):
        p.data *= factor
    one, other = (loss_surface(n, x, y, [random_direction(n, draws(), normalized)], 5).losses for n in (net, scaled))
    assert one[2] == pytest.approx(float(other[2]))
    assert torch.allclose(one, other, rtol=1e-6) == normalized


def test_interpolation_moves_running_statistics_and_is_that_of_state_dicts() -> None:
    start, end = network("batch norm", 1), network("batch norm", 2)
    update_batch_norm(end, [double(64, 4, seed=7) * 3 + 1])
    x, y = double(20, 4), torch.arange(20) % 4
    a, b = copy.deepcopy(start.state_dict()), end.state_dict()
    with untouched(start):
        made = loss_surface(start, x, y, [direction_to(start, end)], 5, (-0.5, 1.5))
    reader = network("batch norm").eval()
    for at, loss in zip(made.at[0], made.losses, strict=True):
        within = interpolate(a, b, min(max(float(at), 0), 1))
        reader.load_state_dict(interpolate(a, b, float(at)) | {k: v for k, v in within.items() if "running" in k})
        assert loss == pytest.approx(F.cross_entropy(reader(x), y).item(), rel=1e-9)
    assert "2.running_var" in direction_to(start, end)


def test_directions_lead_to_modules_states_and_checkpoints_alike(tmp_path: Path) -> None:
    start, module = DICT.build([]), DICT.build([])
    path = tmp_path / "last.ckpt"
    trainer = pl.Trainer(max_epochs=1, limit_train_batches=1, enable_checkpointing=False)
    trainer.fit(module, DICT.loader())
    trainer.save_checkpoint(path)
    expected = {name: p - dict(start.named_parameters())[name] for name, p in module.named_parameters()}
    for other in (module, module.state_dict(), path, str(path), torch.load(path, weights_only=False)):
        found = direction_to(start, other)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    with pytest.raises(ValueError, match=r"last.ckpt has no '1.weight', as Sequential has; it has 'net.1.weight'"):
        direction_to(start.net, path)


def test_the_plane_of_a_path_is_sklearn_s() -> None:
    net = network("batch norm")
    path = []
    for k in range(6):
        path.append(copy.deepcopy(net.state_dict()))
        for p in net.parameters():
            p.data += double(*p.shape, seed=k) * (6 - k)
    with untouched(net):
        made = path_plane(net, path)
    names = [name for name, _ in net.named_parameters()]
    rows = torch.stack([torch.cat([state[name].flatten() for name in names]) for state in path])
    theirs = PCA().fit(rows.numpy())
    assert made.shares.tolist() == pytest.approx(theirs.explained_variance_ratio_[:5].tolist())
    own = torch.cat([p.detach().flatten() for p in net.parameters()])
    for k, direction in enumerate(made.directions):
        vector = torch.cat([direction[name].flatten() for name in names])
        assert abs(vector @ torch.from_numpy(theirs.components_[k])) == pytest.approx(1, abs=1e-9)
        assert torch.allclose(made.path[:, k], (rows - own) @ vector)
    x, y = double(20, 4), torch.arange(20) % 4
    assert loss_surface(net, x, y, made.directions, 3).losses.isfinite().all()


def test_a_path_on_a_line_has_one_direction_and_a_random_walk_three_quarters_of_its_variance_in_two() -> None:
    net = nn.Linear(100, 100, bias=False)
    line = [{"weight": k * torch.ones(100, 100)} for k in range(4)]
    found = path_plane(net, line)
    assert found.shares.tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert not found.directions[1]["weight"].any()
    walk = [{"weight": w} for w in torch.randn(100, 100, 100, generator=draws()).cumsum(0)]
    two = 6 / math.pi**2 * (1 + 1 / 4)
    assert float(path_plane(net, walk).shares[:2].sum()) == pytest.approx(two, abs=0.02)


def test_a_path_that_no_plane_holds_is_refused() -> None:
    net = nn.Linear(3, 2)
    still = [copy.deepcopy(net.state_dict()) for _ in range(4)]
    for state in still:
        state["bias"] += 0.3
    with pytest.raises(
        ValueError, match=r"path has 4 weights with the variance .*, which no plane can hold; give weights"
    ):
        path_plane(net, still)
    still[1]["weight"][0, 0] = math.nan
    with pytest.raises(ValueError, match=r"with the variance nan, .* give weights that differ, and are finite numbers"):
        path_plane(net, still)


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    net, other, x, y = nn.Linear(4, 3), nn.Linear(4, 2), torch.randn(5, 4), torch.arange(5) % 3
    direction = random_direction(net, draws())
    with pytest.raises(ValueError, match=r"has 'weight' of the shape \(2, 4\), and Linear has 'weight' of the shape"):
        loss_surface(net, x, y, [random_direction(other, draws())])
    with pytest.raises(ValueError, match="directions are empty, so that nothing moves; make them by random_direction"):
        loss_surface(net, x, y, [{}])
    with pytest.raises(ValueError, match=r"LayerNorm has no weight of two dimensions .* so that no filter can move"):
        random_direction(nn.LayerNorm(4), draws())
    with pytest.raises(ValueError, match=r"has no 'weight', and Linear has 'weight' .*; make the direction of this"):
        loss_surface(net, x, y, [{"bias": direction["bias"]}])
    with pytest.raises(ValueError, match=r"has 'more' of the shape \(2,\), and Linear has no 'more'"):
        loss_surface(net, x, y, [direction | {"more": torch.ones(2)}])
    with pytest.raises(ValueError, match=r"points must be at least 2, got 1: .* ends; take 51"):
        loss_surface(net, x, y, [direction], 1)
    with pytest.raises(ValueError, match=r"ends must be .* with first below last"):
        loss_surface(net, x, y, [direction], ends=(1, -1))
    with pytest.raises(ValueError, match="directions must be one direction or two, got 3"):
        loss_surface(net, x, y, [direction] * 3)
    with pytest.raises(ValueError, match=r"OrderedDict has 'weight' of the shape \(2, 4\), and Linear of \(3, 4\)"):
        direction_to(net, other.state_dict())
    with pytest.raises(ValueError, match="dict has no 'bias', as Linear has; give one of a Linear"):
        direction_to(net, {"weight": net.weight, "bias": 3.0})
    with pytest.raises(ValueError, match=r"the loss has to be one number .*, got a Tensor of shape \(5,\)"):
        loss_surface(net, x, y, [direction], loss=lambda out, to: F.cross_entropy(out, to, reduction="none"))
    with pytest.raises(ValueError, match="path has 2 weights, and two directions need three"):
        path_plane(net, [net, net])
