"""The readers of what users bring: .npz archives and image folders, looked at before anything is unpacked."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.core.checks import warn
from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.image_files import ImageFiles, damaged, open_image

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# How much longer than what is stored an array can be; other compressions have no such limit.
_LARGEST_RATIO = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
# Without names, and beyond this and the number of samples, a label is more likely an identifier than a class.
_MOST_CLASSES = 1000


def read_npz(path: Path, num_classes: int | None = None, classes: Sequence[str] | None = None) -> ArraySource:
    """Read ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and, if there, ``classes``) from an .npz file.

    The shape decides the layout. (N, L) are signals. (N, H, W) are grey images. In four dimensions the channel axis is
    the one of size 1 or 3: the last gives (N, H, W, C), the second (N, C, H, W); where both have such a size, the
    reading with square images is taken, and if that does not decide either, the file is refused. Images are uint8, or
    float32 where the file holds floats, signals float32. ``classes`` are names where the file has none; without a
    number of classes it is that of the names, else the largest label plus one.

    Raises:
        ValueError: The file is damaged, lacks a key, or holds arrays of a wrong shape, type or range.
    """
    declared = _declared(path)
    missing = [key for key in NPZ_KEYS if key not in declared]
    if missing:
        raise ValueError(
            f"{path} has no array {', '.join(missing)}; save it with numpy.savez(file, "
            f"{', '.join(f'{key}=...' for key in NPZ_KEYS)})."
        )
    # What shapes tell is checked before anything is unpacked, and the labels before the images are.
    x_train, y_train, x_test, y_test = (_checked(path, key, *declared[key]) for key in NPZ_KEYS)
    source = ArraySource(str(path), x_train, y_train, x_test, y_test, num_classes=1)
    size = sum(dtype.itemsize * array.numel() for dtype, array in declared.values())
    check_memory(path, "its arrays", size, "store images as uint8, smaller or fewer of them")
    if "classes" in declared:
        classes = _class_names(path, *declared["classes"])
    labels = [_unpack(path, key) for key in ("y_train", "y_test")]
    names = None if classes is None else tuple(str(c) for c in classes)
    if num_classes is None:
        num_classes = len(names) if names else int(labels[0].max()) + 1
        if num_classes > max(_MOST_CLASSES, *map(len, (names or (), y_train, y_test))):
            raise ValueError(
                f"{path}: y_train reaches to {num_classes - 1}, and {len(y_train)} samples are not of so many classes; "
                "number the classes from 0 on, or store their names as classes."
            )
        if min(y.min() for y in labels) > 0:
            warn(
                f"{path}: no label is 0, so class 0 of {num_classes} never occurs; number the classes from 0 on, or "
                "store their names as classes."
            )
    y_train, y_test = (torch.from_numpy(y.astype(np.int64).reshape(-1)) for y in labels)
    source = replace(source, y_train=y_train, y_test=y_test, num_classes=num_classes, classes=names)
    samples: dict[str, Any] = {}
    for key in ("x_train", "x_test"):
        array = _unpack(path, key)
        array = np.ascontiguousarray(array) if array.dtype == np.uint8 else array.astype(np.float32)
        samples[key] = _layout(path, key, torch.from_numpy(array))
    return replace(source, **samples)


def _declared(path: Path) -> dict[str, tuple[np.dtype[Any], Tensor]]:
    """Read which arrays an archive has, by their headers: the type and a tensor of the shape that holds nothing."""
    try:
        with path.open("rb") as file:
            bare = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        if not bare:
            with zipfile.ZipFile(path) as archive:
                there = set(archive.namelist())
                return {key: _header(archive, key) for key in (*NPZ_KEYS, "classes") if f"{key}.npy" in there}
    except Exception as error:
        # The parsers of zipfile and numpy raise whatever they trip over.
        raise damaged(path, error) from error
    raise damaged(path, "it holds one bare array", "save the arrays with numpy.savez")


def _header(archive: zipfile.ZipFile, key: str) -> tuple[np.dtype[Any], Tensor]:
    member = archive.getinfo(f"{key}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
        size = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError(f"{key} holds objects")
    if size != member.file_size:
        raise ValueError(
            f"{key} of shape {shape} takes {size} bytes with its header, and the archive says {member.file_size}"
        )
    if size > member.compress_size * _LARGEST_RATIO.get(member.compress_type, math.inf):
        raise ValueError(f"{key} takes {size} bytes, to which {member.compress_size} cannot unfold")
    return dtype, torch.empty(shape, dtype=torch.uint8, device="meta")


def _unpack(path: Path, key: str) -> np.ndarray[Any, Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except MemoryError as error:
        raise ValueError(f"{path}: there is no memory for {key}; store images as uint8, smaller or fewer.") from error
    except Exception as error:
        raise damaged(path, error) from error


def _checked(path: Path, key: str, dtype: np.dtype[Any], blank: Tensor) -> Tensor:
    """Check the type that an array has, and return what it will be, without its values."""
    if key.startswith("y"):
        if dtype.kind not in "iu":
            raise ValueError(f"{path}: {key} has type {dtype}; store labels as integers from 0 on.")
        return blank.long().flatten() if blank.ndim == 2 and blank.shape[1] == 1 else blank.long()
    if dtype != np.uint8 and dtype.kind != "f":
        raise ValueError(f"{path}: {key} has type {dtype}; store images as uint8 (0 to 255) or floating point.")
    return _layout(path, key, blank if dtype == np.uint8 else blank.float())


def _class_names(path: Path, dtype: np.dtype[Any], blank: Tensor) -> Sequence[str]:
    if blank.ndim != 1 or dtype.kind not in "USiu":
        raise ValueError(
            f"{path}: classes has shape {tuple(blank.shape)} and type {dtype}; store one name a class, as strings."
        )
    names: list[str] = _unpack(path, "classes").tolist()
    return names


def _layout(path: Path, key: str, x: Tensor) -> Tensor:
    """Return images as (N, C, H, W) and signals as (N, L)."""
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


def read_image_folder(path: Path, image_size: int | None = None, lazy: bool = False) -> ArraySource:
    """Read ``train/CLASS/*.png`` and ``test/CLASS/*`` (or ``val/``), as uint8 images.

    Images are grey where the first one is, else RGB. With ``image_size`` the shorter side is scaled to it and the
    centre square is kept, without it all have to have one size. The folder names are the class names, in their sorted
    order; a class may be missing in the test set, but not appear there only. With ``lazy`` the data set has
    :class:`ImageFiles`, which decode the same images when they are asked for, instead of tensors.

    Raises:
        ValueError: A folder or class is missing or empty, an image is damaged (with ``lazy``: the first), sizes differ,
            or the decoded images would not fit into memory.
    """
    train = path / "train"
    test = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise ValueError(
            f"{path} has no folders train and test; lay it out as train/CLASS/image.png and test/CLASS/image.png."
        )
    try:
        found = [_classes(part) for part in (train, test)]
    except OSError as error:
        raise damaged(Path(error.filename or path), error) from error
    classes = sorted(found[0])
    empty = [name for name in classes if not found[0][name]]
    if empty or not classes:
        raise ValueError(f"{train} has no images of {', '.join(empty[:5]) or 'any class'}; put some into train/CLASS.")
    extra = sorted(set(found[1]) - set(classes))
    if extra:
        raise ValueError(f"{test} has classes that {train} lacks ({', '.join(extra[:5])}); train on the same classes.")
    samples = [[(file, label) for label, name in enumerate(classes) for file in part.get(name, ())] for part in found]
    if not samples[1]:
        raise ValueError(f"{path} has no test images; put some into test/CLASS.")
    mode, (width, height) = open_image(samples[0][0][0], lambda image: (image.mode, image.size))
    shape = (1 if mode == "L" else 3, image_size or height, image_size or width)
    x_train, x_test = (ImageFiles([file for file, _ in part], shape, image_size is not None) for part in samples)
    y_train, y_test = (torch.tensor([label for _, label in part]) for part in samples)
    names = tuple(classes)
    if lazy:
        return ArraySource(str(path), x_train, y_train, x_test, y_test, len(names), names)
    size = x_train.shape.numel() + x_test.shape.numel()
    remedy = "set lazy=True to decode them batch by batch, or choose a smaller image_size"
    check_memory(path, "the decoded images", size, remedy)
    decoded = [files.decode(threads=os.cpu_count() or 1) for files in (x_train, x_test)]
    return ArraySource(str(path), decoded[0], y_train, decoded[1], y_test, len(names), names)


def _classes(part: Path) -> dict[str, list[Path]]:
    """Return the images of each class folder, in the order that torchvision gives them."""
    above = (os.path.realpath(part.parent), os.path.realpath(part))
    return {f.name: [Path(*i) for i in sorted(_images(f, above))] for f in sorted(part.iterdir()) if f.is_dir()}


def _images(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"{folder} is a link to a folder that it lies in, so its images never end; remove the link.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _images(Path(entry.path), (*above, real))
            elif entry.name.lower().endswith(IMG_EXTENSIONS):
                if not entry.is_file():
                    raise ValueError(f"{entry.path} is a pipe, a device or a link that leads nowhere; remove it.")
                yield str(folder), entry.name


def check_memory(path: Path, what: str, needed: int, remedy: str) -> None:
    """Refuse data that memory does not hold."""
    there = _memory()
    if needed > there:
        raise ValueError(
            f"{path}: {what} need {needed / 2**30:.3g} GiB of memory and {there / 2**30:.3g} can be had; {remedy}."
        )


def _memory() -> float:
    """Return the bytes of memory that this process can have: what is free or can be freed, and not above a limit."""
    there = [math.inf]
    if hasattr(os, "sysconf"):
        there.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        there.append(1024 * sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree") if name in lines))
        there.append(int(Path("/sys/fs/cgroup/memory.max").read_text().replace("max", "0")) or math.inf)
    return min(there)
