"""Lazy image folders: the same batches as decoded ones, in this process and in workers, and what is refused."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from data_files import pixels, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recorder import Recorder, trainer
from torch.utils.data import DataLoader

from lightning_regs.data import ImageArrays, ImageDataModule, ImageFiles, identity_collate, load
from lightning_regs.data.image_files import UnreadableImage


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Every mode and format that is read, in sizes of their own."""
    root = tmp_path_factory.mktemp("lazy") / "pets"
    for split, seed in (("train", 0), ("test", 50)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i, (mode, kind) in enumerate(
                [("RGB", "png"), ("L", "png"), ("RGBA", "png"), ("P", "png"), ("CMYK", "tiff"), ("RGB", "jpeg")]
            ):
                seed += 1
                noise = Image.fromarray(pixels(15 + seed % 7, 19 - seed % 5, 3, seed=seed)).convert(mode)
                noise.save(folder / f"{i}.{'tif' if kind == 'tiff' else kind}", kind)
    return str(root)


def modules(source, **kwargs):
    options = {"image_size": 10, "batch_size": 5, "eval_batch_size": 4, "seed": 2} | kwargs
    eager, lazy = ImageDataModule(source, **options), ImageDataModule(source, **options, lazy=True)
    for dm in (eager, lazy):
        dm.setup()
    assert isinstance(lazy.dataset("train").x, ImageFiles)
    return eager, lazy


def assert_same_batches(first, second):
    for expected, batch in zip(first, second, strict=True):
        assert batch[0].dtype == torch.uint8
        assert batch[0].is_contiguous()
        for a, b in zip(expected, batch, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"random_crop": True},
        {"random_rotation": 10.0, "train_size": 9, "test_size": 3},
        {"corruption": "partial_labels", "corruption_p": 0.6, "val_split": 4, "train_size": 10},
        {"corruption": "random_labels", "drop_last": True},
    ],
)
def test_batches_are_those_of_the_decoded_folder(pets, options):
    eager, lazy = modules(pets, **options)
    assert eager.input_shape == lazy.input_shape == (3, 10, 10)
    splits = ("train", "val", "test") if "val_split" in options else ("train", "test")
    for split in splits:
        assert lazy.dataset(split).x.shape == eager.dataset(split).x.shape
        assert torch.equal(lazy.dataset(split).x.decode(), eager.dataset(split).x)
        with eager.evaluating(split), lazy.evaluating(split):
            assert_same_batches(eager.test_dataloader(), lazy.test_dataloader())
    loaders = eager.train_dataloader(), lazy.train_dataloader()
    for epoch in range(2):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        assert_same_batches(*loaders)


@pytest.mark.slow
def test_a_training_with_workers_sees_the_same(pets):
    options = {"random_crop": True, "random_flip": True, "corruption": "random_labels", "num_workers": 2}
    seen = []
    for dm in modules(pets, **options):
        model, run = Recorder(300), trainer(max_epochs=2)
        run.fit(model, dm)
        with dm.evaluating("train"):
            run.test(model, datamodule=dm, verbose=False)
        seen.append([model.columns("train"), model.columns("test")])
    for eager, lazy in zip(*seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(eager, lazy, strict=True))
        assert eager[2].any()


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_workers_of_either_kind(pets, method, workers):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    eager, lazy = (dm.dataset("train") for dm in modules(pets))
    options = {"num_workers": workers, "multiprocessing_context": method, "collate_fn": identity_collate}
    loader = DataLoader(lazy, batch_size=5, **options)
    assert_same_batches((eager.__getitems__(range(i, min(i + 5, 12))) for i in (0, 5, 10)), loader)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 40), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 5), (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("P", 3, (9, 8, 7)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, expected):
    root = write_folder(tmp_path / "pets")
    image = Image.new(mode, (6, 5), colour)
    if mode == "P":
        image.putpalette([0, 0, 0] * 3 + [9, 8, 7])
    image.save(root / "train" / "cat" / "1.tif")
    x = load(str(root), lazy=True).x_train[2]
    assert x.shape == (3, 5, 6)
    assert (x == torch.tensor(expected)[:, None, None]).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 11), max_size=8), st.integers(0, 8), st.integers(0, 8), st.sampled_from([None, 7, 10]))
def test_picking_files_is_indexing_a_tensor(pets, picks, start, stop, crop):
    files, index = load(pets, None, 10, lazy=True).x_train, torch.tensor(picks, dtype=torch.int64)
    whole = files.decode(threads=2)
    if crop is not None:
        files = files.center_crop(crop)
        whole = whole[..., (10 - crop) // 2 :, (10 - crop) // 2 :][..., :crop, :crop]
    picked = files[index][start:stop]
    assert isinstance(picked, ImageFiles)
    assert picked.shape == whole[index][start:stop].shape
    assert torch.equal(picked.decode(), whole[index][start:stop])
    assert torch.equal(files.decode(index), whole[index])


def test_nothing_but_the_first_image_is_read_before_it_is_served(tmp_path):
    root = write_folder(tmp_path / "pets")
    for file in sorted(root.rglob("*.png")):
        if file != root / "train" / "cat" / "0.png":  # gives mode and size
            file.write_bytes(b"")
    dm = ImageDataModule(str(root), image_size=4, lazy=True, train_size=5, corruption="random_labels")
    dm.setup()
    assert dm.dataset("train").nbytes == 5 * 8 + 5
    with pytest.raises(UnreadableImage):
        list(dm.train_dataloader())


BROKEN = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:60]),
    "no image": lambda file: file.write_text("<html>"),
    "gone": lambda file: file.unlink(),
    "other size": lambda file: Image.new("RGB", (9, 9)).save(file),
}


@pytest.mark.parametrize(("kind", "num_workers"), [*((kind, 0) for kind in BROKEN), ("truncated", 2), ("gone", 2)])
def test_a_broken_file_ends_in_one_sentence_also_from_a_worker(tmp_path, kind, num_workers):
    root = write_folder(tmp_path / "pets")
    dm = ImageDataModule(str(root), lazy=True, num_workers=num_workers, seed=0)
    dm.setup()
    file = root / "train" / "dog" / "1.png"
    BROKEN[kind](file)
    with pytest.raises(UnreadableImage) as error:
        trainer().fit(Recorder(90), dm)
    sentence = {
        "gone": f"{file} cannot be read (No such file or directory); restore it, or start again without it.",
        "other size": f"{file} is 9x9 but the first training image is 6x5; set image_size so that all are scaled",
    }.get(kind, f"{file} is damaged or not what its name says (")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


def test_flipped_bytes_are_named_or_harmless(tmp_path):
    root, draws = write_folder(tmp_path / "pets", size=(20, 20)), np.random.default_rng(0)
    files, named = load(str(root), lazy=True).x_train, 0
    path = root / "train" / "cat" / "1.png"
    for kind in ("png", "jpeg", "gif", "tiff", "bmp", "webp"):
        Image.fromarray(pixels(20, 20, 3)).save(path, kind)
        good = path.read_bytes()
        for _ in range(20):
            bad = bytearray(good)
            bad[draws.integers(min(len(bad), 400))] ^= 1 << draws.integers(8)
            path.write_bytes(bad)
            try:
                files[1]
            except UnreadableImage as error:
                assert str(path) in str(error)  # noqa: PT017 - not every flip is an error
                named += 1
    assert named > 20


def test_a_crop_larger_than_the_images_is_refused(tmp_path):
    files = load(str(write_folder(tmp_path / "pets")), lazy=True).x_train
    with pytest.raises(ValueError, match="cannot cut 6x6 out of 5x6"):
        files.center_crop(6)
    with pytest.raises(ValueError, match=r"lengths \[6, 5\]"):
        ImageArrays(files, torch.zeros(5, dtype=torch.int64))


def test_an_archive_cannot_be_lazy(tmp_path):
    np.savez(tmp_path / "own.npz", x=1)
    with pytest.raises(ValueError, match=r"lazy=True is for image folders, and '.*own.npz' is loaded into memory"):
        load(str(tmp_path / "own.npz"), lazy=True)
