"""Cutout: blank a square at a random place of each image."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.batch import check_indices
from lightning_regs.core.checks import Range, Seed, Shape, checked
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.base import Regularizer
from lightning_regs.regularizers.parts.mixing import OnBatches
from lightning_regs.regularizers.parts.moment import Moment

Length = Annotated[int, Range(2)]


@checked
def cutout(
    x: Annotated[Tensor, Shape("N C H W")],
    centers: Annotated[Tensor, Shape("N 2")],
    length: Length,
    fill: float = 0.0,
) -> Tensor:
    r"""Blank one square of each image.

    DeVries & Taylor 2017, arXiv:1708.04552: rows :math:`[c_y - L // 2, c_y + L // 2)` and columns
    :math:`[c_x - L // 2, c_x + L // 2)`, clipped to the image, of all channels. An odd L cuts L - 1 pixels.

    Args:
        x: Images ``(N, C, H, W)``.
        centers: Row and column of each square's centre, ``(N, 2)``.
        length: Side L of the square, at least 2.
        fill: What the square is filled with.

    Returns:
        The images, ``(N, C, H, W)``.

    Raises:
        ValueError: If ``x`` has not four dimensions, ``centers`` not one row an image, or ``length`` is below 2.
    """
    check_indices("centers", centers, *x.shape[2:])
    half = length // 2
    rows, columns = (
        _inside(torch.arange(side, device=x.device), centers[:, i : i + 1].to(x.device), half)
        for i, side in enumerate(x.shape[2:])
    )
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], fill)


class Cutout(OnBatches):
    r"""Cutout (DeVries & Taylor 2017, arXiv:1708.04552).

    In each training batch ``(N, C, H, W)`` one square of side L of every image is filled with ``fill``, in all
    channels. Its centre is uniform over the pixels of the image, a draw of its own for each image, and the square is
    clipped at the border, so that less than :math:`L^2` pixels are lost near it; the authors found that this matters.
    A square covers [c - L // 2, c + L // 2), so an odd L cuts L - 1 pixels.

    It acts on the images as they reach the training step. Where they were normalised before, as in the paper, 0 is the
    mean colour; on raw pixels give the mean as ``fill``.

    Does not help: where strokes decide the class (MNIST); with many classes it gains little (0.4 points on CIFAR-100)
    and wants smaller squares. torchvision's RandomErasing (inside the image, of random area and shape, half of the
    images) is another method with other best sizes.

    Composes with every method here, except a second Cutout of the same seed. Put it before :class:`Mixup` to mix two
    images with a hole each, after it to cut one hole into the mixture. Batches that are no images are left alone, with
    a warning. With several processes each rank draws its own centres.

    Args:
        length: Side L of the square, at least 2 and at most the smaller side of the images; None takes half of the
            smaller side, which is the paper's 16 for CIFAR-10. The paper has 8 for CIFAR-100 and 20 for SVHN.
        fill: What the square is filled with.
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.
        batch: Keys of samples and labels, ``("image", "label")`` or ``(0, 1)``; None: where the usual ones are.

    Raises:
        TypeError: At construction, if ``length`` is no integer.
        ValueError: At construction, if ``length`` is below 2 or ``fill`` is not finite.
        MisconfigurationException: In training, if ``length`` is above the smaller side of the images or the batch is
            not understood.
    """

    length: Length | None = None
    fill: float = 0.0
    seed: Seed | None = None

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a second Cutout that would draw the same centres."""
        if isinstance(other, Cutout) and other.seed == self.seed:
            return "both would draw the same centres; give one of them another seed, or use one"
        return None

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Blank the squares."""
        if x.ndim != 4:
            self.warn_once(
                f"found no images (N, C, H, W) but shape {tuple(x.shape)}, and leaves such batches alone; leave it out "
                "where samples are no images."
            )
            return x, y
        height, width = x.shape[2:]
        length = min(height, width) // 2 if self.length is None else self.length
        if length > min(height, width):
            raise MisconfigurationException(
                f"Cutout(length={length}) is larger than the {height}x{width} images and would blank many of them "
                f"whole; choose at most {min(height, width)}, or None for half of the smaller side."
            )
        if length < 2:
            self.warn_once(f"leaves images of {height}x{width} alone: half of a side is too short for a square.")
            return x, y
        centers = torch.stack([torch.randint(side, (len(x),), generator=at.generator) for side in (height, width)], 1)
        # Blocking copies wait for all that the device has queued.
        return cutout(x, centers.to(x.device, non_blocking=True), length, self.fill), y


def _inside(positions: Tensor, centers: Tensor, half: int) -> Tensor:
    return (positions >= centers - half) & (positions < centers + half)
