"""The reader of .npz files, and how a file that cannot be read is named."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.data.arrays import ArraySource

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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text without its full stop, or its type where it has no text."""
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
