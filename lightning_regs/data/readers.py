"""The readers: .npz files, image folders, and the sets that torchvision knows, MNIST (idx) and CIFAR (pickles)."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.image_files import ImageFiles, damaged, first_line, open_image

# Seconds that a server may stay silent during a download.
_TIMEOUT = 30.0

# Data set name -> class in torchvision.datasets.
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
# RuntimeError covers what zipfile says of an archive that asks for encryption or an unknown compression.
_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path, num_classes: int | None = None, classes: Sequence[str] | None = None) -> ArraySource:
    """Read ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and, if there, ``classes``) from an .npz file.

    The shape decides the layout. (N, L) are signals. (N, H, W) are grey images. In four dimensions the channel axis is
    the one of size 1 or 3: the last gives (N, H, W, C), the second (N, C, H, W); where both have such a size, the
    reading with square images is taken, and if that does not decide either, the file is refused.

    Args:
        path: The file.
        num_classes: Number of classes; None takes the number of ``classes``, else the largest label plus one.
        classes: Class names where the file has none.

    Returns:
        The data set: images uint8 (or float32 where the file holds floats), signals float32.

    Raises:
        ValueError: The file is damaged, lacks a key, or holds arrays of a wrong shape, type or range.
    """
    arrays = _load_npz(path)
    missing = [key for key in NPZ_KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"{path} has no array {', '.join(missing)}; save it with numpy.savez(file, "
            f"{', '.join(f'{key}=...' for key in NPZ_KEYS)})."
        )
    names = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else tuple(classes) if classes else None
    x_train, x_test = (_samples_from_numpy(path, key, arrays[key]) for key in ("x_train", "x_test"))
    y_train, y_test = (_labels_from_numpy(path, key, arrays[key]) for key in ("y_train", "y_test"))
    if num_classes is None:
        num_classes = len(names) if names else int(y_train.max()) + 1 if len(y_train) else 1
    return ArraySource(str(path), x_train, y_train, x_test, y_test, num_classes, names)


def _load_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.lib.npyio.NpzFile):
            with file:
                return {key: file[key] for key in (*NPZ_KEYS, "classes") if key in file.files}
    except _READ_ERRORS as error:
        raise damaged(path, first_line(error)) from error
    raise damaged(path, "it holds one bare array", "save the arrays with numpy.savez")


def _samples_from_numpy(path: Path, key: str, array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{path}: {key} has type {array.dtype}; store images as uint8 (0 to 255) or floating point.")
    x = torch.from_numpy(np.ascontiguousarray(array) if array.dtype == np.uint8 else array.astype(np.float32))
    if x.ndim == 2:
        return x if x.is_floating_point() else x.float().div_(255)
    if x.ndim == 3:
        return x.unsqueeze(1)
    if x.ndim == 4:
        layouts = [axis for axis in (1, 3) if x.shape[axis] in (1, 3)]
        if len(layouts) == 2:
            layouts = [axis for axis in layouts if len({s for i, s in enumerate(x.shape) if i not in (0, axis)}) == 1]
        if len(layouts) == 1:
            return x if layouts[0] == 1 else x.permute(0, 3, 1, 2).contiguous()
    raise ValueError(
        f"{path}: {key} has shape {tuple(x.shape)}, in which the channel axis cannot be told; "
        "store (N, L), (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3."
    )


def _labels_from_numpy(path: Path, key: str, array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.kind not in "iu":
        raise ValueError(f"{path}: {key} has type {array.dtype}; store labels as integers from 0 on.")
    y = torch.from_numpy(array.astype(np.int64))
    return y.flatten() if y.ndim == 2 and y.shape[1] == 1 else y


def expected_files(name: str, root: Path) -> list[Path]:
    """List the files that torchvision reads for a data set below a root."""
    cls = _dataset_class(name)
    if hasattr(cls, "base_folder"):
        return [root / cls.base_folder / file for file, _ in _checksums(cls)]
    return [root / cls.__name__ / "raw" / url.removesuffix(".gz") for url, _ in cls.resources]


def read_torchvision(name: str, root: Path, shown: Mapping[str, Path] | None = None) -> ArraySource:
    """Read a data set from torchvision's files through torchvision's class.

    Args:
        name: A key of :data:`TORCHVISION`.
        root: The folder that torchvision calls root.
        shown: The path that the user knows a file by, of its name.

    Raises:
        ValueError: A file is damaged; it is named.
    """
    from torchvision.datasets.utils import check_integrity

    cls = _dataset_class(name)
    for file, md5 in _checksums(cls) if hasattr(cls, "base_folder") else ():
        if not check_integrity(root / cls.base_folder / file, md5):
            raise damaged(root / cls.base_folder / file, "its checksum differs from torchvision's")
    arrays = []
    for train in (True, False):
        try:
            part = cls(str(root), train=train)
        except Exception as error:
            raise _blame(name, root, shown or {}, error) from error
        images = torch.from_numpy(part.data) if isinstance(part.data, np.ndarray) else part.data
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        arrays += [images, torch.as_tensor(part.targets, dtype=torch.int64)]
    x_train, y_train, x_test, y_test = arrays
    first = next(iter(shown.values())) if shown else expected_files(name, root)[0]
    classes = tuple(str(c) for c in part.classes)
    return ArraySource(str(first.parent), x_train, y_train, x_test, y_test, len(classes), classes)


def read_gzipped(name: str, folder: Path) -> ArraySource:
    """Read ``mnist`` or ``fashion_mnist`` from gzipped idx files, as the Debian package of the latter has them.

    Raises:
        ValueError: A file is damaged; it is named.
    """
    with tempfile.TemporaryDirectory() as scratch:
        shown = {}
        for file in expected_files(name, Path(scratch)):
            shown[file.name] = packed = folder / f"{file.name}.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with gzip.open(packed, "rb") as source, file.open("wb") as target:
                    shutil.copyfileobj(source, target)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise damaged(packed, error) from error
        return read_torchvision(name, Path(scratch), shown)


def download(name: str, root: Path) -> None:
    """Let torchvision download a data set below a root; whatever goes wrong is raised as torchvision raises it."""
    root.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    # torchvision sets none, and without one a silent network would be waited for for ever.
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        _dataset_class(name)(str(root), train=True, download=True)
    finally:
        socket.setdefaulttimeout(before)


def _blame(name: str, root: Path, shown: Mapping[str, Path], error: Exception) -> ValueError:
    """Find the idx file that torchvision's own reader cannot read."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    for file in expected_files(name, root):
        if "-idx" not in file.name:
            continue
        try:
            (read_image_file if "-images-" in file.name else read_label_file)(str(file))
        except Exception as cause:
            return damaged(shown.get(file.name, file), f"{type(cause).__name__}: its header and its length do not fit")
    return damaged(expected_files(name, root)[0].parent, error)


def _dataset_class(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, TORCHVISION[name])


def _checksums(cls: Any) -> list[tuple[str, str | None]]:
    return [*map(tuple, cls.train_list + cls.test_list), (cls.meta["filename"], cls.meta["md5"])]


def read_image_folder(path: Path, image_size: int | None = None, lazy: bool = False) -> ArraySource:
    """Read ``train/CLASS/*.png`` and ``test/CLASS/*`` (or ``val/``), as uint8 images.

    Images are grey where the first one is, else RGB. With ``image_size`` the shorter side is scaled to it and the
    centre square is kept. A class may be missing in the test set, but not appear there only.

    Args:
        path: The folder.
        image_size: Side of the squares; None needs images of one size.
        lazy: Return :class:`ImageFiles`, which decode the same images when they are asked for, instead of tensors.

    Returns:
        The data set, with the folder names as class names, in their sorted order.

    Raises:
        ValueError: A folder or class is missing or empty, an image is damaged (with ``lazy``: the first), sizes differ,
            or the decoded images would not fit into memory.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    train = path / "train"
    test = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise ValueError(
            f"{path} has no folders train and test; lay it out as train/CLASS/image.png and test/CLASS/image.png."
        )
    try:
        classes, index = find_classes(train)
        extra = sorted(set(find_classes(test)[0]) - set(classes))
        samples = [make_dataset(d, index, IMG_EXTENSIONS, allow_empty=d == test) for d in (train, test)]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {first_line(error)}; put at least one image into each class folder.") from error
    if extra:
        raise ValueError(f"{test} has classes that {train} lacks ({', '.join(extra[:5])}); train on the same classes.")
    if not samples[1]:
        raise ValueError(f"{path} has no test images; put some into test/CLASS.")
    mode, (width, height) = open_image(Path(samples[0][0][0]), lambda image: (image.mode, image.size))
    shape = (1 if mode == "L" else 3, image_size or height, image_size or width)
    x_train, x_test = (ImageFiles([file for file, _ in part], shape, image_size is not None) for part in samples)
    y_train, y_test = (torch.tensor([label for _, label in part]) for part in samples)
    names = tuple(classes)
    if lazy:
        return ArraySource(str(path), x_train, y_train, x_test, y_test, len(names), names)
    _check_fits(path, x_train.shape.numel() + x_test.shape.numel())
    decoded = [files.decode(threads=os.cpu_count() or 1) for files in (x_train, x_test)]
    return ArraySource(str(path), decoded[0], y_train, decoded[1], y_test, len(names), names)


def _check_fits(path: Path, needed: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        raise ValueError(
            f"{path}: the decoded images need {needed / 2**30:.0f} GiB and this machine has {memory / 2**30:.0f}; "
            "set lazy=True to decode them batch by batch, or choose a smaller image_size."
        )
