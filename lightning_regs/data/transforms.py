"""What happens to a batch on the device: draws for the augmentation, and its steps in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_regs.data import augment
from lightning_regs.data.corruptions import pixel_statistics
from lightning_regs.data.image_files import ImageFiles

Normalize = Literal["channels"] | dict[str, Sequence[float]]

# Columns of uniform draws a sample: crop (2), flip, rotation, brightness, contrast, saturation, hue. All are always
# drawn, so that switching one step on or off leaves the others' draws as they were.
_DRAWS = 8

# Relative to the strength; at 0.5 contrast, saturation and hue have the ranges of TensorFlow's Inception pipeline.
_HUE_SHARE = 0.4


@dataclass(frozen=True)
class BatchTransform:
    """Augment (training only), crop, and whiten or normalize a batch, as the arguments of the DataModule say."""

    size: int | None  # of the crop
    whiten: bool = True
    crop: bool = False  # at a random place
    flip: bool = False
    rotation: float = 0.0  # in degrees
    jitter: float = 0.0
    padding: int = 0  # pixels of 0, which is black as nothing is normalized yet
    normalize: Normalize | None = None
    channels: tuple[Tensor, Tensor] | None = None  # mean and deviation, as `fitted` makes them for augment.normalize

    def fitted(self, x: Tensor | ImageFiles) -> BatchTransform:
        """Return the same transform with mean and deviation of each channel, where it normalizes, of images or signals.

        Signals (N, L) have one channel. One that never varies is not scaled.
        """
        if self.normalize is None:
            return self
        number = 1 if x.ndim == 2 else x.shape[1]
        if isinstance(self.normalize, Mapping):
            mean, std = (torch.tensor(self.normalize[name], dtype=torch.float32) for name in ("mean", "std"))
            if len(mean) != number:
                raise ValueError(
                    f"normalize has statistics of {len(mean)} channels, and the samples have {number}; give one of "
                    'each, or "channels" to have them from the data.'
                )
        else:
            assert isinstance(x, Tensor)
            channels = [x] if number == 1 else x.unbind(1)
            mean, std = torch.tensor([pixel_statistics(channel) for channel in channels]).T
        shape = (1,) if x.ndim == 2 else (-1, 1, 1)
        return replace(self, channels=(mean.view(shape), std.where(std > 0, 1.0).view(shape)))

    def to(self, device: torch.device) -> BatchTransform:
        """Return the same transform for batches on a device."""
        mean_std = self.channels and (self.channels[0].to(device), self.channels[1].to(device))
        return replace(self, channels=mean_std)

    @property
    def augments(self) -> bool:
        """Whether training batches are changed at random."""
        return self.crop or self.flip or self.rotation > 0 or self.jitter > 0

    def training(self, x: Tensor, generator: torch.Generator | Sequence[torch.Generator]) -> Tensor:
        """Augment, crop and whiten a training batch, with one draw from a CPU generator: all devices draw alike.

        From images (N, C, H, W) or signals (N, L), uint8 or float, to float (N, C, size, size) or (N, L); of replicas
        (R, N, ...) with a generator each.
        """
        if not self.augments:
            return self.evaluation(x)
        if not isinstance(generator, torch.Generator):
            return torch.stack([self.training(own, draw) for own, draw in zip(x, generator, strict=True)])
        draws = torch.rand((len(x), _DRAWS), generator=generator).to(x.device, non_blocking=True)
        if self.rotation > 0:
            x = augment.random_rotate(augment.to_unit(x), (2 * draws[:, 3] - 1) * self.rotation)
        flip_mask = draws[:, 2] < 0.5 if self.flip else None
        if self.crop and self.size is not None:
            if self.padding:
                x = F.pad(x, (self.padding,) * 4)
            places = [draws[:, i] * (side - self.size + 1) for i, side in enumerate(x.shape[-2:])]
            x = augment.random_crop(x, self.size, torch.stack(places, dim=1).long(), flip_mask)
        else:
            x = self._center(x)
            x = x if flip_mask is None else augment.random_flip(x, flip_mask)
        if self.jitter > 0:
            factors = 1 + (2 * draws[:, 4:7] - 1) * self.jitter
            hue = (2 * draws[:, 7] - 1) * (_HUE_SHARE * self.jitter)
            x = augment.color_jitter(augment.to_unit(x), factors[:, 0], factors[:, 1], factors[:, 2], hue)
        return self._finish(x)

    def evaluation(self, x: Tensor) -> Tensor:
        """Crop a batch as of :meth:`training` at the centre and whiten it; shapes and types are as there."""
        if x.ndim % 2 == 0:
            return self._finish(self._center(x))
        flat = self.evaluation(x.flatten(0, 1))
        return flat.view(*x.shape[:2], *flat.shape[1:])

    def _center(self, x: Tensor) -> Tensor:
        if self.size is None or x.shape[-2:] == (self.size, self.size):
            return x
        return augment.center_crop(x, self.size)

    def _finish(self, x: Tensor) -> Tensor:
        if self.normalize is not None and self.channels is None:
            raise RuntimeError("the statistics of normalize are not known yet; call setup() of the data first.")
        if self.channels is not None:
            return augment.normalize(x, *self.channels)
        return augment.whiten(x) if self.whiten else augment.to_unit(x)
