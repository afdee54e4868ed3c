"""Schedules as plain data: typed times, parts one after another, what does not fit the training, and resuming."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import lr_scheduler

from lightning_regs import Classifier, GradientPenalty, ImageDataModule
from lightning_regs.optim import build, check_optimization, make_optimizer, make_schedules

SGD = {"name": "SGD", "lr": 0.4}
COSINE = {"name": "CosineAnnealing"}


def parameter() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


def rates(config: Any, epochs: int, an_epoch: int = 4, optimizer: dict[str, Any] = SGD) -> list[float]:
    """The learning rate of each step of a training in which schedules are stepped at their intervals."""
    made = make_optimizer(parameter(), optimizer)
    schedules = make_schedules(made, config, epochs=epochs, steps=epochs * an_epoch, per_epoch=an_epoch)
    found = []
    for step in range(epochs * an_epoch):
        found.append(made.param_groups[0]["lr"])
        made.step()
        for schedule in schedules:
            if schedule["interval"] == "step" or (step + 1) % an_epoch == 0:
                schedule["scheduler"].step()
    return found


# -- by name -----------------------------------------------------------------------------------------------------------


def test_names_are_free_in_letter_case_and_a_file_of_the_folder_adds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SGD", "sgd"):
        assert type(make_optimizer(parameter(), {"name": name, "lr": 0.25})) is torch.optim.SGD
    expected = rates({"name": "ExponentialLR", "gamma": 0.9}, 3)
    for name in ("exponential", "exponentiallr", "Exponential_LR"):
        assert rates({"name": name, "gamma": 0.9}, 3) == expected

    class Slow(torch.optim.SGD):
        """Is in a file of its own."""

    build.optimizers.cache_clear()
    monkeypatch.setattr(build.registry, "subclasses", lambda package, base: {"Slow": Slow})
    assert type(make_optimizer(parameter(), {"name": "slow", "lr": 0.1})) is Slow
    build.optimizers.cache_clear()


@pytest.mark.parametrize(
    "config",
    [
        {"name": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"name": "Adam", "lr": 0.1, "weight_decay": 0.1},
        {"name": "AdamW", "lr": 0.1, "amsgrad": True},
    ],
    ids=lambda config: config["name"],
)
def test_steps_on_a_cpu_are_fused_and_those_of_torch_s_default(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    start, targets = torch.randn(7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    ends = []
    for options in (config, config | {"fused": False}):
        w = nn.Parameter(start.clone())
        optimizer = make_optimizer([w], options)
        assert optimizer.param_groups[0]["fused"] is (options is config)
        for target in targets:
            optimizer.zero_grad()
            (w - target).square().sum().backward()
            optimizer.step()
        ends.append(w.detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


def test_fused_steps_go_with_clipping_in_mixed_precision() -> None:
    model, data = Classifier("mlp", optimizer={"name": "Adam", "lr": 0.1}), ImageDataModule("digits", batch_size=64)
    trainer = pl.Trainer(max_steps=2, precision="bf16-mixed", gradient_clip_val=0.1, enable_checkpointing=False)
    trainer.fit(model, data)
    assert all(group["fused"] for group in trainer.optimizers[0].param_groups)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "SDG", "lr": 0.1}, "unknown optimizer 'SDG'. Did you mean 'SGD'"),
        ({"lr": 0.1}, "has no name"),
        ({"name": "SGD", "lr": -1}, "-1"),
        ({"name": "SGD", "lr": float("nan")}, "lr must be finite, got nan"),
        ({"name": "SGD", "lr": 0.1, "momentun": 0.9}, "momentun.*It takes: lr, momentum"),
    ],
)
def test_a_wrong_optimizer_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_optimizer(parameter(), config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "Exponental", "gamma": 0.9}, "unknown schedule 'Exponental'. Did you mean 'ExponentialLR'"),
        ({"name": "ExponentialLR"}, "gamma"),
        ({"name": "ExponentialLR", "gamma": 0.9, "interval": "batch"}, "'batch' is unknown; use 'epoch' or 'step'"),
        ({"name": "LambdaLR"}, "unknown schedule"),
        ({"name": "SequenceLR"}, "unknown schedule"),
        ({"name": "OneCycleLR", "max_lr": 1.0, "warmup": 5}, r"leave warmup out, or let.*\[\{'warmup': 5\}, \{'name'"),
        (COSINE | {"eta_min": 0.1, "warmup": 5}, r"AnnealingLR\(eta_min=\.\.\.\) sets the learning rate outright"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"warmup": "5 epochs"}, "like '500it' or '2ep', got '5 epochs'"),
        (COSINE | {"T_max": "2 ep"}, "got '2 ep'"),
        (COSINE | {"T_max": "20it", "interval": "epoch"}, "T_max='20it' counts optimizer steps.*add interval: step"),
        (COSINE | {"T_max": 0}, "T_max must be at least 1, got 0"),
        ({"name": "StepLR", "step_size": [1]}, r"step_size must be an integer or text, got \[1\]"),
        ({"name": "MultiStepLR", "milestones": "3ep"}, "milestones must be a sequence, got '3ep'"),
        ({"length": "3ep"}, "has no name; write for example name: StepLR"),
        ([], "schedule is empty; give at least one"),
        ([{"warmup": 2}, {}, COSINE], r"part 2 of the schedule, \{\}, has no length"),
        ([{"warmup": 2, "name": "StepLR"}, COSINE], "is more than its warmup; make that a part"),
        ([{"name": "StepLR", "step_size": 1, "length": "1ep"}, {"name": "Cosin"}], "Did you mean 'CosineCyclesLR'"),
        ([{"warmup": 2}, {"name": "StepLR", "stepsize": 1}], "StepLR does not take.*It takes: step_size"),
        ({"name": "ExponentialLR", "gamma": float("nan")}, r"gamma must be finite, got nan\. It takes"),
        ({"name": "ExponentialLR", "gamma": "a"}, "gamma must be a number, got 'a'"),
        ({"name": "PolynomialLR", "power": -1}, "power of PolynomialLR must be at least 0, got -1"),
        ([{"warmup": 2}, {"name": "OneCycleLR", "max_lr": -1}], "max_lr of OneCycleLR must be at least 0"),
        ({"name": "StepLR", "step_size": 1, "last_epoch": 5}, "is what a checkpoint brings; leave it out"),
        ({"name": "CosineCyclesLR", "cycles": 10**12}, "are over before cycle 1000000000000 begins"),
        ({"name": "CosineCyclesLR", "cycles": 10**6, "growth": 2}, "are over before cycle 1000000 begins"),
    ],
)
def test_a_wrong_schedule_is_named_before_there_is_a_training(config: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check_optimization(SGD, config)


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (COSINE | {"T_max": "3ep"}, COSINE | {"T_max": 3}),
        (COSINE | {"T_max": "12it"}, COSINE | {"T_max": 12, "interval": "step"}),
        (COSINE | {"T_max": "3ep", "interval": "step"}, COSINE | {"T_max": 12, "interval": "step"}),
        (COSINE, COSINE | {"T_max": 3}),
        (COSINE | {"interval": "step"}, COSINE | {"T_max": 12, "interval": "step"}),
        (COSINE | {"warmup": "2ep"}, COSINE | {"warmup": 8}),
        ({"warmup": "1ep"}, {"warmup": 4}),
        (
            {"name": "MultiStepLR", "milestones": ["1ep", "6it"]},
            {"name": "MultiStepLR", "milestones": [4, 6], "interval": "step"},
        ),
        (
            {"name": "OneCycleLR", "max_lr": 1.0},
            {"name": "OneCycleLR", "max_lr": 1.0, "total_steps": 12, "interval": "step"},
        ),
    ],
)
def test_a_time_is_a_number_of_intervals(written: dict[str, Any], plain: dict[str, Any]) -> None:
    assert rates(written, 3) == rates(plain, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            COSINE | {"T_max": 5},
            r"CosineAnnealingLR\(T_max\) takes 5 epochs, longer than the training, of 3: it is cut",
        ),
        (COSINE | {"T_max": 2}, r"takes 2 epochs, over before the training, of 3: what comes after it is not planned"),
        ({"name": "StepLR", "step_size": "5ep"}, r"StepLR\(step_size\) takes 5 epochs, longer than"),
        ({"name": "MultiStepLR", "milestones": [1, 9]}, r"MultiStepLR\(milestones\) takes 9 epochs"),
        ({"name": "OneCycleLR", "max_lr": 1.0, "total_steps": 13}, r"takes 13 steps, longer than the training, of 12"),
        ({"warmup": 13}, "warmup takes 13 steps, longer than the training, of 12"),
        ([{"warmup": "4ep"}, COSINE], "the schedule takes 17 steps, longer than the training, of 12"),
        ([{"length": "3ep"}, COSINE], "the schedule takes 4 epochs, longer than the training, of 3"),
        ([{"length": "1ep"}, COSINE | {"T_max": 3}], "takes 3 epochs, longer than its part of the training, of 2"),
    ],
)
def test_what_is_longer_than_the_training_or_over_before_is_warned_of(config: Any, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        rates(config, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"name": "OneCycleLR", "max_lr": 1.0, "total_steps": 11},
            "over before the training, of 12 steps.*leave it out",
        ),
        ({"name": "OneCycleLR", "max_lr": 1.0, "epochs": 2, "steps_per_epoch": 4}, r"total_steps=8\) is over before"),
        (
            [{"length": "1ep"}, COSINE | {"length": "1ep"}],
            "take 2 epochs and the training 3; leave the length of the last",
        ),
    ],
)
def test_what_would_leave_steps_without_a_rate_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(config, 3)


def test_a_training_without_an_end_needs_its_times_written() -> None:
    made = make_optimizer(parameter(), SGD)
    refused: tuple[tuple[Any, str], ...] = (
        (COSINE, "CosineAnnealingLR needs T_max where the number of epochs"),
        ([{"length": "9it"}, COSINE | {"interval": "step"}], "needs T_max where the number of steps"),
        ({"warmup": "2ep"}, "warmup='2ep' counts epochs, and how many optimizer steps.*is not known"),
    )
    for config, message in refused:
        with pytest.raises(ValueError, match=message):
            make_schedules(made, config, epochs=None, steps=None)
    (schedule,) = make_schedules(made, [{"warmup": 3}, {"name": "StepLR", "step_size": "9it"}], epochs=None, steps=None)
    assert schedule["interval"] == "step"


# -- parts one after another -------------------------------------------------------------------------------------------


def test_a_warmup_and_what_follows_are_torchs_own() -> None:
    optimizer = make_optimizer(parameter(), SGD)
    rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / 6, total_iters=5)
    falling = lr_scheduler.CosineAnnealingLR(optimizer, T_max=14)
    both = lr_scheduler.SequentialLR(optimizer, [rising, falling], milestones=[6])
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert rates([{"warmup": 6}, COSINE | {"interval": "step"}], 5) == pytest.approx(expected)
    flat = [{"length": "1ep"}, {"warmup": 4}]  # a warm-up at the end goes on
    assert rates(flat, 3) == pytest.approx([0.4] * 4 + [0.1, 0.2, 0.3] + [0.4] * 5)


def test_parts_by_the_epoch_go_by_the_epoch_also_between_others() -> None:
    """Constant, warm-up, falls by the epoch from the middle of one on, constant at the end."""
    by_epoch = {"name": "ExponentialLR", "gamma": 0.5, "length": "2ep"}
    expected = [0.4, 0.4, 0.2, 0.4, *[0.4] * 4, *[0.2] * 4, *[0.4] * 4]
    assert rates([{"length": "2it"}, {"warmup": 2}, by_epoch, {}], 4) == pytest.approx(expected)
    (schedule,) = make_schedules(make_optimizer(parameter(), SGD), [by_epoch, COSINE], epochs=4, steps=None)
    assert schedule["interval"] == "epoch"  # so that epochs of growing batches are counted as they are
    assert rates([by_epoch, COSINE], 4) == pytest.approx([0.4] * 4 + [0.2] * 4 + [0.4] * 4 + [0.2] * 4)


def test_a_rate_in_a_tensor_stays_in_it() -> None:
    rate = torch.tensor(0.4)
    made = torch.optim.Adam(parameter(), lr=rate, capturable=False, foreach=False)
    parts = [{"warmup": 2}, COSINE | {"interval": "step"}]
    (schedule,) = make_schedules(made, parts, epochs=1, steps=6)
    found = []
    for step in range(6):
        found.append(rate.item())
        made.step()
        schedule["scheduler"].step()
        if step == 3:
            schedule["scheduler"].load_state_dict(schedule["scheduler"].state_dict())
    assert made.param_groups[0]["lr"] is rate
    assert found == pytest.approx(rates(parts, 1, 6))


def test_torchs_own_sequence_has_the_faults_that_ours_is_for() -> None:
    """If torch mends them, ``SequenceLR`` (sequence.py) can go."""
    optimizer = make_optimizer(parameter(), SGD | {"momentum": 0.5})
    parts = [lr_scheduler.ConstantLR(optimizer, 1.0), lr_scheduler.OneCycleLR(optimizer, 1.0, 6)]
    lr_scheduler.SequentialLR(optimizer, parts, milestones=[4])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / 25)  # not 0.4: the later part's already
    assert optimizer.param_groups[0]["momentum"] == 0.95
    optimizer = make_optimizer(parameter(), SGD)
    inverse: Any = build.schedules()["InverseTimeLR"]
    both = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.PolynomialLR(optimizer, 4), inverse(optimizer, 1.0)], milestones=[3]
    )
    for _ in range(3):
        optimizer.step()
        both.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)  # not 0.4: where the polynomial was


def test_one_cycle_moves_the_momentum_against_the_rate_and_the_first_beta_of_adam() -> None:
    """Smith 2018, arXiv:1803.09820: from 0.95 to 0.85 and back while the rate rises and falls."""
    config = {"name": "OneCycleLR", "max_lr": 1.0, "three_phase": True, "anneal_strategy": "linear", "pct_start": 0.4}
    for optimizer, read in (
        (SGD | {"momentum": 0.9}, lambda group: group["momentum"]),
        ({"name": "Adam", "lr": 0.1}, lambda group: group["betas"][0]),
        ({"name": "Lookahead", "base": {"name": "AdamW", "lr": 0.1}}, lambda group: group["betas"][0]),
    ):
        made = make_optimizer(parameter(), optimizer)
        (schedule,) = make_schedules(made, config, epochs=4, steps=20)
        path = []
        for _ in range(20):
            path.append((made.param_groups[0]["lr"], read(made.param_groups[0])))
            made.step()
            schedule["scheduler"].step()
        assert [path[i] for i in (0, 7, 14)] == [
            (pytest.approx(lr), pytest.approx(m)) for lr, m in ((0.04, 0.95), (1.0, 0.85), (0.04, 0.95))
        ]
        assert path[-1] == (pytest.approx(0.04 / 1e4), pytest.approx(0.95))
        assert all((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in pairwise(path[:15]))


# -- in Lightning ------------------------------------------------------------------------------------------------------


class Rates(pl.Callback):
    """Notes the rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


def fit(folder: Path, schedule: Any, ckpt: Any = None, methods: Any = (), **options: Any) -> tuple[list[float], Any]:
    """300 images in 5 batches an epoch."""
    module = Classifier("mlp", {"hidden": [8]}, SGD | {"momentum": 0.9}, schedule, regularizers=list(methods), seed=0)
    noted = Rates()
    trainer = pl.Trainer(
        **{"max_epochs": 3, "callbacks": [noted], "enable_checkpointing": False} | options,
        default_root_dir=folder,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=ImageDataModule("digits", train_size=300, batch_size=64, seed=0), ckpt_path=ckpt)
    return noted.seen, module


@pytest.mark.filterwarnings("ignore")
def test_a_training_goes_on_within_a_part_bit_for_bit(tmp_path: Path) -> None:
    parts = [{"warmup": "3it"}, {"name": "OneCycle", "max_lr": 0.8, "length": "5it"}, {"name": "CosineAnnealing"}]
    saves = pl.callbacks.ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1)
    whole, module = fit(tmp_path, parts)
    fit(tmp_path, parts, callbacks=[saves], enable_checkpointing=True)
    for path, left in ((next(tmp_path.glob("epoch=0*")), 10), (next(tmp_path.glob("epoch=1*")), 5)):
        rest, resumed = fit(tmp_path, parts, ckpt=path)
        assert rest == whole[-left:]
        assert all(map(torch.equal, resumed.network.parameters(), module.network.parameters()))
    with pytest.raises(ValueError, match="the state is of another schedule, and this one has 2 parts; go on with"):
        fit(tmp_path, [parts[0], {}], ckpt=path)


@pytest.mark.filterwarnings("ignore:(?!the checkpoint's)")
@pytest.mark.parametrize(
    ("before", "after", "epochs", "said"),
    [
        (COSINE, COSINE, 5, r"CosineAnnealingLR goes on with T_max=3, and this training has 5"),
        ([{"warmup": 2}, COSINE], [{"warmup": 2}, COSINE], 4, r"CosineAnnealingLR goes on with T_max=3, .* has 4"),
        ([{"length": "1ep"}, COSINE], [{"length": "2ep"}, COSINE], 3,
         r"SequenceLR goes on with starts=\[0, 1\], .*\[0, 2\]"),
    ],
    ids=["plain", "part", "starts"],
)  # fmt: skip
def test_a_checkpoint_of_a_training_of_another_length_is_warned_of(
    before: Any, after: Any, epochs: int, said: str, tmp_path: Path
) -> None:
    saves = pl.callbacks.ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1)
    fit(tmp_path, before, callbacks=[saves], enable_checkpointing=True)
    with pytest.warns(UserWarning, match=said):
        fit(tmp_path, after, ckpt=next(tmp_path.glob("epoch=1*")), max_epochs=epochs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "epochs", "steps"),
    [
        ({}, 3, 15),
        ({"max_epochs": -1, "max_steps": 12}, 3, 12),
        ({"max_epochs": 100, "max_steps": 12}, 3, 12),
        ({"accumulate_grad_batches": 2}, 3, 9),
        ({"methods": [GradientPenalty(0.0, accumulate_grad_batches=2)]}, 3, 9),
    ],
    ids=["epochs", "steps", "both", "accumulated", "driven"],
)
def test_the_length_of_the_training_is_its_own(
    options: dict[str, Any], epochs: int, steps: int, tmp_path: Path
) -> None:
    by_epoch, _ = fit(tmp_path, COSINE, **options)
    an_epoch = -(-steps // epochs) if "max_steps" not in options else 5
    optimizer = make_optimizer(parameter(), SGD)
    expected = lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for step, rate in enumerate(by_epoch):
        if step and step % an_epoch == 0:
            expected.step()
        assert rate == expected.get_last_lr()[0]
    assert len(by_epoch) == steps
