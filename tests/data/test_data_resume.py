"""A run resumed at an epoch's end, or in its middle, is the uninterrupted run, bit for bit."""

from __future__ import annotations

import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from recorder import Recorder, digits, trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regs import Classifier, Cutout, GradientPenalty, Mixup

OPTIONS = {"batch_size": 64, "image_size": 6, "random_crop": True, "random_flip": True, "random_rotation": 10.0}
OPTIONS |= {"corruption": "partial_labels", "corruption_p": 0.3, "val_split": 30}


@pytest.mark.parametrize("repeats", [1, 2])
def test_resumed_epochs_equal_uninterrupted_ones(tmp_path, repeats):
    def fit(epochs, checkpoint=None):
        torch.manual_seed(0 if checkpoint is None else 99)
        module, run = Recorder(36), trainer(max_epochs=epochs)
        run.fit(module, digits(batch_repeats=repeats, **OPTIONS), ckpt_path=checkpoint)
        return module, run

    whole, _ = fit(4)
    first, run = fit(2)
    run.save_checkpoint(tmp_path / "half.ckpt")
    second, _ = fit(4, tmp_path / "half.ckpt")
    seen = whole.seen["train"]
    assert len(seen) == 2 * len(second.seen["train"]) == 20 * repeats
    for batch, resumed in zip(seen, first.seen["train"] + second.seen["train"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, resumed, strict=True))
    assert torch.equal(whole.head.weight, second.head.weight)
    assert not torch.equal(seen[0][0], seen[5 * repeats][0])


class Dropping(Recorder):
    """Draws from the global stream, and asks for the number of steps, for which Lightning makes the loaders early."""

    def __init__(self) -> None:
        super().__init__(36)
        self.body = nn.Sequential(nn.Linear(36, 36), nn.BatchNorm1d(36), nn.Dropout())

    def training_step(self, batch, batch_idx):
        return super().training_step([self.body(batch[0].flatten(1)), batch[1]], batch_idx)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def small(**options):
    return Classifier("mlp", {"hidden": [16], "dropout": 0.3}, optimizer={"name": "sgd", "lr": 0.1}, **options)


# What is trained, the Trainer's options, and the data's: 270 samples make 5 batches of at most 64, the last of 14.
CASES = {
    "plain": (Dropping, {}, {}),
    "methods": (partial(small, regularizers=[Mixup(0.5), Cutout(2)]), {}, {"color_jitter": 0.2}),
    "accumulated": (Dropping, {"accumulate_grad_batches": 2}, {}),
    "manual": (partial(small, regularizers=[GradientPenalty(0.1, accumulate_grad_batches=2)]), {}, {}),
    "repeated": (Dropping, {}, {"batch_repeats": 2}),
    "workers": (Dropping, {"val_check_interval": 2}, {"num_workers": 1}),
    "replicas": (partial(small, replicas=[3, 4]), {}, {"replicas": [3, 4], "drop_last": True}),
    "reloaded": (Dropping, {"reload_dataloaders_every_n_epochs": 1}, {}),
    "growing": (small, {"reload_dataloaders_every_n_epochs": 1}, {"batch_size": [(0, 64), (1, 100)]}),
    "limited": (Dropping, {"limit_train_batches": 3, "max_steps": 6, "max_epochs": -1}, {}),
    "two processes": (Dropping, {"devices": 2, "strategy": "ddp_fork"}, {}),
}


def weights_after(folder, make, options, data, checkpoint=None):
    """Train, with a checkpoint after each optimizer step."""
    saved = pl.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    run = trainer(**({"max_epochs": 2, "callbacks": [saved], "enable_checkpointing": True} | options))
    torch.manual_seed(0 if checkpoint is None else 99)
    module = make()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*resuming from a checkpoint|training goes on")
        run.fit(module, digits(**OPTIONS | data), ckpt_path=checkpoint)
    return module.state_dict()


def in_order(folder):
    return sorted(folder.glob("*.ckpt"), key=lambda file: int(file.stem.removeprefix("step=")))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_a_run_resumed_in_the_middle_of_an_epoch_is_the_uninterrupted_one(tmp_path, case):
    make, options, data = CASES[case]
    whole = weights_after(tmp_path, make, options, data)
    files = in_order(tmp_path)[:-1]
    chosen = files[1:2] if "devices" in options else files[::2]  # the fifth of ten is of an epoch's end
    for file in chosen:
        resumed = weights_after(tmp_path / file.stem, make, options, data, file)
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items()), file.name


class Saves(pl.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / f"{batch_idx}.ckpt")


@pytest.mark.parametrize(
    ("forget", "every", "sentence"),
    [
        (False, 2, "after batch 1 of an epoch, within an accumulation of gradients of which the first 1 are in no"),
        (True, 1, r"after batch 1 of an epoch in 1 process\(es\), and the checkpoint was not saved with this data"),
    ],
)
def test_what_does_not_come_back_in_the_middle_of_an_epoch_is_said(tmp_path, forget, every, sentence):
    trainer(accumulate_grad_batches=every, callbacks=[Saves(tmp_path)]).fit(Dropping(), digits(**OPTIONS))
    checkpoint = torch.load(tmp_path / "0.ckpt", weights_only=True)
    if forget:
        del checkpoint["ImageDataModule"]
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    with pytest.warns(UserWarning, match=sentence):
        trainer(accumulate_grad_batches=every).fit(Dropping(), digits(**OPTIONS), ckpt_path=tmp_path / "changed.ckpt")


@pytest.mark.parametrize(("repeats", "behind"), [(1, 3), (1, 8), (3, 7), (3, 22), (1, 0)])
@pytest.mark.parametrize("replicas", [None, 2])
def test_a_loader_begins_where_training_is_and_then_at_the_start(repeats, behind, replicas):
    data = digits(train_size=45, batch_size=10, replicas=replicas)
    data.setup()
    factory, served = data._loaders(), data.dataset("train")
    whole = [y for _, y in factory.training(served, 10, False) for _ in range(repeats)]
    place = SimpleNamespace(behind=lambda loader: behind)
    loader = factory.training(served, 10, False, repeats, place)
    for begin in (behind % len(whole), 0):
        again = [y for _, y in loader]
        assert len(again) == len(whole) - begin
        assert all(torch.equal(a, b) for a, b in zip(again, whole[begin:], strict=True))


def test_a_loader_of_the_user_is_warned_of_still(tmp_path):
    loader = DataLoader(TensorDataset(torch.rand(6, 36), torch.arange(6)), shuffle=True, collate_fn=stacked)
    trainer(callbacks=[Saves(tmp_path)]).fit(Recorder(36), loader)
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        trainer().fit(Recorder(36), loader, ckpt_path=tmp_path / "2.ckpt")


def stacked(samples):
    x, y = zip(*samples, strict=True)
    return [torch.stack(x), torch.stack(y)]


def test_only_the_trainer_s_own_loader_begins_where_training_is():
    class Looks(Recorder):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            lengths.append(len(list(self.trainer.datamodule.train_dataloader())))

    lengths: list[int] = []
    data = digits(**OPTIONS)
    trainer(max_steps=3).fit(Looks(36), data)
    assert [*lengths, len(list(data.train_dataloader()))] == [5] * 4
