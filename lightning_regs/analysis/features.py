"""Fixed features for linear classifiers: Gabor filters, random convolutional filters, random Fourier features.

Zhang et al. (arXiv 1611.03530, Section 5) put a "Gabor wavelet transform" before the kernel on MNIST and a random
convolutional net with 32,000 filters before it on CIFAR-10, and specify neither. Both are given here in their standard
form, as pure functions of images and filters; nothing in them is trained. Random Fourier features are those of Belkin
et al. (arXiv 1812.11118), with which least squares descend twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lightning_regs.core.checks import Count, NotNegative, Positive, Range, Shape, checked, nonempty

Images = Annotated[Tensor, Shape("N C H W", "floating-point")]


@checked
def gabor_filters(
    size: Annotated[int, Range(3)] = 11,
    wavelengths: Annotated[Sequence[Annotated[float, Range(2)]], nonempty] = (3.0, 4.5, 7.0),
    orientations: Count = 8,
    sigma_ratio: Positive = 0.56,
) -> Tensor:
    """Build a bank of quadrature pairs of Gabor filters.

    Each filter is a Gaussian of standard deviation ``sigma_ratio * wavelength`` times a cosine or sine across it
    (Daugman, 1985); the ratio 0.56 is a bandwidth of one octave. Every filter has mean 0 and 2-norm 1.

    Args:
        size: Side of the filters in pixels, odd.
        wavelengths: Wavelengths in pixels, each at least 2.
        orientations: Directions, evenly spread over half a turn.
        sigma_ratio: Standard deviation of the envelope in wavelengths.

    Returns:
        Filters (S * O, 2, size, size) in float32: even and odd part of each scale and orientation.

    Raises:
        ValueError: If the size is even or a wavelength is below 2 pixels.
    """
    if size % 2 == 0:
        raise ValueError(f"size is {size}, but a filter with a centre needs an odd side of at least 3.")
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    filters = []
    for wavelength in wavelengths:
        envelope = torch.exp(-(row**2 + column**2) / (2.0 * (sigma_ratio * wavelength) ** 2))
        for k in range(orientations):
            angle = math.pi * k / orientations
            phase = 2.0 * math.pi * (column * math.cos(angle) + row * math.sin(angle)) / wavelength
            even = envelope * phase.cos()
            # Without this the even filter would answer to brightness.
            even = even - envelope * (even.sum() / envelope.sum())
            filters.append(torch.stack([even, envelope * phase.sin()]))
    bank = torch.stack(filters)
    return functional.normalize(bank.flatten(2), dim=2).view_as(bank).float()


@checked
def gabor_features(
    x: Images, filters: Annotated[Tensor, Shape("F 2 k k")], pool: Count = 4, block: Count = 1024
) -> Tensor:
    """Take the magnitude of each quadrature pair's response and average it over pooling windows.

    Args:
        x: Images (N, C, H, W), floating type; channels are averaged first.
        filters: Bank (F, 2, size, size) from :func:`gabor_filters`.
        pool: Side of the pooling windows; the last ones may be partial.
        block: Images at a time.

    Returns:
        Features (N, F * ceil(H / pool) * ceil(W / pool)).

    Raises:
        ValueError: If images or filters have the wrong number of dimensions.
    """
    weight = filters.to(x).flatten(0, 1)[:, None]
    parts = []
    for part in torch.split(x, block):
        response = functional.conv2d(part.mean(dim=1, keepdim=True), weight, padding="same")
        magnitude = (response[:, 0::2].square() + response[:, 1::2].square()).sqrt()
        parts.append(functional.avg_pool2d(magnitude, pool, ceil_mode=True).flatten(1))
    return torch.cat(parts)


class ConvFilters(NamedTuple):
    """Random filters with the whitening folded in.

    Attributes:
        weight: (F, C, k, k); each filter sums to 0, so that a patch's mean does not matter.
        shift: (F,) what the mean of the normalised patches contributes.
    """

    weight: Tensor
    shift: Tensor


@checked
def random_conv_filters(
    x: Annotated[Images, nonempty],
    num_filters: Count,
    generator: torch.Generator,
    patch_size: Count = 6,
    num_patches: Count = 50_000,
    epsilon: Positive = 0.1,
) -> ConvFilters:
    """Draw random patches of images and turn them into whitened filters.

    Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning" (AISTATS 2011) and
    Coates and Ng, "The importance of encoding versus training with sparse coding and vector quantization" (ICML 2011):
    patches are normalised for contrast, whitened (ZCA), and random ones of them, at length 1, are the filters.

    Args:
        x: Training images (N, C, H, W) in [0, 1].
        num_filters: Number of filters F.
        generator: Draws the patches.
        patch_size: Side of a patch.
        num_patches: Patches from which mean and covariance are estimated.
        epsilon: Added to the eigenvalues of the covariance of normalised patches.

    Returns:
        Filters to be applied to contrast-normalised patches; see :func:`random_conv_features`.

    Raises:
        ValueError: If a patch does not fit the images or there are no filters.
    """
    if min(x.shape[2:]) < patch_size:
        raise ValueError(f"patches of side {patch_size} do not fit images {tuple(x.shape)}; lower patch_size.")
    n, _, height, width = x.shape
    count = max(num_patches, num_filters)
    draw = [
        torch.randint(high, (count,), generator=generator).to(x.device)
        for high in (n, height - patch_size + 1, width - patch_size + 1)
    ]
    offset = torch.arange(patch_size, device=x.device)
    rows, columns = draw[1][:, None, None] + offset[:, None], draw[2][:, None, None] + offset
    patches = x[draw[0][:, None, None], :, rows, columns].permute(0, 3, 1, 2).flatten(1).double()
    patches = patches - patches.mean(dim=1, keepdim=True)
    patches = patches / torch.sqrt(patches.square().mean(dim=1, keepdim=True) + _CONTRAST_FLOOR)
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / count)
    whiten = vectors @ ((values.clamp_min(0.0) + epsilon).rsqrt()[:, None] * vectors.T)
    chosen = (patches[:num_filters] - mean) @ whiten
    chosen = chosen / chosen.norm(dim=1, keepdim=True).clamp_min(1e-12)
    weight = chosen @ whiten
    shift = weight @ mean
    weight = weight - weight.mean(dim=1, keepdim=True)
    return ConvFilters(weight.to(x.dtype).reshape(-1, x.shape[1], patch_size, patch_size), shift.to(x.dtype))


# Variance of a flat patch of pixels in [0, 1]; 10 on the scale 0..255, as in Coates, Lee and Ng.
_CONTRAST_FLOOR = 10.0 / 255.0**2


@checked
def random_conv_features(
    x: Images, filters: ConvFilters, pools: Count = 2, threshold: NotNegative = 0.25, block: Count = 256
) -> Tensor:
    """Convolve contrast-normalised patches, rectify both signs, and average over a coarse grid.

    With z the response to a filter, the two features are ``max(z - threshold, 0)`` and ``max(-z - threshold, 0)``.
    For more filters than fit in memory at once, call it on slices of the filters: features of different filters do
    not interact.

    Args:
        x: Images (N, C, H, W) in [0, 1].
        filters: From :func:`random_conv_filters`.
        pools: Pooling cells along each side.
        threshold: Soft threshold, at least 0.
        block: Images at a time; memory is about ``block * F * H * W`` numbers.

    Returns:
        Features (N, 2 * F * pools**2).
    """
    weight, shift = filters
    size = weight.shape[-1]
    parts = []
    for part in torch.split(x, block):
        mean = functional.avg_pool2d(part.mean(dim=1, keepdim=True), size, stride=1)
        square = functional.avg_pool2d(part.square().mean(dim=1, keepdim=True), size, stride=1)
        deviation = (square - mean.square()).clamp_min(0.0).add(_CONTRAST_FLOOR).sqrt()
        z = functional.conv2d(part, weight).div_(deviation).sub_(shift[:, None, None])
        # max(z - t, 0) = max(z, t) - t, and the same for -z: one pass each over the largest tensor here.
        positive = functional.adaptive_avg_pool2d(z.clamp(min=threshold), pools) - threshold
        negative = -functional.adaptive_avg_pool2d(z.clamp_(max=-threshold), pools) - threshold
        parts.append(torch.cat([positive, negative], dim=1).flatten(1))
    return torch.cat(parts)


@checked
def fourier_features(x: Annotated[Tensor, Shape("N D")], frequencies: Annotated[Tensor, Shape("D F")]) -> Tensor:
    r"""Return complex waves of points, :math:`\exp(i \langle v_k, x \rangle)`, (N, F) in complex128.

    Rahimi & Recht (2007), as in Belkin et al., arXiv 1812.11118: with Gaussian frequencies v their products over
    many features tend to a Gaussian kernel. One feature has one complex coefficient, so F of them fit F points.
    """
    return torch.exp(1j * (x.double() @ frequencies.double()))
