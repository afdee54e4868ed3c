"""CutMix: paste a box of one image into another, and mix their labels by area."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.batch import check_indices
from lightning_regs.core.checks import Count, Shape, Share, Whole, checked, unchecked
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.parts.mixing import PairMixing, draw_partners, follow_heavier
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.targets import Labels, MixedTarget, Partners, mix_targets

__all__ = ["CutMix", "cutmix", "cutmix_box"]

Box = tuple[int, int, int, int]


@checked
def cutmix(x: Annotated[Tensor, Shape("N C H W")], y: Labels, box: Box, permutation: Partners) -> tuple[Tensor, Tensor]:
    r"""Paste a box of each image's partner into it, and mix the targets by area.

    Yun et al. 2019, arXiv:1905.04899: the targets are mixed with :math:`\lambda = 1 - area(box) / (H W)`, the share of
    the image that is its own. Targets of the images' height and width, as for segmentation or denoising, have the same
    box pasted instead.

    Args:
        x: Images ``(N, C, H, W)``.
        y: Class indices ``(N, ...)``, a :class:`MixedTarget`, or float targets ``(N, ...)``; maps of classes or values
            have the size of the images, ``(N, ..., H, W)``.
        box: ``(y0, y1, x0, x1)``: rows y0 to y1 - 1 and columns x0 to x1 - 1.
        permutation: Index of each image's partner, ``(N,)``.

    Returns:
        The images, and the mixed targets: a :class:`MixedTarget` for class indices, for float targets their mixture,
        for maps the pasted ones.

    Raises:
        ValueError: If ``x`` has not four dimensions, the box is not inside the image, or the targets are maps of
            another size.
    """
    height, width = x.shape[2:]
    top, bottom, left, right = box
    if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
        raise ValueError(f"the box (y0, y1, x0, x1) = {box} is not inside the {height}x{width} image.")
    if reason := _odd_map(x, y):
        raise ValueError(f"cutmix {reason}")

    def paste(values: Tensor) -> Tensor:
        pasted = values.clone()
        pasted[..., top:bottom, left:right] = values[..., top:bottom, left:right][permutation.to(values.device)]
        return pasted

    check_indices("permutation", permutation, len(x))
    if y.ndim < 3 or y.shape[-2:] != x.shape[-2:]:
        return paste(x), unchecked(mix_targets)(y, own_share(box, height, width), permutation)
    if not isinstance(y, MixedTarget):
        return paste(x), paste(y)
    return paste(x), MixedTarget([(paste(labels), share) for labels, share in y.components], y.smoothing)


def _odd_map(x: Tensor, y: Tensor) -> str | None:
    """Say what is wrong with targets that seem to be maps, but have not the images' size; None where nothing is."""
    if y.ndim < 3 or y.shape[-2:] == x.shape[-2:]:
        return None
    (height, width), (rows, columns) = x.shape[-2:], y.shape[-2:]
    if y.ndim == 3 and y.is_floating_point() and height * columns != width * rows:
        return None  # such as the probabilities of several labels
    return (
        f"pastes a box of {height}x{width} images, and these targets are {y.dtype} of shape {tuple(y.shape)}: give "
        f"maps of the images' size, (N, ..., {height}, {width}), or labels that are no maps as (N,) or (N, K)."
    )


@checked
def cutmix_box(lam: Share, center: tuple[Whole, Whole], height: Count, width: Count) -> Box:
    r"""Return the box of sides :math:`H \sqrt{1 - \lambda}` and :math:`W \sqrt{1 - \lambda}`, clipped to the image.

    Args:
        lam: The share of the image to keep before clipping, in [0, 1].
        center: Row and column of the box's centre.
        height: ``H``.
        width: ``W``.

    Returns:
        ``(y0, y1, x0, x1)``.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If ``lam`` is outside [0, 1], or the centre outside the image.
    """
    side = math.sqrt(1 - lam)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = center
    if row >= height or column >= width:
        raise ValueError(f"center {center} is outside the {height}x{width} image; rows and columns count from 0.")
    return (
        max(row - half_height, 0),
        min(row + half_height, height),
        max(column - half_width, 0),
        min(column + half_width, width),
    )


def own_share(box: Box, height: int, width: int) -> float:
    """Return the share of an image outside the box."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)


class CutMix(PairMixing):
    r"""CutMix (Yun et al. 2019, arXiv:1905.04899).

    In each training batch ``(N, C, H, W)`` a box of every image is replaced by that of a partner. The box has the sides
    :math:`H \sqrt{1 - \lambda}` and :math:`W \sqrt{1 - \lambda}` for one :math:`\lambda \sim Beta(\alpha, \alpha)` a
    batch, its centre is uniform over the pixels, and it is clipped at the border. The labels are mixed by the areas
    that were in fact pasted, not by :math:`\lambda`: the paper's definition, and its code's. Labels that are class
    indices become a :class:`MixedTarget`, of which accuracies see the heavier label; maps of the images' size
    ``(N, ..., H, W)``, of classes or of values, have the box pasted like the images.

    Does not help: where one small part decides the class, as fine-grained birds or digits (the corrected weight lowered
    accuracy on CUB in one report), and in short trainings. The authors' CIFAR runs apply it to every second batch at
    random, which is ``p=0.5``.

    Composes with every method here; with :class:`Mixup` both act on each batch. Not after an
    :class:`AdversarialTraining` that weighs its samples, nor with a second CutMix of the same seed. Batches that are no
    images are left alone, with a warning. With several processes each rank draws its own box.

    Args:
        alpha: Both parameters of the Beta distribution, above 0; 1.0 (all areas equally likely) in the paper.
        seed: Seed of its draws; default: what ``seed_everything`` was given, else 0.
        batch: Keys of samples and labels, ``("image", "label")`` or ``(0, 1)``; None: where the usual ones are.

    Raises:
        ValueError: At construction, if ``alpha`` is not above 0.
        MisconfigurationException: In training, if the batch is not understood, or the targets are maps of another size.
    """

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Paste the boxes and mix the labels."""
        self.check_labels(x, y)
        if x.ndim != 4:
            self.warn_once(
                f"found no images (N, C, H, W) but shape {tuple(x.shape)}, and leaves such batches alone; leave it out "
                "where samples are no images."
            )
            return x, y
        if reason := _odd_map(x, y):
            raise MisconfigurationException(f"CutMix {reason}")
        if not self.has_partners(x):
            return x, y
        height, width = x.shape[2:]
        row, column = (int(torch.randint(side, (), generator=at.generator)) for side in (height, width))
        box = cutmix_box(self.draw_lam(at), (row, column), height, width)
        permutation = draw_partners(x, at.generator)
        images, labels = unchecked(cutmix)(x, y, box, permutation)
        return images, follow_heavier(labels, y, own_share(box, height, width), permutation)
