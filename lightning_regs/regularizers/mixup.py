"""Mixup: train on convex combinations of pairs of samples."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from lightning_regs.core.checks import Shape, Share, checked, unchecked
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.parts.mixing import PairMixing, draw_partners, follow_heavier
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.targets import Labels, Partners, mix_targets


@checked
def mixup(
    x: Annotated[Tensor, Shape("N ...", "floating-point", "convert and scale the samples first")],
    y: Labels,
    lam: Share,
    permutation: Partners,
) -> tuple[Tensor, Tensor]:
    r"""Mix each sample and its target with those of a partner.

    Zhang et al. 2018, arXiv:1710.09412: :math:`\lambda x_i + (1 - \lambda) x_{\pi(i)}`, and the targets alike.

    Args:
        x: Floating-point samples ``(N, ...)``.
        y: Class indices ``(N, ...)``, a :class:`MixedTarget`, or float targets ``(N, ...)``.
        lam: Weight of the own sample, in [0, 1].
        permutation: Index of each sample's partner, ``(N,)``.

    Returns:
        The mixed samples, of the shape of ``x``, and the mixed targets: a :class:`MixedTarget` for class indices, for
        float targets their mixture.

    Raises:
        TypeError: If the samples are integers.
        ValueError: If ``lam`` is outside [0, 1].
    """
    labels = unchecked(mix_targets)(y, lam, permutation)
    return torch.lerp(x[permutation], x, lam), labels


class Mixup(PairMixing):
    r"""Mixup (Zhang et al. 2018, arXiv:1710.09412).

    Each training batch ``x`` ``(N, ...)`` becomes :math:`\lambda x + (1 - \lambda) x_\pi`, and its labels the same
    mixture, with one :math:`\lambda \sim Beta(\alpha, \alpha)` and one random permutation :math:`\pi` a batch. Labels
    that are class indices, of whatever shape, become a :class:`MixedTarget`: a loss L that is made of torch's functions
    then is :math:`\lambda L(f(x), y) + (1 - \lambda) L(f(x), y_\pi)`, and accuracies see the heavier label, so that
    the training accuracy is far below that of a run without mixup and not to be compared with it.

    Does not help: small nets and short trainings, which underfit already (ResNet-50 for 200 epochs got worse in an
    independent reproduction); with a weight decay of 5e-4 instead of 1e-4 the paper's gain more than halves. A loss
    that reads the labels elsewhere (NumPy, Python numbers) sees the heavier one alone, and a warning says so; a copy by
    ``torch.tensor(y)``, which torch advises against, is not seen.

    Composes with every method here; with :class:`CutMix` both act on each batch, and a sample then has four parents.
    Not, in the same epochs, after an :class:`AdversarialTraining` that weighs its samples, nor with a second Mixup of
    the same seed. With several processes each rank draws its own weight and mixes within its own batch; so does each
    accumulated batch.

    Args:
        alpha: Both parameters of the Beta distribution, above 0: 1.0 on CIFAR, 0.1 to 0.4 on ImageNet, up to 32
            against label noise in the paper. Small values hardly mix.

    Raises:
        ValueError: At construction, if ``alpha`` is not above 0.
        MisconfigurationException: In training, if the samples are integers or the batch is not understood.
    """

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Mix the batch."""
        self.check_labels(x, y)
        if not x.is_floating_point():
            raise MisconfigurationException(
                f"Mixup averages samples, so they have to be floating point, and these are {x.dtype}; convert and "
                "scale them in the data set's transform or in on_after_batch_transfer."
            )
        if not self.has_partners(x):
            return x, y
        lam, permutation = self.draw_lam(at), draw_partners(x, at.generator)
        samples, labels = unchecked(mixup)(x, y, lam, permutation)
        return samples, follow_heavier(labels, y, lam, permutation)
