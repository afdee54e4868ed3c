"""Batches served several times in a row: the same samples, the same augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recorder import Recorder, digits, trainer
from torch import nn

from lightning_regs import Classifier, GradientPenalty, Regularizer
from lightning_regs.core.lightning import MisconfigurationException
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


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_lightning_s_overfit_batches_keeps_the_repeats():
    module = Recorder()
    trainer(overfit_batches=4, limit_val_batches=0).fit(module, digits(batch_size=64, batch_repeats=2))
    first, again, third, fourth = (x for x, _, _ in module.seen["train"])
    assert torch.equal(first, again)
    assert torch.equal(third, fourth)
    assert not torch.equal(first, third)


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
            drawn.append(torch.rand((), generator=self.moment(trainer, pl_module, batch_idx).generator).item())

    drawn: list[float] = []
    trainer(callbacks=[Draws(seed=0)]).fit(Recorder(), digits(batch_repeats=2, batch_size=128))
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn)) == 3
