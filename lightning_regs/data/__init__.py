"""Data: sources, corruptions, augmentation on the device, and the DataModule that puts them together."""

from __future__ import annotations

from lightning_regs.core import registry

# Resolved on first use: a worker that is spawned for image files does without Lightning.
_PUBLIC = {
    "CORRUPTIONS": "lightning_regs.data.corruptions",
    "SOURCES": "lightning_regs.data.sources",
    "ArraySource": "lightning_regs.data.arrays",
    "ImageArrays": "lightning_regs.data.dataset",
    "ImageDataModule": "lightning_regs.data.datamodule",
    "ImageFiles": "lightning_regs.data.image_files",
    "identity_collate": "lightning_regs.data.dataset",
    "load": "lightning_regs.data.sources",
}

__all__ = sorted(_PUBLIC)
__getattr__, __dir__ = registry.lazy(__name__, _PUBLIC)
