"""The sets that torchvision knows, from its own files: MNIST and Fashion-MNIST (idx), CIFAR (pickles)."""

from __future__ import annotations

import gzip
import socket
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.image_files import damaged

# Seconds that a server may stay silent during a download.
_TIMEOUT = 30.0

# Data set name -> class in torchvision.datasets.
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# The largest of the files, which is CIFAR-100's, has 155 MB.
_LARGEST_FILE = 2**28


def expected_files(name: str, root: Path) -> list[Path]:
    """List the files that torchvision reads for a data set below a root."""
    cls = _dataset_class(name)
    if hasattr(cls, "base_folder"):
        return [root / cls.base_folder / file for file, _ in _checksums(cls)]
    return [root / cls.__name__ / "raw" / url.removesuffix(".gz") for url, _ in cls.resources]


def read_torchvision(name: str, root: Path, shown: Mapping[str, Path] | None = None) -> ArraySource:
    """Read a data set of :data:`TORCHVISION` from torchvision's files below its ``root``, through torchvision's class.

    By a file's name, ``shown`` is the path that the user knows it by.
    """
    from torchvision.datasets.utils import check_integrity

    cls = _dataset_class(name)
    for path in expected_files(name, root):
        if path.stat().st_size > _LARGEST_FILE:
            raise damaged((shown or {}).get(path.name, path), f"it has more than {_LARGEST_FILE / 2**20:.0f} MiB")
    for file, md5 in _checksums(cls) if hasattr(cls, "base_folder") else ():
        path = root / cls.base_folder / file
        try:
            whole = check_integrity(path, md5)
        except OSError as error:
            raise damaged(path, error) from error
        if not whole:
            raise damaged(path, "its checksum differs from torchvision's")
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
    """Read ``mnist`` or ``fashion_mnist`` from gzipped idx files, as the Debian package of the latter has them."""
    with tempfile.TemporaryDirectory() as scratch:
        shown = {}
        for file in expected_files(name, Path(scratch)):
            shown[file.name] = packed = folder / f"{file.name}.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with gzip.open(packed, "rb") as source:
                    content = source.read(_LARGEST_FILE + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise damaged(packed, error) from error
            file.write_bytes(content)
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
