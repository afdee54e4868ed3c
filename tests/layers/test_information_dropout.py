"""Information dropout: its divergence against numerical integration, its noise, and how it reaches any loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, GradientPenalty, ImageDataModule
from lightning_regs.analysis import LayerSignals
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.layers import (
    InformationDropout,
    InformationPenalty,
    MeanOnlyBatchNorm,
    monte_carlo,
    replace_layers,
    update_batch_norm,
)
from lightning_regs.regularizers import NoEffectWarning, Regularizer
from lightning_regs.testing.contracts import CONTRACTS, trains_in_two_processes
from lightning_regs.testing.modules import DICT, Case, ReturnsDict
from lightning_regs.testing.processes import run_jobs
from lightning_regs.testing.runs import fit, parameters
from lightning_regs.testing.variants import variants


def tensor(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def divergence(f: float, alpha: float, log_prior: Callable[[float], float]) -> float:
    """The integral of q log(q / prior) over z = f exp(alpha eps), whose density is q."""
    q = stats.lognorm(s=alpha, scale=f)
    low, high = q.ppf(1e-14), q.isf(1e-14)
    found, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - log_prior(z)), low, high, points=[f], limit=200)
    return float(found)


@pytest.mark.parametrize("f", [0.05, 1.0, 7.0])
@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.7])
def test_the_divergences_are_the_integrals(f: float, alpha: float) -> None:
    expected = divergence(f, alpha, lambda z: -math.log(z)) - divergence(f, 0.7, lambda z: -math.log(z))
    rectified = InformationDropout(nn.Linear(1, 1), max_alpha=0.699)
    assert rectified.information(tensor(f), tensor(alpha)).item() == pytest.approx(expected, abs=1e-8)
    prior, layer = stats.lognorm(s=1.3, scale=math.exp(0.2)), InformationDropout(nn.Linear(1, 1), "softplus").double()
    layer.prior_mean.data.fill_(0.2), layer.prior_log_std.data.fill_(math.log(1.3))
    found = layer.information(tensor(f), tensor(alpha))
    assert found.item() == pytest.approx(divergence(f, alpha, prior.logpdf), rel=1e-8)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_the_noise_is_log_normal_and_off_in_evaluation(activation: Any) -> None:
    torch.manual_seed(0)
    layer = InformationDropout(nn.Linear(3, 2), activation, max_alpha=0.7).double()
    nn.init.zeros_(layer.noise.weight)
    x = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64).expand(40_000, 3)
    layer.layer.bias.data += 3  # above 0
    units = getattr(F, activation)(layer.layer(x))
    logs = torch.log(layer(x) / units)
    alpha = 0.001 + 0.7 * layer.noise.bias.sigmoid()
    assert (logs.mean(0).abs() < 5 * alpha / 200).all()
    torch.testing.assert_close(logs.std(0), alpha, rtol=0.02, atol=0)
    assert torch.equal(layer.eval()(x), units)
    assert not torch.equal(monte_carlo(layer, x[:4], 2, "outputs"), units[:4])


def test_it_stands_for_a_layer_with_what_follows_it() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.BatchNorm2d(3))
    layer = InformationDropout(net)
    assert layer(torch.rand(4, 2, 9, 9)).shape == (4, 3, 4, 4)
    assert isinstance(layer.noise, nn.Conv2d)
    assert not torch.equal(layer.noise.weight, net[0].weight)
    with pytest.raises(TypeError, match="begin with a plain linear or convolutional one, got ReLU"):
        InformationDropout(nn.ReLU())


# -- how it reaches a loss -------------------------------------------------------------------------------------------


def foreign(_: Sequence[Regularizer]) -> pl.LightningModule:
    module = ReturnsDict()
    replace_layers(module, {(nn.Linear, "net.1"): InformationDropout})
    return module


def ours(methods: Sequence[Regularizer]) -> pl.LightningModule:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 4))
    replace_layers(net, {(nn.Linear, "3"): InformationDropout})
    replace_layers(net, (nn.Conv2d, lambda old: InformationDropout(old, "softplus")))
    optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
    return Classifier(net, None, optimizer, regularizers=list(methods), seed=3, input_shape=(3, 8, 8), num_classes=4)


CASES = (Case("foreign", foreign), Case("ours", ours, ours=True))
HIDDEN = [{"replace": "Linear", "named": "body.*", "by": "InformationDropout"}]
(VARIANT,) = variants(InformationPenalty)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_the_penalty_keeps(contract: Callable[..., None], case: Case) -> None:
    contract(case, VARIANT)


@pytest.mark.cpu("it forks, which no process can after CUDA has started")
@pytest.mark.slow
def test_the_penalty_in_two_processes() -> None:
    ends = run_jobs({case.name: (case, [VARIANT.make()]) for case in CASES})
    for case in CASES:
        trains_in_two_processes(case, VARIANT, [end[case.name] for end in ends])


def test_a_step_is_that_of_the_loss_with_the_information(device: torch.device) -> None:
    run = fit(CASES[0], [InformationPenalty(0.3)], batch=0)
    torch.manual_seed(0)
    module: Any = foreign(()).to(device)  # which draws there
    optimizer, (layer,) = module.configure_optimizers(), [m for m in module.modules() if hasattr(m, "passes")]
    x, y = (part.to(device) for part in next(iter(CASES[0].loader(0))))
    layer.passes = []
    torch.manual_seed(0)
    loss = F.cross_entropy(module(x), y)
    alpha = 0.001 + 0.7 * layer.noise(x.flatten(1)).sigmoid()
    nats = -torch.log(alpha / 0.701).sum(1).mean()
    (loss + 0.3 * nats).backward()
    optimizer.step()
    torch.testing.assert_close(run.trajectory[-1], parameters(module.cpu()))
    torch.testing.assert_close(layer.passes[0], nats)
    assert run.trainer.callback_metrics["train/information"].item() == pytest.approx(nats.item(), rel=1e-5)
    (layer,) = [m for m in run.module.modules() if isinstance(m, InformationDropout)]
    assert layer.passes is None
    assert "backward" not in vars(run.trainer.precision_plugin)
    copy.deepcopy(run.module.net)


def test_replicas_train_as_single_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # of which stacked nets draw others

    def train(seed: int, replicas: int | None) -> tuple[Any, float]:
        data = ImageDataModule("digits", train_size=48, test_size=16, batch_size=16, seed=seed, replicas=replicas)
        module = Classifier(
            "mlp", {"hidden": [8, 8]}, {"name": "SGD", "lr": 0.1}, layers=HIDDEN, seed=seed, replicas=replicas,
            regularizers=[InformationPenalty(0.5)],
        )  # fmt: skip
        trainer = pl.Trainer(max_epochs=2, enable_checkpointing=False)
        trainer.fit(module, datamodule=data)
        return module.network, trainer.callback_metrics["train/information"].item()

    stacked, information = train(0, 2)
    singles = [train(seed, None) for seed in range(2)]
    assert information == pytest.approx(sum(own for _, own in singles) / 2, rel=1e-4)
    for i, (single, _) in enumerate(singles):
        torch.testing.assert_close(stacked.state_of(i), dict(single.state_dict()), rtol=1e-4, atol=1e-5)


class Adversaries(ReturnsDict):
    """Steps two optimizers."""

    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[i].parameters(), 0.1) for i in (1, 3)]


def test_what_it_cannot_do_is_refused_or_told() -> None:
    trainer = pl.Trainer(max_epochs=1, callbacks=[InformationPenalty()], enable_checkpointing=False)
    with pytest.warns(NoEffectWarning, match=r"found no InformationDropout layer in ReturnsDict.*put some in by"):
        trainer.fit(ReturnsDict(), DICT.loader())
    with pytest.raises(MisconfigurationException, match=r"Adversaries has 2 optimizers, .* train with one"):
        pl.Trainer(max_epochs=1, callbacks=[InformationPenalty()], enable_checkpointing=False).fit(
            Adversaries(), DICT.loader()
        )
    with pytest.raises(ValueError, match=r"do not go together in this order: .* information; leave one out"):
        ours([InformationPenalty(), GradientPenalty(0.1)])
    methods, shape = [InformationPenalty()], (3, 8, 8)
    module = Classifier(layers=HIDDEN, cuda_graph=True, regularizers=methods, input_shape=shape, num_classes=4)
    with pytest.raises(MisconfigurationException, match="changes the loss that is differentiated; leave it out"):
        pl.Trainer(max_epochs=1, enable_checkpointing=False).fit(module, DICT.loader())


def test_batch_norm_behind_noise_gets_the_statistics_of_evaluation() -> None:
    """Which are those of all units without noise, where batches are of one size; in training they are larger."""
    torch.manual_seed(0)
    first = InformationDropout(nn.Linear(5, 4))
    with torch.no_grad():
        first.noise.bias.fill_(9.0)  # the most noise, alpha of 0.7
    net = nn.Sequential(first, nn.BatchNorm1d(4), nn.Dropout(0.5), nn.BatchNorm1d(4, momentum=0.3)).double()
    x = torch.randn(4000, 5, dtype=torch.float64)
    units = F.relu(first.layer(x)).detach()
    torch.optim.swa_utils.update_bn(DataLoader(x, batch_size=500), net)
    noisy = net[1].running_mean
    torch.testing.assert_close(noisy, units.mean(0) * math.exp(0.7**2 / 2), rtol=0.1, atol=0.0)
    net[2].eval()
    modes = [layer.training for layer in net.modules()]
    update_batch_norm(net, DataLoader(TensorDataset(x, x), batch_size=500))
    assert [layer.training for layer in net.modules()] == modes
    assert [net[1].momentum, net[3].momentum] == [0.1, 0.3]
    torch.testing.assert_close(net[1].running_mean, units.mean(0))
    torch.testing.assert_close(net[1].running_var, torch.stack([part.var(0) for part in units.split(500)]).mean(0))
    torch.testing.assert_close(net[3].running_mean, torch.zeros(4).double(), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(net[3].running_var, torch.ones(4).double(), rtol=5e-3, atol=0.0)  # not twice that


def test_without_noise_it_is_torchs_and_without_batch_norm_nothing() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(30, 2, 6, 6)
    net(x)
    other = copy.deepcopy(net)
    update_batch_norm(net, x.split(7))
    torch.optim.swa_utils.update_bn(x.split(7), other)
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=0.0, atol=0.0)
    with pytest.warns(NoEffectWarning, match="Linear has no batch norm with running statistics"):
        update_batch_norm(nn.Linear(2, 2), [])


def test_a_mean_only_batch_norm_is_estimated_anew_and_a_frozen_one_stays() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) + 5
    net = nn.Sequential(MeanOnlyBatchNorm(4), nn.BatchNorm1d(4))
    net[1].eval()
    update_batch_norm(net, x.split(10))
    torch.testing.assert_close(net[0].running_mean, x.mean(0))
    assert net[0].momentum == 0.1
    assert torch.equal(net[1].running_mean, torch.zeros(4))
    assert [layer.training for layer in net] == [True, False]
    with pytest.warns(NoEffectWarning, match="that is not frozen"):
        update_batch_norm(nn.ModuleList([net[1]]), [])
    update_batch_norm(net.eval(), x.split(10))  # what is whole in evaluation mode says nothing of what is frozen
    assert net[1].running_mean.any()


@pytest.mark.slow
def test_what_is_measured_in_between_is_not_in_the_loss() -> None:
    class Samples(pl.Callback):
        """Averages sampled nets between a training step and its backward pass."""

        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            monte_carlo(pl_module.network, torch.ones(2, 1, 8, 8), samples=3)

    layers = [{"replace": "Linear", "named": "body.*", "by": "InformationDropout"}]
    found = []
    for callbacks in ([], [LayerSignals()], [Samples()]):
        net, penalty = Classifier("mlp", {"hidden": [8, 8]}, layers=layers, seed=0), InformationPenalty(0.1)
        data = ImageDataModule("digits", train_size=32, batch_size=16, seed=0)
        trainer = pl.Trainer(max_epochs=2, enable_checkpointing=False, callbacks=[penalty, *callbacks])
        trainer.fit(net, datamodule=data)
        found.append({**net.state_dict(), "told": trainer.callback_metrics["train/information"]})
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=0.0, atol=0.0)


def test_the_noise_of_a_frozen_layer_is_learned_and_a_lazy_one_has_its_prior() -> None:
    frozen = nn.Linear(3, 2).requires_grad_(False)
    layer = InformationDropout(frozen)
    assert {name: p.requires_grad for name, p in layer.named_parameters()} == {
        **dict.fromkeys(("layer.weight", "layer.bias"), False),
        **dict.fromkeys(("noise.weight", "noise.bias"), True),
    }
    assert InformationDropout(nn.LazyLinear(2), "softplus")(torch.rand(4, 3)).shape == (4, 2)


@pytest.mark.parametrize(
    "make",
    [lambda layer: prune.l1_unstructured(layer, "weight", 0.5), nn.utils.spectral_norm],
    ids=["pruned by torch", "old spectral norm"],
)
def test_weights_that_a_hook_computes_are_refused_as_those_of_a_parametrization(
    make: Callable[[nn.Module], nn.Module],
) -> None:
    with pytest.raises(TypeError, match="begin with a plain linear or convolutional one, got Linear"):
        InformationDropout(make(nn.Linear(3, 2)))
