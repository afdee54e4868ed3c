from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, GradientPenalty, ImageDataModule, LabelSmoothing, Mixup, NormPenalty
from lightning_regs.training.losses import squared_error


def trainer(tmp_path: Path, **options: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "default_root_dir": tmp_path,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "max_epochs": 2,
    }
    return pl.Trainer(**(defaults | options))


def digits(**options: Any) -> ImageDataModule:
    return ImageDataModule(source="digits", train_size=200, test_size=100, batch_size=20, **options)


def weights(model: Classifier) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_takes_the_shape_from_the_data_and_learns(tmp_path: Path) -> None:
    model = Classifier("mlp", {"hidden": [32]}, {"name": "SGD", "lr": 0.1, "momentum": 0.9})
    t = trainer(tmp_path, max_epochs=15)
    t.fit(model, datamodule=digits())
    assert (model.input_shape, model.num_classes) == ((1, 8, 8), 10)
    assert t.callback_metrics["train/acc"] > 95
    (result,) = t.test(model, datamodule=digits(), verbose=False)
    assert set(result) == {"test/loss", "test/acc"}
    assert result["test/acc"] > 80


def test_a_seed_has_one_net_whatever_device_lightning_builds_it_on() -> None:
    options: dict[str, Any] = {"seed": 3, "input_shape": (1, 4, 4), "num_classes": 3}
    with torch.device("meta"):  # as on a card, whose generator would draw other weights
        found = Classifier("mlp", **options).network
    assert found is not None
    torch.testing.assert_close(found.state_dict(), Classifier("mlp", **options).network.state_dict())  # type: ignore[union-attr]


def test_logged_values_are_those_of_the_final_weights(tmp_path: Path) -> None:
    model, data = Classifier("mlp", {"hidden": [16]}), digits()
    t = trainer(tmp_path)
    t.fit(model, datamodule=data)
    (result,) = t.test(model, datamodule=data, verbose=False)
    logits = torch.cat(t.predict(model, dataloaders=_whitened_test(data))).cpu()
    y = _test_labels(data).cpu()
    assert result["test/acc"] == pytest.approx(100 * (logits.argmax(1) == y).float().mean().item(), abs=1e-4)
    assert result["test/loss"] == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-5)


def _test_batches(data: ImageDataModule) -> list[list[torch.Tensor]]:
    data.setup("test")
    return [[x.float(), y] for x, y, *_ in data.test_dataloader()]


def _test_labels(data: ImageDataModule) -> torch.Tensor:
    return torch.cat([y for _, y in _test_batches(data)])


def _whitened_test(data: ImageDataModule) -> DataLoader[Any]:
    x = torch.cat([x for x, _ in _test_batches(data)]) / 255
    x = x - x.mean((1, 2, 3), keepdim=True)
    x = x / x.std((1, 2, 3), correction=0, keepdim=True).clamp(min=x[0].numel() ** -0.5)
    return DataLoader(TensorDataset(x), batch_size=50, collate_fn=lambda rows: torch.stack([row[0] for row in rows]))


def test_resume_at_an_epochs_end_equals_the_uninterrupted_run_with_dropout(tmp_path: Path) -> None:
    def model() -> Classifier:
        schedule = {"name": "ExponentialLR", "gamma": 0.9}
        return Classifier("mlp", {"hidden": [16], "dropout": 0.5}, {"name": "Adam", "lr": 0.01}, schedule, seed=3)

    whole, first, second = model(), model(), model()
    trainer(tmp_path, max_epochs=4).fit(whole, datamodule=digits())
    t = trainer(tmp_path, max_epochs=2)
    t.fit(first, datamodule=digits())
    t.save_checkpoint(tmp_path / "half.ckpt")
    torch.rand(17)  # the global generator is elsewhere after a restart
    trainer(tmp_path, max_epochs=4).fit(second, datamodule=digits(), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(weights(whole), weights(second))
    assert not torch.equal(weights(first), weights(second))


def test_initial_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def initial(seed: int, noise: int) -> torch.Tensor:
        torch.manual_seed(noise)
        model = Classifier("mlp", {"hidden": [8]}, input_shape=(1, 8, 8), num_classes=10, seed=seed)
        model.configure_model()
        return weights(model)

    torch.manual_seed(5)
    before = torch.rand(1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(initial(0, 1), initial(0, 2))
    assert not torch.equal(initial(0, 1), initial(1, 1))
    assert torch.equal(before, torch.rand(1, generator=torch.Generator().manual_seed(0)))


def test_wraps_a_network_that_was_not_written_for_it(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model = Classifier(network, optimizer={"name": "SGD", "lr": 0.1})
    start = network[1].weight.detach().clone()
    trainer(tmp_path, max_epochs=1).fit(model, datamodule=digits())
    assert not torch.equal(start, network[1].weight)


def test_trains_without_a_datamodule(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(torch.randn(40, 5), torch.arange(40) % 3), batch_size=10)
    model = Classifier("mlp", {"hidden": [4]}, input_shape=(5,), num_classes=3)
    t = trainer(tmp_path, max_epochs=1)
    t.fit(model, loader)
    assert t.global_step == 4


def test_checkpoint_loads_with_weights_only_and_rebuilds_the_network(tmp_path: Path) -> None:
    model = Classifier("mlp", {"hidden": [8]}, seed=1)
    t = trainer(tmp_path, max_epochs=1)
    t.fit(model, datamodule=digits())
    t.save_checkpoint(tmp_path / "m.ckpt")
    torch.load(tmp_path / "m.ckpt", weights_only=True)
    state = torch.random.get_rng_state()
    again = Classifier.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), again(x))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_trainer_flags_hold(tmp_path: Path, precision: Any, accumulate: int) -> None:
    model = Classifier("small_alexnet", optimizer={"name": "SGD", "lr": 0.02, "momentum": 0.9})
    t = trainer(tmp_path, precision=precision, accumulate_grad_batches=accumulate, gradient_clip_val=1.0)
    t.fit(model, datamodule=digits())
    assert t.global_step == 2 * -(-10 // accumulate)
    assert model.channels_last
    assert torch.isfinite(weights(model)).all()


def test_accuracy_on_clean_and_corrupted_labels_is_logged_apart(tmp_path: Path) -> None:
    model = Classifier("mlp", {"hidden": [64]}, {"name": "SGD", "lr": 0.1, "momentum": 0.9})
    data = digits(corruption="partial_labels", corruption_p=0.5)
    t = trainer(tmp_path, max_epochs=6)
    t.fit(model, datamodule=data)
    clean, corrupted = (t.callback_metrics[f"train/acc_{group}"] for group in ("clean", "corrupted"))
    assert clean > corrupted + 10  # true structure is learnt before noise is memorised
    (test,) = t.test(model, datamodule=data, verbose=False)
    assert set(test) == {"test/loss", "test/acc"}


def test_squared_error_is_half_the_squared_distance() -> None:
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    expected = ((1 - 1) ** 2 + 2**2 + 0.5**2 + (-1 - 1) ** 2) / 2 / 2
    assert squared_error(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "smallalexnet"}, "unknown model 'smallalexnet'. Did you mean 'small_alexnet'"),
        ({"architecture_args": {"hiden": [3]}}, "hiden"),
        ({"optimizer": {"name": "SGD", "lr": -0.1}}, "-0.1"),
        ({"schedule": {"name": "Exponentail", "gamma": 0.9}}, "Did you mean 'ExponentialLR'"),
        ({"loss": "crossentropy"}, "Did you mean 'cross_entropy'"),
        ({"architecture": nn.Linear(2, 2), "architecture_args": {"hidden": [1]}}, "Linear is an object already"),
    ],
)
def test_bad_arguments_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(**options)


def test_an_unknown_shape_and_a_contradiction_are_named(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(torch.randn(4, 5), torch.arange(4)), batch_size=2)
    with pytest.raises(MisconfigurationException, match=r"pass Classifier\(input_shape"):
        trainer(tmp_path).fit(Classifier("mlp"), loader)
    with pytest.raises(MisconfigurationException, match=r"num_classes 7, the DataModule gives 10"):
        trainer(tmp_path).fit(Classifier("mlp", num_classes=7), datamodule=digits())


def test_accuracy_of_mixed_targets_is_called_what_it_is() -> None:
    data = ImageDataModule("digits", train_size=64, test_size=30, batch_size=16, monitor_test=True, seed=0)
    for method, name in ((Mixup(), "train/acc_heavier"), (LabelSmoothing(), "train/acc")):
        model = Classifier("mlp", {"hidden": [8]}, regularizers=[method], seed=0)
        trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.fit(model, data)
        logged = {key for key in trainer.callback_metrics if "acc" in key}
        assert logged == {name, "val/acc"}


@pytest.mark.cpu("a label out of range stops CUDA for the rest of the process")
def test_labels_of_every_batch_are_checked() -> None:
    y = torch.tensor([0, 1, 2, 3, 4])
    data = DataLoader(TensorDataset(torch.rand(5, 3), y), batch_size=2)
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False}
    trainer = pl.Trainer(enable_progress_bar=False, enable_model_summary=False, **options)  # type: ignore[arg-type]
    model = Classifier("mlp", {"hidden": [4]}, input_shape=(3,), num_classes=4, loss="squared_error")
    with pytest.raises(ValueError, match="class index 4 is outside 0 to 3"):
        trainer.fit(model, data)
    assert trainer.global_step == 2


def test_methods_stay_with_the_trainer_from_stage_to_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    methods = [Mixup(0.2), NormPenalty(p=1), NormPenalty(p=2), GradientPenalty(0.1)]
    model, data, t = Classifier("mlp", {"hidden": [8]}, regularizers=methods), digits(), trainer(tmp_path, max_epochs=1)
    with caplog.at_level("INFO"):
        t.fit(model, datamodule=data)
        t.test(model, datamodule=data, verbose=False)
    assert [each for each in t.callbacks if each in methods] == methods
    assert "override" not in caplog.text
