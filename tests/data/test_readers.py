"""Readers: layouts of .npz files, image folders, and the sentence for each kind of broken file."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from data_files import assert_holds, npy, npy_header, npz_arrays, pixels, write_folder, write_npz
from PIL import Image
from torchvision.datasets import ImageFolder

from lightning_regs.data import readers, sources
from lightning_regs.data.readers import read_image_folder, read_npz


@pytest.mark.parametrize(
    ("stored", "axes", "loaded"),
    [
        ((6, 5), None, (1, 6, 5)),
        ((6, 5, 3), (0, 3, 1, 2), (3, 6, 5)),
        ((6, 5, 1), (0, 3, 1, 2), (1, 6, 5)),
        ((3, 6, 5), None, (3, 6, 5)),
        ((1, 6, 5), None, (1, 6, 5)),
        ((1, 3, 3), None, (1, 3, 3)),
        ((3, 3, 1), (0, 3, 1, 2), (1, 3, 3)),
    ],
)
def test_npz_layouts(tmp_path, stored, axes, loaded):
    arrays = npz_arrays(stored)
    np.savez(tmp_path / "own.npz", **arrays)
    expected = {k: v.transpose(axes) if axes and k.startswith("x") else v for k, v in arrays.items()}
    source = sources.load(str(tmp_path / "own.npz"))
    assert_holds(source, expected, loaded)
    assert source.num_classes == 3


def test_labels_from_1_on_are_one_class_more_and_warned_of(tmp_path):
    arrays = npz_arrays((7,))
    arrays |= {key: arrays[key] + 1 for key in ("y_train", "y_test")}
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.warns(UserWarning, match="no label is 0, so class 0 of 4 never occurs; number the classes from 0 on"):
        assert read_npz(tmp_path / "own.npz").num_classes == 4


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 8, 3), (8, 8, 2), (2, 2, 2, 2)])
def test_npz_refuses_a_layout_that_cannot_be_told(tmp_path, shape):
    np.savez(tmp_path / "own.npz", **npz_arrays(shape))
    with pytest.raises(ValueError, match=r"own.npz: x_train has shape \(12, .* channel axis cannot be told"):
        read_npz(tmp_path / "own.npz")


def test_npz_signals_floats_and_column_labels(tmp_path):
    arrays = npz_arrays((7,))
    np.savez(tmp_path / "bytes.npz", **arrays)
    torch.testing.assert_close(
        read_npz(tmp_path / "bytes.npz").x_train.double(),
        torch.from_numpy(arrays["x_train"] / 255.0),
        atol=1e-7,
        rtol=0,
    )
    arrays |= {k: arrays[k].astype(np.float64) for k in ("x_train", "x_test")}
    arrays["y_train"] = arrays["y_train"][:, None].astype(np.uint8)
    np.savez(tmp_path / "floats.npz", **arrays, classes=np.array(["a", "b", "c", "d"]))
    source = read_npz(tmp_path / "floats.npz")
    assert source.x_train.dtype == torch.float32
    assert source.y_train.shape == (12,)
    assert source.classes == ("a", "b", "c", "d")
    assert source.num_classes == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None}, "has no array x_train; save it with numpy.savez"),
        ({"y_test": None, "y_train": None}, "has no array y_train, y_test"),
        ({"x_train": pixels(12, 4, 4).astype(np.int64)}, "x_train has type int64; store images as uint8"),
        ({"y_train": np.zeros(12)}, "y_train has type float64; store labels as integers"),
        ({"y_train": np.zeros(11, int)}, r"train set: labels have shape \(11,\) for 12 samples"),
        ({"y_train": np.zeros((12, 2), int)}, r"labels have shape \(12, 2\)"),
        ({"y_test": np.array([0, 1, 2, 3, 0])}, r"test set: labels reach from 0 to 3, outside \[0, 3\)"),
        ({"y_train": np.arange(12) - 1}, "reach from -1 to 10"),
        ({"x_test": pixels(5, 4, 6)}, "training samples are 1x4x4 uint8 but test samples 1x4x6 uint8"),
        ({"x_test": pixels(5, 4, 4) / 255}, "but test samples 1x4x4 float32"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8), "y_train": np.zeros(0, int)}, "none of them 0"),
        ({"x_train": np.full((12, 4, 4), np.nan), "x_test": np.zeros((5, 4, 4))}, "NaN or infinite"),
        ({"classes": np.array(["a", "b"])}, r"outside \[0, 2\)"),
        ({"x_train": np.array([None, "x"], dtype=object)}, "damaged or not what its name says"),
    ],
)
def test_npz_with_wrong_contents_is_named(tmp_path, change, message):
    arrays = {k: v for k, v in (npz_arrays() | change).items() if v is not None}
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        sources.load(str(tmp_path / "own.npz"))
    assert "own.npz" in str(error.value)
    assert "\n" not in str(error.value)


# Members of an archive, and the sentence that refuses it without anything large having been made.
LIES = {
    "more than there is": ({"x_train": npy_header((10**12,)) + b"0"}, r"x_train of shape \(1000000000000,\) takes"),
    "more than numbers count": ({"x_train": npy_header((2**70, 0, 8))}, "is damaged or not what its name says"),
    "negative sizes": ({"x_train": npy_header((-3, -4)) + b"0" * 12}, "is damaged or not what its name says"),
    "a header without end": ({"x_train": npy_header((3,)).replace(b"(3,)", b"(((( ")}, "is damaged or not what its"),
    "samples and labels": ({"x_train": npy(np.zeros((10**6, 8, 8), np.uint8))}, r"shape \(12,\) for 1000000 samples"),
    "more labels than samples": ({"y_train": npy(np.zeros(10**7, np.int8))}, r"\(10000000,\) for 12 samples"),
    "one label alone": ({"y_train": npy(np.int64(3))}, r"labels have shape \(\) for 12 samples"),
    "one name alone": (
        {"classes": npy(np.array("abc"))},
        r"classes has shape \(\) and type <U3; store one name a class",
    ),
    "names that are numbers": ({"classes": npy(np.zeros(3))}, "type float64; store one name a class, as strings"),
    "an identifier": ({"y_train": npy(np.array([0] * 11 + [10**9]))}, "y_train reaches to 1000000000, and 12 samples"),
    "the largest number": ({"y_train": npy(np.full(12, 2**64 - 1, np.uint64))}, "reaches to 18446744073709551615"),
}


@pytest.mark.parametrize("kind", LIES)
def test_an_archive_that_lies_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, kind):
    members, sentence = LIES[kind]
    write_npz(tmp_path / "own.npz", **members)
    unpack = readers._unpack

    def no_images(path, key):
        assert not key.startswith("x")
        return unpack(path, key)

    monkeypatch.setattr(readers, "_unpack", no_images)
    with pytest.raises(ValueError, match=sentence) as error:
        read_npz(tmp_path / "own.npz")
    assert "own.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_archive_of_which_both_headers_lie_is_refused(tmp_path):
    path, size = tmp_path / "own.npz", 2**29
    header = npy_header((size // 64, 8, 8))
    write_npz(path, x_train=header)
    content, told = bytearray(path.read_bytes()), len(header).to_bytes(4, "little")
    place = content.rindex(b"x_train.npy") - 46 + 24  # the uncompressed size, in the directory at the end
    assert content[place : place + 4] == told
    content[place : place + 4] = (len(header) + size).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own.npz is damaged .* takes \d+ bytes, to which \d+ cannot unfold"):
        read_npz(path)


def test_more_classes_than_samples_need_names_or_few(tmp_path):
    labels = {"y_train": npy(np.array([0] * 11 + [999]))}
    write_npz(tmp_path / "own.npz", **labels)
    assert read_npz(tmp_path / "own.npz").num_classes == 1000
    names = np.array([str(i) for i in range(5000)])
    write_npz(tmp_path / "own.npz", **labels, classes=npy(names))
    assert read_npz(tmp_path / "own.npz").num_classes == 5000


def test_an_archive_larger_than_memory_is_refused(tmp_path, monkeypatch):
    write_npz(tmp_path / "own.npz")
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(ValueError, match=r"its arrays need .* GiB of memory and .* can be had; store images as uint8"):
        read_npz(tmp_path / "own.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_truncated_npz_is_named(tmp_path, save, keep):
    path = tmp_path / "cifar10.npz"
    save(path, **npz_arrays())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(ValueError, match=r"cifar10.npz is damaged .*; delete it and fetch it again\.$"):
        sources.load("cifar10", tmp_path)


def test_flipped_bytes_in_an_npz_are_named_or_harmless(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **npz_arrays())
    good, draws = path.read_bytes(), random.Random(0)
    named = 0
    for _ in range(150):
        bad = bytearray(good)
        bad[draws.randrange(len(bad))] ^= 1 << draws.randrange(8)
        path.write_bytes(bad)
        try:
            read_npz(path)
        except ValueError as error:
            assert "own.npz" in str(error)  # noqa: PT017 - not every flip is an error
            named += 1
    assert named > 100


def test_a_bare_array_is_not_an_npz(tmp_path):
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, pixels(3, 4, 4))
    with pytest.raises(ValueError, match="holds one bare array"):
        read_npz(tmp_path / "own.npz")


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize(("test", "lazy"), [("test", False), ("val", True)])
def test_image_folder(tmp_path, mode, channels, test, lazy):
    source = sources.load(str(write_folder(tmp_path / "pets", mode=mode, test=test)), lazy=lazy)
    assert source.classes == ("cat", "dog")
    assert source.x_train.shape == (6, channels, 5, 6)
    assert source.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.y_test.tolist() == [0, 0, 1, 1]
    shape = (5, 6, channels) if channels == 3 else (5, 6)
    expected = pixels(*shape, seed=11).reshape(5, 6, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(source.x_train[4].numpy(), expected)


def test_image_folder_scales_the_short_side_and_keeps_the_centre(tmp_path):
    root = write_folder(tmp_path / "pets", size=(40, 20))
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 200
    Image.fromarray(wide).save(root / "train" / "cat" / "0.png")
    Image.fromarray(np.full((90, 30, 3), 9, np.uint8)).save(root / "train" / "cat" / "1.png")
    x = read_image_folder(root, 10).x_train
    assert x.shape == (6, 3, 10, 10)
    assert (x[0, :, :, 1:-1] == 200).all()
    assert (x[1] == 9).all()
    with pytest.raises(ValueError, match=r"1.png is 30x90 but the first training image is 40x20; set image_size"):
        read_image_folder(root)


def test_broken_image_folders_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no folders train and test"):
        read_image_folder(tmp_path / "empty")
    root = write_folder(tmp_path / "pets")
    broken = root / "test" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=f"{broken} is damaged .*; replace or remove it"):
        read_image_folder(root)
    broken.unlink()
    (root / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match="cow"):
        read_image_folder(root)
    (root / "train" / "cow").rmdir()
    (root / "test" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"has classes that .*train lacks \(cow\)"):
        read_image_folder(root)


def entangle(kind, root):
    """Put something among the images that is none, and say what is named."""
    cat = root / "train" / "cat"
    if kind == "circle":
        (cat / "loop").symlink_to(root / "train")
        return "loop is a link to a folder that it lies in, so its images never end; remove the link"
    if kind == "two that meet":
        (cat / "dogs").symlink_to(root / "train" / "dog")
        (root / "train" / "dog" / "cats").symlink_to(cat)
        return "is a link to a folder that it lies in"
    if kind == "pipe":
        os.mkfifo(cat / "9.png")
    elif kind == "device":
        (cat / "9.png").symlink_to("/dev/zero")
    elif kind == "nowhere":
        (cat / "9.png").symlink_to(root / "gone.png")
    else:
        (cat / "9.png").symlink_to(cat / "9.png")
        return "9.png cannot be read|9.png is damaged"
    return "9.png is a pipe, a device or a link that leads nowhere; remove it"


@pytest.mark.parametrize("kind", ["circle", "two that meet", "pipe", "device", "nowhere", "itself"])
def test_what_is_no_image_is_named_before_it_is_opened(tmp_path, kind):
    root = write_folder(tmp_path / "pets")
    sentence = entangle(kind, root)
    for lazy in (False, True):
        with pytest.raises(ValueError, match=sentence) as error:
            read_image_folder(root, lazy=lazy)
        assert str(root) in str(error.value)
        assert "\n" not in str(error.value)


def test_links_that_lead_somewhere_else_are_followed_in_torchvision_s_order(tmp_path):
    root = write_folder(tmp_path / "pets")
    other = write_folder(tmp_path / "other") / "train" / "dog"
    (root / "train" / "cat" / "0-b").mkdir()
    (other / "1.png").rename(root / "train" / "cat" / "0-b" / "Z.PNG")
    (root / "train" / "cat" / "0").symlink_to(other)
    (root / "train" / "cat" / "README.txt").write_text("no image")
    theirs = ImageFolder(root / "train")
    source = read_image_folder(root, lazy=True)
    assert [os.fsdecode(path) for path in source.x_train._paths] == [path for path, _ in theirs.samples]
    assert source.y_train.tolist() == theirs.targets


@pytest.mark.slow
def test_images_that_would_be_cut_or_never_fit_are_named(tmp_path):
    root = write_folder(tmp_path / "pets")
    path = root / "train" / "cat" / "1.png"
    for image, sentence in (
        (Image.fromarray(np.full((5, 6), 40000, np.uint16)), "has more than 8 bits a pixel .*I;16.*; convert"),
        (Image.new("L", (1, 6000)), "it is 1x6000, of which the centre square is next to nothing"),
        (Image.new("1", (15000, 15000)), "exceeds limit of .* pixels"),
    ):
        image.save(path)
        with pytest.raises(ValueError, match=f"1.png .*{sentence}") as error:
            read_image_folder(root, 8)
        assert "\n" not in str(error.value)


def test_an_image_folder_larger_than_memory_is_refused(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "pets")
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(ValueError, match="set lazy=True to decode them batch by batch, or choose a smaller image_size"):
        read_image_folder(root, 64)
    assert read_image_folder(root, 64, lazy=True).x_train.shape == (6, 3, 64, 64)
