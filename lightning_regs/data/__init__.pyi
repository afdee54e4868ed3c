# Written by `python tests/generated.py`: the names that type checkers cannot find by their place.
from lightning_regs.data.arrays import ArraySource as ArraySource
from lightning_regs.data.corruptions import CORRUPTIONS as CORRUPTIONS
from lightning_regs.data.datamodule import ImageDataModule as ImageDataModule
from lightning_regs.data.dataset import ImageArrays as ImageArrays
from lightning_regs.data.dataset import identity_collate as identity_collate
from lightning_regs.data.image_files import ImageFiles as ImageFiles
from lightning_regs.data.sources import SOURCES as SOURCES
from lightning_regs.data.sources import load as load

__all__: list[str]
