"""Data sets by name: the embedded ones, torchvision's files, the lookup order and its one error."""

from __future__ import annotations

import gzip
import random

import numpy as np
import pytest
import torch
from data_files import assert_holds, npz_arrays, write_cifar, write_idx
from torchvision import datasets

from lightning_regs.data import sources, torchvision_files


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv(sources.DOWNLOAD_VARIABLE, "0")
    monkeypatch.delenv(sources.ROOT_VARIABLE, raising=False)
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "no-debian")


# ---- embedded


def test_digits_are_split_in_proportion_and_never_differently():
    source = sources.load("digits")
    assert source.x_train.shape == (1200, 1, 8, 8)
    assert source.x_test.shape == (597, 1, 8, 8)
    assert source.x_train.min() == 0
    assert source.x_train.max() == 255
    both = torch.bincount(source.y_train) + torch.bincount(source.y_test)
    assert (torch.bincount(source.y_train) - both * 1200 / 1797).abs().max() < 1
    sources._digits.cache_clear()
    assert torch.equal(sources.load("digits").x_train, source.x_train)


def test_digits_are_scikit_learns_pixels():
    from sklearn.datasets import load_digits

    source = sources.load("digits")
    ours = torch.cat([source.x_train, source.x_test]).flatten(1).double() * (16 / 255)
    ours, theirs = ours.round().numpy(), load_digits().data
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


@pytest.mark.slow
def test_mnist1d_is_float_and_leaves_the_global_streams_alone():
    sources._mnist1d.cache_clear()
    numpy_state = np.random.get_state
    states = random.getstate(), numpy_state()[1].copy(), torch.random.get_rng_state()
    source = sources.load("mnist1d")
    assert random.getstate() == states[0]
    assert (numpy_state()[1] == states[1]).all()
    assert torch.equal(torch.random.get_rng_state(), states[2])
    assert source.x_train.shape == (4000, 40)
    assert source.x_train.dtype == torch.float32
    assert source.y_test.shape == (1000,)
    assert (torch.bincount(source.y_train) > 300).all()
    # The beginning of the file that its authors keep (arXiv 2011.14439), and its statistics.
    torch.testing.assert_close(
        source.x_train[0, :4], torch.tensor([-0.3320, -0.4719, -0.7787, -1.0097]), atol=5e-5, rtol=0
    )
    assert source.y_train[:10].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1]
    assert float(source.x_train.mean()) == pytest.approx(-0.00032, abs=5e-6)
    assert float(source.x_train.std()) == pytest.approx(0.99765, abs=5e-6)


# ---- torchvision's formats


def test_mnist_idx_files(tmp_path):
    arrays = write_idx(tmp_path / "MNIST" / "raw")
    source = sources.load("mnist", tmp_path)
    assert_holds(source, arrays, (1, 28, 28))
    assert source.num_classes == 10


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("content", [b"", b"\0\0", "half", "magic"])
def test_damaged_idx_file_is_named(tmp_path, name, content):
    write_idx(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / name
    good = path.read_bytes()
    path.write_bytes({"half": good[: len(good) // 2], "magic": b"\0\0\0\7" + good[4:]}.get(content, content))
    with pytest.raises(ValueError, match=f"{name} is damaged .*; delete it and fetch it again"):
        sources.load("mnist", tmp_path)


def test_fashion_mnist_from_the_debian_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    arrays = write_idx(tmp_path / "debian", gzip.compress, ".gz")
    source = sources.load("fashion_mnist", tmp_path / "root")
    assert_holds(source, arrays, (1, 28, 28))
    assert source.classes[9] == "Ankle boot"
    packed = tmp_path / "debian" / "t10k-images-idx3-ubyte.gz"
    for content in (packed.read_bytes()[:-20], gzip.compress(b"\0\0\10\3"), b"no gzip"):
        packed.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{packed} is damaged"):
            sources.load("fashion_mnist", tmp_path / "root")


@pytest.mark.parametrize(("name", "cls"), [("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)])
def test_cifar_pickles(tmp_path, monkeypatch, name, cls):
    arrays = write_cifar(monkeypatch, cls, tmp_path)
    source = sources.load(name, tmp_path)
    assert_holds(source, arrays, (3, 32, 32))
    assert source.classes[3] == "class 3"
    path = tmp_path / cls.base_folder / cls.test_list[0][0]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{path.name} is damaged .*checksum"):
        sources.load(name, tmp_path)


# ---- lookup


def test_lookup_order(tmp_path, monkeypatch):
    root, debian = tmp_path / "root", tmp_path / "debian"
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", debian)
    write_idx(debian, gzip.compress, ".gz")
    assert sources.load("fashion_mnist", root).name == str(debian)
    raw = root / "FashionMNIST" / "raw"
    write_idx(raw)
    assert sources.load("fashion_mnist", root).name == str(raw)
    np.savez(root / "fashion_mnist.npz", **npz_arrays((28, 28)))
    assert sources.load("fashion_mnist", root).name == str(root / "fashion_mnist.npz")


def test_root_comes_from_the_argument_then_the_variable_then_the_working_directory(tmp_path, monkeypatch):
    for folder in ("argument", "variable", "data"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "mnist.npz", **npz_arrays((28, 28)))
    monkeypatch.chdir(tmp_path)
    assert sources.load("mnist").name == "data/mnist.npz"
    monkeypatch.setenv(sources.ROOT_VARIABLE, str(tmp_path / "variable"))
    assert sources.load("mnist").name == str(tmp_path / "variable" / "mnist.npz")
    assert sources.load("mnist", tmp_path / "argument").name == str(tmp_path / "argument" / "mnist.npz")


def test_a_set_of_ones_own_is_found_in_the_data_folder_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "leaves.npz", **npz_arrays((28, 28)))
    monkeypatch.chdir(tmp_path)
    assert sources.load("leaves").name == sources.load("leaves.npz").name == "data/leaves.npz"
    sources.prepare("leaves")
    with pytest.raises(ValueError, match="unknown data set 'leafs'"):
        sources.load("leafs")


@pytest.mark.parametrize("call", [sources.load, sources.prepare])
def test_one_error_lists_every_place(tmp_path, call):
    raw = tmp_path / "FashionMNIST" / "raw"
    write_idx(raw)
    (raw / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as error:
        call("fashion_mnist", tmp_path)
    message = str(error.value)
    for part in (
        str(tmp_path / "fashion_mnist.npz"),
        f"{raw} (lacks train-labels-idx1-ubyte)",
        "dataset-fashion-mnist",
        "download switched off by LIGHTNING_REGS_DOWNLOAD",
        "LIGHTNING_REGS_DATA",
    ):
        assert part in message


def test_a_failed_download_ends_in_the_same_error(tmp_path, monkeypatch):
    monkeypatch.setenv(sources.DOWNLOAD_VARIABLE, "1")

    def fail(name, root):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(torchvision_files, "download", fail)
    with pytest.raises(FileNotFoundError, match=r"download failed with RuntimeError: no route to host\. Put one of"):
        sources.load("cifar10", tmp_path)


def test_download_goes_through_torchvision_and_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv(sources.DOWNLOAD_VARIABLE, "1")
    expected = {}

    def fetch(self):
        expected.update(write_idx(tmp_path / "root" / "MNIST" / "raw"))

    monkeypatch.setattr(datasets.MNIST, "download", fetch)
    sources.prepare("mnist", tmp_path / "root")
    assert_holds(sources.load("mnist", tmp_path / "root"), expected, (1, 28, 28))


def test_unknown_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"unknown data set 'cifar_10'\. Did you mean 'cifar10'"):
        sources.load("cifar_10")
    with pytest.raises(FileNotFoundError, match=r"'missing.npz' not found. Looked for .*data/missing.npz"):
        sources.prepare("missing.npz")
    with pytest.raises(FileNotFoundError, match=r"'./imagenet' not found. Looked for .*data/imagenet"):
        sources.prepare("./imagenet")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"neither an \.npz file nor a folder"):
        sources.load("notes.txt")
