"""The randomisation modes of Zhang et al. (2017), as functions on tensors.

Zhang, Bengio, Hardt, Recht, Vinyals: *Understanding deep learning requires rethinking generalization* (ICLR 2017,
arXiv:1611.03530), Section 2.1. Every draw takes an explicit generator on the CPU, so a corruption is the same on every
device and can be drawn once and kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regs.core.names import unknown_name

LABEL_CORRUPTIONS = ("partial_labels", "random_labels")
PIXEL_CORRUPTIONS = ("shuffled_pixels", "random_pixels", "gaussian")
CORRUPTIONS = ("none", *LABEL_CORRUPTIONS, *PIXEL_CORRUPTIONS)
"""What ``ImageDataModule(corruption=...)`` can do to the labels, or to the pixels, of the training samples."""

# Bounds the index tensor of `random_pixels`: 8 bytes a pixel position.
_CHUNK = 4096


def check_corruption(name: str, p: float) -> None:
    """Refuse a corruption that does not exist, or a share of labels that it cannot take."""
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    if name != "partial_labels" and p != 1.0:
        raise ValueError(
            f"corruption_p={p} has no meaning with corruption={name!r}, which has no probability; "
            "leave corruption_p out or use corruption='partial_labels'."
        )


def corrupt_labels(y: Tensor, p: float, num_classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Redraw each label with probability p, uniformly over all classes, the old one among them.

    With 10 classes 0.9 p of the labels really change (arXiv:1611.03530, "partially corrupted labels"). Equal generators
    give nested corruptions: what changes at p also changes, to the same class, at every larger p. Of labels (N,) it
    gives labels (N,), and a bool mask (N,), True where they now differ; the generator is a CPU's.
    """
    redrawn = torch.rand(y.shape, generator=generator, dtype=torch.float64) < p
    uniform = torch.randint(num_classes, y.shape, generator=generator)
    labels = torch.where(redrawn.to(y.device), uniform.to(y), y)
    return labels, labels != y


def shuffle_pixels(x: Tensor, permutation: Tensor) -> Tensor:
    """Move the pixels of every image (N, C, H, W), or the values of every signal (N, L), by one permutation.

    Output position i takes input position permutation[i]; the channels of a pixel stay together.
    """
    flat = _positions(x)
    return flat.index_select(-1, permutation.to(x.device)).reshape(x.shape)


def random_pixels(x: Tensor, generator: torch.Generator) -> Tensor:
    """Move the pixels of each image (N, C, H, W), or the values of each signal (N, L), by a permutation of its own.

    The channels of a pixel stay together; the generator is a CPU's.
    """
    flat = _positions(x)
    out = torch.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK]
        order = torch.rand(len(part), 1, part.shape[-1], generator=generator, dtype=torch.float64).argsort(-1)
        out[start : start + _CHUNK] = part.gather(-1, order.to(x.device).expand(part.shape))
    return out.reshape(x.shape)


def gaussian_images(shape: tuple[int, ...], mean: float, std: float, generator: torch.Generator) -> Tensor:
    """Draw images whose every value is an independent Gaussian.

    The paper asks for "matching mean and variance to the original image dataset" (arXiv:1611.03530): one mean and one
    variance over all pixels and channels, on the scale where pixels lie in [0, 1], see :func:`pixel_statistics`. They
    are float32, neither clipped to [0, 1] nor rounded; the generator is a CPU's.
    """
    return torch.randn(shape, generator=generator).mul_(std).add_(mean)


def pixel_statistics(x: Tensor) -> tuple[float, float]:
    """Return the mean and the population standard deviation over all values of a data set, of any shape.

    On the scale where pixels lie in [0, 1]: uint8 values are divided by 255, floats taken as they are.
    """
    if x.dtype == torch.uint8:
        # A histogram makes both exact without a float copy of the data set.
        count = torch.bincount(x.flatten(), minlength=256).double()
        value = torch.arange(256, dtype=torch.float64, device=x.device) / 255
        mean = (count * value).sum() / count.sum()
        return float(mean), float(((value - mean).square() * count).sum().div(count.sum()).sqrt())
    std, mean = torch.std_mean(x.double(), correction=0)
    return float(mean), float(std)


def _positions(x: Tensor) -> Tensor:
    return x.flatten(2) if x.ndim == 4 else x.unsqueeze(1)
