"""Tiny files in the true formats, for the tests of the data room."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile

import numpy as np
from PIL import Image
from torchvision import datasets


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def npz_arrays(shape=(4, 4), n_train=12, n_test=5) -> dict[str, np.ndarray]:
    return {
        "x_train": pixels(n_train, *shape),
        "y_train": np.arange(n_train) % 3,
        "x_test": pixels(n_test, *shape, seed=1),
        "y_test": np.arange(n_test) % 3,
    }


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """Return what stands before the values of an array, which may be more than any file holds."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def write_npz(path, **members: bytes) -> None:
    """Write an archive whose members may be anything; the others are those of :func:`npz_arrays`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key, content in ({key: npy(array) for key, array in npz_arrays().items()} | members).items():
            file.writestr(f"{key}.npy", content)


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(s).to_bytes(4, "big") for s in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, pack=lambda b: b, suffix="") -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    arrays = npz_arrays((28, 28))
    for key, name in (("train", "train"), ("test", "t10k")):
        (folder / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(arrays[f"x_{key}"])))
        (folder / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(arrays[f"y_{key}"])))
    return arrays


def write_cifar(monkeypatch, cls, root) -> dict[str, np.ndarray]:
    """Write tiny pickles in CIFAR's form, and teach torchvision their checksums."""
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    fine = cls is datasets.CIFAR100
    arrays = npz_arrays((3, 32, 32), n_train=2 * len(cls.train_list), n_test=4)
    names = [f"class {i}" for i in range(100 if fine else 10)]

    def put(name: str, content: dict[str, object]) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch(x: np.ndarray, y: np.ndarray) -> dict[str, object]:
        return {"data": x.reshape(len(x), -1), "fine_labels" if fine else "labels": y.tolist()}

    train = [
        [name, put(name, batch(arrays["x_train"][2 * i : 2 * i + 2], arrays["y_train"][2 * i : 2 * i + 2]))]
        for i, (name, _) in enumerate(cls.train_list)
    ]
    test = [[cls.test_list[0][0], put(cls.test_list[0][0], batch(arrays["x_test"], arrays["y_test"]))]]
    meta = {**cls.meta, "md5": put(cls.meta["filename"], {cls.meta["key"]: names})}
    monkeypatch.setattr(cls, "train_list", train)
    monkeypatch.setattr(cls, "test_list", test)
    monkeypatch.setattr(cls, "meta", meta)
    return arrays


def assert_holds(source, arrays, shape):
    for split in ("train", "test"):
        x = getattr(source, f"x_{split}")
        assert x.is_contiguous()
        assert x.shape[1:] == shape
        np.testing.assert_array_equal(x.numpy(), arrays[f"x_{split}"].reshape(x.shape))
        np.testing.assert_array_equal(getattr(source, f"y_{split}").numpy(), arrays[f"y_{split}"])


def write_folder(root, size=(6, 5), mode="RGB", test="test"):
    for split, count in (("train", 3), (test, 2)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
                Image.fromarray(pixels(*shape, seed=10 * label + i)).save(root / split / name / f"{i}.png")
    return root
