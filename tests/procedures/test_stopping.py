"""Early stopping: criteria against a reference, and a callback that stops where they do, however often it is killed."""

from __future__ import annotations

import json
import math
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_regs import Classifier, ImageDataModule, StopWhen, retrain
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.core.runs import Run, RunContext
from lightning_regs.procedures.measured import PRECHELT
from lightning_regs.procedures.stopping.criteria import stops
from lightning_regs.study import STOPPING
from lightning_regs.study.paper.tasks import import_task

BATCHES, LR = 4, 0.25
OPTIONS: dict[str, Any] = {"accelerator": "cpu", "enable_checkpointing": False}


def reference(name: str, validation: Sequence[float], training: Sequence[float], k: int = 5) -> int | None:
    """The criteria as Prechelt writes them, epoch by epoch."""
    kind, threshold = name[:2], float(name[2:])
    best, rises = math.inf, 0
    for t, error in enumerate(validation, 1):
        best = min(best, error)
        loss = 100 * (error / best - 1)
        if kind == "GL" and loss > threshold:
            return t - 1
        if kind == "GL" or t % k:
            continue
        if kind == "PQ":
            strip = training[t - k : t]
            progress = 1000 * (sum(strip) / (k * min(strip)) - 1)
            if loss > 0 and (progress == 0 or loss / progress > threshold):
                return t - 1
        else:
            rises = rises + 1 if t > k and error > validation[t - 1 - k] else 0
            if rises >= threshold:
                return t - 1
    return None


def curve(seed: int) -> tuple[list[float], list[float]]:
    """Errors of training and validation; the validation's fall for some time, and then rise."""
    draws = random.Random(seed)
    noise, slope, turn = draws.choice([0.0005, 0.005, 0.05]), draws.choice([0.0005, 0.008]), draws.randrange(80)
    validation = [abs(1 + 0.004 * abs(t - turn) + draws.gauss(0, noise)) for t in range(draws.randrange(1, 120))]
    return validation, [max(0.001, 0.8 - slope * t + draws.gauss(0, noise)) for t in range(len(validation))]


@pytest.mark.parametrize("name", PRECHELT)
def test_a_criterion_stops_where_the_reference_does(name: str) -> None:
    found = [(stops(name, *curve(seed)), reference(name, *curve(seed))) for seed in range(80)]
    assert all(ours == theirs for ours, theirs in found)
    assert len({ours for ours, _ in found} - {None}) > 3
    assert any(ours is None for ours, _ in found)


@pytest.mark.parametrize(
    ("criterion", "validation", "training", "expected"),
    [
        ("GL5", [1, 0.8, 0.84, 0.8401], (), 3),
        ("GL5", [1, math.nan], (), 1),
        ("GL5", [math.nan, 1, 1.04, 1.02], (), 0),
        ("UP2", [1, 0.9, math.inf, 0.8], (), 2),
        ("GL5", [0, 0, 1e-9], (), 2),
        ("GL10", [-0.9, -0.8, -0.8099], (), 1),  # accuracies
        ("PQ1", [1, 1, 1, 1, 1.01], [0.5] * 5, 4),  # no progress at all
        ("PQ1", [1, 1, 1, 1, 1.01], [0.51, 0.5, 0.5, 0.5, 0.5], None),  # 1 percent over 4 thousandths
        ("PQ0.2", [1, 1, 1, 1, 1.01], [0.51, 0.5, 0.5, 0.5, 0.5], 4),
        ("PQ1", [1, 1, 1, 1, math.inf], [math.nan] * 5, 4),
        ("UP2", [*[1] * 5, *[2] * 5, *[3] * 4], (), None),
        ("UP2", [*[1] * 5, *[2] * 5, *[3] * 5], (), 14),
        ("patience3", [3, 2, 2, 2.5, 1.9, 2, 2, 2], (), 7),
        ("GL5", [], (), None),
    ],
)  # fmt: skip
def test_curves_by_hand(
    criterion: str, validation: list[float], training: Sequence[float], expected: int | None
) -> None:
    assert stops(criterion, validation, training) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("criterion", ["GL5", "PQ1", "UP3", "patience9"])
def test_a_metric_that_is_no_number_stops_and_warns_where_lightnings_own_stops(
    criterion: str, at: int, bad: float
) -> None:
    errors = [1.0] * at + [bad] + [1.0] * 20
    own = pl.callbacks.EarlyStopping("val/loss", patience=99)
    expected = fit(Scripted(errors, TRAINING), own, max_epochs=20).current_epoch
    given = StopWhen(criterion, "val/loss", training="train/loss" if criterion == "PQ1" else None)
    with pytest.warns(UserWarning, match=f"'val/loss' is {bad} after {BATCHES * (at + 1)} steps, and {criterion}"):
        trainer = fit(Scripted(errors, TRAINING), given, max_epochs=20)
    assert trainer.current_epoch == expected == at + 1
    assert given.stopped == at


def test_smoothing_is_over_the_last_measurements() -> None:
    noisy = [1.0, 0.5, 0.9, 0.7]  # of two: 1, 0.75, 0.7, 0.8
    assert stops("GL20", noisy) == 2
    assert stops("GL20", noisy, smoothing=2) is None
    assert stops("GL14", noisy, smoothing=2) == 3


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, r"unknown criterion 'GL'\. Did you mean 'GL\d'", lambda: StopWhen("GL", "val/loss")),
        (ValueError, "alpha must be above 0, got 0", lambda: StopWhen("GL0", "val/loss")),
        (TypeError, r"strips must be an integer, got 2\.5", lambda: stops("UP2.5", [1.0])),
        (ValueError, r"PQ1 reads .* training=None names none; .*'train/loss'", lambda: StopWhen("PQ1", "val/loss")),
        (ValueError, "GL1 reads no training error", lambda: StopWhen("GL1", "val/loss", training="train/loss")),
        (ValueError, "0 training errors for 2 validation errors", lambda: stops("PQ1", [1, 2])),
        (ValueError, "one is -1; give an error", lambda: stops("PQ1", [1, 2], [1, -1])),
    ],
)  # fmt: skip
def test_what_no_curve_can_be_asked_is_refused(error: type[Exception], match: str, call: Any) -> None:
    with pytest.raises(error, match=match):
        call()


class Scripted(pl.LightningModule):
    """Logs given errors; its weight says how many steps were taken."""

    def __init__(self, validation: Sequence[float], training: Sequence[float] = (), every: int = BATCHES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.errors, self.training_errors, self.every = validation, training, every

    @property
    def steps(self) -> float:
        return self.weight.item() / LR

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return -self.weight

    def on_train_epoch_end(self) -> None:
        if self.training_errors:
            self.log("train/loss", self.training_errors[self.current_epoch])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        # Of two processes the mean is what is given, exactly.
        share = 1.0 if self.trainer.world_size == 1 else 0.5 + self.global_rank
        self.log("val/loss", share * self.errors[self.global_step // self.every - 1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), LR)


def fit(module: pl.LightningModule, *callbacks: pl.Callback, ckpt_path: Path | None = None, **options: Any) -> Any:
    trainer = pl.Trainer(**OPTIONS | {"max_epochs": 60, "callbacks": [*callbacks]} | options)
    trainer.fit(module, DataLoader(torch.zeros(BATCHES)), DataLoader(torch.zeros(2)), ckpt_path=ckpt_path)
    return trainer


VALIDATION = [1 - 0.12 * t + 0.03 * t**1.5 * (1 + 0.1 * math.sin(3 * t)) for t in range(60)]
TRAINING = [math.exp(-0.02 * t) for t in range(60)]


@pytest.mark.parametrize(
    ("criterion", "options"),
    [("GL2", {}), ("UP2", {"smoothing": 3}), ("PQ0.5", {"training": "train/loss"}), ("patience4", {"mode": "max"})],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.slow
def test_killed_and_resumed_at_any_epoch_it_stops_where_the_curve_says_with_the_best_weights(
    criterion: str, options: dict[str, Any], tmp_path: Path
) -> None:
    sign = -1 if options.get("mode") == "max" else 1
    module, stopping = Scripted([sign * v for v in VALIDATION], TRAINING), StopWhen(criterion, "val/loss", **options)
    keep = pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    trainer = fit(module, keep, stopping, enable_checkpointing=True)
    smoothing = options.get("smoothing", 1)
    at = stops(criterion, stopping._errors, TRAINING[: len(stopping.validation)], smoothing)
    assert stopping.stopped == at is not None
    assert trainer.current_epoch == at + 1 < 60
    smooth = [sum(VALIDATION[max(0, t + 1 - smoothing) : t + 1]) / min(t + 1, smoothing) for t in range(at + 1)]
    assert module.steps == BATCHES * (smooth.index(min(smooth)) + 1) < BATCHES * (at + 1)
    for epoch in (0, at // 2, at - 1, at):
        other, again = Scripted(module.errors, TRAINING), StopWhen(criterion, "val/loss", **options)
        resumed = fit(other, again, ckpt_path=tmp_path / f"epoch={epoch}.ckpt")
        assert (resumed.global_step, other.steps) == (trainer.global_step, module.steps)
        assert again.state_dict() == stopping.state_dict()


@pytest.mark.parametrize(
    ("options", "every"),
    [({"val_check_interval": 2}, 2), ({"check_val_every_n_epoch": 2}, 8), ({"min_epochs": 30}, 4)],
    ids=["twice an epoch", "each second epoch", "not before epoch 30"],
)
def test_a_measurement_is_a_validation_whenever_it_is(options: dict[str, Any], every: int) -> None:
    module, stopping = Scripted(VALIDATION, every=every), StopWhen("GL2", "val/loss")
    trainer = fit(module, stopping, **options)
    at = stops("GL2", VALIDATION)
    assert stopping.stopped == at is not None
    assert stopping.steps == [every * (n + 1) for n in range(len(stopping.steps))]
    if "min_epochs" in options:
        assert trainer.current_epoch == 30
    else:
        assert len(stopping.validation) == at + 1
    assert module.steps == every * (VALIDATION[: len(stopping.steps)].index(min(VALIDATION[: len(stopping.steps)])) + 1)


def test_a_checkpoint_that_has_lost_the_training_error_is_told(tmp_path: Path) -> None:
    """Lightning ends the epoch of a checkpoint that a validation has saved once more, without what it had logged."""

    class Logs(Scripted):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log("train/loss", 1.0 / (1 + self.global_step), on_epoch=True, on_step=False)
            return super().training_step(batch, batch_idx)

    def stopping() -> StopWhen:
        return StopWhen("PQ1", "val/loss", training="train/loss")

    options: dict[str, Any] = {"max_epochs": 4, "enable_checkpointing": True}
    for at_end in (True, False):
        keep = pl.callbacks.ModelCheckpoint(tmp_path / str(at_end), "last", save_on_train_epoch_end=at_end)
        fit(Logs(VALIDATION), keep, stopping(), **options)
    assert fit(Logs(VALIDATION), stopping(), max_epochs=6, ckpt_path=tmp_path / "True" / "last.ckpt").current_epoch == 6
    with pytest.raises(
        MisconfigurationException, match=r"PQ1 reads 'train/loss' at the end .*last\.ckpt was saved before"
    ):
        fit(Logs(VALIDATION), stopping(), max_epochs=6, ckpt_path=tmp_path / "False" / "last.ckpt")


def test_of_several_criteria_the_first_stops(tmp_path: Path) -> None:
    both = StopWhen("GL2", "val/loss"), StopWhen("GL50", "val/loss"), StopWhen("GL50", "val/loss", smoothing=3)
    trainer = fit(model := Scripted(VALIDATION), *both)
    trainer.save_checkpoint(tmp_path / "both.ckpt")
    assert (both[0].stopped, both[1].stopped) == (stops("GL2", VALIDATION), None)
    assert model.steps == pytest.approx(both[0].steps[both[0].best])


def test_a_second_module_in_the_same_trainer_has_a_curve_of_its_own() -> None:
    stopping = StopWhen("GL500", "val/loss")
    trainer = fit(first := Scripted(VALIDATION), stopping, max_epochs=4)
    assert first.steps == 4 * BATCHES
    loaders = DataLoader(torch.zeros(BATCHES)), DataLoader(torch.zeros(2))
    with pytest.warns(UserWarning, match="judged nothing"):
        trainer.fit(second := Scripted(VALIDATION), *loaders)  # which is none, as the epochs are over
    assert second.steps == 0
    trainer.fit_loop.max_epochs = 6
    trainer.fit(second, *loaders)
    assert stopping.validation == pytest.approx(VALIDATION[4:6])
    assert second.steps == BATCHES * (stopping.best + 1)
    assert pickle.loads(pickle.dumps(stopping)).validation == stopping.validation


class Rising(Scripted):
    """Logs beside its errors one that is least at step 24, and says so of each epoch or of some."""

    every_epochs = 1

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self.current_epoch % self.every_epochs == 0:
            self.log("val/other", abs(self.global_step - 24.0))


@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_that_restore_the_one_that_stopped_does_and_else_the_first(turn: int) -> None:
    for name in ("GL2", "GL500"):
        first, other = StopWhen(name, "val/loss"), StopWhen("patience30", "val/other")
        fit(module := Rising(VALIDATION), *[first, other][::turn], max_epochs=10)
        assert (first.stopped is not None) is (name == "GL2")
        assert first.steps[first.best] != other.steps[other.best]
        restored = first if turn == 1 or first.stopped is not None else other
        assert module.steps == restored.steps[restored.best]


def test_what_a_validation_does_not_log_is_not_judged_by_what_was_logged_before() -> None:
    module = Rising(VALIDATION)
    module.every_epochs = 3
    with pytest.raises(MisconfigurationException, match=r"'val/other', which this validation has not logged; .*fewer"):
        fit(module, stopping := StopWhen("patience2", "val/other"))
    assert stopping.validation == [20.0]

    class Trains(Scripted):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log("train/step", float(batch_idx))
            return super().training_step(batch, batch_idx)

    with pytest.raises(MisconfigurationException, match=r"'train/step', which this validation has not logged"):
        fit(Trains(VALIDATION), StopWhen("patience2", "train/step"), max_epochs=3)


def test_a_module_that_saves_a_part_of_itself_gets_that_part_back() -> None:
    class Part(Scripted):
        def __init__(self) -> None:
            super().__init__(VALIDATION)
            self.pretrained, self.strict_loading = nn.Linear(2, 2), False

        def state_dict(self, *args: Any, **options: Any) -> Any:
            found = super().state_dict(*args, **options)
            return {name: value for name, value in found.items() if "pretrained" not in name}

    fit(module := Part(), stopping := StopWhen("GL2", "val/loss"))
    assert module.steps == stopping.steps[stopping.best] < BATCHES * len(stopping.validation)


def test_a_training_that_no_validation_came_in_is_told() -> None:
    stopping = StopWhen("GL2", "val/loss")
    with pytest.warns(UserWarning, match=r"judged nothing, as no validation came in 12 steps; .*check_val_every_n"):
        fit(Scripted(VALIDATION), stopping, check_val_every_n_epoch=9, max_epochs=3)
    with pytest.raises(ValueError, match=r"nothing is the best of 'val/loss', as no validation has come"):
        assert stopping.best


def test_without_restore_or_in_a_trial_run_the_last_weights_stay() -> None:
    module, stopping = Scripted(VALIDATION), StopWhen("GL2", "val/loss", restore=False)
    assert fit(module, stopping).global_step == module.steps > BATCHES * (stopping.best + 1)
    again = fit(Scripted(VALIDATION), stopping)  # another training, with the same callback
    assert again.global_step == module.steps == BATCHES * len(stopping.validation)
    fit(trial := Scripted(VALIDATION), given := StopWhen("GL2", "val/loss"), fast_dev_run=True)
    assert (given.validation, trial.steps) == ([], 1)


class Told(pl.Callback):
    """Writes down where a process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Scripted)
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps([trainer.global_step, pl_module.steps]))


@pytest.mark.slow
def test_two_processes_decide_as_one(tmp_path: Path) -> None:
    told = Told(tmp_path)
    loaders = DataLoader(torch.zeros(2 * BATCHES)), DataLoader(torch.zeros(4))
    options = OPTIONS | {"max_epochs": 60, "devices": 2, "strategy": "ddp_fork"}
    pl.Trainer(**options, callbacks=[StopWhen("GL2", "val/loss"), told]).fit(Scripted(VALIDATION), *loaders)
    at = stops("GL2", VALIDATION)
    assert at is not None
    best = VALIDATION.index(min(VALIDATION[: at + 1]))
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [BATCHES * (at + 1), BATCHES * (best + 1)]


def test_trainers_it_does_not_go_with_are_refused() -> None:
    def refused(match: str, *callbacks: pl.Callback, **options: Any) -> None:
        with pytest.raises(MisconfigurationException, match=match):
            fit(Scripted(VALIDATION, TRAINING), *callbacks, **options)

    refused(r"unknown logged metric 'val/acc'.*val/loss", StopWhen("GL2", "val/acc"))
    refused("unknown logged metric 'loss'", StopWhen("PQ1", "val/loss", training="loss"))
    refused("at each validation, and there is none", StopWhen("GL2", "val/loss"), limit_val_batches=0)
    pq = StopWhen("PQ1", "val/loss", training="train/loss")
    refused("PQ1 reads the training error at the end .* several validations", pq, val_check_interval=2)
    average = pl.callbacks.StochasticWeightAveraging(0.1, swa_epoch_start=2)
    refused("another callback their average", StopWhen("GL2", "val/loss"), average)
    for data, match in (({"monitor_test": True}, "serves the test set"), ({}, r"there is none; .*val_split")):
        module = ImageDataModule("digits", train_size=100, seed=0, **data)
        with pytest.raises(MisconfigurationException, match=match):
            pl.Trainer(**OPTIONS, max_epochs=1, callbacks=[StopWhen("GL2", "val/loss")]).fit(Classifier(seed=0), module)


def data() -> ImageDataModule:
    return ImageDataModule("digits", train_size=120, val_split=40, batch_size=20, seed=0)


def net(seed: int = 0) -> Classifier:
    base = {"name": "SGD", "lr": 0.3, "momentum": 0.9}
    options = {"architecture_args": {"hidden": [16]}, "optimizer": {"name": "Lookahead", "base": base, "k": 3}}
    return Classifier(**options, seed=seed)  # type: ignore[arg-type]


@pytest.mark.slow
def test_all_data_are_trained_on_for_the_length_found_on_a_part(tmp_path: Path) -> None:
    """And the weights that are left are those that were validated: of Lookahead the slow ones."""
    given: dict[str, Any] = {"folder": tmp_path, "trainer": OPTIONS | {"max_epochs": 30}}
    given["stopping"] = lambda: StopWhen("patience3", "val/loss")
    stopped, retrained = retrain(net, data, **given)
    losses = [row["val/loss"] for row in stopped.curve]
    assert stops("patience3", losses) == len(losses) - 1 < 29
    best = losses.index(min(losses))
    assert retrained.metrics["iterations"] == stopped.curve[best]["step"] == 4 * (best + 1)
    assert "val/loss" not in retrained.metrics
    whole = ImageDataModule("digits", train_size=120, batch_size=20, seed=0)
    trainer, module = pl.Trainer(**OPTIONS, max_steps=4 * (best + 1), max_epochs=-1), net()
    trainer.fit(module, whole)
    assert all(torch.equal(value, retrained.weights()[name]) for name, value in module.state_dict().items())
    module.load_state_dict(stopped.weights())
    (validated,) = pl.Trainer(**OPTIONS).validate(module, data(), verbose=False)
    assert validated["val/loss"] == pytest.approx(min(losses), abs=1e-6)
    written = (tmp_path / "retrained" / "retrained" / "level.pt").stat().st_mtime_ns
    assert [level.metrics for level in retrain(net, data, **given)] == [stopped.metrics, retrained.metrics]
    assert (tmp_path / "retrained" / "retrained" / "level.pt").stat().st_mtime_ns == written
    by_epochs = retrain(net, data, **given | {"folder": tmp_path / "epochs", "by": "epochs"})[1]
    assert by_epochs.metrics["iterations"] == 6 * (best + 1)
    with pytest.raises(ValueError, match="give the data a val_split"):
        retrain(net, lambda: ImageDataModule("digits"), **given)
    own = pl.callbacks.EarlyStopping("val/loss")
    with pytest.raises(TypeError, match="what stopping makes must be a StopWhen, got"):
        retrain(net, data, **given | {"stopping": lambda: own})
    for other in (DataLoader(torch.zeros(4)), lambda: DataLoader(torch.zeros(4))):
        with pytest.raises(
            TypeError, match=r"an ImageDataModule with .* other data fit with stop .*, got <torch.*DataLoader"
        ):
            retrain(net, other, **given)


CONFIG: dict[str, Any] = {
    "model": {"architecture_args": {"hidden": [8]}, "optimizer": {"name": "Rprop", "lr": 0.01}},
    "data": {"source": "digits", "train_size": 90, "val_split": 30, "batch_size": 100},
    "trainer": {"max_epochs": 60, "accelerator": "cpu"},
    "stopping": {"criteria": ["GL2", "PQ1", "UP2", "patience10"]},
}


@pytest.mark.slow
def test_one_recorded_training_answers_for_all_criteria_and_a_stack_as_each_alone(tmp_path: Path) -> None:
    runs = [RunContext(tmp_path / f"{i}", i) for i in (0, 1)]
    alone = RunContext(tmp_path / "alone", 1)
    rows = import_task(STOPPING).stacked([{**CONFIG}, {**CONFIG}], runs)
    own = import_task(STOPPING)({**CONFIG, "model": CONFIG["model"] | {"loss": "cross_entropy"}}, alone)
    assert {*rows[1]} == {*own}
    curve = Run(alone.folder).curves()
    validation, training = [row["val_loss"] for row in curve], [row["train_loss"] for row in curve]
    for name in CONFIG["stopping"]["criteria"]:
        at = stops(name, validation, training)
        end = 60 if at is None else at + 1
        best = curve[validation.index(min(validation[:end]))]
        assert own[f"{name.lower()}_epoch"] == end
        assert own[f"{name.lower()}_test_loss"] == best["test_loss"]
        assert own[f"{name.lower()}_test_error"] == 100 - best["test_acc"]
    assert own["fired"] in (0, 25, 50, 75, 100)
    assert own["best_epoch"] == validation.index(min(validation)) + 1
    assert any(own[f"{name.lower()}_good"] == 100 for name in CONFIG["stopping"]["criteria"])
    stacked = Run(runs[1].folder).curves()
    assert [row["val_loss"] for row in stacked[:5]] == pytest.approx(validation[:5], rel=1e-3)
    assert stacked[-1]["val_loss"] == pytest.approx(rows[1]["val_loss"], rel=1e-5)
    with pytest.raises(ValueError, match="unknown criterion 'GLX'"):
        import_task(STOPPING)({**CONFIG, "stopping": {"criteria": ["GLX"]}}, alone)
