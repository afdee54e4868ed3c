"""Batches served several times in a row: the same samples, the same augmentation, in one process, two, and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recorder import Recorder, digits, trainer
from torch import nn

from lightning_regs import Classifier, GradientPenalty, Regularizer
from lightning_regs.core import rng
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.data import ImageDataModule

# 300 samples make batches of 128, 128 and 44.
AUGMENTED = {"batch_size": 128, "image_size": 6, "random_crop": True, "random_flip": True, "color_jitter": 0.3}
AUGMENTED |= {"corruption": "partial_labels", "corruption_p": 0.4}


def seen(repeats, epochs=2, **kwargs):
    module = Recorder(inputs=36)
    trainer(max_epochs=epochs, limit_val_batches=0).fit(module, digits(batch_repeats=repeats, **(AUGMENTED | kwargs)))
    return module.seen["train"]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for batch, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_repeats_are_the_plain_run_s_batches_with_their_augmentation_and_masks(workers):
    plain = seen(1)
    assert [len(y) for _, y, _ in plain] == [128, 128, 44] * 2
    assert not torch.equal(plain[0][0], plain[3][0])
    assert_equal(seen(3, num_workers=workers), [batch for batch in plain for _ in range(3)])


def test_last_partial_batch_is_dropped_in_all_its_repeats():
    assert [len(y) for _, y, _ in seen(2, epochs=1, drop_last=True)] == [128] * 4


def test_loader_is_that_many_times_as_long_and_evaluation_is_not():
    module, data = Recorder(), digits(batch_repeats=4, batch_size=128, val_split=30)
    run = trainer()
    run.fit(module, data)
    assert run.num_training_batches == 12
    assert run.global_step == 12
    assert len(data.train_dataloader()) == 12
    sanity_check_and_epoch = 2
    assert len(module.seen["val"]) == sanity_check_and_epoch
    with data.evaluating("train"):
        run.test(module, data, verbose=False)
    assert len(module.columns("test")[1]) == 270


def test_what_is_written_into_a_batch_is_not_seen_in_its_repeat(tmp_path):
    x = np.random.default_rng(0).random((8, 1, 4, 4), np.float32)
    np.savez(tmp_path / "f.npz", x_train=x, y_train=np.arange(8), x_test=x, y_test=np.arange(8))

    class Scribbler(Recorder):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            for part in batch:
                part.zero_()

    module = Scribbler(inputs=16)
    trainer().fit(module, ImageDataModule(str(tmp_path / "f.npz"), batch_size=4, whiten=False, batch_repeats=2))
    first, again, *_ = module.seen["train"]
    assert len(module.seen["train"]) == 4
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].all()


def test_n_repeats_with_plain_gradient_descent_are_n_euler_steps_on_the_minibatch():
    torch.manual_seed(0)
    module = Recorder()
    weight, bias = (p.detach().clone() for p in module.head.parameters())
    trainer(limit_train_batches=3).fit(module, digits(batch_size=300, batch_repeats=3))
    x, y, _ = module.seen["train"][0]
    for _ in range(3):
        error = (x.flatten(1) @ weight.T + bias).softmax(1) - nn.functional.one_hot(y, 10)
        weight, bias = weight - 0.1 * error.T @ x.flatten(1) / 300, bias - 0.1 * error.mean(0)
    assert torch.allclose(module.head.weight, weight, atol=1e-6)
    assert torch.allclose(module.head.bias, bias, atol=1e-6)


def test_resumed_epochs_of_repeats_equal_uninterrupted_ones(tmp_path):
    whole = seen(2, epochs=3)
    first, run = Recorder(inputs=36), trainer(max_epochs=1, limit_val_batches=0)
    run.fit(first, digits(batch_repeats=2, **AUGMENTED))
    run.save_checkpoint(tmp_path / "one.ckpt")
    second = Recorder(inputs=36)
    torch.manual_seed(99)
    trainer(max_epochs=3, limit_val_batches=0).fit(
        second, digits(batch_repeats=2, **AUGMENTED), ckpt_path=tmp_path / "one.ckpt"
    )
    assert_equal(first.seen["train"] + second.seen["train"], whole)


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_lightning_s_overfit_batches_keeps_the_repeats():
    module = Recorder()
    trainer(overfit_batches=4, limit_val_batches=0).fit(module, digits(batch_size=64, batch_repeats=2))
    first, again, third, fourth = (x for x, _, _ in module.seen["train"])
    assert torch.equal(first, again)
    assert torch.equal(third, fourth)
    assert not torch.equal(first, third)


class Reporter(pl.LightningModule):
    """Writes the sum of the first rows and the labels of each batch that this process was given."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.head = nn.Linear(36, 10)
        self.folder = folder
        self.batches: list[list[float]] = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.batches.append([x[:, :, 0].double().sum().item(), *y.tolist()])
        return nn.functional.cross_entropy(self.head(x.flatten(1)), y)

    def on_fit_end(self):
        (Path(self.folder) / f"repeats{self.global_rank}.json").write_text(json.dumps(self.batches))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.slow
def test_each_of_two_processes_repeats_its_own_batches(tmp_path):
    data = digits(batch_repeats=2, **(AUGMENTED | {"batch_size": 64}))
    run = trainer(max_epochs=1, devices=2, strategy="ddp_fork", limit_val_batches=0)
    run.fit(Reporter(str(tmp_path)), data)
    data.setup()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(rng.derive_seed(3, "order")))
    for rank in range(2):
        batches = json.loads((tmp_path / f"repeats{rank}.json").read_text())
        assert batches[::2] == batches[1::2]
        assert [len(labels) for _, *labels in batches[::2]] == [64, 64, 22]
        labels = [label for _, *labels in batches[::2] for label in labels]
        assert labels == data.dataset("train").y[order[rank::2]].tolist()


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, None])
def test_less_than_one_whole_repeat_is_refused(repeats):
    with pytest.raises(ValueError, match=f"batch_repeats={repeats!r} is not possible; give a whole number from 1 on"):
        ImageDataModule("digits", batch_repeats=repeats)


def test_accumulation_of_repeats_is_refused():
    with pytest.raises(MisconfigurationException, match=r"batch_repeats=2 serves.* leave one of them at 1"):
        trainer(accumulate_grad_batches=2).fit(Recorder(), digits(batch_repeats=2))


def test_accumulation_in_manual_optimization_is_refused_too():
    model = Classifier("mlp", {"hidden": [8]}, regularizers=[GradientPenalty(0.1, accumulate_grad_batches=2)])
    with pytest.raises(MisconfigurationException, match="accumulate_grad_batches=2 would average"):
        trainer().fit(model, digits(batch_repeats=2))


def test_regularizers_draw_once_for_all_repeats():
    class Draws(Regularizer):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            drawn.append(torch.rand((), generator=self.generator(trainer, batch_idx)).item())

    drawn: list[float] = []
    trainer(callbacks=[Draws(seed=0)]).fit(Recorder(), digits(batch_repeats=2, batch_size=128))
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn)) == 3
