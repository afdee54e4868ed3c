"""What the DataModule refuses, at construction and when it sees the data."""

from __future__ import annotations

import pytest

from lightning_regs.data import ImageDataModule


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corruption": "partial_label"}, "Did you mean 'partial_labels'"),
        ({"corruption": "partial_labels", "corruption_p": 1.5}, "corruption_p=1.5 is not a probability"),
        ({"corruption": "gaussian", "corruption_p": 0.5}, "has no meaning with corruption='gaussian'"),
        ({"corruption_p": 0.5}, "has no meaning with corruption='none'"),
        ({"batch_size": 0}, "batch_size=0 is not possible; give a whole number from 1 on"),
        ({"eval_batch_size": 2.5}, "eval_batch_size=2.5 is not possible"),
        ({"train_size": True}, "train_size=True is not possible"),
        *(({"batch_repeats": n}, f"batch_repeats={n!r} is not possible") for n in (0, -1, 1.5, True, None)),
        ({"num_workers": -1}, "num_workers=-1 is not possible; give a whole number from 0 on"),
        ({"random_crop": True}, "random_crop=True needs a size"),
        ({"image_size": 6, "random_crop": True, "corruption": "random_pixels"}, "switch random_crop, random_rotation"),
        ({"random_rotation": 200.0}, r"random_rotation=200.0 is out of range; give a number in \[0, 180\]"),
        ({"color_jitter": -0.1}, r"color_jitter=-0.1 is out of range"),
        ({"val_split": -1}, "val_split=-1 is not possible"),
        ({"val_split": 1.5}, "val_split=1.5 is not possible"),
        ({"val_split": 0.1, "monitor_test": True}, "both claim the validation loader"),
        ({"resident": "gpu"}, "resident='gpu' is not possible"),
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
        ({"val_split": 300}, "leaves 0 training and 300 validation samples of 300"),
        ({"val_split": 0.001}, "leaves 300 training and 0 validation"),
        ({"lazy": True}, "lazy=True is for image folders, and 'digits' is loaded into memory whole; leave lazy out"),
    ],
)
def test_arguments_that_do_not_fit_the_data_are_refused_in_setup(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageDataModule("digits", **({"train_size": 300} | arguments)).setup()
