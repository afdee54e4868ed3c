"""Data: sources, corruptions, augmentation on the device, and the DataModule that puts them together."""

from __future__ import annotations

from lightning_regs.data.corruptions import CORRUPTIONS
from lightning_regs.data.datamodule import ImageDataModule
from lightning_regs.data.dataset import ImageArrays, identity_collate
from lightning_regs.data.image_files import ImageFiles
from lightning_regs.data.sources import SOURCES, ArraySource, load

__all__ = [
    "CORRUPTIONS",
    "SOURCES",
    "ArraySource",
    "ImageArrays",
    "ImageDataModule",
    "ImageFiles",
    "identity_collate",
    "load",
]
