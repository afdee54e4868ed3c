"""The DataModule under a real Trainer: what arrives, where it acts, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recorder import Recorder, digits, trainer

from lightning_regs import Cutout
from lightning_regs.core import rng
from lightning_regs.data import ImageDataModule, augment, load


def ids_file(path, n_train, n_test, side=4):
    """Images whose first pixel is their number."""
    x = [np.zeros((n, side, side), np.uint8) for n in (n_train, n_test)]
    for part in x:
        part[:, 0, 0] = np.arange(len(part))
    np.savez(path, x_train=x[0], y_train=np.arange(n_train) % 10, x_test=x[1], y_test=np.arange(n_test) % 10)
    return str(path)


def ids(x):
    return (x[:, 0, 0, 0] * 255).round().long().tolist()


# ---- what arrives


def test_batches_are_lists_of_whitened_float_images_and_labels():
    dm, model = digits(batch_size=64, whiten=True), Recorder()
    trainer().fit(model, dm)
    assert [len(y) for _, y, _ in model.seen["train"]] == [64, 64, 64, 64, 44]
    x, y, changed = model.columns("train")
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert changed is None
    assert dm.input_shape == (1, 8, 8)
    assert dm.num_classes == 10
    torch.testing.assert_close(x.flatten(1).mean(1), torch.zeros(300), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.flatten(1).std(1, correction=0), torch.ones(300), atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_shows_every_sample_once_in_a_new_order(tmp_path, num_workers):
    source = ids_file(tmp_path / "n.npz", 50, 10)
    dm = ImageDataModule(source, batch_size=16, whiten=False, seed=1, num_workers=num_workers)
    model = Recorder(16)
    trainer(max_epochs=2).fit(model, dm)
    x, y, _ = model.columns("train")
    first, second = ids(x[:50]), ids(x[50:])
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert y.tolist() == [i % 10 for i in first + second]
    epoch = torch.Generator().manual_seed(rng.derive_seed(1, "order"))
    assert first == torch.randperm(50, generator=epoch).tolist()


def test_drop_last_and_its_limit():
    dm = digits(batch_size=64, drop_last=True)
    model = Recorder()
    trainer().fit(model, dm)
    assert [len(y) for _, y, _ in model.seen["train"]] == [64] * 4
    with pytest.raises(ValueError, match="leaves no batch of 301 from the 300 samples"):
        trainer().fit(Recorder(), digits(batch_size=301, drop_last=True))


def test_signals(tmp_path):
    x, y = np.random.default_rng(0).random((50, 40), np.float32), np.arange(50) % 10
    np.savez(tmp_path / "s.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    dm, model = ImageDataModule(str(tmp_path / "s.npz"), batch_size=20, seed=0), Recorder(40)
    trainer().fit(model, dm)
    assert dm.input_shape == (40,)
    assert model.columns("train")[0].shape == (50, 40)
    with pytest.raises(ValueError, match="holds signals of length 40, not images"):
        ImageDataModule(dm.source, random_flip=True).setup()


# ---- only training is augmented


def test_validation_sanity_check_test_and_prediction_are_not_augmented():
    dm = digits(image_size=6, random_crop=True, random_flip=True, val_split=0.2)
    model, run = Recorder(36), trainer(num_sanity_val_steps=1, max_epochs=2, check_val_every_n_epoch=1)
    run.fit(model, dm)
    held, test = dm.dataset("val"), dm.dataset("test")
    expected = augment.whiten(augment.center_crop(held.x, 6))
    assert [len(y) for _, y, _ in model.seen["val"]] == [60, 60, 60]
    for x, y, _ in model.seen["val"]:
        assert torch.equal(x, expected)
        assert torch.equal(y, held.y)
    centred = augment.whiten(augment.center_crop(dm.dataset("train").x, 6))
    x, _, _ = model.columns("train")
    same = sum(any(torch.equal(image, c) for c in centred) for image in x[:30])
    assert same < 15
    run.test(model, datamodule=dm, verbose=False)
    assert torch.equal(model.columns("test")[0], augment.whiten(test.x))
    assert torch.equal(torch.cat(run.predict(model, datamodule=dm)), test.y)


def test_augmentation_is_a_function_of_seed_epoch_and_batch():
    dm = digits(batch_size=100, image_size=6, random_crop=True, random_flip=True)
    model = Recorder(36)
    trainer(max_epochs=2).fit(model, dm)
    loader = dm.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for i, (x, y) in enumerate(loader):
            expected = dm.train_transform(x, rng.generator(3, "augmentation", epoch, i, 0))
            seen_x, seen_y, _ = model.seen["train"][3 * epoch + i]
            assert torch.equal(seen_x, expected)
            assert torch.equal(seen_y, y)


def test_the_global_stream_is_not_touched():
    dm = digits(image_size=6, random_crop=True, random_flip=True, corruption="partial_labels", corruption_p=0.5)
    before = torch.random.get_rng_state()
    dm.setup()
    for _ in range(2):
        for loader in (dm.train_dataloader(), dm.test_dataloader()):
            for x, *_ in loader:
                dm.train_transform(x, rng.generator(0, "augmentation"))
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- corruption


def test_changed_labels_are_known_for_every_batch():
    dm = digits(batch_size=77, corruption="partial_labels", corruption_p=0.5, val_split=50)
    model, run = Recorder(), trainer()
    run.fit(model, dm)
    clean = load("digits")
    whitened = augment.whiten(clean.x_train)
    original = {image.numpy().tobytes(): int(label) for image, label in zip(whitened, clean.y_train, strict=True)}
    for stage, count in (("train", 250), ("val", 100)):  # val: the sanity check and the epoch
        x, y, changed = model.columns(stage)
        truth = torch.tensor([original[image.numpy().tobytes()] for image in x])
        assert len(y) == count
        assert torch.equal(changed, truth != y)
        assert 0.2 < changed.double().mean() < 0.7
    run.test(model, datamodule=dm, verbose=False)
    x, y, changed = model.columns("test")
    assert changed is None
    assert torch.equal(y, dm.dataset("test").y)


def test_evaluating_the_training_set_serves_it_in_order_as_trained():
    dm = digits(image_size=6, random_crop=True, corruption="random_labels", eval_batch_size=70)
    model, run = Recorder(36), trainer()
    run.fit(model, dm)
    with dm.evaluating("train"):
        run.test(model, datamodule=dm, verbose=False)
    data = dm.dataset("train")
    x, y, changed = model.columns("test")
    assert torch.equal(x, augment.whiten(augment.center_crop(data.x, 6)))
    assert torch.equal(y, data.y)
    assert torch.equal(changed, data.changed)
    assert changed.any()
    model.seen["test"].clear()
    run.test(model, datamodule=dm, verbose=False)
    assert torch.equal(model.columns("test")[1], dm.dataset("test").y)
    with pytest.raises(ValueError, match="unknown split 'training'"), dm.evaluating("training"):
        pass
    with pytest.raises(ValueError, match="no validation split"), dm.evaluating("val"):
        run.test(model, datamodule=dm, verbose=False)


def test_monitoring_serves_the_test_set_for_validation():
    dm, model = digits(monitor_test=True, corruption="random_labels"), Recorder()
    trainer(num_sanity_val_steps=0).fit(model, dm)
    x, y, changed = model.columns("val")
    assert torch.equal(x, augment.whiten(dm.dataset("test").x))
    assert torch.equal(y, dm.dataset("test").y)
    assert changed is None


def served(**kwargs):
    dm = digits(**kwargs)
    dm.setup()
    return dm.dataset("train"), dm.dataset("test")


@pytest.mark.parametrize("corruption", ["shuffled_pixels", "random_pixels", "gaussian"])
def test_pixel_corruptions_act_on_both_sets_and_leave_labels(corruption):
    (clean, clean_test), (train, test) = served(image_size=6), served(image_size=6, corruption=corruption)
    for before, after in ((clean, train), (clean_test, test)):
        assert after.x.shape == before.x.shape
        assert not torch.equal(after.x.float(), before.x.float())
        assert torch.equal(after.y, before.y)
        assert after.changed is None
    if corruption == "gaussian":
        pixels = clean.x.double() / 255
        assert train.x.dtype == test.x.dtype == torch.float32
        for x in (train.x, test.x):
            assert x.mean().item() == pytest.approx(pixels.mean().item(), abs=0.03)
            assert x.std().item() == pytest.approx(pixels.std().item(), abs=0.03)
        assert not torch.equal(train.x[:90], test.x)
    else:
        # The crop comes first: no pixel of an image is lost to it afterwards.
        assert torch.equal(train.x.flatten(1).sort(1).values, clean.x.flatten(1).sort(1).values)
    if corruption == "shuffled_pixels":
        columns = {tuple(c.tolist()) for c in torch.cat([clean.x, clean_test.x]).flatten(1).T}
        assert {tuple(c.tolist()) for c in torch.cat([train.x, test.x]).flatten(1).T} == columns


@pytest.mark.parametrize("corruption", ["random_pixels", "gaussian"])
def test_the_test_set_has_draws_of_its_own(corruption):
    small, large = (served(corruption=corruption, train_size=n)[1].x for n in (200, 300))
    if corruption == "gaussian":  # mean and deviation are those of the training set, the draws are not
        small, large = ((x - x.mean()) / x.std() for x in (small, large))
        torch.testing.assert_close(small, large, atol=1e-4, rtol=0)
    else:
        assert torch.equal(small, large)


@pytest.mark.parametrize("corruption", ["partial_labels", "random_labels"])
def test_test_labels_stay_clean(corruption):
    source = load("digits")
    train, test = served(corruption=corruption, train_size=None, test_size=None)
    assert torch.equal(test.y, source.y_test)
    assert torch.equal(train.x, source.x_train)
    assert torch.equal(train.changed, train.y != source.y_train)


def test_corruption_does_not_depend_on_train_size():
    options = {"corruption": "partial_labels", "corruption_p": 0.5}
    base, _ = served(**options)
    whole, _ = served(**options, train_size=None)
    label = {image.numpy().tobytes(): int(y) for image, y in zip(whole.x, whole.y, strict=True)}
    assert [label[image.numpy().tobytes()] for image in base.x] == base.y.tolist()


def test_seed_comes_from_seed_everything(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    unset, given = served(seed=None)[0], served(seed=3)[0]
    assert torch.equal(unset.x, given.x)
    assert not torch.equal(unset.x, served(seed=4)[0].x)


@pytest.mark.parametrize(("val_split", "held"), [(0.1, 20), (45, 45), (45.0, 45)])
def test_validation_split_is_disjoint_and_complete(tmp_path, val_split, held):
    dm = ImageDataModule(ids_file(tmp_path / "n.npz", 200, 10), seed=0, val_split=val_split)
    dm.setup()
    train, val = dm.dataset("train"), dm.dataset("val")
    assert len(val) == held
    assert sorted(train.x[:, 0, 0, 0].tolist() + val.x[:, 0, 0, 0].tolist()) == list(range(200))


def samples(data, *splits):
    parts = [data.dataset(split) for split in splits]
    return sorted((*x.flatten().tolist(), y) for part in parts for x, y in zip(part.x, part.y.tolist(), strict=True))


def test_samples_change_between_training_and_test_and_none_is_lost():
    plain, one, again, other = (
        ImageDataModule(seed=9, resplit=resplit, seeds={"split": seed} if seed else None)
        for resplit, seed in ((False, 0), (True, 0), (True, 9), (True, 4))
    )
    for data in (plain, one, again, other):
        data.setup()
    assert samples(one, "train", "test") == samples(plain, "train", "test")
    assert samples(one, "test") == samples(again, "test") != samples(other, "test") != samples(plain, "test")
    assert len(one.dataset("test")) == len(plain.dataset("test"))
    stacked = ImageDataModule(replicas=[9, 4], resplit=True)
    stacked.setup()
    for split in ("train", "test"):
        rows = stacked.dataset(split)
        for i, single in enumerate((one, other)):
            alone = single.dataset(split)
            assert torch.equal(rows.x[rows.rows[i]], alone.x)
            assert torch.equal(rows.y[i], alone.y)
    assert "resplit" not in plain.hparams


def test_some_classes_alone_are_numbered_anew_in_the_order_given():
    whole, some = load("digits"), ImageDataModule(classes=[7, 3], val_split=9)
    some.setup()
    assert (some.num_classes, some.classes) == (2, whole.classes and (whole.classes[7], whole.classes[3]))
    kept = [i for i, label in enumerate(whole.y_test.tolist()) if label in (3, 7)]
    found = some.dataset("test")
    assert torch.equal(found.x, whole.x_test[kept])
    assert found.y.tolist() == [int(label == 3) for label in whole.y_test[kept].tolist()]
    assert len(some.dataset("train")) + 9 == sum(label in (3, 7) for label in whole.y_train.tolist())
    assert some.hparams["classes"] == [7, 3]
    for classes in ([3], [3, 3], [3, 10]):
        with pytest.raises(ValueError, match=r"must be two or more of those of digits, each once, from 0 to 9"):
            ImageDataModule(classes=classes).setup()


def test_normalized_and_padded_batches_and_a_cutout_of_the_mean():
    """Statistics are the source's: a subset, a validation split and replicas all have the same."""
    source = load("digits")
    std, mean = torch.std_mean(source.x_train.double() / 255, correction=0)
    options = {"normalize": "channels", "image_size": 8, "random_crop": True, "padding": 2, "val_split": 0.2}
    data, model = digits(**options), Recorder()
    with pytest.raises(RuntimeError, match=r"statistics of normalize are not known yet; call setup\(\)"):
        data.eval_transform(source.x_train[:4])  # and not whitened
    trainer(callbacks=[Cutout(length=8, seed=1)]).fit(model, data)
    x = model.columns("train")[0]
    black = -(mean / std).float()
    blanked, framed = (x == 0).flatten(1).sum(1), ((x - black).abs() < 1e-5).all(3).any(2).any(1)
    assert (blanked >= 16).all()
    assert framed.any()
    run = trainer()
    run.test(model, datamodule=data, verbose=False)
    expected = ((data.dataset("test").x / 255 - mean) / std).float()
    torch.testing.assert_close(model.columns("test")[0], expected, atol=1e-5, rtol=1e-5)
    stacked = digits(**options, replicas=[3, 4])
    stacked.setup()
    rows = stacked.dataset("train").x[:4]
    assert torch.equal(stacked.eval_transform(rows[None])[0], data.eval_transform(rows))
    assert {"padding", "normalize"} <= set(data.hparams)
    assert not {"padding", "normalize"} & set(digits().hparams)
