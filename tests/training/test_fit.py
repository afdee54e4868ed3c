import copy
import logging
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_regs import Cutout, ImageDataModule, Mixup
from lightning_regs.core.runs import RunContext
from lightning_regs.regularizers import Regularizer
from lightning_regs.study.run.events import Event, Job
from lightning_regs.study.run.worker import perform
from lightning_regs.training import fit as training
from lightning_regs.training.fit import fit, fit_stack, initial_network
from lightning_regs.training.options import make

CONFIG: dict[str, Any] = {
    "model": {
        "architecture": "mlp",
        "architecture_args": {"hidden": [64], "dropout": 0.2},
        "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9},
        "schedule": {"name": "ExponentialLR", "gamma": 0.9},
    },
    "data": {"source": "digits", "train_size": 200, "test_size": 100, "batch_size": 20, "monitor_test": True},
    "trainer": {"max_epochs": 6},
}


@pytest.mark.parametrize(
    ("length", "total"),
    [
        ({"max_epochs": 3}, 3),
        ({"max_epochs": -1, "max_steps": 25}, 3),
        ({"max_epochs": 2, "max_steps": 90}, 2),
        ({"max_epochs": 50, "max_steps": 30}, 3),
        ({"max_epochs": -1, "max_steps": 5, "accumulate_grad_batches": 4}, 2),
    ],
)
def test_progress_is_of_the_epochs_that_are_trained(tmp_path: Path, length: dict[str, int], total: int) -> None:
    told: list[tuple[float, float]] = []
    fit(CONFIG | {"trainer": length}, RunContext(tmp_path, on_progress=lambda done, of, _: told.append((done, of))))
    assert told[0] == (1, total)
    assert told[-1] == (total, total)
    assert {of for _, of in told} == {total}


class Killed(BaseException):
    pass


def kill_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save at every epoch, and stop the process's work right after the save of one epoch."""

    class Dying(training.EpochCheckpoint):
        def __init__(self, path: Path) -> None:
            super().__init__(path, every=0.0)

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.current_epoch + 1 == epoch:
                raise Killed

    monkeypatch.setattr(training, "EpochCheckpoint", Dying)


def test_metrics_and_curves(tmp_path: Path) -> None:
    run = RunContext(tmp_path, seed=1)
    metrics = training.train(CONFIG, run)
    assert set(metrics) == {"train_acc", "train_loss", "test_acc", "test_loss", "fit_epoch", "best_test_acc"}
    rows = run.curves
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert {"train_loss", "train_acc", "test_acc", "test_loss"} <= set(rows[0])
    assert rows[-1]["test_acc"] == pytest.approx(metrics["test_acc"], abs=1e-4)
    assert metrics["best_test_acc"] == max(row["test_acc"] for row in rows)
    assert rows[0]["train_loss"] > rows[-1]["train_loss"]


def test_held_out_training_data_are_measured_after_the_last_epoch(tmp_path: Path, device: torch.device) -> None:
    held = {"val_split": 40, "monitor_test": False}
    run = RunContext(tmp_path, seed=1)
    metrics = training.train(CONFIG | {"data": CONFIG["data"] | held}, run)
    last = run.curves[-1]
    assert [metrics[f"val_{name}"] for name in ("acc", "loss")] == pytest.approx([last["val_acc"], last["val_loss"]])
    assert (run.precision, run.epochs) == ("32-true", 6)
    assert run.device.startswith("cpu") == (device.type == "cpu")


@pytest.mark.parametrize(("epoch", "seeds"), [(1, {}), (3, {"order": 4, "weights": 5})])
@pytest.mark.slow
def test_a_killed_run_goes_on_and_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, seeds: dict[str, int]
) -> None:
    config = CONFIG | {"seeds": seeds}
    whole = RunContext(tmp_path / "whole")
    expected = training.train(config, whole)
    with monkeypatch.context() as patch:
        kill_after(epoch, patch)
        with pytest.raises(Killed):
            training.train(config, RunContext(tmp_path / "killed"))
    torch.rand(3)
    again = RunContext(tmp_path / "killed")
    assert training.train(config, again) == expected
    assert again.curves == whole.curves


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def flip(path: Path) -> None:
    """Flip a bit of the largest tensor, so that torch reads it without complaint."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda part: part.file_size)
        start = bytes(content).index(file.read(largest), largest.header_offset)
    content[start] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_run_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    with monkeypatch.context() as patch:
        kill_after(2, patch)
        with pytest.raises(Killed):
            training.train(CONFIG, RunContext(tmp_path))
    damage(tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged.*starts over"):
        metrics = training.train(CONFIG, RunContext(tmp_path))
    assert metrics == training.train(CONFIG, RunContext(tmp_path / "a"))


@pytest.mark.parametrize("what", ["another run", "other shapes", "no checkpoint", "an object"])
@pytest.mark.slow
def test_a_whole_file_that_is_not_the_runs_is_named_and_the_run_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As often as it is repeated otherwise, the run would fail."""
    with monkeypatch.context() as patch:
        kill_after(2, patch)
        for name, seed in (("mine", 0), ("other", 1)):
            with pytest.raises(Killed):
                training.train(CONFIG, RunContext(tmp_path / name, seed))
    file, said = tmp_path / "mine" / "last.ckpt", "is damaged .*: it was removed, and the training starts over"
    if what == "another run":
        shutil.copy(tmp_path / "other" / "last.ckpt", file)
    elif what == "other shapes":
        state = torch.load(file, weights_only=True)
        state["state_dict"]["network.head.weight"] = torch.zeros(3, 3)
        torch.save(state, file)
        said = r"last\.ckpt does not fit this training \(.*size mismatch.*; the run starts over"
    else:
        torch.save({"state_dict": {}} if what == "no checkpoint" else {"a": CONFIG.__class__, "b": Path()}, file)
        said = said if what == "no checkpoint" else "it was removed, and the training starts over"
    job = Job("one", 0, "lightning_regs.training.fit:train", CONFIG, str(tmp_path / "mine"))
    events: list[Event] = []
    perform((job,), 1, events.append)
    notes = [event.text for event in events if event.kind == "noted"]
    assert [event.kind for event in events if event.kind in ("finished", "failed")] == ["finished"], notes
    assert len(notes) == 1
    assert re.search(
        said or r"last\.ckpt does not fit this training \(.*size mismatch.*; the run starts over", notes[0]
    )
    row = events[-1].row or {}
    assert {name: row[name] for name in METRICS} == training.train(CONFIG, RunContext(tmp_path))
    assert not file.exists()


METRICS = ("train_acc", "train_loss", "test_acc", "test_loss", "fit_epoch", "best_test_acc")


def test_fit_epoch_is_the_first_epoch_at_the_threshold(tmp_path: Path) -> None:
    metrics = training.train(CONFIG | {"fitted": 60.0}, run := RunContext(tmp_path))
    reached = [row["epoch"] for row in run.curves if row["train_acc"] >= 60.0]
    assert metrics["fit_epoch"] == reached[0] < 6


def test_accuracy_on_corrupted_labels_is_in_the_row(tmp_path: Path) -> None:
    corrupted = CONFIG | {"data": CONFIG["data"] | {"corruption": "partial_labels", "corruption_p": 0.5}}
    metrics = training.train(corrupted, RunContext(tmp_path))
    assert metrics["train_acc_clean"] > metrics["train_acc_corrupted"]
    assert "test_acc_corrupted" not in metrics


@pytest.mark.slow
def test_augmentation_does_not_touch_the_final_measurement(tmp_path: Path) -> None:
    augmented = CONFIG | {"data": CONFIG["data"] | {"random_crop": True, "image_size": 6}}
    first = training.train(augmented, RunContext(tmp_path))
    assert first == training.train(augmented, RunContext(tmp_path / "b"))


def test_methods_are_written_as_for_the_command_line() -> None:
    config = {"class_path": "lightning_regs.Mixup", "init_args": {"alpha": 0.3}}
    mixup = make(config, Regularizer, 7, "regularizer", "lightning_regs.Mixup")
    assert isinstance(mixup, Mixup)
    assert (mixup.alpha, mixup.seed) == (0.3, 7)
    config = {"class_path": "lightning_regs.Cutout", "init_args": {"seed": 3}}
    assert make(config, Cutout, 7, "regularizer", "lightning_regs.Mixup").seed == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_path": "lightning_regs.Mixxup"}, "no regularizer 'lightning_regs.Mixxup'"),
        ({"class_path": "lightning_regs.Classifier"}, "is no regularizer"),
        ({"class_path": "lightning_regs.Mixup", "init_args": {"beta": 1}}, "does not take"),
        ({"name": "Mixup"}, "class_path: lightning_regs.Mixup"),
    ],
)
def test_methods_that_do_not_exist(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(config, Regularizer, 0, "regularizer", "lightning_regs.Mixup")


# -- the trained net ---------------------------------------------------------------------------------------------------


class Frozen(pl.Callback):
    """Keeps the weights as they start."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 0.0


def accuracy(network: torch.nn.Module, trained: training.Trained, split: str) -> float:
    data = trained.data.dataset(split)
    x, y = (data.x[data.rows[trained.replica]], data.y[trained.replica]) if hasattr(data, "rows") else (data.x, data.y)
    network = copy.deepcopy(network).to(x.device)  # data that fit there are on the GPU, and a trained net is not
    return 100 * float((network(trained.data.eval_transform(x)).argmax(1) == y).double().mean())


@pytest.mark.parametrize("alone", [True, False])
def test_a_task_measures_the_trained_net(tmp_path: Path, alone: bool) -> None:
    runs = [RunContext(tmp_path / str(seed), seed) for seed in (1, 2)]
    found = [fit(CONFIG, run) for run in runs] if alone else fit_stack(CONFIG, runs)
    for trained in found:
        network = trained.network()
        for split in ("train", "test"):
            assert trained.metrics[f"{split}_acc"] == pytest.approx(accuracy(network, trained, split), abs=1e-5)
        assert all(torch.equal(value, trained.state()[name]) for name, value in network.state_dict().items())
    first, second = (trained.network().state_dict() for trained in found)
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_a_training_starts_from_the_net_that_it_is_given(tmp_path: Path) -> None:
    data = ImageDataModule(**CONFIG["data"], seed=1)
    data.prepare_data()
    data.setup()
    network = initial_network(CONFIG["model"], data, 5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = fit(CONFIG, RunContext(tmp_path, 1), [Frozen()], start=network, data=data)
    assert all(torch.equal(value, before[name]) for name, value in trained.state().items())
    assert trained.metrics["test_acc"] == pytest.approx(accuracy(trained.network(), trained, "test"), abs=1e-5)


def test_layers_that_are_put_into_the_net_are_in_the_initial_one_too(tmp_path: Path) -> None:
    model = CONFIG["model"] | {"layers": [{"after": "ReLU", "add": "Tanh"}]}
    data = ImageDataModule(**CONFIG["data"], seed=1)
    data.prepare_data()
    data.setup()
    network = initial_network(model, data, 1)
    trained = fit(CONFIG | {"model": model}, RunContext(tmp_path, 1), start=network, data=data)
    assert str(trained.network()) == str(network.eval())
    assert str(network).count("Tanh") == 1


def test_a_configuration_names_callbacks(tmp_path: Path) -> None:
    masked = CONFIG | {"callbacks": [{"class_path": "lightning_regs.WeightMask", "init_args": {"density": 0.5}}]}
    weight = fit(masked, RunContext(tmp_path)).state()["head.weight"]
    assert (weight == 0).float().mean() > 0.3
    with pytest.raises(ValueError, match=r"no callback 'lightning_regs\.WeightMusk'"):
        fit(CONFIG | {"callbacks": [{"class_path": "lightning_regs.WeightMusk"}]}, RunContext(tmp_path))


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [("model", "architectur", "architecture"), ("data", "sourc", "source"), ("trainer", "max_epoch", "max_epochs")],
)
def test_an_option_that_a_section_lacks_is_refused_with_the_nearest(
    tmp_path: Path, section: str, name: str, near: str
) -> None:
    config = CONFIG | {section: CONFIG[section] | {name: 1}}
    with pytest.raises(ValueError, match=f"^unknown option of {section} '{name}'. Did you mean '{near}'"):
        fit(config, RunContext(tmp_path))


@pytest.mark.parametrize("section", ["model", "data", "trainer"])
@pytest.mark.parametrize("value", [None, [1]])
def test_a_section_that_is_not_there_or_no_mapping_is_named(tmp_path: Path, section: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"each a mapping: {section} is {re.escape(repr(value))}"):
        fit(CONFIG | {section: value}, RunContext(tmp_path))


def test_lightning_speaks_again_afterwards():
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    try:
        logger.setLevel(logging.INFO)
        with training.quiet():
            assert logger.level == logging.WARNING
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(level)
