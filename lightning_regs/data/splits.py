"""From a source to what the loaders serve: subset, centre crop, corruption, validation split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from lightning_regs import rng
from lightning_regs.data import corruptions
from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.augment import center_crop
from lightning_regs.data.dataset import ImageArrays
from lightning_regs.data.image_folder import ImageFiles


@dataclass(frozen=True)
class SplitPlan:
    """What to make of a source; the fields are those of :class:`~lightning_regs.data.ImageDataModule`.

    Attributes:
        corruption: One of :data:`~lightning_regs.data.corruptions.CORRUPTIONS`.
        corruption_p: Probability of ``partial_labels``.
        image_size: Side of the centre crop; None keeps the images as they are.
        keep_margin: Leave the training images uncropped, for a random crop or rotation later.
        train_size: Number of training samples to keep, drawn at random; None keeps all.
        test_size: The same of the test set.
        val_split: Share (below 1) or number (from 1 on) of training samples to hold out.
    """

    corruption: str
    corruption_p: float
    image_size: int | None
    keep_margin: bool
    train_size: int | None
    test_size: int | None
    val_split: int | float


@dataclass(frozen=True)
class Splits:
    """The three data sets; ``val`` is None without a validation split."""

    train: ImageArrays
    val: ImageArrays | None
    test: ImageArrays

    def to(self, device: torch.device) -> Splits:
        """Return the same data sets on a device."""
        val = None if self.val is None else self.val.to(device)
        return Splits(self.train.to(device), val, self.test.to(device))

    def bytes_away_from(self, device: torch.device) -> int:
        """Return how much memory :meth:`to` would need on a device."""
        parts = [part for part in (self.train, self.val, self.test) if part is not None]
        return sum(part.nbytes for part in parts if part.y.device != device)


def make_splits(source: ArraySource, plan: SplitPlan, seed: int, corruption_seed: int) -> Splits:
    """Apply a plan to a source.

    Labels are redrawn over the whole training set, so that a sample's label does not depend on ``train_size``; the
    validation split is cut from the corrupted set. Pixels are corrupted after the centre crop, the test set with draws
    of its own (``shuffled_pixels``: with the same permutation). Test labels stay clean.

    Args:
        source: The data set.
        plan: What to do with it.
        seed: Seed of the subsets and the validation split.
        corruption_seed: Seed of the corruption.

    Returns:
        The data sets, on the CPU.

    Raises:
        ValueError: A size is larger than the source, or the crop larger than the images.
    """
    y_train, changed = source.y_train, None
    if plan.corruption in corruptions.LABEL_CORRUPTIONS:
        draw = rng.generator(corruption_seed, "label corruption")
        y_train, changed = corruptions.corrupt_labels(y_train, plan.corruption_p, source.num_classes, draw)
    kept = _subset(len(y_train), plan.train_size, "train_size", seed)
    kept_test = _subset(len(source.y_test), plan.test_size, "test_size", seed)
    x_train = _crop(_take(source.x_train, kept), None if plan.keep_margin else plan.image_size)
    x_test = _crop(_take(source.x_test, kept_test), plan.image_size)
    if plan.corruption in corruptions.PIXEL_CORRUPTIONS:
        assert isinstance(x_train, Tensor)
        assert isinstance(x_test, Tensor)
        x_train, x_test = _corrupt_pixels(x_train, x_test, plan.corruption, corruption_seed)
    y_train, y_test = _take(y_train, kept), _take(source.y_test, kept_test)
    changed = None if changed is None else _take(changed, kept)
    if plan.image_size is not None:
        _crop(x_train[:1], plan.image_size)
    train, val = _hold_out(ImageArrays(x_train, y_train, changed), plan.val_split, seed)
    return Splits(train, val, ImageArrays(x_test, y_test))


def _corrupt_pixels(x_train: Tensor, x_test: Tensor, corruption: str, seed: int) -> tuple[Tensor, Tensor]:
    draws = [rng.generator(seed, f"{corruption} {split}") for split in ("train", "test")]
    if corruption == "shuffled_pixels":
        permutation = torch.randperm(
            x_train[0, 0].numel() if x_train.ndim == 4 else x_train.shape[1], generator=draws[0]
        )
        return corruptions.shuffle_pixels(x_train, permutation), corruptions.shuffle_pixels(x_test, permutation)
    if corruption == "random_pixels":
        return corruptions.random_pixels(x_train, draws[0]), corruptions.random_pixels(x_test, draws[1])
    mean, std = corruptions.pixel_statistics(x_train)
    train, test = (
        corruptions.gaussian_images(tuple(x.shape), mean, std, draw)
        for x, draw in zip((x_train, x_test), draws, strict=True)
    )
    return train, test


def _subset(total: int, size: int | None, argument: str, seed: int) -> Tensor | None:
    if size is None:
        return None
    if size > total:
        raise ValueError(f"{argument}={size} is more than the {total} samples there are; choose at most {total}.")
    return torch.randperm(total, generator=rng.generator(seed, argument))[:size].sort().values


def _hold_out(data: ImageArrays, val_split: int | float, seed: int) -> tuple[ImageArrays, ImageArrays | None]:
    held = round(len(data) * val_split) if val_split < 1 else int(val_split)
    if val_split == 0:
        return data, None
    if not 0 < held < len(data):
        raise ValueError(
            f"val_split={val_split} leaves {len(data) - held} training and {held} validation samples of {len(data)}; "
            "choose a split that leaves at least one of each."
        )
    order = torch.randperm(len(data), generator=rng.generator(seed, "val_split"))
    train, val = (data.take(i.sort().values) for i in (order[held:], order[:held]))
    return train, val


@overload
def _take(t: Tensor, index: Tensor | None) -> Tensor: ...


@overload
def _take(t: Tensor | ImageFiles, index: Tensor | None) -> Tensor | ImageFiles: ...


def _take(t: Tensor | ImageFiles, index: Tensor | None) -> Tensor | ImageFiles:
    return t if index is None else t[index]


def _crop(x: Tensor | ImageFiles, size: int | None) -> Tensor | ImageFiles:
    if size is None:
        return x
    return x.center_crop(size) if isinstance(x, ImageFiles) else center_crop(x, size).contiguous()
