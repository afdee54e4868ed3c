"""Lightning's traps: hooks that shadow each other, precision, replaced samplers, false hints, the CLI."""

from __future__ import annotations

import warnings

import pytest
import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentParser
from lightning_fabric.utilities.exceptions import MisconfigurationException
from recorder import Recorder, digits, trainer

from lightning_regs import Classifier
from lightning_regs.data import ImageDataModule
from lightning_regs.data.splits import Splits


class OwnHook(Recorder):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


def test_a_module_with_the_same_hook_is_refused():
    with pytest.raises(MisconfigurationException, match="OwnHook and ImageDataModule both have on_after"):
        trainer().fit(OwnHook(), digits())


def test_half_precision_inputs_are_converted():
    model = Recorder()
    trainer(precision="bf16-true").fit(model, digits())
    assert model.columns("train")[0].dtype == torch.bfloat16


@pytest.mark.parametrize("replicas", [None, 2])
def test_batches_grow_with_the_epochs(replicas):
    growing = {"batch_size": [(0, 50), (1, 120), (3, 300)], "train_size": 300, "val_split": 60, "replicas": replicas}
    sizes, epochs = [], []

    class Sizes(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            sizes.append(batch[1].shape[-1])

        def on_validation_epoch_end(self, trainer, pl_module):
            epochs.append((trainer.current_epoch, trainer.global_step))

    classifier = Classifier("mlp", {"hidden": [4]}, seed=3, replicas=replicas)
    options = {"callbacks": [Sizes()], "max_epochs": 4, "num_sanity_val_steps": 0}
    with pytest.raises(ValueError, match="batch_size is 300 from epoch 3 on, and there are 240 training samples; grow"):
        trainer(reload_dataloaders_every_n_epochs=1, **options).fit(classifier, digits(**growing))
    growing["batch_size"][-1] = [3, 240]
    with pytest.raises(MisconfigurationException, match=r"give it Trainer\(reload_dataloaders_every_n_epochs=1\)"):
        trainer(**options).fit(classifier, digits(**growing))
    by_step = Classifier("mlp", seed=3, schedule={"name": "CosineAnnealing", "interval": "step"}, replicas=replicas)
    with pytest.raises(ValueError, match=r"needs T_max where the number of steps of the training is not known; give"):
        trainer(reload_dataloaders_every_n_epochs=1, **options).fit(by_step, digits(**growing))
    trainer(reload_dataloaders_every_n_epochs=1, **options).fit(classifier, digits(**growing))
    assert sizes == [50] * 4 + [40] + [120] * 4 + [240]
    assert epochs == [(0, 5), (1, 7), (2, 9), (3, 10)]


def test_overfitting_batches_repeats_them_in_order():
    dm, model = digits(batch_size=50), Recorder()
    trainer(overfit_batches=2, max_epochs=2).fit(model, dm)
    _, y, _ = model.columns("train")
    assert torch.equal(y, dm.dataset("train").y[:100].repeat(2))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_overfitting_batches_of_replicas_repeats_those_of_each_in_order(noise):
    dm = digits(batch_size=50, replicas=2, val_split=0.2, corruption="partial_labels", corruption_p=noise)
    seen, validated = [], []

    class Stacked(pl.LightningModule):
        def training_step(self, batch, batch_idx):
            seen.append(batch[1])

        def validation_step(self, batch, batch_idx):
            validated.append(batch[1])

        def configure_optimizers(self):
            return None

    trainer(overfit_batches=2, max_epochs=2, num_sanity_val_steps=0).fit(Stacked(), dm)
    assert [y.shape for y in seen] == [(2, 50)] * 4
    assert torch.equal(torch.cat(seen, 1), dm.dataset("train").y[:, :100].repeat(1, 2))
    assert [y.tolist() for y in validated] == [dm.dataset("val").y.tolist()] * 2


def test_no_hint_about_workers_or_a_missing_validation_set():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer().fit(Recorder(), digits(val_split=0.1))
        trainer().fit(Recorder(), digits())
    assert not [str(w.message) for w in caught if "workers" in str(w.message) or "is zero" in str(w.message)]


def test_second_setup_keeps_the_data():
    dm = digits()
    dm.setup("fit")
    before = dm.dataset("train")
    dm.setup("test")
    assert dm.dataset("train").x.data_ptr() == before.x.data_ptr()


def test_use_before_setup_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"call setup\(\) first"):
        _ = ImageDataModule().num_classes


@pytest.mark.parametrize(
    ("resident", "num_workers", "free_per_byte", "expected"),
    [
        ("auto", 0, 2, "cuda"),
        ("auto", 0, 1.9, "cpu"),
        ("auto", 1, 9, "cpu"),
        (True, 0, 0, "cuda"),
        (False, 0, 9, "cpu"),
    ],
)
def test_where_the_data_live_on_a_machine_with_a_gpu(monkeypatch, resident, num_workers, free_per_byte, expected):
    """Only the decision: the copy itself is left out."""
    dm = digits(resident=resident, num_workers=num_workers)
    dm.setup()
    size = dm.dataset("train").nbytes + dm.dataset("test").nbytes
    targets = []
    monkeypatch.setattr(dm, "_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(size * free_per_byte), 0))
    monkeypatch.setattr(Splits, "to", lambda self, device: targets.append(device.type) or self)
    dm.setup()
    assert targets == [expected]


def test_the_command_line_builds_it_and_keeps_the_types():
    parser = ArgumentParser()
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    arguments = ["--data=lightning_regs.data.ImageDataModule"]
    for pair in ("source=digits", "val_split=45", "resident=auto", "image_size=6", "random_crop=true", "seed=null"):
        arguments.append(f"--data.init_args.{pair}")
    build = getattr(parser, "instantiate", parser.instantiate_classes)
    dm = build(parser.parse_args(arguments)).data
    dm.setup()
    assert isinstance(dm, ImageDataModule)
    assert len(dm.dataset("val")) == 45
    assert dm.input_shape == (1, 6, 6)


def test_a_trainer_of_the_other_lightning_is_refused_with_what_to_do():
    with pytest.raises(MisconfigurationException, match="set LIGHTNING_REGS_NAMESPACE="):
        ImageDataModule("digits").trainer = object()
