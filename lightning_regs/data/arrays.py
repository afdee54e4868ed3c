"""A data set as a whole, and the checks that every source passes on the way in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regs.data.image_files import ImageFiles


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A data set, in memory but for the images of a lazy image folder.

    Attributes:
        name: Name or path that it was loaded by.
        x_train: Images (N, C, H, W), uint8 or float32 (pixels then in [0, 1], or standardised), or float32 signals
            (N, L); a tensor on the device ``meta`` stands for data that are not read yet;
            :class:`~lightning_regs.data.image_files.ImageFiles` where they were asked for.
        y_train: Labels (N,), int64, in [0, num_classes).
        x_test: As ``x_train``.
        y_test: As ``y_train``.
        num_classes: The number of classes, at least 1.
        classes: One name a class, or None where the source has no names.

    Raises:
        ValueError: Shapes, types or labels do not fit; the sentence begins with ``name``.
    """

    name: str
    x_train: Tensor | ImageFiles
    y_train: Tensor
    x_test: Tensor | ImageFiles
    y_test: Tensor
    num_classes: int
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for split, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            problem = _problem_with_x(x) or _problem_with_y(x, y, self.num_classes)
            if problem:
                raise ValueError(f"{self.name}, {split} set: {problem}")
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.x_train.dtype != self.x_test.dtype:
            raise ValueError(
                f"{self.name}: training samples are {_describe(self.x_train)} but test samples "
                f"{_describe(self.x_test)}; store both in the same form."
            )
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(
                f"{self.name}: {len(self.classes)} class names for {self.num_classes} classes; give one name a class."
            )


def _problem_with_x(x: Tensor | ImageFiles) -> str | None:
    if x.ndim not in (2, 4) or 0 in x.shape:
        return (
            f"samples have shape {tuple(x.shape)}; store images as (N, C, H, W) or signals as (N, L), none of them 0."
        )
    if x.dtype not in (torch.float32, *((torch.uint8,) if x.ndim == 4 else ())):
        return f"samples have type {x.dtype}; store images as uint8 or float32 and signals as float32."
    if isinstance(x, Tensor) and not x.is_meta and x.is_floating_point() and not bool(torch.isfinite(x).all()):
        return "samples hold NaN or infinite values; repair or drop these rows."
    return None


def _problem_with_y(x: Tensor | ImageFiles, y: Tensor, num_classes: int) -> str | None:
    if y.shape != (len(x),):
        return f"labels have shape {tuple(y.shape)} for {len(x)} samples; store one class index a sample."
    if y.dtype != torch.int64:
        return f"labels have type {y.dtype}; store class indices as int64."
    low, high = (0, 0) if y.is_meta else (int(y.min()), int(y.max()))
    if low < 0 or high >= num_classes:
        return f"labels reach from {low} to {high}, outside [0, {num_classes}); number the classes from 0 on."
    return None


def _describe(x: Tensor | ImageFiles) -> str:
    return f"{'x'.join(str(s) for s in x.shape[1:])} {str(x.dtype).removeprefix('torch.')}"
