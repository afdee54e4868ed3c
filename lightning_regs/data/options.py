"""What the DataModule refuses: each argument, or pair of them, in one sentence with the value and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from lightning_regs.core.checks import warn
from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.data.arrays import ArraySource
from lightning_regs.data.corruptions import PIXEL_CORRUPTIONS, check_corruption
from lightning_regs.data.transforms import BatchTransform

# How far beyond [0, 1] arithmetic may have put a pixel.
_ROUNDING = 1e-3


def check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse arguments of the DataModule that are unknown, out of range, or contradict each other."""
    check_corruption(arguments["corruption"], arguments["corruption_p"])
    for problem in _problems(SimpleNamespace(**arguments)):
        raise ValueError(problem)


def size_at(batch_size: int | Sequence[tuple[int, int]], epoch: int, samples: int) -> int:
    """Return the size of an epoch's batches."""
    if isinstance(batch_size, int):
        return batch_size
    begin, largest = max(batch_size, key=lambda pair: pair[1])
    if largest > samples:
        raise ValueError(
            f"batch_size is {largest} from epoch {begin} on, and there are {samples} training samples; grow it to at "
            "most that many."
        )
    return [size for begin, size in batch_size if begin <= epoch][-1]


def _problems(a: SimpleNamespace) -> Iterator[str]:
    if not isinstance(a.batch_size, int) and (begins := [begin for begin, _ in a.batch_size]) != sorted({0, *begins}):
        yield f"batch_size={a.batch_size!r} has to give epochs in ascending order, from 0 on: [(0, 128), (60, 640)]."
    if not 0 <= a.val_split < math.inf or (a.val_split > 1 and a.val_split != int(a.val_split)):
        yield f"val_split={a.val_split!r} is not possible; give a share in [0, 1) or a whole number of samples."
    if a.val_split and a.monitor_test:
        yield f"val_split={a.val_split!r} and monitor_test=True both claim the validation loader; choose one of them."
    if a.random_crop and a.image_size is None:
        yield "random_crop=True needs a size to crop to; set image_size, below that of the images."
    if a.padding and not a.random_crop:
        yield f"padding={a.padding} frames images for a random crop; set random_crop=True, or leave padding out."
    if a.image_size is not None and a.padding >= a.image_size:
        yield (
            f"padding={a.padding} lets a crop of image_size={a.image_size} miss the image; take less padding, an "
            "eighth of the side is usual."
        )
    measures = isinstance(a.normalize, str) or (isinstance(a.normalize, Mapping) and "mean" not in a.normalize)
    if measures and (a.lazy or (a.resplit and a.normalize == "channels")):
        other = "lazy=True" if a.lazy else "resplit=True"
        yield f"normalize={a.normalize!r} measures one training set in memory, not with {other}; give mean and std."
    if isinstance(a.normalize, Mapping) and (problem := _statistics_problem(a.normalize)):
        yield f"normalize={dict(a.normalize)!r} {problem}."
    if a.corruption in PIXEL_CORRUPTIONS and (a.random_crop or a.random_rotation or a.color_jitter):
        yield (
            f"corruption={a.corruption!r} fixes the pixels after the centre crop; switch random_crop, random_rotation "
            "and color_jitter off."
        )
    if a.resident is True and a.num_workers:
        yield (
            f"resident=True with num_workers={a.num_workers} is not possible, as workers cannot read from the device; "
            "set num_workers=0."
        )
    if a.lazy and a.corruption in PIXEL_CORRUPTIONS:
        yield (
            f"corruption={a.corruption!r} rewrites all images once, so memory must hold them; set lazy=False, with "
            "a smaller image_size or folder where they do not fit."
        )
    if a.lazy and a.resident is True:
        yield "resident=True and lazy=True contradict each other; choose one of them."
    if a.lazy and a.resplit:
        yield "resplit=True draws among all images, so memory must hold them; set lazy=False."
    if a.replicas is not None and (a.lazy or a.batch_repeats > 1):
        other = "lazy=True" if a.lazy else f"batch_repeats={a.batch_repeats}"
        yield f"replicas={a.replicas!r} and {other} do not go together; leave one of them out."


def _statistics_problem(given: Mapping[str, Any]) -> str | None:
    if set(given) in ({"pca"}, {"zca"}):
        (epsilon,) = given.values()
        positive = isinstance(epsilon, int | float) and 0 < epsilon < math.inf
        return None if positive else "must add a number above 0 to variances, such as 0.01"
    lists = set(given) == {"mean", "std"} and all(isinstance(part, Sequence) for part in given.values())
    if not lists or not 0 < len(given["mean"]) == len(given["std"]):
        return "must be 'mean' and 'std', two lists with a number for each channel, or 'pca' or 'zca' and a number"
    return None if min(given["std"]) > 0 else "has a standard deviation that is not above 0; give those of the data"


def accumulation(trainer: pl.Trainer) -> int:
    """Return over how many batches gradients are accumulated."""
    # A module that optimizes manually accumulates by itself, and Lightning holds the Trainer's flag at 1.
    return max(trainer.accumulate_grad_batches, getattr(trainer.lightning_module, "accumulate_grad_batches", 1))


def check_source(source: ArraySource, transform: BatchTransform) -> None:
    """Refuse signals for what is for images, and refuse, or warn of, images on another scale than they are taken for.

    Floating point may be standardised, which whitening and geometry take no notice of.
    """
    if source.x_train.ndim == 2 and (transform.size is not None or transform.augments):
        raise ValueError(
            f"{source.name} holds signals of length {source.x_train.shape[1]}, not images; leave image_size, "
            "random_crop, random_flip, random_rotation and color_jitter out."
        )
    floats = isinstance(source.x_train, Tensor) and source.x_train.is_floating_point()
    given: Any = transform.normalize if isinstance(transform.normalize, Mapping) else {}
    if "mean" in given and not floats and not all(0 <= n <= 1 for n in (*given["mean"], *given["std"])):
        raise ValueError(
            f"normalize={dict(given)} is taken of pixels in [0, 1], to which the bytes of {source.name} are brought; "
            "divide statistics of bytes by 255."
        )
    images = [x for x in (source.x_train, source.x_test) if isinstance(x, Tensor) and x.ndim == 4]
    if not images:
        return
    low, high = (
        pick([float(end) for end in ends])
        for pick, ends in zip((min, max), zip(*(x.aminmax() for x in images), strict=True), strict=True)
    )
    reach = f"the pixels of {source.name} reach from {low:g} to {high:g}"
    if not images[0].is_floating_point():
        if high == 1:
            warn(f"{reach}, of 0 to 255: nearly black; store them as 0 and 255, or as floats.")
    elif transform.jitter and (low < -_ROUNDING or high > 1 + _ROUNDING):
        raise ValueError(
            f"color_jitter={transform.jitter} changes colours in [0, 1], and {reach}; divide them by 255, store them "
            "as uint8, or set color_jitter=0."
        )
    elif not transform.whiten and transform.normalize is None and low >= 0 and high > 1 + _ROUNDING:
        warn(
            f"{reach}, and whiten=False serves them as they are; divide them by 255, or store them as uint8, for "
            "pixels in [0, 1]."
        )


def check_for_trainer(
    trainer: pl.Trainer, batch_repeats: int, batch_size: int | Sequence[tuple[int, int]]
) -> None:  # fmt: skip
    """Refuse a module with the DataModule's hook, accumulation of repeated batches, and one loader for all sizes."""
    if not isinstance(batch_size, int) and trainer.reload_dataloaders_every_n_epochs != 1:  # type: ignore[attr-defined]
        raise MisconfigurationException(
            f"batch_size={batch_size!r} changes with the epoch, and this Trainer keeps the loader of the first; give "
            "it Trainer(reload_dataloaders_every_n_epochs=1)."
        )
    module, hook = trainer.lightning_module, "on_after_batch_transfer"
    if module is not None and pl.utilities.model_helpers.is_overridden(hook, module, pl.LightningModule):
        raise MisconfigurationException(
            f"{type(module).__name__} and ImageDataModule both have {hook}, of which Lightning calls only the "
            "DataModule's; move the module's into its on_train_batch_start or training_step."
        )
    accumulate = accumulation(trainer)
    if batch_repeats > 1 and accumulate > 1:
        raise MisconfigurationException(
            f"batch_repeats={batch_repeats} serves the same batch again, and accumulate_grad_batches={accumulate} "
            "would average its equal gradients instead of stepping between them; leave one of them at 1."
        )
