"""What the DataModule refuses, at construction and when it sees the data."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from lightning_regs.data import ImageDataModule


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corruption": "partial_label"}, "Did you mean 'partial_labels'"),
        (
            {"corruption": "partial_labels", "corruption_p": 1.5},
            "corruption_p must be at least 0 and at most 1, got 1.5",
        ),
        ({"corruption": "gaussian", "corruption_p": 0.5}, "has no meaning with corruption='gaussian'"),
        ({"corruption_p": 0.5}, "has no meaning with corruption='none'"),
        ({"batch_size": 0}, "batch_size must be .*at least 1, got 0"),
        ({"batch_size": [(2, 8), (4, 16)]}, r"has to give epochs in ascending order, from 0 on: \[\(0, 128\), \(60"),
        ({"batch_size": [[0, 8], [4, 0]]}, "batch_size.*at least 1, got 0"),
        ({"batch_size": []}, "has to give epochs"),
        ({"random_crop": True}, "random_crop=True needs a size"),
        ({"padding": 4}, "padding=4 frames images for a random crop; set random_crop=True"),
        ({"padding": 6, "random_crop": True, "image_size": 6}, "padding=6 lets a crop of image_size=6 miss the image"),
        ({"normalize": "channel"}, "normalize.*Did you mean 'channels'"),
        ({"normalize": {"zca": 0.0}}, r"normalize={'zca': 0.0} must add a number above 0 to variances"),
        ({"normalize": "zca", "lazy": True}, "normalize='zca' measures one training set in memory, not with lazy=True"),
        ({"normalize": {"pca": 0.1}, "lazy": True}, "normalize={'pca': 0.1} measures one training set in memory"),
        ({"normalize": {"mean": [0.5]}}, r"normalize=.* must be 'mean' and 'std', two lists with a number for each"),
        ({"normalize": {"mean": [0.5], "std": [0.0]}}, "a standard deviation that is not above 0"),
        ({"normalize": "channels", "lazy": True}, "normalize='channels' measures one training set in memory, not with"),
        ({"image_size": 6, "random_crop": True, "corruption": "random_pixels"}, "switch random_crop, random_rotation"),
        ({"random_rotation": 200.0}, "random_rotation must be at least 0 and at most 180, got 200.0"),
        ({"color_jitter": -0.1}, "color_jitter must be at least 0 and at most 1, got -0.1"),
        ({"val_split": -1}, "val_split=-1 is not possible"),
        ({"val_split": 1.5}, "val_split=1.5 is not possible"),
        ({"val_split": 0.1, "monitor_test": True}, "both claim the validation loader"),
        ({"resident": "gpu"}, "resident must be 'auto', got 'gpu'"),
        ({"resident": True, "num_workers": 2}, "workers cannot read from the device"),
        ({"lazy": True, "resplit": True}, "resplit=True draws among all images, so memory must hold them; set lazy=F"),
        ({"lazy": True, "resident": True}, "resident=True and lazy=True contradict each other; choose one"),
        ({"lazy": True, "corruption": "gaussian"}, "corruption='gaussian' rewrites all images .* set lazy=False"),
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageDataModule("digits", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 9}, "cannot cut 9x9 out of 8x8"),
        ({"image_size": 9, "random_crop": True}, "cannot cut 9x9 out of 8x8"),
        ({"train_size": 1201}, "train_size=1201 is more than the 1200 samples"),
        ({"test_size": 600}, "test_size=600 is more than the 597"),
        ({"normalize": {"mean": [0.5] * 3, "std": [1.0] * 3}}, "statistics of 3 channels, and the samples have 1"),
        ({"normalize": {"mean": [125.3], "std": [63.0]}}, r"taken of pixels in \[0, 1\], .* of bytes by 255"),
        ({"val_split": 300}, "leaves 0 training and 300 validation samples of 300"),
        ({"val_split": 0.001}, "leaves 300 training and 0 validation"),
        ({"lazy": True}, "lazy=True is for image folders, and 'digits' is loaded into memory whole; leave lazy out"),
    ],
)
def test_arguments_that_do_not_fit_the_data_are_refused_in_setup(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageDataModule("digits", **({"train_size": 300} | arguments)).setup()


def pixels(tmp_path, low, high, kind):
    x = np.linspace(low, high, 20 * 64).reshape(20, 8, 8).astype(kind)
    np.savez(tmp_path / "own.npz", x_train=x, y_train=np.arange(20) % 4, x_test=x[:5], y_test=np.arange(5) % 4)
    return str(tmp_path / "own.npz")


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-2, 2), (-0.5, 1)])
def test_colours_of_floats_outside_the_unit_interval_are_refused(tmp_path, low, high):
    data = ImageDataModule(pixels(tmp_path, low, high, np.float32), color_jitter=0.2)
    with pytest.raises(ValueError, match=rf"color_jitter=0.2 .*own.npz reach from {low} to {high}; divide them by 255"):
        data.setup()


@pytest.mark.parametrize(
    ("low", "high", "kind", "whiten", "sentence"),
    [
        (0, 255, np.float32, False, "reach from 0 to 255, and whiten=False serves them as they are; divide"),
        (0, 1, np.uint8, True, "reach from 0 to 1, of 0 to 255: nearly black; store them as 0 and 255"),
        (0, 255, np.float32, True, None),
        (-2, 2, np.float32, False, None),
        (0, 1, np.float32, False, None),
        (0, 255, np.uint8, False, None),
    ],
)
def test_pixels_on_another_scale_are_warned_of_where_it_matters(tmp_path, low, high, kind, whiten, sentence):
    data = ImageDataModule(pixels(tmp_path, low, high, kind), whiten=whiten)
    with pytest.warns(UserWarning, match=sentence) if sentence else nullcontext():
        data.setup()
