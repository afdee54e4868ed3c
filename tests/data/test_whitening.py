"""Centring and whitening against numpy's closed form; fitted on the training set alone, also of replicas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_regs.data import ImageDataModule
from lightning_regs.data.transforms import whitening


def closed_form(x, kind, epsilon=0.0):
    """Singular values of the centred data, where ours takes eigenvalues of a covariance."""
    centred = x - x.mean(0)
    _, s, vt = np.linalg.svd(centred / np.sqrt(len(x)), full_matrices=False)
    kept = s**2 > 1e-10 * s[0] ** 2 if not epsilon else np.ones_like(s, dtype=bool)
    vt = vt * np.sign(np.take_along_axis(vt, np.abs(vt).argmax(1)[:, None], 1))
    w = np.where(kept, 1 / np.sqrt(np.where(kept, s**2, 1) + epsilon), 0)[:, None] * vt
    return x.mean(0), vt.T @ w if kind == "zca" else w


@pytest.mark.parametrize("kind", ["pca", "zca"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_it_is_the_closed_form(kind, epsilon):
    x = (
        torch.randn(50, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        @ torch.rand(2, 2).double()
    )
    mean, matrix = whitening(x, kind, epsilon)
    for ours, theirs in zip((mean, matrix), closed_form(x.flatten(1).numpy(), kind, epsilon), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-9)
    white = (x.flatten(1) - mean) @ matrix.T
    if not epsilon:
        torch.testing.assert_close(white.T @ white / 50, torch.eye(6, dtype=torch.float64))


def test_directions_without_variance_become_zero_and_too_few_samples_are_refused():
    basis = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(1)) @ basis  # of rank 2 but for float32's rounding
    mean, matrix = whitening(x, "pca")
    white = (x.double() - mean) @ matrix.T
    expected = torch.diag(torch.tensor([1.0] * 2 + [0.0] * 6)).double()
    torch.testing.assert_close(white.T @ white / 40, expected, atol=1e-6, rtol=0)
    assert not matrix[2:].any()
    few = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="'zca' of 6 training samples of 8 numbers would put any two of them equally"):
        whitening(few, "zca")
    assert whitening(few, "zca", 0.1)[1].isfinite().all()
    with pytest.raises(ValueError, match="no pixel of the training samples varies"):
        whitening(torch.ones(6, 8), "pca")


@pytest.mark.parametrize("source", ["digits", "mnist1d"])
@pytest.mark.parametrize("normalize", ["center", "pca", "zca", {"zca": 0.01}])
@pytest.mark.slow
def test_the_data_fit_it_on_the_training_set_alone(source, normalize):
    options = {"train_size": 600, "val_split": 100, "seed": 3}
    data, raw = (
        ImageDataModule(source, normalize=normalize, **options),
        ImageDataModule(source, whiten=False, **options),
    )
    for module in (data, raw):
        module.setup()
    unit = {split: raw.eval_transform(raw.dataset(split).x) for split in ("train", "val", "test")}
    train = unit["train"].flatten(1).double().numpy()
    assert len(train) == 500
    kind, epsilon = next(iter(normalize.items())) if isinstance(normalize, dict) else (normalize, 0.0)
    mean, w = (train.mean(0), np.eye(train.shape[1])) if kind == "center" else closed_form(train, kind, epsilon)
    for split, x in unit.items():
        out = data.eval_transform(data.dataset(split).x)
        assert out.shape == x.shape
        expected = (x.flatten(1).double().numpy() - mean) @ w.T
        np.testing.assert_allclose(out.flatten(1).numpy(), expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    assert data.hparams["normalize"] == normalize
    assert "normalize" not in raw.hparams


def test_replicas_share_it_where_they_share_the_training_set():
    data = ImageDataModule("digits", normalize="zca", replicas=2, seeds={"split": 0}, train_size=500)
    alone = ImageDataModule("digits", normalize="zca", seed=0, train_size=500)
    for module in (data, alone):
        module.setup()
    x = alone.dataset("train").x[:9]
    stacked = data.eval_transform(x.expand(2, *x.shape))
    torch.testing.assert_close(stacked, alone.eval_transform(x).expand_as(stacked))
    with pytest.raises(ValueError, match=r"fitted on one training set, and each replica has its own; give seeds={'spl"):
        ImageDataModule("digits", normalize="zca", replicas=2, train_size=500).setup()
    ImageDataModule("digits", normalize="zca", replicas=2).setup()


def test_an_augmented_batch_is_whitened_after_the_crop():
    options = {"image_size": 6, "random_crop": True, "random_flip": True}
    data, raw = (
        ImageDataModule("digits", normalize="zca", **options),
        ImageDataModule("digits", whiten=False, **options),
    )
    for module in (data, raw):
        module.setup()
    x = data.dataset("train").x[:5]
    crops = raw.train_transform(x, torch.Generator().manual_seed(0))
    white = data.train_transform(x, torch.Generator().manual_seed(0))
    center = raw.eval_transform(data.dataset("train").x).flatten(1).double().numpy()
    mean, w = closed_form(center, "zca")
    expected = (crops.flatten(1).double().numpy() - mean) @ w.T
    np.testing.assert_allclose(white.flatten(1).numpy(), expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("normalize", ["channels", "center", "pca"])
def test_statistics_go_where_the_batch_is(normalize):
    """After a training on a GPU they are there, and a net may be looked at on the CPU."""
    data = ImageDataModule("digits", normalize=normalize, seed=0, train_size=200)
    data.setup()
    x = data.dataset("test").x[:3]
    elsewhere = data._transform.to(torch.device("meta"))
    with pytest.raises(NotImplementedError, match="meta"):  # which has no numbers to come back with
        elsewhere.evaluation(x)
    assert elsewhere.evaluation(x.to("meta")).shape == data.eval_transform(x).shape
    assert data._transform.evaluation(x.to("meta")).device.type == "meta"
