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
from lightning_regs.data.dataset import ImageArrays, StackedArrays
from lightning_regs.data.image_files import ImageFiles

Normalize = Literal["channels", "center", "pca", "zca"] | dict[str, Sequence[float] | float]
# What is fitted on the training samples, all their pixels together.
JOINT = ("center", "pca", "zca")

# Columns of uniform draws a sample: crop (2), flip, rotation, brightness, contrast, saturation, hue. All are always
# drawn, so that switching one step on or off leaves the others' draws as they were.
_DRAWS = 8

# Relative to the strength; at 0.5 contrast, saturation and hue have the ranges of TensorFlow's Inception pipeline.
_HUE_SHARE = 0.4

# Share of the largest variance up to which one is rounding of float32, and its direction none of the data's.
_NO_VARIANCE = 1e-10


@torch.no_grad()
def whitening(x: Tensor, kind: Literal["pca", "zca"], epsilon: float = 0.0) -> tuple[Tensor, Tensor]:
    r"""Fit the map :math:`x \mapsto W (x - \bar x)` after which training samples are uncorrelated, with variance 1.

    With the eigenvectors U and eigenvalues :math:`\Lambda` of the covariance (over N), in float64: for ``"pca"``
    :math:`W = (\Lambda + \epsilon)^{-1/2} U^T`, the largest variance first and each direction's largest number
    positive; for ``"zca"`` :math:`W = U (\Lambda + \epsilon)^{-1/2} U^T`, whose images look most like the originals
    (Bell & Sejnowski 1997; Krizhevsky 2009). Where :math:`\epsilon = 0`, directions without variance become 0, and a
    test sample loses what it has there.

    Args:
        x: Training samples ``(N, ...)`` of D numbers each, uint8 (divided by 255) or floats.
        kind: Which; after PCA positions are no pixels any more, and convolutions see none.
        epsilon: Added to the variances, of pixels in [0, 1]: it keeps the noise of small ones small.

    Returns:
        Mean ``(D,)`` and W ``(D, D)`` in float64.

    Raises:
        ValueError: If no number varies; without ``epsilon``, if samples are so few that any two would end up equally
            far apart, so that nothing but which is which could be learned (Wadia et al. 2021, arXiv:2008.07545).
    """
    number, flat = len(x), x.flatten(1)
    parts = torch.split(flat, 4096)
    mean = torch.stack([augment.to_unit(part).sum(0, dtype=torch.float64) for part in parts]).sum(0) / number
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=x.device)
    for part in parts:
        covariance.addmm_((centred := augment.to_unit(part).double() - mean).T, centred, alpha=1 / number)
    values, vectors = (t.flip(-1) for t in torch.linalg.eigh(covariance))
    varies = values > _NO_VARIANCE * values[0]
    if not values[0] > 0:
        raise ValueError(f"normalize={kind!r} divides by variances, and no pixel of the training samples varies.")
    if not epsilon and int(varies.sum()) >= number - 1:
        raise ValueError(
            f"normalize={kind!r} of {number} training samples of {flat.shape[1]} numbers would put any two of them "
            f"equally far apart; take more samples, or {{{kind!r}: 0.01}}, which is added to the variances."
        )
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    scale = (values.clamp_min(0) + epsilon).rsqrt().where(varies | (epsilon > 0), 0.0)
    matrix = scale[:, None] * vectors.T
    return mean, vectors @ matrix if kind == "zca" else matrix


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
    channels: tuple[Tensor, Tensor] | None = None  # mean, and deviation or matrix, as `fitted` makes them

    def fitted(self, x: Tensor | ImageFiles, train: ImageArrays | StackedArrays) -> BatchTransform:
        """Return the same transform with what it needs to know, where it normalizes, of images or signals.

        Mean and deviation of channels are those of all images x of the source: signals (N, L) have one, and one that
        never varies is not scaled. The mean image and whitening are those of the training samples alone.
        """
        if self.normalize is None:
            return self
        if self._joint is not None:
            return replace(self, channels=self._fitted_jointly(train))
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

    @property
    def _joint(self) -> tuple[str, float] | None:
        """What is fitted on all pixels together, and what is added to variances."""
        if isinstance(self.normalize, Mapping):
            return next(((kind, float(self.normalize[kind])) for kind in JOINT if kind in self.normalize), None)  # type: ignore[arg-type]
        return (self.normalize, 0.0) if self.normalize in JOINT else None

    def _fitted_jointly(self, train: ImageArrays | StackedArrays) -> tuple[Tensor, Tensor]:
        assert self._joint is not None
        x, (kind, epsilon) = train.x, self._joint
        if isinstance(train, StackedArrays):
            if bool((train.rows != train.rows[0]).any()):
                raise ValueError(
                    f"normalize={self.normalize!r} is fitted on one training set, and each replica has its own; give "
                    "seeds={'split': 0}, with which they have the same."
                )
            x = train.x[train.rows[0]]
        assert isinstance(x, Tensor)
        x = x if x.ndim == 2 else self._center(x)
        if kind == "center":
            return augment.to_unit(x).mean(0, dtype=torch.float64).float(), torch.ones(1)
        mean, matrix = whitening(x, kind, epsilon)  # type: ignore[arg-type]
        return mean.float().view(x.shape[1:]), matrix.float()

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
        if self.channels is None:
            return augment.whiten(x) if self.whiten else augment.to_unit(x)
        # After a training on a GPU they are there, and a net may be looked at on the CPU.
        mean, scale = (part.to(x.device) for part in self.channels)
        if self._joint is not None and self._joint[0] != "center":
            return ((augment.to_unit(x) - mean).flatten(1) @ scale.T).view(x.shape)
        return augment.normalize(x, mean, scale)
