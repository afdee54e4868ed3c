"""Readers of the file formats: each names the file that it cannot read, and what to do about it."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.data.arrays import ArraySource

if TYPE_CHECKING:
    from PIL import Image

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
# RuntimeError covers what zipfile says of an archive that asks for encryption or an unknown compression.
_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


def damaged(path: Path, reason: object, remedy: str = "delete it and fetch it again") -> ValueError:
    """Build the one error for a file that is there but cannot be read."""
    return ValueError(f"{path} is damaged or not what its name says ({reason}); {remedy}.")


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
        raise damaged(path, _first_line(error)) from error
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


def read_image_folder(path: Path, image_size: int | None = None) -> ArraySource:
    """Decode ``train/CLASS/*.png`` and ``test/CLASS/*`` (or ``val/``) into uint8, once.

    Images are grey where the first one is, else RGB. With ``image_size`` the shorter side is scaled to it and the
    centre square is kept. A class may be missing in the test set, but not appear there only.

    Args:
        path: The folder.
        image_size: Side of the squares; None needs images of one size.

    Returns:
        The data set, with the folder names as class names, in their sorted order.

    Raises:
        ValueError: A folder or class is missing or empty, an image is damaged, sizes differ, or the decoded images
            would not fit into memory.
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
        files = [make_dataset(d, index, IMG_EXTENSIONS, allow_empty=d == test) for d in (train, test)]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {_first_line(error)}; put at least one image into each class folder.") from error
    if extra:
        raise ValueError(f"{test} has classes that {train} lacks ({', '.join(extra[:5])}); train on the same classes.")
    mode, (width, height) = _decode(Path(files[0][0][0]), lambda image: (image.mode, image.size))
    grey = mode == "L"
    _check_fits(path, sum(map(len, files)) * (1 if grey else 3) * (image_size**2 if image_size else width * height))
    (x_train, y_train), (x_test, y_test) = (_decode_all(path, samples, grey, image_size) for samples in files)
    return ArraySource(str(path), x_train, y_train, x_test, y_test, len(classes), tuple(classes))


def _decode_all(path: Path, samples: list[tuple[str, int]], grey: bool, size: int | None) -> tuple[Tensor, Tensor]:
    if not samples:
        raise ValueError(f"{path} has no test images; put some into test/CLASS.")

    def to_tensor(image: Image.Image) -> Tensor:
        image = image.convert("L" if grey else "RGB")
        if size is not None:
            scale = size / min(image.size)
            image = image.resize((max(size, round(image.width * scale)), max(size, round(image.height * scale))), 2)
            left, top = (image.width - size) // 2, (image.height - size) // 2
            image = image.crop((left, top, left + size, top + size))
        pixels = torch.from_numpy(np.array(image))
        return pixels.unsqueeze(0) if grey else pixels.permute(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        first: Tensor | None = None
        x = torch.empty(0)
        for i, image in enumerate(pool.map(lambda s: _decode(Path(s[0]), to_tensor), samples)):
            if first is None:
                first = image
                x = torch.empty((len(samples), *image.shape), dtype=torch.uint8)
            if image.shape != first.shape:
                raise ValueError(
                    f"{samples[i][0]} is {image.shape[2]}x{image.shape[1]} but {samples[0][0]} is "
                    f"{first.shape[2]}x{first.shape[1]}; set image_size so that all are scaled to one size."
                )
            x[i] = image
    return x, torch.tensor([label for _, label in samples])


def _decode(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return use(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise damaged(path, _first_line(error), "replace or remove it") from error


def _check_fits(path: Path, needed: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        raise ValueError(
            f"{path}: the decoded images need {needed / 2**30:.0f} GiB and this machine has {memory / 2**30:.0f}; "
            "choose a smaller image_size or a folder with fewer images."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
