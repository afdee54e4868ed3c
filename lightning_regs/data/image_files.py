"""Images that stay in their files, and how a file that cannot be read is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_regs.data.augment import center_crop

if TYPE_CHECKING:
    from PIL import Image


# An image is scaled before its centre is cut out: a stripe of one pixel would grow to gigabytes.
_LONGEST = 100


class UnreadableImage(ValueError):
    """One image file that cannot be used, in one sentence.

    PyTorch's loader raises a worker's error anew with the worker's whole traceback as its message; of that, only the
    sentence at the end is kept.
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
        """Read images (M,), or all, from their files into a new tensor (M, C, H, W), uint8, in so many threads.

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
            if not self._scale and image.size != (width, height):
                raise UnreadableImage(
                    f"{path} is {image.width}x{image.height} but the first training image is {width}x{height}; "
                    "set image_size so that all are scaled to one size."
                )
            if image.mode.startswith(("I", "F")):
                raise UnreadableImage(
                    f"{path} has more than 8 bits a pixel (Pillow's mode {image.mode}), which would be cut off; "
                    "convert the images to 8 bits."
                )
            image = image.convert("L" if channels == 1 else "RGB")
            return torch.from_numpy(np.array(_scale_and_cut(image, height) if self._scale else image))

        x: Tensor = open_image(path, pixels)
        x = x.unsqueeze(0) if channels == 1 else x.permute(2, 0, 1)
        return x if self._crop is None else center_crop(x, self._crop)


def damaged(path: Path, reason: object, remedy: str = "delete it and fetch it again") -> ValueError:
    """Build the one error for a file that is there but cannot be read; the reason may be what reading it raised."""
    if isinstance(reason, PermissionError | FileNotFoundError):
        return ValueError(f"{path} cannot be read ({reason.strerror}); make it readable, or restore it.")
    if isinstance(reason, BaseException):
        reason = (str(reason).splitlines() or [""])[0].rstrip(".") or type(reason).__name__
    return ValueError(f"{path} is damaged or not what its name says ({reason}); {remedy}.")


def _scale_and_cut(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    if max(image.size) > _LONGEST * min(image.size):
        raise ValueError(f"it is {image.width}x{image.height}, of which the centre square is next to nothing")
    image = image.resize((max(size, round(image.width * scale)), max(size, round(image.height * scale))), 2)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def open_image(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    """Return what ``use`` makes of an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return use(image)
    except UnreadableImage as error:
        reason = str(error)
    except Exception as error:
        # Pillow's parsers raise whatever they trip over; only the operating system's errors have a number.
        if isinstance(error, OSError) and error.errno is not None:
            reason = f"{path} cannot be read ({error.strerror}); restore it, or start again without it."
        else:
            reason = str(damaged(path, error, "replace or remove it"))
    raise UnreadableImage(reason)
