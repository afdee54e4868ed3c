"""Label smoothing: move some of each target's weight to all classes alike."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from lightning_regs.core.checks import Range, checked
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.regularizers.base import Regularizer
from lightning_regs.regularizers.parts.mixing import TargetMixing
from lightning_regs.regularizers.parts.moment import Moment
from lightning_regs.regularizers.parts.targets import as_mixed, count_odd_rows
from lightning_regs.regularizers.parts.watch import Watch

Smoothing = Annotated[float, Range(0, below=1)]


@checked
def label_smoothing(y: Tensor, smoothing: Smoothing) -> Tensor:
    r"""Mix each target with the uniform distribution.

    Szegedy et al. 2016, arXiv:1512.00567: :math:`(1 - s) y + s / K`.

    Args:
        y: Class indices ``(N, ...)``, a :class:`MixedTarget` that is not smoothed, or float probabilities ``(N, K)``.
        smoothing: s, in [0, 1).

    Returns:
        A :class:`MixedTarget` for labels; float ``(N, K)`` for probabilities.

    Raises:
        ValueError: If ``smoothing`` is outside [0, 1), the labels are smoothed already, float targets are no
            ``(N, K)`` with K of at least 2, or integers are.
    """
    if y.is_floating_point():
        if not _has_classes(y):
            raise ValueError(f"label_smoothing takes probabilities (N, K), K at least 2, got shape {tuple(y.shape)}.")
        return (1 - smoothing) * y + smoothing / y.shape[1]
    if _has_classes(y):
        raise ValueError(f"label_smoothing {_SEVERAL.format(y.dtype, tuple(y.shape))}")
    target = as_mixed(y)
    if target.smoothing:
        raise ValueError(f"these labels are smoothed by {target.smoothing:g} already; smooth them once.")
    return target.with_extras(smoothing=smoothing)


class LabelSmoothing(TargetMixing):
    r"""Label smoothing (Szegedy et al. 2016, arXiv:1512.00567).

    The target of each training sample becomes :math:`(1 - s) y + s / K`, so that torch's cross-entropy gives
    :math:`(1 - s) CE(f(x), y) + s / K \sum_k CE(f(x), k)`, as ``F.cross_entropy(..., label_smoothing=s)`` does. Class
    indices ``(N,)`` become a :class:`MixedTarget`, which accuracies see as plain labels; float probabilities ``(N, K)``
    are smoothed row by row. Validation keeps its hard labels, so losses of training and validation differ by more than
    the generalisation gap.

    Does not help: a network that is to be distilled from (the logits of similar classes lose what told them apart,
    arXiv:1906.02629). A loss that is none of torch's cross-entropies sees no smoothing, and a warning says so.

    Composes with :class:`Mixup` and :class:`CutMix` in either order, with the same result. Not with a second
    LabelSmoothing, nor with a loss that has its own ``label_smoothing``.

    Args:
        smoothing: s, in [0, 1); 0.1 in the paper.
        batch: Keys of samples and labels, ``("image", "label")`` or ``(0, 1)``; None: where the usual ones are.

    Raises:
        ValueError: At construction, if ``smoothing`` is outside [0, 1).
        MisconfigurationException: In training, if the labels are neither class indices nor probabilities ``(N, K)``, or
            the loss smooths them too.
    """

    smoothing: Smoothing = 0.1

    def __post_init__(self) -> None:
        """Check the parameters, and expect the first batch."""
        super().__post_init__()
        self._odd_rows = Watch()

    def refuses(self, other: Regularizer, before: bool) -> str | None:
        """Refuse a second LabelSmoothing."""
        if isinstance(other, LabelSmoothing):
            both = 1 - (1 - self.smoothing) * (1 - other.smoothing)
            return f"labels are smoothed once; use one LabelSmoothing({both:.3g}), which is both together"
        return None

    def on_batch(self, x: Tensor, y: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """Smooth the labels."""
        self.check_labels(x, y)
        if not y.is_floating_point() and _has_classes(y):
            raise MisconfigurationException(f"LabelSmoothing {_SEVERAL.format(y.dtype, tuple(y.shape))}")
        if y.is_floating_point() and not _has_classes(y):
            raise MisconfigurationException(
                f"LabelSmoothing takes class indices (N,) or probabilities (N, K) with K of at least 2, and this batch "
                f"has {y.dtype} labels of shape {tuple(y.shape)}; a regression has nothing to "
                "smooth, so leave it out there."
            )
        for (odd,) in self._odd_rows.read(count_odd_rows(y)) if y.is_floating_point() else ():
            if odd:
                raise MisconfigurationException(
                    f"LabelSmoothing takes float labels (N, K) as probabilities, and {odd:.0f} rows of these "
                    f"{tuple(y.shape)} are negative or do not sum to 1, as in a regression or with several labels a "
                    "sample; leave it out, or smooth such labels in the data set."
                )
        return x, label_smoothing(y, self.smoothing) if self.smoothing else y


_SEVERAL = (
    "takes class indices, one a sample (N,), (N, 1) or a pixel (N, H, W), and these are {} of shape {}, which may mark "
    "several classes of a sample: smooth those in the data set, as floats; of tokens (N, T) use the loss's own "
    "label_smoothing."
)


def _has_classes(y: Tensor) -> bool:
    return y.ndim == 2 and y.shape[1] > 1
