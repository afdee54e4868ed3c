"""The range test: losses as by hand, a suggestion with its spread, and nothing of the user's is touched."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, GradientPenalty, ImageDataModule, Mixup, range_test
from lightning_regs.core.global_rng import states
from lightning_regs.core.lightning import MisconfigurationException

X = torch.randn(48, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = X @ torch.tensor([[1.0], [2.0], [0.5], [0.1]], dtype=torch.float64)
CPU = {"accelerator": "cpu"}


class Net(pl.LightningModule):
    """A regression by a net with batch norm and dropout, or by a linear layer."""

    def __init__(self, linear: bool = False) -> None:
        super().__init__()
        layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = (nn.Sequential(nn.Linear(4, 1)) if linear else nn.Sequential(*layers)).double()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        weight, bias, *others = self.parameters()
        groups = [{"params": [weight, *others], "lr": 0.02}, {"params": [bias], "lr": 0.005}]
        optimizer = torch.optim.SGD(groups, momentum=0.5)
        return [optimizer], [torch.optim.lr_scheduler.LinearLR(optimizer, 0.1)]


def loader(batch_size: int = 8, shuffle: bool = True, seed: int = 0) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size, shuffle=shuffle, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("schedule", "low", "accumulated"), [("exponential", 1e-3, 1), ("linear", 0.0, 1), ("linear", 1e-3, 2)]
)
def test_rates_and_losses_are_those_of_a_loop_by_hand(schedule: Any, low: float, accumulated: int) -> None:
    """On all of the data at once, or in halves that are accumulated; groups keep the proportion of their rates."""
    module, batch = Net(linear=True), 48 // accumulated
    options = CPU | {"accumulate_grad_batches": accumulated}
    with pytest.warns(UserWarning, match="all 2 seeds have the same losses"):
        found = range_test(module, loader(batch, False), low=low, high=0.2, steps=30, schedule=schedule, seeds=2,
                           trainer=options)  # fmt: skip
    share = torch.arange(30, dtype=torch.float64) / 29
    expected = low + (0.2 - low) * share if schedule == "linear" else 1e-3 * 200**share
    assert torch.allclose(found.rates, expected, rtol=1e-12)
    layer = copy.deepcopy(module.net[0])
    steps = [torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)]
    mean = 0.0
    for step, rate in enumerate(expected.tolist()):
        loss = F.mse_loss(layer(X), Y)
        assert found.losses[:, step].tolist() == pytest.approx([loss.item()] * 2, rel=1e-9)
        mean = 0.98 * mean + 0.02 * loss.item()
        assert found.smoothed[0, step] == pytest.approx(mean / (1 - 0.98 ** (step + 1)), rel=1e-9)
        gradients = torch.autograd.grad(loss, [layer.weight, layer.bias])
        with torch.no_grad():
            for p, moved, g, part in zip(layer.parameters(), steps, gradients, (1, 0.25), strict=True):
                p -= part * rate * moved.mul_(0.5).add_(g)
    assert found.suggestions == (found.rates[found.smoothed[0].argmin()] / 10,) * 2


def everything(module: pl.LightningModule, optimizer: torch.optim.Optimizer, data: DataLoader[Any]) -> list[Any]:
    state = [(name, value.clone()) for name, value in module.state_dict().items()]
    grads = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    modes = [part.training for part in module.modules()]
    assert isinstance(data.generator, torch.Generator)
    kept = [copy.deepcopy(optimizer.state_dict()), module.__dict__["_trainer"], os.environ.get("PL_GLOBAL_SEED")]
    return [state, grads, modes, *kept, states(), data.generator.get_state()]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return len(a) == len(b) and all(map(equal, a, b)) if isinstance(a, list | tuple) else bool(a == b)


@pytest.mark.slow
def test_model_optimizer_data_and_random_streams_are_untouched_bit_for_bit(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pl.seed_everything(3)
    data, module = loader(), Net()
    trainer = pl.Trainer(**CPU, max_steps=3, enable_checkpointing=False)
    trainer.fit(module, data)
    module.net[2].eval()
    (optimizer,) = trainer.optimizers
    F.mse_loss(module.net(X), Y).backward()
    before = everything(module, optimizer, data)
    found = range_test(module, data, steps=40, trainer=CPU, seed=1)
    assert equal(everything(module, optimizer, data), before)
    assert list(tmp_path.iterdir()) == []
    following = [batch[0] for batch in data]
    data.generator.set_state(before[-1])  # type: ignore[union-attr]
    assert all(torch.equal(a, b[0]) for a, b in zip(following, data, strict=True))
    # Each seed has an order of its own, and comes again.
    assert len(set(found.losses[:, 0].tolist())) == 3
    again = range_test(module, data, steps=40, trainer=CPU, seed=1)
    assert torch.equal(again.losses.nan_to_num(), found.losses.nan_to_num())
    low, high = found.spread
    assert low <= found.suggestion <= high < 1


@pytest.mark.parametrize("methods", [[], [GradientPenalty(0.01)]], ids=["automatic", "driven"])
@pytest.mark.slow
def test_our_classifier_and_data_have_their_draws_from_the_seeds(methods: list[Any], tmp_path: Path) -> None:
    data = ImageDataModule("digits", batch_size=64, seed=0)
    module = Classifier("mlp", {"hidden": [16], "dropout": 0.2}, {"name": "Adam", "lr": 0.1}, regularizers=methods,
                        schedule={"warmup": "5000it"}, cuda_graph=True)  # fmt: skip
    options = CPU | {"callbacks": [] if methods else [Mixup()]}
    found = range_test(module, data, low=1e-4, high=10, steps=60, seeds=2, trainer=options)
    assert not torch.equal(found.losses[0, :20], found.losses[1, :20])
    assert module.network is None
    assert data._splits is None
    assert 1e-4 < found.suggestion < 0.5
    axes = found.plot()
    axes.figure.savefig(tmp_path / "range.png")
    assert axes.get_xscale() == "log"
    assert len(axes.lines) == 5
    assert f"{found.suggestion:.2g}" in axes.get_legend().get_texts()[0].get_text()


def test_a_curve_that_diverges_ends_and_the_others_go_on() -> None:
    found = range_test(Net(linear=True), lambda: loader(48, False), low=1e-2, high=1e4, steps=60, seeds=1, trainer=CPU)
    ended = int(found.losses[0].isnan().to(torch.int8).argmax())
    assert 20 < ended < 60
    assert found.losses[0, ended:].isnan().all()
    assert found.smoothed[0, ended - 1] > 4 * found.losses[0, :6].mean() > found.smoothed[0, ended - 2]
    assert found.rates[int(found.losses[0].nan_to_num(math.inf).argmin())] < 5  # of momentum 0.5 and curvature about 1


class Broken(Net):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * math.nan


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Without(Net):
    def configure_optimizers(self) -> Any:
        return None


class Several(Manual):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[-1])]


class OwnRate(Net):
    def on_train_batch_start(self, *_: Any) -> None:
        self.optimizers().param_groups[0]["lr"] = 0.5


class Kept(Net):
    def __init__(self) -> None:
        super().__init__()
        self.last = self.net[0].weight * 2


BAD: list[tuple[type[Net], dict[str, Any], type[Exception], str]] = [
    (Broken, {}, ValueError, "the loss of Broken is no number from the first step on, at a rate of 1e-06, in all 3"),
    (Manual, {}, MisconfigurationException, "Manual optimizes manually, .* range_test needs both"),
    (Without, {}, MisconfigurationException, "range_test drives the rate of one optimizer, and Without has 0"),
    (Several, {}, MisconfigurationException, "one optimizer, and Several has 2"),
    (OwnRate, {}, MisconfigurationException, "OwnRate or a callback sets the learning rate to 0.5 where range_test"),
    (Kept, {}, TypeError, "range_test works on copies, and Kept cannot be copied .* detached"),
    (Net, {"low": 1.0, "high": 0.1}, ValueError, r"low=1 must be below high=0\.1"),
    (Net, {"low": 0.0}, ValueError, "low=0 cannot be multiplied; .* schedule='linear'"),
    (Net, {"steps": 5}, ValueError, "steps must be at least 20, got 5"),
    (Net, {"trainer": {"max_epochs": 3}}, ValueError, "'max_epochs': ...} is for range_test itself to say"),
    (Net, {"trainer": {"devices": 2}}, ValueError, "'devices': 2}: range_test works on one device; leave devices out"),
    (Net, {"data": iter([[X, Y]])}, MisconfigurationException, "no batch in an epoch, after 1 of 100 steps; .* again"),
    (
        Net,
        {"data": DataLoader(TensorDataset(X[:0], Y[:0]))},
        ValueError,
        "gave no batch; give a loader that is not empty",
    ),
    (Net, {"data": TensorDataset(X, Y)}, TypeError, "and not a data set"),
]


@pytest.mark.parametrize(("kind", "options", "error", "says"), BAD, ids=[f"{k.__name__}-{list(o)}" for k, o, *_ in BAD])
def test_what_cannot_go_well_is_refused_in_a_sentence(
    kind: type[Net], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    options = {"data": loader(), "trainer": CPU} | options
    with pytest.raises(error, match=says) as found:
        range_test(kind(), options.pop("data"), **options)
    assert "\n" not in str(found.value)


@pytest.mark.slow
def test_a_loss_that_never_falls_or_falls_to_the_end_is_told() -> None:
    options: dict[str, Any] = {"steps": 50, "seeds": 2, "trainer": CPU}
    with pytest.warns(UserWarning, match=r"the loss of Net never falls between the rates 1e-12 and 1e-10, so that"):
        flat = range_test(Net(), loader(), low=1e-12, high=1e-10, **options)
    assert math.isnan(flat.suggestion)
    assert all(map(math.isnan, (*flat.spread, *flat.suggestions)))
    assert not flat.plot().get_legend()
    with pytest.warns(UserWarning, match=r"the loss of Net is least at the last rate, .* high=0\.05; raise it"):
        range_test(Net(linear=True), loader(), low=1e-3, high=0.05, **options)
