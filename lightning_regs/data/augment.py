"""Augmentation of whole batches: per-sample parameters come in as tensors, nothing is drawn here.

All functions are pure, take images (N, C, H, W) on any device and never synchronise with it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601 luma, with the digits that torchvision uses.
_LUMA = (0.2989, 0.587, 0.114)


def center_crop(x: Tensor, size: int) -> Tensor:
    """Return a view (N, C, size, size) of the central squares of images (N, C, H, W).

    An odd margin is one pixel larger at the bottom and right.
    """
    top, left = _margins(x, size)
    return x[..., top // 2 : top // 2 + size, left // 2 : left // 2 + size]


def random_crop(x: Tensor, size: int, offsets: Tensor, flip_mask: Tensor | None = None) -> Tensor:
    """Cut one square out of each image, at its own place, and mirror the chosen ones; one gather does both.

    From images (N, C, H, W) of any type, to a contiguous (N, C, size, size). The offsets (N, 2), int64, are the top and
    left corner of each square, in [0, H - size] and [0, W - size], which is the caller's duty: a check would wait for
    the device. Where the bool mask (N,) is True, a square is mirrored left to right.
    """
    _margins(x, size)
    n, channels, height, width = x.shape
    steps = torch.arange(size, device=x.device)
    rows = offsets[:, :1] + steps
    columns = offsets[:, 1:] + steps
    if flip_mask is not None:
        columns = torch.where(flip_mask[:, None], columns.flip(1), columns)
    index = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, size * size)
    picked = x.reshape(n, channels, height * width).gather(2, index.expand(-1, channels, -1))
    return picked.view(n, channels, size, size)


def random_flip(x: Tensor, flip_mask: Tensor) -> Tensor:
    """Return a copy of images (N, C, H, W), mirrored left to right where the mask (N,) is True."""
    return torch.where(flip_mask[:, None, None, None], x.flip(-1), x)


def to_unit(x: Tensor) -> Tensor:
    """Return uint8 values / 255 as float32, and floating-point values as they are."""
    return x.to(torch.float32).div_(255) if x.dtype == torch.uint8 else x


def whiten(x: Tensor) -> Tensor:
    """Give each image (N, C, H, W) or signal (N, L) zero mean and unit variance over all its values jointly.

    TensorFlow's ``per_image_standardization``, which arXiv:1611.03530 applies after the crop:
    ``(x - mean) / max(std, 1 / sqrt(numel))`` with the population standard deviation. uint8 is divided by 255 first and
    becomes float32, floats are taken as they are.
    """
    flat = to_unit(x).flatten(1)
    numel = flat.shape[1]
    mean = flat.mean(1, keepdim=True)
    # Two passes, because torch's fused std_mean is 15 times slower on a CPU; in place where the memory is not x's.
    centred = flat.sub_(mean) if x.dtype == torch.uint8 else flat - mean
    std = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / math.sqrt(numel)
    std = std.clamp_min(1 / math.sqrt(numel))
    return (centred / std if centred.requires_grad else centred.div_(std)).view(x.shape)


def normalize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Give each channel of images (N, C, H, W) zero mean and unit variance over the data set, or all of signals (N, L).

    uint8 is divided by 255 first and becomes float32, floats are taken as they are. Mean and standard deviation are on
    the scale where pixels lie in [0, 1], (C, 1, 1); of signals (1,).
    """
    return (to_unit(x) - mean) / std


def random_rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotate floating-point images (N, C, H, W) about their centres, by counter-clockwise angles (N,) in degrees.

    Bilinear, with zeros outside.
    """
    height, width = x.shape[-2:]
    angle = torch.deg2rad(degrees.to(x.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Maps output to input positions in grid_sample's [-1, 1] coordinates, hence the aspect ratio and the inverse turn.
    theta = torch.stack([cos, -sin * (height / width), zero, sin * (width / height), cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def color_jitter(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image by its own factors, in this order.

    Each step is clipped to [0, 1] and equals torchvision's ``adjust_*``. Grey images have no saturation and no hue. The
    images (N, C, H, W), C = 1 or 3, are floating-point numbers in [0, 1]. Three factors (N,), at least 0, multiply the
    image, its distance to its mean grey, and that to each pixel's grey; hues (N,) are turns of the colour circle, in
    [-0.5, 0.5].
    """
    if x.shape[1] not in (1, 3):
        raise ValueError(f"colour jitter needs 1 or 3 channels, not {x.shape[1]}; switch color_jitter off.")
    brightness, contrast, saturation, hue = (
        v.to(x.dtype)[:, None, None, None] for v in (brightness, contrast, saturation, hue)
    )
    x = (x * brightness).clamp(0, 1)
    x = _blend(x, _grey(x).mean((1, 2, 3), keepdim=True), contrast)
    if x.shape[1] == 1:
        return x
    x = _blend(x, _grey(x), saturation)
    return _shift_hue(x, hue)


def _margins(x: Tensor, size: int) -> tuple[int, int]:
    height, width = x.shape[-2:]
    if not 1 <= size <= min(height, width):
        raise ValueError(
            f"cannot cut {size}x{size} out of {height}x{width} images; choose a size of at most {min(height, width)}."
        )
    return height - size, width - size


def _blend(x: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(x), x, ratio).clamp_(0, 1)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(1)


def _shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue and go back: hue, saturation and value as in the hexcone model."""
    red, green, blue = x.unbind(1)
    value, low = x.amax(1), x.amin(1)
    chroma = value - low
    safe = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = sector + 6 * turns.squeeze(1)
    k = (torch.tensor([5.0, 3.0, 1.0], dtype=x.dtype, device=x.device)[:, None, None] + sector[:, None]).remainder(6)
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)
