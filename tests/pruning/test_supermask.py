"""Supermasks: gradients in closed form, densities, what stays frozen, evaluation, resume, and whether they learn."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier
from lightning_regs.core.lightning import pl
from lightning_regs.models import build
from lightning_regs.pruning.learned_masks import BernoulliMask, EdgePopup, straight_through
from lightning_regs.pruning.masks import Mask
from lightning_regs.pruning.rounds import Pruning
from lightning_regs.pruning.supermask import (
    add_supermask,
    apply_supermask,
    learned_mask,
    set_evaluation,
    signed_constants,
)
from lightning_regs.training.replicas import Replicated


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in network.named_parameters() if not n.endswith("scores")}


def scores_of(network: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in network.named_parameters() if n.endswith("scores")}


# -- the functions ---------------------------------------------------------------------------------------------------


def masked_layer(mask: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One draw: the masked weight, the gradient of a loss with respect to it, and that with respect to the scores."""
    torch.manual_seed(1)
    masked = mask(weight)
    masked.retain_grad()
    targets = torch.randn(5, weight.shape[0], generator=generator(2), dtype=weight.dtype)
    inputs = torch.randn(5, weight.shape[1], generator=generator(3), dtype=weight.dtype)
    (F.linear(inputs, masked) - targets).pow(4).sum().backward()
    assert masked.grad is not None
    return masked.detach(), masked.grad, mask.scores.grad


def test_gradient_of_a_logit_is_that_of_the_masked_weight_times_the_weight_and_the_sigmoid_s_slope():
    weight, logits = (torch.randn(4, 6, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    masked, upstream, gradient = masked_layer(BernoulliMask(logits.clone(), False, "sample"), weight)
    assert torch.equal((masked == 0) | (masked == weight), torch.ones(4, 6, dtype=torch.bool))
    assert 0 < (masked == 0).sum() < 24
    p = 1 / (1 + (-logits).exp())
    assert torch.allclose(gradient, upstream * weight * p * (1 - p), rtol=1e-12, atol=1e-14)
    assert (gradient[masked == 0] != 0).all()


def test_gradient_of_a_rescaled_logit_goes_through_the_number_of_ones():
    weight, logits = (torch.randn(4, 6, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    masked, upstream, gradient = masked_layer(BernoulliMask(logits.clone(), True, "sample"), weight)
    mask = (masked != 0).double()
    ones = mask.sum()
    assert torch.allclose(masked, weight * mask * 24 / ones, rtol=1e-12)
    p = logits.sigmoid()
    through_the_number = (upstream * weight * mask).sum() * 24 / ones**2
    expected = (upstream * weight * 24 / ones - through_the_number) * p * (1 - p)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rescale", [False, True])
def test_gradient_of_an_edge_s_score_is_that_of_the_masked_weight_times_the_weight_and_the_score_s_sign(rescale):
    weight, scores = (torch.randn(4, 6, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    masked, upstream, gradient = masked_layer(EdgePopup(scores.clone(), rescale, 0.25), weight)
    factor = 2 if rescale else 1
    largest = scores.abs() >= scores.abs().flatten().sort().values[-6]
    assert torch.allclose(masked, torch.where(largest, weight * factor, 0), rtol=1e-15)
    assert torch.allclose(gradient, factor * upstream * weight * scores.sign(), rtol=1e-12)


def test_second_derivatives_go_through_the_sigmoid():
    weight, logits = (torch.randn(3, 2, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    mask = BernoulliMask(logits.clone(), False, "sample")
    (gradient,) = torch.autograd.grad(mask(weight).sum(), mask.scores, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), mask.scores)
    p = logits.sigmoid()
    assert torch.allclose(second, weight * p * (1 - p) * (1 - 2 * p), rtol=1e-12)


def test_straight_through_is_exactly_the_mask():
    scores = torch.randn(1000, generator=generator()).requires_grad_()
    mask = torch.rand(1000, generator=generator(1)) < 0.5
    out = straight_through(mask, scores)
    assert torch.equal(out, mask.float())
    (gradient,) = torch.autograd.grad(out.sum(), scores)
    assert torch.equal(gradient, torch.ones(1000))


@pytest.mark.parametrize("logit", [-2.0, 0.0, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_density_is_the_keep_probability_in_expectation(logit, dtype):
    mask = BernoulliMask(torch.full((200, 100), logit, dtype=dtype), False, "sample")
    torch.manual_seed(0)
    weight = torch.ones(200, 100, dtype=dtype)
    draws = torch.stack([mask(weight).detach().float() for _ in range(10)])
    p = 1 / (1 + math.exp(-logit))
    # Five standard deviations of the mean of independent draws.
    assert draws.mean().item() == pytest.approx(
        p, abs=5 * math.sqrt(p * (1 - p) / draws.numel()) + (dtype.itemsize == 2) * 2e-3
    )
    assert draws[0].ne(draws[1]).any()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 0.999), st.integers(0, 1000), st.booleans())
def test_edge_popup_keeps_the_exact_number_also_among_equal_scores(size, density, seed, ties):
    scores = torch.randn(size, generator=generator(seed))
    mask = EdgePopup(scores.round() if ties else scores, False, density).learned()
    assert int(mask.sum()) == max(1, round(density * size))
    if not ties and not mask.all():
        assert scores[mask].abs().min() >= scores[~mask].abs().max()


def test_rescaling_keeps_the_variance_of_sums():
    torch.manual_seed(0)
    weight, x = torch.randn(200, 300), torch.randn(500, 300)
    edges = EdgePopup(torch.rand(200, 300), True, 0.3)
    assert F.linear(x, edges(weight)).var().item() == pytest.approx(F.linear(x, weight).var().item(), rel=0.05)


def test_of_no_ones_rescaling_makes_finite_zeros():
    mask = BernoulliMask(torch.full((3, 4), -100.0), True, "sample")
    assert torch.equal(mask(torch.randn(3, 4)).detach(), torch.zeros(3, 4))


def test_signed_constants_have_the_signs_and_the_standard_deviation():
    weight = torch.tensor([[1.0, -2.0], [0.0, 5.0]], dtype=torch.float64)
    mean = 1.0
    std = math.sqrt(sum((w - mean) ** 2 for w in (1, -2, 0, 5)) / 4)
    expected = torch.tensor([[std, -std], [0, std]], dtype=torch.float64)
    assert torch.allclose(signed_constants(weight), expected, rtol=1e-14)


# -- on a network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bernoulli", "edge_popup"])
def test_every_parameter_is_frozen_and_every_masked_weight_has_scores(kind):
    dense = small_net()
    network = add_supermask(copy.deepcopy(dense), kind)
    trained = [n for n, p in network.named_parameters() if p.requires_grad]
    assert trained == ["0.parametrizations.weight.0.scores", "4.parametrizations.weight.0.scores"]
    assert [p.shape for p in scores_of(network).values()] == [dense[0].weight.shape, dense[4].weight.shape]
    assert list(learned_mask(network)) == ["0.weight", "4.weight"]
    assert isinstance(network[0], nn.Conv2d)
    for name, weight in (("0", dense[0].weight), ("4", dense[4].weight)):
        layer = network.get_submodule(name)
        assert torch.equal(layer.parametrizations.weight.original, weight)
        drawn = layer.weight
        assert ((drawn == 0) | (drawn == weight)).all()
        assert (drawn == 0).any()


def test_learned_masks_are_probabilities_or_a_mask():
    network = add_supermask(small_net(), initial_logit=1.0)
    assert all(torch.allclose(p, torch.tensor(1 / (1 + math.exp(-1)))) for p in learned_mask(network).values())
    assert not any(p.requires_grad for p in learned_mask(network).values())
    mask = Mask(learned_mask(add_supermask(small_net(), "edge_popup", density=0.5)))
    assert mask.counts == {"0.weight": 27, "4.weight": 96}
    mask = Mask(learned_mask(add_supermask(small_net(), "edge_popup")))  # by default three tenths
    assert mask.counts == {"0.weight": round(0.3 * 54), "4.weight": round(0.3 * 192)}
    start = learned_mask(add_supermask(small_net()))
    assert all((p == 0.5).all() for p in start.values())


@pytest.mark.parametrize("kind", ["bernoulli", "edge_popup"])
@pytest.mark.parametrize("ties", [False, True])
def test_stacked_networks_have_learned_each_its_own_mask(kind, ties):
    networks = [add_supermask(small_net(seed), kind, generator=generator(seed)) for seed in range(3)]
    for scale, network in zip((1, 10, 100), networks, strict=True):
        for scores in scores_of(network).values():
            with torch.no_grad():
                scores.mul_(scale * 20 if ties else scale).copy_(scores.round() if ties else scores)
    stacked = learned_mask(Replicated(networks))
    alone = [learned_mask(network) for network in networks]
    assert list(stacked) == list(alone[0])
    for name, mask in stacked.items():
        assert torch.equal(mask, torch.stack([one[name] for one in alone]))
    if kind == "edge_popup":
        assert Mask(stacked).unstack() == [Mask(one) for one in alone]
    one = Replicated(networks[1:2])
    assert torch.equal(learned_mask(one)["4.weight"][0], alone[1]["4.weight"])


def test_initial_scores_are_uniform_within_one_over_the_root_of_fan_in():
    network = add_supermask(nn.Sequential(nn.Linear(400, 300)), "edge_popup", generator=generator())
    (scores,) = scores_of(network).values()
    assert scores.abs().max().item() == pytest.approx(1 / 20, rel=1e-3)
    assert scores.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    again = add_supermask(nn.Sequential(nn.Linear(400, 300)), "edge_popup", generator=generator())
    assert torch.equal(scores, next(iter(scores_of(again).values())))


def test_signed_constants_replace_the_weights():
    dense = small_net()
    before = torch.get_rng_state()
    network = add_supermask(copy.deepcopy(dense), weights="signed_constant")
    assert torch.equal(before, torch.get_rng_state())  # a Bernoulli mask starts without a draw
    for name in ("0", "4"):
        original = network.get_submodule(name).parametrizations.weight.original
        assert torch.equal(original, signed_constants(dense.get_submodule(name).weight))
        assert len(original.abs().unique()) == 1
        assert not original.requires_grad


@pytest.mark.parametrize("layers", ["4", "4.weight", ["*4*"]])
def test_layers_that_are_not_named_stay_dense_and_frozen(layers):
    network = add_supermask(small_net(), layers=layers)
    assert list(learned_mask(network)) == ["4.weight"]
    assert not network[0].weight.requires_grad
    assert isinstance(network[0].weight, nn.Parameter)


def test_a_module_under_two_names_is_masked_once():
    layer = nn.Linear(4, 4)
    network = add_supermask(nn.Sequential(layer, nn.ReLU(), layer))
    assert list(learned_mask(network)) == ["0.weight"]
    assert list(learned_mask(add_supermask(nn.Linear(3, 2)))) == ["weight"]


def test_evaluation_samples_expects_or_thresholds():
    torch.manual_seed(0)
    layer = nn.Linear(20, 10)
    weight = layer.weight.detach().clone()
    network = add_supermask(nn.Sequential(layer))
    logits = torch.randn(10, 20, generator=generator())
    with torch.no_grad():
        network[0].parametrizations.weight[0].scores.copy_(logits)
    network.eval()
    assert not torch.equal(network[0].weight, network[0].weight)
    set_evaluation(network, "expected")
    assert torch.allclose(network[0].weight, weight * logits.sigmoid())
    set_evaluation(network, "threshold")
    assert torch.equal(network[0].weight, torch.where(logits >= 0, weight, 0))
    assert not torch.equal(network.train()[0].weight, network[0].weight)
    set_evaluation(network, "sample")
    assert not torch.equal(network.eval()[0].weight, network[0].weight)


@pytest.mark.parametrize("evaluation", ["sample", "expected", "threshold"])
def test_evaluation_can_be_chosen_when_the_mask_is_added(evaluation):
    network = add_supermask(small_net(), evaluation=evaluation, rescale=True).eval()
    x = torch.randn(3, 2, 6, 6, generator=generator())
    assert torch.equal(network(x), network(x)) == (evaluation != "sample")


def test_a_trained_network_s_state_goes_into_a_fresh_one():
    network, fresh = add_supermask(small_net(), "edge_popup"), add_supermask(small_net(1), "edge_popup")
    fresh = copy.deepcopy(fresh)
    fresh.load_state_dict(network.state_dict())
    x = torch.randn(3, 2, 6, 6, generator=generator())
    assert torch.equal(network.eval()(x), fresh.eval()(x))
    plain = {n.replace("parametrizations.", "").replace(".original", "") for n in network.state_dict()}
    assert {n for n in plain if not n.endswith("scores")} == set(small_net().state_dict())


def test_stacked_networks_can_have_supermasks():
    torch.manual_seed(0)
    networks = [
        add_supermask(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), "edge_popup", rescale=True)
        for _ in range(3)
    ]
    stacked, x = Replicated(networks), torch.randn(3, 7, 5)
    expected = torch.stack([network(part) for network, part in zip(networks, x, strict=True)])
    out = stacked(x)
    assert torch.allclose(out, expected, atol=1e-6)
    gradients = torch.autograd.grad(out.square().sum(), [p for p in stacked.parameters() if p.requires_grad])
    singles = [
        torch.autograd.grad(n(p).square().sum(), scores_of(n).values()) for n, p in zip(networks, x, strict=True)
    ]
    for gradient, single in zip(gradients, zip(*singles, strict=True), strict=True):
        assert torch.allclose(gradient, torch.stack(single), atol=1e-5)


def test_stacked_bernoulli_masks_are_drawn_for_each_network():
    networks = [add_supermask(nn.Sequential(nn.Linear(30, 40, bias=False)), rescale=True) for _ in range(2)]
    for network in networks:
        nn.init.ones_(network[0].parametrizations.weight.original)
    kept = Replicated(networks)(torch.eye(30).expand(2, 30, 30)) > 0
    assert 0.4 < kept[0].float().mean() < 0.6
    assert kept[0].ne(kept[1]).any()


# -- in training -----------------------------------------------------------------------------------------------------


def quadrants(number: int = 512) -> tuple[Tensor, Tensor]:
    """A problem that no linear map solves, and a net with biases of 0 can: whether two coordinates agree in sign."""
    x = torch.randn(number, 2, generator=generator(1))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def quadrant_net() -> nn.Module:
    torch.manual_seed(0)
    return build("mlp", (2,), 2, hidden=[64, 64], init="kaiming_normal")


def fit(model: pl.LightningModule, epochs: int, ckpt: Any = None) -> pl.Trainer:
    trainer = pl.Trainer(max_epochs=epochs, enable_checkpointing=False)
    data = DataLoader(TensorDataset(*quadrants()), batch_size=64)
    trainer.fit(model, data, ckpt_path=ckpt)
    return trainer


def accuracy(network: nn.Module) -> float:
    x, y = quadrants()
    with torch.no_grad():
        correct = network.eval()(x).argmax(1) == y
    network.train()
    return correct.float().mean().item()


def classifier(kind: str = "bernoulli", lr: float = 10.0, **options: Any) -> Classifier:
    network = add_supermask(quadrant_net(), kind, **options)
    return Classifier(network, optimizer={"name": "SGD", "lr": lr, "momentum": 0.9}, seed=0)


class Own(pl.LightningModule):
    """A user's module, which adds the mask itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = add_supermask(quadrant_net())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.body(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=10.0, momentum=0.9, weight_decay=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"), [("bernoulli", {}), ("edge_popup", {"lr": 0.1, "density": 0.5})], ids=["bernoulli", "edge"]
)
@pytest.mark.slow
def test_masks_learn_in_the_classifier(kind, options):
    model = classifier(kind, **options)
    start = accuracy(model.network)
    fit(model, 15)
    if kind == "bernoulli":
        set_evaluation(model, "threshold")
    assert start < 0.75 < 0.95 < accuracy(model.network)
    assert list(learned_mask(model)) == ["network.body.1.weight", "network.body.3.weight", "network.head.weight"]


def test_frozen_weights_never_change_and_masks_learn_in_a_user_s_module():
    model = Own()
    before = weights_of(model)
    fit(model, 15)
    after = weights_of(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    set_evaluation(model, "expected")
    assert accuracy(model.body) > 0.95


def test_resume_at_an_epoch_s_end_equals_the_uninterrupted_run_bit_for_bit(tmp_path):
    whole = classifier(rescale=True)
    fit(whole, 4)
    half = classifier(rescale=True)
    fit(half, 2).save_checkpoint(tmp_path / "half.ckpt")
    resumed = classifier(rescale=True)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1)
    fit(resumed, 4, tmp_path / "half.ckpt")
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(scores_of(whole)["network.head.parametrizations.weight.0.scores"], torch.zeros(2, 64))


# -- masks of trained networks ---------------------------------------------------------------------------------------


def test_the_mask_of_what_kept_its_sign_makes_initial_weights_better_than_chance():
    network = quadrant_net()
    initial = copy.deepcopy(network.state_dict())
    fit(Classifier(network, optimizer={"name": "Adam", "lr": 0.01}, seed=0), 8)
    pruning = Pruning(criterion="large_final_same_sign")
    mask = pruning.one_shot(pruning.start(network), initial, copy.deepcopy(network.state_dict()), 4)
    network.load_state_dict(initial)
    untouched = accuracy(network)
    for signed in (False, True):
        network.load_state_dict(apply_supermask(initial, mask, signed_constant=signed))
        assert accuracy(network) > 0.8 > 0.75 > untouched


def test_apply_supermask_is_the_formula_layer_by_layer():
    weights = {n: w.double() for n, w in small_net().state_dict().items()}
    masks = {n: torch.rand(weights[n].shape, generator=generator(3)) < 0.4 for n in ("0.weight", "4.weight")}
    before = copy.deepcopy(weights)
    for signed in (False, True):
        for rescale in (False, True):
            result = apply_supermask(weights, masks, signed, rescale)
            for name, value in result.items():
                expected = before[name]
                if name in masks:
                    base = expected.sign() * (expected - expected.mean()).square().mean().sqrt() if signed else expected
                    factor = masks[name].numel() / masks[name].sum() if rescale else 1
                    expected = base * masks[name] * factor
                assert torch.allclose(value, expected, rtol=1e-12), (name, signed, rescale)
                assert value.data_ptr() != weights[name].data_ptr()
    assert all(torch.equal(before[n], weights[n]) for n in weights)


def test_apply_supermask_of_nothing_kept_is_zero_and_masks_may_be_numbers():
    result = apply_supermask({"a": torch.randn(2, 2)}, {"a": torch.zeros(2, 2)}, signed_constant=True, rescale=True)
    assert torch.equal(result["a"], torch.zeros(2, 2))
    assert not result["a"].signbit().any()


def test_a_network_under_edge_popup_is_what_apply_supermask_makes_of_its_mask():
    network = add_supermask(small_net(), "edge_popup", weights="signed_constant", density=0.4)
    expected = apply_supermask(small_net().state_dict(), learned_mask(network), signed_constant=True)
    for name in ("0", "4"):
        assert torch.equal(network.get_submodule(name).weight, expected[f"{name}.weight"])


# -- refusals --------------------------------------------------------------------------------------------------------


def shared() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (small_net(), {"layers": "5"}, "the glob '5' matches none of the 2 prunable weights"),
        (small_net(), {"density": 0.5}, "density=0.5 is of kind='edge_popup'"),
        (small_net(), {"kind": "edge_popup", "initial_logit": 0.0}, "are of kind='bernoulli'"),
        (small_net(), {"kind": "edge_popup", "evaluation": "sample"}, "are of kind='bernoulli'"),
        (add_supermask(small_net()), {}, "'0.weight' is no parameter, but computed from others"),
        (shared(), {}, "the weight '0.weight' is that of '2.weight' too"),
    ],
)
def test_what_cannot_be_masked_says_why_and_stays_as_it_was(network, options, message):
    before = [p.requires_grad for p in network.parameters()]
    with pytest.raises(ValueError, match=message):
        add_supermask(network, **options)
    assert before == [p.requires_grad for p in network.parameters()]


def test_what_has_no_supermask_says_so():
    with pytest.raises(ValueError, match="Sequential has no supermask; make one with add_supermask"):
        learned_mask(small_net())
    with pytest.raises(ValueError, match="has no supermask"):
        set_evaluation(small_net(), "sample")
    with pytest.raises(ValueError, match="edge-popup's masks are not drawn"):
        set_evaluation(add_supermask(small_net(), "edge_popup"), "sample")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"0.wight": torch.ones(3, 2, 3, 3)}, "Did you mean '0.weight'"),
        ({"0.weight": torch.ones(2, 2)}, r"has the shape \(2, 2\), and the weight \(3, 2, 3, 3\)"),
        ({"0.weight": torch.full((3, 2, 3, 3), 0.5)}, "values 0 and 1 alone, and that of '0.weight' has 0.5"),
    ],
)
def test_what_apply_supermask_refuses(mask, message):
    with pytest.raises(ValueError, match=message):
        apply_supermask(small_net().state_dict(), mask)
