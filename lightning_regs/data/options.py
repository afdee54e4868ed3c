"""Checks of the DataModule's arguments: each refuses with one sentence that names the value and the remedy."""

from __future__ import annotations

import math

from lightning_regs.core.lightning import MisconfigurationException, pl
from lightning_regs.data.corruptions import PIXEL_CORRUPTIONS


def check_whole(least: int = 1, optional: bool = False, **values: int | None) -> None:
    """Refuse what is not a whole number from ``least`` on, nor None where that is ``optional``.

    Raises:
        ValueError: One of the values is another.
    """
    for name, value in values.items():
        if optional and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} is not possible; give a whole number from {least} on.")


def check_range(name: str, value: float, largest: float) -> None:
    """Refuse what is not a number in [0, largest].

    Raises:
        ValueError: The value is another.
    """
    if not 0 <= value <= largest:
        raise ValueError(f"{name}={value!r} is out of range; give a number in [0, {largest:g}], 0 for off.")


def check_val_split(val_split: int | float, monitor_test: bool) -> None:
    """Refuse a validation split that is neither a share nor a count, or that the test set would displace.

    Raises:
        ValueError: The split is not possible.
    """
    if (
        isinstance(val_split, bool)
        or not (0 <= val_split < math.inf)
        or (val_split > 1 and val_split != int(val_split))
    ):
        raise ValueError(
            f"val_split={val_split!r} is not possible; give a share in [0, 1) or a whole number of samples."
        )
    if val_split and monitor_test:
        raise ValueError(
            f"val_split={val_split!r} and monitor_test=True both claim the validation loader; choose one of them."
        )


def check_augmentation(
    corruption: str, image_size: int | None, random_crop: bool, random_rotation: float, color_jitter: float
) -> None:
    """Refuse augmentation out of range, without room, or of pixels that a corruption has fixed.

    Raises:
        ValueError: The combination is not possible.
    """
    check_range("random_rotation", random_rotation, 180.0)
    check_range("color_jitter", color_jitter, 1.0)
    if random_crop and image_size is None:
        raise ValueError("random_crop=True needs a size to crop to; set image_size, below that of the images.")
    if corruption in PIXEL_CORRUPTIONS and (random_crop or random_rotation or color_jitter):
        raise ValueError(
            f"corruption={corruption!r} fixes the pixels after the centre crop; switch random_crop, random_rotation "
            "and color_jitter off."
        )


def check_resident(resident: bool | str, num_workers: int) -> None:
    """Refuse an unknown value of ``resident``, or data on the device that workers should read.

    Raises:
        ValueError: The combination is not possible.
    """
    if not isinstance(resident, bool) and resident != "auto":
        raise ValueError(f"resident={resident!r} is not possible; give True, False or 'auto'.")
    if resident is True and num_workers:
        raise ValueError(
            f"resident=True with num_workers={num_workers} is not possible, as workers cannot read from the device; "
            "set num_workers=0."
        )


def check_lazy(corruption: str, resident: bool | str) -> None:
    """Refuse what needs all images in memory, where they are to stay in their files.

    Raises:
        ValueError: The combination is not possible.
    """
    if corruption in PIXEL_CORRUPTIONS:
        raise ValueError(
            f"corruption={corruption!r} rewrites all images once, so memory must hold them; set lazy=False, with "
            "a smaller image_size or folder where they do not fit."
        )
    if resident is True:
        raise ValueError("resident=True and lazy=True contradict each other; choose one of them.")


def check_module(trainer: pl.Trainer | None) -> None:
    """Refuse a module with the hook that the DataModule has, of which Lightning would call only one.

    Raises:
        MisconfigurationException: If it has it.
    """
    module = trainer.lightning_module if trainer is not None else None
    hook = "on_after_batch_transfer"
    if module is not None and pl.utilities.model_helpers.is_overridden(hook, module, pl.LightningModule):
        raise MisconfigurationException(
            f"{type(module).__name__} and ImageDataModule both have {hook}, of which Lightning calls only the "
            "DataModule's; move the module's into its on_train_batch_start or training_step."
        )


def check_accumulation(trainer: pl.Trainer | None, batch_repeats: int) -> None:
    """Refuse to accumulate repeats of the same batch.

    Raises:
        MisconfigurationException: If the Trainer, or a module that optimizes manually, accumulates.
    """
    if trainer is None:
        return
    # A module that optimizes manually accumulates by itself, and Lightning holds the Trainer's flag at 1.
    by_module = getattr(trainer.lightning_module, "accumulate_grad_batches", 1)
    accumulate = max(trainer.accumulate_grad_batches, by_module)
    if batch_repeats > 1 and accumulate > 1:
        raise MisconfigurationException(
            f"batch_repeats={batch_repeats} serves the same batch again, and accumulate_grad_batches={accumulate} "
            "would average its equal gradients instead of stepping between them; leave one of them at 1."
        )


def check_replicas(replicas: object, lazy: bool, batch_repeats: int) -> None:
    """Refuse replicas together with what is made for single nets.

    Raises:
        ValueError: The combination is not possible.
    """
    if replicas is not None and (lazy or batch_repeats > 1):
        other = "lazy=True" if lazy else f"batch_repeats={batch_repeats}"
        raise ValueError(f"replicas={replicas!r} and {other} do not go together; leave one of them out.")
