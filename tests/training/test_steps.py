"""The Classifier's manual optimization against plain loops and against automatic optimization."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier
from lightning_regs.regularizers.gradient_penalty import GradientPenalty
from lightning_regs.testing.runs import half

CLASSES, FEATURES = 4, 6
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def network(*extra: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), *extra, nn.Linear(8, CLASSES)).to(dtype)


def data(number: int = 24, batch: int = 12, dtype: torch.dtype = torch.float64) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, FEATURES, generator=generator, dtype=dtype)
    y = torch.randint(CLASSES, (number,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch)


def classifier(net: nn.Module, penalty: GradientPenalty | None, **options: Any) -> Classifier:
    options = {"optimizer": {"name": "SGD", "lr": 0.2}} | options
    return Classifier(net, regularizers=[penalty] if penalty else [], seed=0, input_shape=(FEATURES,), **options)


def fit(model: Classifier, loader: DataLoader[Any], ckpt: Any = None, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 2, "precision": "64-true"} | options
    trainer = pl.Trainer(**QUIET, **options)
    trainer.fit(model, loader, ckpt_path=ckpt)
    return trainer


def by_hand(
    net: nn.Module, loader: DataLoader[Any], strength: float, micro: int, lr: float = 0.2, epochs: int = 2
) -> nn.Module:
    """SGD on the mean over micro-batches of loss + strength / 4 |gradient|^2, by float64 autograd alone."""
    parameters = list(net.parameters())
    for _ in range(epochs):
        for x, y in loader:
            total = torch.zeros((), dtype=torch.float64)
            for rows in torch.arange(len(x)).split(micro):
                loss = F.cross_entropy(net(x[rows]), y[rows])
                gradients = torch.autograd.grad(loss, parameters, create_graph=True)
                norm = torch.cat([g.flatten() for g in gradients]).square().sum()
                total = total + (loss + strength / 4 * norm) * len(rows) / len(x)
            with torch.no_grad():
                for p, g in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
                    p -= lr * g
    return net


def vector(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("micro", [None, 4, 5])
def test_exact_equals_a_plain_loop(micro: int | None) -> None:
    net = network()
    reference = by_hand(copy.deepcopy(net), data(), 0.8, micro or 12)
    fit(classifier(net, GradientPenalty(0.8, micro_batch_size=micro)), data())
    assert torch.allclose(vector(net), vector(reference), atol=1e-12)


@pytest.mark.parametrize(("estimator", "within"), [("forward_difference", 1e-2), ("central_difference", 1e-4)])
def test_differences_come_close_to_exact(estimator: Any, within: float) -> None:
    start = network()
    moved = {}
    for kind in (None, "exact", estimator):
        net = copy.deepcopy(start)
        penalty = None if kind is None else GradientPenalty(0.8, kind, micro_batch_size=4)
        fit(classifier(net, penalty), data(), max_epochs=1)
        moved[kind] = vector(net)
    effect = (moved["exact"] - moved[None]).norm()
    assert (moved[estimator] - moved["exact"]).norm() < within * effect


def test_coefficient_zero_is_automatic_optimization_bit_for_bit() -> None:
    schedule = {"name": "StepLR", "step_size": 3, "gamma": 0.5, "interval": "step"}
    optimizer = {"name": "Adam", "lr": 0.01}
    nets = [network(), network()]
    manual = fit(classifier(nets[0], GradientPenalty(0.0), optimizer=optimizer, schedule=schedule), data(20, 4))
    automatic = fit(classifier(nets[1], None, optimizer=optimizer, schedule=schedule), data(20, 4))
    assert torch.equal(vector(nets[0]), vector(nets[1]))
    assert manual.global_step == automatic.global_step == 10
    assert manual.optimizers[0].param_groups[0]["lr"] == automatic.optimizers[0].param_groups[0]["lr"] == 0.01 / 8


@pytest.mark.parametrize("schedule", [{"name": "CosineAnnealingLR"}, {"name": "OneCycleLR", "max_lr": 0.1}])
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_schedules_clipping_and_accumulation_equal_those_of_automatic_optimization(
    schedule: dict[str, Any], interval: str
) -> None:
    options: dict[str, Any] = {
        "optimizer": {"name": "SGD", "lr": 0.2, "momentum": 0.9},
        "schedule": schedule | {"interval": interval},
    }
    nets = [network(), network()]
    penalty = GradientPenalty(0.0, gradient_clip_val=0.05, accumulate_grad_batches=2)
    manual = fit(classifier(nets[0], penalty, **options), data(20, 4), max_epochs=3)
    automatic = fit(
        classifier(nets[1], None, **options),
        data(20, 4),
        max_epochs=3,
        gradient_clip_val=0.05,
        accumulate_grad_batches=2,
    )
    assert torch.allclose(vector(nets[0]), vector(nets[1]), atol=1e-13)
    assert manual.global_step == automatic.global_step == 9
    rates = [t.optimizers[0].param_groups[0]["lr"] for t in (manual, automatic)]
    assert rates[0] == pytest.approx(rates[1], abs=1e-15)


def test_max_steps_counts_optimizer_steps() -> None:
    penalty = GradientPenalty(0.1, micro_batch_size=2, accumulate_grad_batches=2)
    trainer = fit(classifier(network(), penalty), data(40, 4), max_epochs=-1, max_steps=7)
    assert trainer.global_step == 7


def test_clipping_sees_the_unscaled_gradient_of_loss_and_penalty() -> None:
    nets = [network(dtype=torch.float32), network(dtype=torch.float32)]
    options = {"max_epochs": 1, "precision": None}
    before = vector(nets[0])
    for net, plugins in zip(nets, ([], [half(2.0**16)]), strict=True):
        penalty = GradientPenalty(0.5, gradient_clip_val=1e-3)
        fit(classifier(net, penalty), data(12, 12, torch.float32), **options, plugins=plugins)
    assert (vector(nets[0]) - before).norm() == pytest.approx(0.2 * 1e-3, rel=1e-3)
    assert (vector(nets[1]) - before).norm() == pytest.approx(0.2 * 1e-3, rel=1e-2)


@pytest.mark.parametrize("estimator", ["exact", "forward_difference", "central_difference"])
def test_the_scaled_path_equals_float32(estimator: Any) -> None:
    nets = [network(dtype=torch.float32), network(dtype=torch.float32)]
    for net, plugins in zip(nets, ([], [half(2.0**16)]), strict=True):
        penalty = GradientPenalty(0.5, estimator, micro_batch_size=6, step_size=0.3)
        fit(classifier(net, penalty), data(dtype=torch.float32), precision=None, plugins=plugins)
    start = vector(network(dtype=torch.float32))
    assert (vector(nets[0]) - start).norm() > 0.1
    assert (vector(nets[0]) - vector(nets[1])).norm() < 0.02 * (vector(nets[0]) - start).norm()


@pytest.mark.parametrize("estimator", ["forward_difference", "central_difference"])
def test_differences_leave_batch_norm_dropout_and_parameters_as_the_first_pass_has_them(estimator: Any) -> None:
    def run(kind: Any) -> tuple[nn.Module, Tensor]:
        net = network(nn.BatchNorm1d(8), nn.Dropout(0.5))
        fit(classifier(net, GradientPenalty(0.0, kind)), data(), max_epochs=1)
        return net, torch.get_rng_state()

    (exact, random), (other, other_random) = run("exact"), run(estimator)
    # With coefficient 0 a difference adds nothing, so everything that is left is what the extra passes leaked.
    assert torch.allclose(vector(other), vector(exact), atol=1e-14)
    for name, buffer in exact.named_buffers():
        assert torch.allclose(buffer, other.get_buffer(name), atol=1e-14), name
    assert torch.equal(random, other_random)


def test_the_same_dropout_mask_in_both_passes() -> None:
    def run(kind: Any) -> Tensor:
        net = network(nn.Dropout(0.5))
        fit(classifier(net, GradientPenalty(0.8, kind, step_size=1e-4)), data(), max_epochs=1)
        return vector(net)

    exact, difference = run("exact"), run("central_difference")
    assert (exact - difference).norm() < 1e-4 * exact.norm()


def test_a_failing_pass_gives_the_parameters_back() -> None:
    class FailsTheSecondTime(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("made up")
            return x

    net = network(FailsTheSecondTime())
    before = vector(net)
    with pytest.raises(RuntimeError, match="made up"):
        fit(classifier(net, GradientPenalty(0.8, "forward_difference")), data())
    assert torch.equal(vector(net), before)


@pytest.mark.parametrize("estimator", ["exact", "forward_difference"])
def test_resume_at_an_epochs_end_is_bit_equal(estimator: Any, tmp_path: Any) -> None:
    def model() -> Classifier:
        penalty = GradientPenalty("lr", estimator, micro_batch_size=4)
        options = {
            "optimizer": {"name": "SGD", "lr": 0.2, "momentum": 0.9},
            "schedule": {"name": "Exponential", "gamma": 0.7},
        }
        return classifier(network(nn.BatchNorm1d(8), nn.Dropout(0.3)), penalty, **options)

    whole, half, rest = model(), model(), model()
    fit(whole, data(), max_epochs=4)
    fit(half, data(), max_epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    assert torch.load(tmp_path / "half.ckpt", weights_only=True)["global_step"] == 4
    trainer = fit(rest, data(), max_epochs=4, ckpt=tmp_path / "half.ckpt")
    assert trainer.global_step == 8
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_lr_as_coefficient_follows_the_schedule() -> None:
    class Strengths(GradientPenalty):
        def strength(self, trainer: pl.Trainer) -> float:
            seen.append(super().strength(trainer))
            return seen[-1]

    seen: list[float] = []
    options = {"optimizer": {"name": "SGD", "lr": 0.4}, "schedule": {"name": "Exponential", "gamma": 0.5}}
    fit(classifier(network(), Strengths("lr"), **options), data(), max_epochs=3)
    assert seen == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.1, 0.1])


def test_what_is_logged() -> None:
    net = network()
    reference = copy.deepcopy(net)
    trainer = fit(classifier(net, GradientPenalty(0.8)), data(12, 12), max_epochs=1)
    x, y = next(iter(data(12, 12)))
    loss = F.cross_entropy(reference(x), y)
    norm = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(reference.parameters()))]).norm()
    penalty = 0.2 * norm**2
    logged = trainer.callback_metrics
    assert logged["train/gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)
    assert logged["train/gradient_penalty"] == pytest.approx(penalty.item(), rel=1e-5)
    assert logged["train/penalty_share"] == pytest.approx((penalty / (loss + penalty)).item(), rel=1e-5)


def test_given_to_the_trainer_it_is_the_same_object() -> None:
    nets = [network(), network()]
    fit(classifier(nets[0], GradientPenalty(0.8, "central_difference")), data())
    fit(classifier(nets[1], None), data(), callbacks=[GradientPenalty(0.8, "central_difference")])
    assert torch.equal(vector(nets[0]), vector(nets[1]))


def test_a_classifier_goes_back_to_automatic_optimization_without_it() -> None:
    model = classifier(network(), None)
    fit(model, data(), callbacks=[GradientPenalty(0.8)])
    assert not model.automatic_optimization
    fit(model, data(), gradient_clip_val=0.1)
    assert model.automatic_optimization


@pytest.mark.parametrize("flags", [{"gradient_clip_val": 0.5}, {"accumulate_grad_batches": 3}])
def test_flags_that_lightning_forbids_name_our_argument(flags: dict[str, Any]) -> None:
    ((name, value),) = flags.items()
    with pytest.raises(MisconfigurationException, match=rf"GradientPenalty\({name}={value}\)"):
        fit(classifier(network(), GradientPenalty(0.1)), data(), **flags)


def test_lbfgs_is_refused() -> None:
    model = classifier(network(), GradientPenalty(0.1), optimizer={"name": "LBFGS", "lr": 0.1})
    with pytest.raises(MisconfigurationException, match="LBFGS"):
        fit(model, data())


def test_two_penalties_are_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="sum of the coefficients"):
        Classifier(network(), regularizers=[GradientPenalty(0.1), GradientPenalty(0.2)])


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_validation_in_the_middle_of_an_accumulation_keeps_its_gradients(every: int) -> None:
    nets = [network(), network()]
    for net, validation in zip(nets, ({}, {"val_check_interval": every, "limit_val_batches": 1}), strict=True):
        trainer = pl.Trainer(max_epochs=2, precision="64-true", **QUIET, **validation)
        trainer.fit(classifier(net, GradientPenalty(0.3, accumulate_grad_batches=4)), data(32, 4), data(8, 8))
    assert torch.equal(vector(nets[0]), vector(nets[1]))


def test_a_subclass_with_its_own_training_step_is_a_module_like_any_other() -> None:
    class Own(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

    net = network()
    reference = by_hand(copy.deepcopy(net), data(), 0.8, 12)
    model = Own(net, optimizer={"name": "SGD", "lr": 0.2}, regularizers=[GradientPenalty(0.8)], input_shape=(FEATURES,))
    assert fit(model, data()).global_step == 4
    assert torch.allclose(vector(net), vector(reference), atol=1e-12)


@pytest.mark.parametrize("estimator", ["exact", "forward_difference", "central_difference"])
def test_buffers_that_a_forward_pass_replaces_change_once_a_batch(estimator: Any) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("number", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.number = self.number + 1
            return x

    net = network(Counts())
    fit(classifier(net, GradientPenalty(0.1, estimator)), data(), max_epochs=1)
    assert net.get_buffer("2.number").item() == 2


def test_reentrant_checkpointing_is_refused_where_it_hides_parameters() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.head = network().double(), nn.Linear(CLASSES, CLASSES).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.utils.checkpoint.checkpoint(self.hidden, x.requires_grad_(), use_reentrant=True))

    with pytest.raises(MisconfigurationException, match="use_reentrant=False"):
        fit(classifier(Checkpointed(), GradientPenalty(0.1)), data())


def test_attention_is_differentiated_twice() -> None:
    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows = x.view(len(x), 1, 2, 4)
            return F.scaled_dot_product_attention(rows, rows, rows).flatten(1)

    net = network(Attends(), dtype=torch.float32)
    trainer = fit(classifier(net, GradientPenalty(0.1)), data(dtype=torch.float32), precision=None)
    assert trainer.callback_metrics["train/gradient_penalty"] > 0


def test_callbacks_get_the_loss() -> None:
    class Losses(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append(outputs["loss"].item())

    seen: list[float] = []
    net = network()
    x, y = next(iter(data()))
    expected = F.cross_entropy(net(x), y).item()
    fit(
        classifier(net, GradientPenalty(0.1, micro_batch_size=5, accumulate_grad_batches=2)),
        data(),
        callbacks=[Losses()],
    )
    assert seen[0] == pytest.approx(expected, rel=1e-6)


def test_an_overflowing_step_does_not_spoil_the_means() -> None:
    plugin = half(2.0**40)
    model = classifier(network(dtype=torch.float32), GradientPenalty(0.1))
    trainer = fit(model, data(240, 4, torch.float32), max_epochs=1, precision=None, plugins=[plugin])
    assert plugin.scaler.get_scale() < 2.0**40
    for name in ("gradient_penalty", "gradient_norm", "penalty_share"):
        assert trainer.callback_metrics[f"train/{name}"] > 0


def test_a_schedule_that_follows_a_metric_is_refused() -> None:
    class Plateau(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1e-9)
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "train/loss"}}

    model = Plateau(network(), regularizers=[GradientPenalty(0.1)], seed=0, input_shape=(FEATURES,))
    with pytest.raises(MisconfigurationException, match="use a schedule of the epoch or the step"):
        fit(model, data())


def test_data_without_a_length() -> None:
    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(data(24, 12).dataset)

    options = {"schedule": {"name": "StepLR", "step_size": 1, "interval": "step"}}
    trainer = fit(classifier(network(), GradientPenalty(0.1), **options), DataLoader(Endless(), 12), max_epochs=2)
    assert trainer.global_step == 4


def test_an_epoch_that_only_gathers_batch_norm_statistics_makes_no_step() -> None:
    average = pl.callbacks.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, device=None)
    model = classifier(network(nn.BatchNorm1d(8)), GradientPenalty(0.1))
    assert fit(model, data(), max_epochs=3, callbacks=[average]).global_step == 6


def test_flags_of_training_do_not_matter_to_a_test() -> None:
    model = classifier(network(), GradientPenalty(0.1), num_classes=CLASSES)
    trainer = pl.Trainer(precision="64-true", gradient_clip_val=1.0, **QUIET)
    assert "test/acc" in trainer.test(model, data(), verbose=False)[0]


def test_the_message_on_clipping_names_the_algorithm() -> None:
    with pytest.raises(MisconfigurationException, match=r"gradient_clip_val=0\.5, gradient_clip_algorithm='value'"):
        fit(classifier(network(), GradientPenalty(0.1)), data(), gradient_clip_val=0.5, gradient_clip_algorithm="value")


def test_a_scheduler_of_accumulation_is_refused() -> None:
    scheduler = pl.callbacks.GradientAccumulationScheduler({0: 2})
    with pytest.raises(MisconfigurationException, match=r"GradientPenalty\(accumulate_grad_batches"):
        fit(classifier(network(), GradientPenalty(0.1)), data(), callbacks=[scheduler])


def test_methods_of_one_kind_in_two_places_are_refused() -> None:
    model = classifier(network(), GradientPenalty(0.1))
    with pytest.raises(MisconfigurationException, match="each have a GradientPenalty"):
        fit(model, data(), callbacks=[GradientPenalty(0.2)])


def test_a_class_index_out_of_range() -> None:
    net = nn.Linear(FEATURES, CLASSES - 1).double()
    with pytest.raises(ValueError, match=f"class index 3 is outside 0 to 2: the network gives {CLASSES - 1} logits"):
        fit(classifier(net, None), data())


def test_differences_on_relus_are_another_penalty() -> None:
    """What the docstring says: close to exact where the network is smooth, not with units that switch."""

    def error(activation: nn.Module) -> float:
        torch.manual_seed(0)
        layers = (nn.Linear(FEATURES, 64), activation, nn.Linear(64, 64), activation, nn.Linear(64, CLASSES))
        start = nn.Sequential(*layers).double()
        ends: dict[Any, Tensor] = {}
        for kind in (None, "exact", "forward_difference"):
            net = copy.deepcopy(start)
            fit(classifier(net, GradientPenalty(0.8, kind) if kind else None), data(96, 96), max_epochs=1)
            ends[kind] = vector(net)
        return float((ends["forward_difference"] - ends["exact"]).norm() / (ends["exact"] - ends[None]).norm())

    assert error(nn.GELU()) < 1e-2
    assert error(nn.ReLU()) > 5e-2


@pytest.mark.parametrize("estimator", ["exact", "forward_difference"])
def test_a_diverged_run_ends_with_its_numbers(estimator: Any) -> None:
    net = network()
    with torch.no_grad():
        net[0].weight.fill_(float("nan"))
    trainer = fit(classifier(net, GradientPenalty(0.1, estimator)), data())
    assert trainer.global_step == 4
    assert trainer.callback_metrics["train/gradient_norm"].isnan()
