"""From a source to what the loaders serve: subset, centre crop, corruption, validation split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.data import corruptions
from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.augment import center_crop
from lightning_regs.data.dataset import ImageArrays, StackedArrays
from lightning_regs.data.image_files import ImageFiles

Index = Tensor | slice
ALL = slice(None)


@dataclass(frozen=True)
class SplitPlan:
    """What to make of a source: arguments of :class:`~lightning_regs.data.ImageDataModule`, by their names there.

    ``keep_margin`` leaves the training images uncropped, for a random crop or rotation later.
    """

    corruption: str
    corruption_p: float
    image_size: int | None
    keep_margin: bool
    train_size: int | None
    test_size: int | None
    val_split: int | float
    resplit: bool


@dataclass(frozen=True)
class Splits:
    """The three data sets; ``val`` is None without a validation split."""

    train: ImageArrays | StackedArrays
    val: ImageArrays | StackedArrays | None
    test: ImageArrays | StackedArrays

    def to(self, device: torch.device) -> Splits:
        """Return the same data sets on a device."""
        val = None if self.val is None else self.val.to(device)
        return Splits(self.train.to(device), val, self.test.to(device))

    def placed(self, device: torch.device, resident: bool | str, num_workers: int) -> Splits:
        """Return the same data sets where they are served from: the device, or the CPU."""
        if resident == "auto":
            room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" and not num_workers else -1
            parts = (self.train, self.val, self.test)
            resident = sum(part.nbytes for part in parts if part is not None and part.y.device != device) <= room
        return self.to(device if resident else torch.device("cpu"))


def of_classes(source: ArraySource, classes: Sequence[int] | None) -> ArraySource:
    """Return the samples of some classes alone, numbered anew in the order given; None takes all."""
    if classes is None:
        return source
    if len(set(classes)) < max(2, len(classes)) or max(classes) >= source.num_classes:
        raise ValueError(
            f"classes={list(classes)} must be two or more of those of {source.name}, each once, from 0 to "
            f"{source.num_classes - 1}."
        )
    numbers = torch.full((source.num_classes,), -1)
    numbers[list(classes)] = torch.arange(len(classes))
    parts: dict[str, Any] = {}
    for split in ("train", "test"):
        y = numbers[getattr(source, f"y_{split}")]
        kept = (y >= 0).nonzero().squeeze(1)
        parts |= {f"x_{split}": getattr(source, f"x_{split}")[kept], f"y_{split}": y[kept]}
    names = source.classes and tuple(source.classes[one] for one in classes)
    return replace(source, **parts, num_classes=len(classes), classes=names)


def make_splits(source: ArraySource, plan: SplitPlan, seed: int) -> Splits:
    """Apply a plan to a source.

    Labels are redrawn over the whole training set, so that a sample's label does not depend on ``train_size``; the
    validation split is cut from the corrupted set. Pixels are corrupted after the centre crop, the test set with draws
    of its own (``shuffled_pixels``: with the same permutation). Test labels stay clean.
    """
    source = _resplit(source, plan, seed)
    chosen = choose_rows(source, plan, seed)
    x_train, x_test = chosen_images(source, plan, chosen, seed)
    data = ImageArrays(x_train, chosen.y_train, chosen.changed)
    val = None if chosen.val is None else data.take(chosen.val)
    return Splits(data.take(chosen.train), val, ImageArrays(x_test, source.y_test[chosen.kept_test]))


@dataclass(frozen=True)
class Chosen:
    """Which samples of a source a seed takes, and the labels of those kept for training."""

    kept: Index  # rows of the training set, ascending
    kept_test: Index
    train: Index  # positions among the kept ones, ascending
    val: Tensor | None  # the same, held out
    y_train: Tensor  # of all kept ones, corrupted
    changed: Tensor | None  # whether each of them was; None where nothing is drawn


def choose_rows(source: ArraySource, plan: SplitPlan, seed: int) -> Chosen:
    """Draw subsets, labels and the validation split; the arguments are those of :func:`make_splits`."""
    y_train, changed = source.y_train, None
    if plan.corruption in corruptions.LABEL_CORRUPTIONS:
        draw = rng.generator(seed, "label corruption")
        y_train, changed = corruptions.corrupt_labels(y_train, plan.corruption_p, source.num_classes, draw)
    kept = _subset(len(y_train), plan.train_size, "train_size", seed)
    kept_test = _subset(len(source.y_test), plan.test_size, "test_size", seed)
    y_train, changed = y_train[kept], None if changed is None else changed[kept]
    return Chosen(kept, kept_test, *_hold_out(len(y_train), plan.val_split, seed), y_train, changed)


def chosen_images(
    source: ArraySource, plan: SplitPlan, chosen: Chosen, seed: int
) -> tuple[Tensor | ImageFiles, Tensor | ImageFiles]:
    """Return the images that are kept of the training set and of the test set, cropped and corrupted."""
    x_train = _crop(source.x_train[chosen.kept], None if plan.keep_margin else plan.image_size)
    x_test = _crop(source.x_test[chosen.kept_test], plan.image_size)
    if plan.corruption in corruptions.PIXEL_CORRUPTIONS:
        assert isinstance(x_train, Tensor)
        assert isinstance(x_test, Tensor)
        x_train, x_test = _corrupt_pixels(x_train, x_test, plan.corruption, seed)
    _crop(x_train[:1], plan.image_size)
    return x_train, x_test


def _corrupt_pixels(x_train: Tensor, x_test: Tensor, corruption: str, seed: int) -> tuple[Tensor, Tensor]:
    draws = [rng.generator(seed, f"{corruption} {split}") for split in ("train", "test")]
    if corruption == "shuffled_pixels":
        permutation = torch.randperm(math.prod(x_train.shape[2:] or x_train.shape[1:]), generator=draws[0])
        return corruptions.shuffle_pixels(x_train, permutation), corruptions.shuffle_pixels(x_test, permutation)
    if corruption == "random_pixels":
        return corruptions.random_pixels(x_train, draws[0]), corruptions.random_pixels(x_test, draws[1])
    mean, std = corruptions.pixel_statistics(x_train)
    train, test = (
        corruptions.gaussian_images(tuple(x.shape), mean, std, draw)
        for x, draw in zip((x_train, x_test), draws, strict=True)
    )
    return train, test


def _resplit(source: ArraySource, plan: SplitPlan, seed: int) -> ArraySource:
    """Draw anew which samples are for training and which for test, where the plan says so; as many as before."""
    if not plan.resplit:
        return source
    assert isinstance(source.x_train, Tensor)
    assert isinstance(source.x_test, Tensor)
    x, y = torch.cat([source.x_train, source.x_test]), torch.cat([source.y_train, source.y_test])
    order = torch.randperm(len(y), generator=rng.generator(seed, "resplit"))
    train, test = (rows.sort().values for rows in order.tensor_split([len(source.y_train)]))
    return replace(source, x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test])


def _subset(total: int, size: int | None, argument: str, seed: int) -> Index:
    if size is None:
        return ALL
    if size > total:
        raise ValueError(f"{argument}={size} is more than the {total} samples there are; choose at most {total}.")
    return torch.randperm(total, generator=rng.generator(seed, argument))[:size].sort().values


def _hold_out(total: int, val_split: int | float, seed: int) -> tuple[Index, Tensor | None]:
    held = round(total * val_split) if val_split < 1 else int(val_split)
    if val_split == 0:
        return ALL, None
    if not 0 < held < total:
        raise ValueError(
            f"val_split={val_split} leaves {total - held} training and {held} validation samples of {total}; "
            "choose a split that leaves at least one of each."
        )
    order = torch.randperm(total, generator=rng.generator(seed, "val_split"))
    return order[held:].sort().values, order[:held].sort().values


def _crop(x: Tensor | ImageFiles, size: int | None) -> Tensor | ImageFiles:
    if size is None:
        return x
    return x.center_crop(size) if isinstance(x, ImageFiles) else center_crop(x, size).contiguous()


def make_replica_splits(source: ArraySource, plan: SplitPlan, seeds: Sequence[int]) -> Splits:
    """Apply a plan for several seeds at once, to each as :func:`make_splits`; images that they share are held once.

    Each replica has a row of samples; a test set that is the same for all is plain.
    """
    sources = [_resplit(source, plan, seed) for seed in seeds]
    chosen = [choose_rows(own, plan, seed) for own, seed in zip(sources, seeds, strict=True)]
    if plan.resplit or plan.corruption in corruptions.PIXEL_CORRUPTIONS:
        images = [chosen_images(s, plan, c, seed) for s, c, seed in zip(sources, chosen, seeds, strict=True)]
        x_train, x_test = (torch.cat(parts) for parts in zip(*images, strict=True))
        kept, kept_test = (torch.arange(len(x)).view(len(seeds), -1) for x in (x_train, x_test))
    else:
        everything = Chosen(ALL, ALL, ALL, None, source.y_train, None)
        x_train, x_test = chosen_images(source, plan, everything, 0)  # type: ignore[assignment]
        kept = torch.stack([torch.arange(len(source.y_train))[c.kept] for c in chosen])
        kept_test = torch.stack([torch.arange(len(source.y_test))[c.kept_test] for c in chosen])

    def part(positions: Sequence[Index]) -> StackedArrays:
        rows, y = (
            torch.stack([t[i] for t, i in zip(ts, positions, strict=True)])
            for ts in (kept, [c.y_train for c in chosen])
        )
        changed = [c.changed[i] for c, i in zip(chosen, positions, strict=True) if c.changed is not None]
        return StackedArrays(x_train, rows, y, torch.stack(changed) if changed else None)

    held_out = [c.val for c in chosen if c.val is not None]
    y_test = torch.stack([own.y_test[c.kept_test] for own, c in zip(sources, chosen, strict=True)])
    test = StackedArrays(x_test, kept_test, y_test)
    return Splits(part([c.train for c in chosen]), part(held_out) if held_out else None, test.alone() or test)
