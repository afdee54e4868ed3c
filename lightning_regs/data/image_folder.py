"""Image folders: decoded once into memory, or batch by batch from the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.augment import center_crop
from lightning_regs.data.readers import damaged, first_line

if TYPE_CHECKING:
    from PIL import Image


class UnreadableImage(ValueError):
    """One image file that cannot be used, in one sentence.

    Args:
        message: The sentence. PyTorch's loader raises a worker's error anew with the worker's whole traceback as its
            message; of that, only the sentence at the end is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rstrip().rpartition(f"{type(self).__name__}: ")[2])


class ImageFiles:
    """Images that stay in their files until they are asked for; stands where a uint8 tensor (N, C, H, W) stands.

    An index tensor or a slice picks files and decodes none, a number decodes that one, :meth:`decode` a batch.

    Args:
        paths: One file an image.
        image: Shape (C, H, W) of each image: C = 1 for grey, else 3, as RGB.
        scale: Scale the shorter side to H = W and keep the centre square; False needs files of that size.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, paths: Sequence[str | os.PathLike[str]], image: tuple[int, int, int], scale: bool) -> None:
        # Bytes in one array, as forked workers would in time copy every page that holds a Python string.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._image = image
        self._scale = scale
        self._crop: int | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape (N, C, H, W) of all images decoded."""
        channels, height, width = self._image
        return torch.Size((len(self), channels, self._crop or height, self._crop or width))

    def center_crop(self, size: int) -> ImageFiles:
        """Return the same files, of which :meth:`decode` keeps the central square of a side of at most H and W.

        Raises:
            ValueError: The images are smaller than ``size``.
        """
        center_crop(torch.empty(self.shape, dtype=self.dtype, device="meta"), size)
        cropped: ImageFiles = self[:]
        cropped._crop = size
        return cropped

    def decode(self, index: Tensor | None = None, threads: int = 1) -> Tensor:
        """Read images from their files into a new tensor (M, C, H, W), uint8.

        Args:
            index: Which, (M,), int64, on the CPU; None reads all.
            threads: Threads that decode.

        Raises:
            UnreadableImage: A file is missing, damaged, or of another size where images are not scaled.
        """
        paths = self._paths if index is None else self._paths[index.numpy()]
        x = torch.empty((len(paths), *self.shape[1:]), dtype=self.dtype)
        with ThreadPoolExecutor(threads) as pool:
            images = map(self._read, paths) if threads == 1 else pool.map(self._read, paths)
            for row, image in zip(x, images, strict=True):
                row.copy_(image)
        return x

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int | Tensor | slice) -> Any:
        if isinstance(index, int):
            return self.decode(torch.tensor([index]))[0]
        picked = object.__new__(ImageFiles)
        picked.__dict__.update(self.__dict__)
        picked._paths = self._paths[index if isinstance(index, slice) else index.numpy()]
        return picked

    def _read(self, name: bytes) -> Tensor:
        path = Path(os.fsdecode(name))
        channels, height, width = self._image

        def pixels(image: Image.Image) -> Tensor:
            image = image.convert("L" if channels == 1 else "RGB")
            return torch.from_numpy(np.array(_scale_and_cut(image, height) if self._scale else image))

        x: Tensor = _open(path, pixels)
        if x.shape[:2] != (height, width):
            raise UnreadableImage(
                f"{path} is {x.shape[1]}x{x.shape[0]} but the first training image is {width}x{height}; "
                "set image_size so that all are scaled to one size."
            )
        x = x.unsqueeze(0) if channels == 1 else x.permute(2, 0, 1)
        return x if self._crop is None else center_crop(x, self._crop)


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
    mode, (width, height) = _open(Path(samples[0][0][0]), lambda image: (image.mode, image.size))
    shape = (1 if mode == "L" else 3, image_size or height, image_size or width)
    x_train, x_test = (ImageFiles([file for file, _ in part], shape, image_size is not None) for part in samples)
    y_train, y_test = (torch.tensor([label for _, label in part]) for part in samples)
    names = tuple(classes)
    if lazy:
        return ArraySource(str(path), x_train, y_train, x_test, y_test, len(names), names)
    _check_fits(path, x_train.shape.numel() + x_test.shape.numel())
    decoded = [files.decode(threads=os.cpu_count() or 1) for files in (x_train, x_test)]
    return ArraySource(str(path), decoded[0], y_train, decoded[1], y_test, len(names), names)


def _scale_and_cut(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    image = image.resize((max(size, round(image.width * scale)), max(size, round(image.height * scale))), 2)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _open(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return use(image)
    except Exception as error:
        # Pillow's parsers raise whatever they trip over; only the operating system's errors have a number.
        if isinstance(error, OSError) and error.errno is not None:
            reason = f"{path} cannot be read ({error.strerror}); restore it, or start again without it."
        else:
            reason = str(damaged(path, first_line(error), "replace or remove it"))
    raise UnreadableImage(reason)


def _check_fits(path: Path, needed: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        raise ValueError(
            f"{path}: the decoded images need {needed / 2**30:.0f} GiB and this machine has {memory / 2**30:.0f}; "
            "set lazy=True to decode them batch by batch, or choose a smaller image_size."
        )
